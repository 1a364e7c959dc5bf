"""The settings of decoders: vanilla AR, and the speculative loop with its axes, its skips and the paper's ablations.

Those of continuous tokens are in `vvsbench.decoding.continuous.settings`. The module imports no torch, because settings
are read before torch is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from omegaconf import MISSING

from vvsbench.axes import Candidates, Features, Recheck, Selector, Tokens, Truncation
from vvsbench.decoding.acceptance.settings import AcceptanceConfig
from vvsbench.decoding.schedule import Schedule
from vvsbench.drafting.sources import DrafterConfig, TokenDrafterConfig
from vvsbench.drafting.structures import StructureConfig
from vvsbench.models.settings import DiscreteConfig, ModelConfig

if TYPE_CHECKING:
    from vvsbench.config import SamplingConfig


@dataclass
class DecoderConfig:
    """Base of every decoder's settings.

    Attributes:
        name: as in conf/decoder.
    """

    tokens: ClassVar[Tokens | None] = None
    """What it draws; None for a decoder that takes any target."""

    name: str = MISSING

    def label(self, model: ModelConfig) -> str:
        """Short name of a cell for tables and plots."""
        return self.name

    @property
    def recordable(self) -> bool:
        """Whether its steps are the same whatever the host decides, as engine=graphed needs them."""
        return True

    def problems(self, model: ModelConfig, sampling: SamplingConfig) -> list[str]:
        """What is wrong with the settings, one line each: the field, the fault and the remedy.

        Args:
            model: a target of the tokens that the decoder draws.
            sampling: of the cell.
        """
        return []


@dataclass
class ARConfig(DecoderConfig):
    """Vanilla autoregressive decoding, the baseline."""

    tokens: ClassVar[Tokens | None] = Tokens.discrete

    name: str = "ar"


@dataclass
class SkipConfig:
    """What a skipped step commits.

    Attributes:
        selector: which path of the tree.
        truncation: where it is cut.
        length: drafts that truncation=fixed commits, at most.
        least_hits: with truncation=hits, the chance that the target would draw all of what is committed.
        features: what the drafter goes on from.
        staleness: how many positions further back the reused features lie; the released code has 0.
        in_a_row: skips that may follow each other; 1 means never two.
        recheck: what is done with skipped tokens once the target has seen them.
        repair: replace what the drafter remembers of skipped tokens once the target has computed their features.
    """

    selector: Selector = Selector.random
    truncation: Truncation = Truncation.dynamic
    length: int = 2
    least_hits: float = 0.5
    features: Features = Features.reuse
    staleness: int = 0
    in_a_row: int = 1
    recheck: Recheck = Recheck.audit
    repair: bool = False

    @property
    def rewinds(self) -> bool:
        """Whether a verification replaces what was known of the tokens skipped before it."""
        return self.repair or self.recheck == Recheck.rollback

    @property
    def scored(self) -> bool:
        """Whether the chances of the tree's nodes are needed."""
        return self.selector == Selector.best or self.truncation == Truncation.hits

    @property
    def label(self) -> list[str]:
        """What departs from the published recipe."""
        usual = SkipConfig()
        words = [self.selector.value] if self.selector != usual.selector else []
        cuts = {Truncation.fixed: f"cut {self.length}", Truncation.hits: f"cut {self.least_hits:g}"}
        words += [cuts.get(self.truncation, "uncut")] if self.truncation != usual.truncation else []
        words += [self.features.value] if self.features != usual.features else []
        words += [f"stale {self.staleness}"] if self.staleness else []
        words += [f"{self.in_a_row} in a row"] if self.in_a_row != 1 else []
        words += ["repaired"] if self.repair else []
        return words + (["rollback"] if self.recheck == Recheck.rollback else [])

    def problems(self) -> list[str]:
        """What is wrong with the settings, one line each: the field, the fault and the remedy."""
        found = []
        if self.length < 1:
            found.append(f"length={self.length} must be at least 1")
        if not 0 <= self.least_hits <= 1:
            found.append(f"least_hits={self.least_hits} must lie in [0, 1]")
        if self.staleness < 0:
            found.append(f"staleness={self.staleness} must be 0 (the last features) or more")
        if self.in_a_row < 1:
            found.append(f"in_a_row={self.in_a_row} must be at least 1; decoder=sd is the one that never skips")
        return found


