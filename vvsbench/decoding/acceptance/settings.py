"""Which acceptance rules can be chosen: the settings under decoder.acceptance. Others come as vvsbench.acceptance.

The module imports no torch, because settings are read before torch is; `build` does.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from omegaconf import MISSING

from vvsbench.axes import Candidates, Guarantee, Residual

if TYPE_CHECKING:
    from vvsbench.decoding.acceptance.base import AcceptanceRule
    from vvsbench.drafting.structures import StructureConfig
    from vvsbench.models.protocols import TokenModel
    from vvsbench.models.settings import DiscreteConfig
    from vvsbench.sampling import Sampling


@dataclass
class AcceptanceConfig:
    """Rule by which drafted tokens are kept.

    Attributes:
        name: as in conf/acceptance.
    """

    guarantee: ClassVar[Guarantee] = Guarantee.none
    """What the rule promises when every step is verified."""

    name: str = MISSING

    @abstractmethod
    def build(self, target: TokenModel[Any], sampling: Sampling, cache: Path | None = None) -> AcceptanceRule:
        """The rule.

        Args:
            target: the model whose distribution is wanted; it knows its codebook.
            sampling: of the cell.
            cache: folder for what takes long to compute; None keeps nothing.
        """

    @property
    def label(self) -> list[str]:
        """What tells this setting apart in tables and plots."""
        return [self.name]

    def problems(self, model: DiscreteConfig, structure: StructureConfig) -> list[str]:
        """What is wrong with the settings, one line each: the field, the fault and the remedy.

        Args:
            model: the target's settings.
            structure: of the draft; not every rule is right for all candidates.
        """
        return []


@dataclass
class MatchConfig(AcceptanceConfig):
    """The draft is kept while it equals the target's own draw: exact for any candidates."""

    guarantee: ClassVar[Guarantee] = Guarantee.exact

    name: str = "match"

    def build(self, target: TokenModel[Any], sampling: Sampling, cache: Path | None = None) -> AcceptanceRule:
        """See `AcceptanceConfig.build`."""
        from vvsbench.decoding.acceptance.match import Match

        return Match()

    @property
    def label(self) -> list[str]:
        """Nothing: it is the rule that goes without saying."""
        return []


@dataclass
class SequentialConfig(AcceptanceConfig):
    """Siblings are tried one after the other: exact for candidates that owe nothing to the target's noise."""

    guarantee: ClassVar[Guarantee] = Guarantee.exact

    name: str = "sequential"

    def build(self, target: TokenModel[Any], sampling: Sampling, cache: Path | None = None) -> AcceptanceRule:
        """See `AcceptanceConfig.build`."""
        from vvsbench.decoding.acceptance.sequential import Sequential

        return Sequential()

    def problems(self, model: DiscreteConfig, structure: StructureConfig) -> list[str]:
        """See `AcceptanceConfig.problems`."""
        return list(_candidates(self.name, structure))


@dataclass
class LanternConfig(AcceptanceConfig):
    """LANTERN's relaxation: a candidate borrows the probability of its neighbours in the codebook.

    Attributes:
        k: neighbours that may be borrowed from.
        delta: bound on what is borrowed; above 1 it is LANTERN++'s lambda.
        residual: what becomes of the neighbours when the candidate is rejected.
        normalised: neighbours of unit-length codes, as the tokenizer decodes them; the authors take raw ones.
    """

    name: str = "lantern"
    k: int = 1000
    delta: float = 0.1
    residual: Residual = Residual.released
    normalised: bool = False

    def build(self, target: TokenModel[Any], sampling: Sampling, cache: Path | None = None) -> AcceptanceRule:
        """See `AcceptanceConfig.build`."""
        from vvsbench.decoding.acceptance.lantern import GreedyLantern, Lantern, Relaxation
        from vvsbench.decoding.acceptance.neighbours import kept_nearest

        residual = Residual(self.residual)
        columns = self.k + 1 if residual is Residual.released and not sampling.greedy else self.k
        count = min(columns, len(target.codebook) - 1)
        table = kept_nearest(target.codebook, count, self.normalised, cache).to(target.device)
        relaxation = Relaxation(table, self.k, self.delta)
        return GreedyLantern(relaxation) if sampling.greedy else Lantern(relaxation, residual)

    @property
    def label(self) -> list[str]:
        """The method, its bound, and what is not as published."""
        words = [f"lantern delta={self.delta:g}" if self.delta <= 1 else f"lantern++ lambda={self.delta:g}"]
        if self.k != LanternConfig.k:
            words.append(f"k={self.k}")
        if self.residual != LanternConfig.residual:
            words.append(Residual(self.residual).value)
        return [*words, *(["unit codes"] if self.normalised else [])]

    def problems(self, model: DiscreteConfig, structure: StructureConfig) -> list[str]:
        """See `AcceptanceConfig.problems`."""
        found = list(_candidates(self.name, structure))
        if not 1 <= self.k < model.vocab:
            found.append(f"k={self.k} must lie in [1, {model.vocab - 1}], the other codes of the codebook")
        if not self.delta >= 0:
            found.append(f"delta={self.delta} must be 0 or more; above 1 it is LANTERN++'s lambda")
        return found