@dataclass
class AblationConfig:
    """Studies of the VVS paper that change verified steps.

    Attributes:
        staleness: features that drafting goes on from after a verified step: -1 the target's own, s >= 0 those that lie
            before the fresh ones, s positions further back. Several values take turns, step by step; empty is -1.
        first_tokens: fresh features while fewer tokens than this are committed; the released code has 32.
        swap_interval: every so many steps the first path of the tree replaces the accepted one, no longer than it;
            0 for never.
    """

    staleness: list[int] = field(default_factory=list)
    first_tokens: int = 32
    swap_interval: int = 0

    def stale(self, step: int, committed: int) -> int:
        """Staleness after a verified step, -1 for fresh features."""
        if not self.staleness or committed < self.first_tokens:
            return -1
        return self.staleness[step % len(self.staleness)]

    def swaps(self, step: int) -> bool:
        """Whether the accepted path is replaced in this step."""
        return self.swap_interval > 0 and step % self.swap_interval == 0

    @property
    def changes(self) -> bool:
        """Whether the law of the tokens is no longer the rule's."""
        return self.swap_interval > 0

    @property
    def label(self) -> list[str]:
        """What is changed."""
        words = ["features " + ",".join(map(str, self.staleness))] if self.staleness else []
        return words + ([f"swap {self.swap_interval}"] if self.swap_interval else [])

    def problems(self) -> list[str]:
        """What is wrong with the settings, one line each: the field, the fault and the remedy."""
        found = []
        if any(value < -1 for value in self.staleness):
            found.append(f"staleness={self.staleness} must hold -1 (fresh), 0 (the last before) or more")
        if self.swap_interval < 0:
            found.append(f"swap_interval={self.swap_interval} must be 0 (never) or more")
        return found


SAID_BY_NAME = {
    "cool_sd": {"paths", "sampled"},
    "eagle2": {"sequential", "top-k"},
    "gsd": {"no drafter", "redrawn"},
    "jacobi": {"no drafter"},
    "lantern": {"top-k"},
    "scd": {"no drafter", "sequential", "retained"},
    "sjd": {"no drafter", "sequential", "redrawn"},
    "sjd_pac": {"no drafter", "sequential", "retained"},
    "vvs_coupled": {"dynamic", "best", "uncut", "drafted", "repaired"},
    "vvs_released": {"top-k"},
}
"""Words that a published method's name says already."""


@dataclass
class SpeculativeConfig(DecoderConfig):
    """Draft, then verify or skip.

    Attributes:
        drafter: chosen by the model; another: drafter@decoder.drafter=NAME.
        structure, acceptance, schedule: see conf/structure, conf/acceptance and conf/schedule.
        surplus: tokens decided past the end of an image before its loop stops; the released VVS code has 2.
    """

    tokens: ClassVar[Tokens | None] = Tokens.discrete

    name: str = MISSING
    drafter: DrafterConfig | None = None
    structure: StructureConfig = MISSING
    acceptance: AcceptanceConfig = MISSING
    schedule: Schedule = MISSING
    skip: SkipConfig = field(default_factory=SkipConfig)
    ablation: AblationConfig = field(default_factory=AblationConfig)
    surplus: int = 0

    @property
    def recordable(self) -> bool:
        """See `DecoderConfig.recordable`: ablations take turns step by step."""
        return not self.ablation.label

    def label(self, model: ModelConfig) -> str:
        """See `DecoderConfig.label`, as in "vvs i=3"."""
        skip = self.skip.label if self.schedule.ever_skips else []
        drafter = self.drafter.label if self.drafter else []
        words = [*self.acceptance.label, *self.structure.label, *drafter, *skip]
        said = SAID_BY_NAME.get(self.name, set())
        words = [word.removeprefix(f"{self.name} ") for word in words if word not in said]
        return " ".join([self.name, *self.schedule.label, *words, *self.ablation.label])

    def problems(self, model: ModelConfig, sampling: SamplingConfig) -> list[str]:
        """See `DecoderConfig.problems`."""
        assert isinstance(model, DiscreteConfig)
        rates, sharpness = [0.5], []
        if isinstance(self.drafter, TokenDrafterConfig):
            rates, sharpness = self.drafter.hit_rates, self.drafter.sharpness_problems()
        found = [
            *(f"drafter.{problem}" for problem in sharpness),
            *(f"schedule.{problem}" for problem in self.schedule.problems()),
            *(f"acceptance.{problem}" for problem in self.acceptance.problems(model, self.structure)),
            *(f"structure.{problem}" for problem in self.structure.problems(model.vocab, rates)),
            *(f"skip.{problem}" for problem in self.skip.problems()),
            *(f"ablation.{problem}" for problem in self.ablation.problems()),
        ]
        keeps = isinstance(self.drafter, TokenDrafterConfig) and self.drafter.retains
        if self.structure.candidates == Candidates.retained and not keeps:
            found.append(
                "structure.candidates=retained keeps what the target itself has drafted in the step before; it goes "
                "with drafter@decoder.drafter=jacobi"
            )
        if self.surplus < 0:
            found.append(f"surplus={self.surplus} must be 0 or more")
        if self.skip.rewinds and self.ablation.staleness:
            found.append(
                "ablation.staleness does not go with decoder.skip.repair or rollback, which renew those features"
            )
        if self.skip.recheck == Recheck.rollback and self.acceptance.name != "match":
            found.append(
                f"skip.recheck=rollback does not go with acceptance={self.acceptance.name}: it takes back what the "
                "target would not have drawn, so only acceptance@decoder.acceptance=match stays exact with it"
            )
        return found