@dataclass
class CoolSDConfig(AcceptanceConfig):
    """Cool-SD: relaxed for the first drafts of a step, cooling down along the path.

    Attributes:
        delta: the weights are proportional to it; the paper shows 1.1 and 2.
        nu: how fast they fall from depth to depth.
        mu: shifts their logarithms down; at -0.95 delta is their mean over five depths (our reading of the paper).
    """

    name: str = "cool_sd"
    delta: float = 1.1
    nu: float = 0.7
    mu: float = -0.95

    def build(self, target: TokenModel[Any], sampling: Sampling, cache: Path | None = None) -> AcceptanceRule:
        """See `AcceptanceConfig.build`."""
        from vvsbench.decoding.acceptance.cool_sd import CoolSD

        return CoolSD(self.delta, self.nu, self.mu)

    @property
    def label(self) -> list[str]:
        """The method and its knobs."""
        words = [f"cool_sd delta={self.delta:g}", *([f"nu={self.nu:g}"] if self.nu != CoolSDConfig.nu else [])]
        return [*words, *([f"mu={self.mu:g}"] if self.mu != CoolSDConfig.mu else [])]

    def problems(self, model: DiscreteConfig, structure: StructureConfig) -> list[str]:
        """See `AcceptanceConfig.problems`."""
        found = list(_candidates(self.name, structure))
        if self.delta <= 0:
            found.append(f"delta={self.delta} must be above 0; 1 with nu=0 is acceptance=sequential")
        if self.nu < 0:
            found.append(f"nu={self.nu} must be 0 (the same weight at all depths) or more")
        return found


@dataclass
class GSDConfig(AcceptanceConfig):
    """GSD: a draft is judged by the mass of a group of tokens like it.

    Attributes:
        size: tokens of a group, by rank, before the filters; the authors' code has 14.
        probability: largest difference in probability within a group.
        distance: largest cosine distance of codes within a group.
    """

    name: str = "gsd"
    size: int = 14
    probability: float = 0.15
    distance: float = 0.5

    def build(self, target: TokenModel[Any], sampling: Sampling, cache: Path | None = None) -> AcceptanceRule:
        """See `AcceptanceConfig.build`."""
        from torch.nn.functional import normalize

        from vvsbench.decoding.acceptance.gsd import GSD

        codes = normalize(target.codebook.float(), dim=-1).to(target.device)
        return GSD(codes, self.size, self.probability, self.distance)

    @property
    def label(self) -> list[str]:
        """The method, the size of its groups, and what is not as released."""
        words = [f"gsd G={self.size}"]
        if self.probability != GSDConfig.probability:
            words.append(f"p<{self.probability:g}")
        return [*words, *([f"d<{self.distance:g}"] if self.distance != GSDConfig.distance else [])]

    def problems(self, model: DiscreteConfig, structure: StructureConfig) -> list[str]:
        """See `AcceptanceConfig.problems`."""
        found = list(_candidates(self.name, structure))
        if self.size < 1:
            found.append(f"size={self.size} must be at least 1, the draft itself")
        if self.probability < 0 or self.distance < 0:
            found.append("probability and distance must be 0 or more; acceptance=sequential has no groups")
        return found


def _candidates(name: str, structure: StructureConfig) -> Iterator[str]:
    if structure.candidates == Candidates.shared_noise:
        yield (
            f"name={name} does not go with decoder.structure.candidates=shared_noise: the rule is right only for "
            "candidates that owe nothing to the target's noise; take decoder.structure.candidates=top_k or sampled, "
            "or acceptance@decoder.acceptance=match"
        )


RULES: tuple[type[AcceptanceConfig], ...] = (MatchConfig, SequentialConfig, LanternConfig, CoolSDConfig, GSDConfig)
"""What conf/acceptance can name."""
