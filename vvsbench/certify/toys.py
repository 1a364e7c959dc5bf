"""The toys that are certified on: a target, good and bad drafters, every shape of tree, and the sampling settings."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Any

import torch
from omegaconf import OmegaConf
from torch import Tensor

from vvsbench import config
from vvsbench.decoding.autoregressive import Autoregressive
from vvsbench.drafting.growing import Structure
from vvsbench.drafting.jacobi import JacobiSource, JacobiState
from vvsbench.drafting.joint import JointSource
from vvsbench.drafting.protocols import DraftSource, Redraft
from vvsbench.drafting.sources import JacobiConfig
from vvsbench.drafting.structures import (
    ChainConfig,
    DynamicConfig,
    FittedConfig,
    JointConfig,
    PathsConfig,
    WindowConfig,
)
from vvsbench.models.toy import ToyDraftState, ToySource, ToyTarget, child, noisy, random_table
from vvsbench.sampling import Sampling

CPU = torch.device("cpu")
SEED = 5
"""Of the noise that all samples are drawn with; decoders that share it are compared image by image."""
DEPTH = 2
"""Levels of every tree but the window: few enough that the bonus after a fully accepted path belongs to the image."""
PUBLISHED = "mc_sim_7b_63"
"""The published tree (EAGLE-1, LANTERN) that is cut to the toy."""


@dataclass(frozen=True)
class Toy:
    """A target over a random table.

    Attributes:
        vocab, tokens: V and N; it has V ** N outcomes.
        seed, spread: of its logits.
    """

    vocab: int
    tokens: int
    seed: int = 1
    spread: float = 1.5

    @cached_property
    def target(self) -> ToyTarget:
        """The model."""
        return ToyTarget(random_table(self.vocab, self.tokens, self.seed, self.spread), self.tokens)

    @property
    def size(self) -> str:
        """In words."""
        return f"{self.vocab} tokens x {self.tokens} positions = {self.vocab**self.tokens} outcomes"


@cache
def law(toy: Toy, sampling: Sampling) -> Tensor:
    """The enumerated distribution float64 [V ** N]."""
    return toy.target.law(sampling)


@cache
def vanilla(toy: Toy, sampling: Sampling, images: int) -> Tensor:
    """What `ar` draws for the images 0, 1, ...: outcomes int64 [images], see `ToyTarget.outcome`."""
    decoder, step, found = Autoregressive(toy.target, sampling), 10_000, []
    for first in range(0, images, step):
        batch = range(first, min(first + step, images))
        found.append(toy.target.outcome(decoder.generate(toy.target.conditions([0] * len(batch)), batch, SEED)[0]))
    return torch.cat(found)


class FeatureFed(ToySource):
    """A drafter that knows the prefix from the target's last feature alone, so that a stale one misleads it."""

    def extend(self, state: ToyDraftState, features: Tensor, tokens: Tensor, added: Tensor) -> None:
        """See `DraftSource.extend`."""
        last = (added - 1).clamp_min(0)[:, None]
        known = features[:, 0, :, 0].long().gather(1, last)
        after = child(known, tokens.gather(1, last), self.table.shape[1])
        state.nodes = self._run(state, torch.where(added[:, None] > 0, after, state.nodes[:, :1]))


class ReleasedDrafts(JacobiSource):
    """A draft that is kept keeps the law that it was first drawn from too, as in the released code of SCD."""

    def retain(self, state: JacobiState, laws: Tensor, redraft: Redraft) -> tuple[Tensor, Tensor]:
        """See `RetainingSource.retain`."""
        before = (
            replace(state.drafts, tokens=state.drafts.tokens.clone(), laws=state.drafts.laws.clone())
            if state.drafts
            else None
        )
        tokens, _ = super().retain(state, laws, redraft)
        after = state.drafts
        assert after is not None
        if before is not None:
            kept = (before.tokens == after.tokens) & (before.laws.sum(-1) > 0)
            after.laws.copy_(torch.where(kept[..., None], before.laws, after.laws))
        slots = (state.known[:, None] + torch.arange(laws.shape[1])) % state.slots
        return tokens, after.laws.gather(1, slots[..., None].expand_as(laws)).log()


SOURCES = ("good", "hopeless", "oracle")
"""Near the target; its logits with the opposite sign; the target itself. There is a "fair" one between them."""


def source(toy: Toy, name: str, shape: str = "", kind: type[ToySource] = ToySource) -> DraftSource[Any]:
    """What drafts for a toy: a drafter, or what the target said before; for a joint tree, both."""
    if name in WINDOW_SOURCES:
        return WINDOW_SOURCES[name](toy.target)
    if shape == JOINT:
        return JointSource(source(toy, name), JacobiSource(toy.target))
    table = toy.target.table
    return kind(
        {"good": noisy(table, 0.7, seed=7), "fair": noisy(table, 1.5, seed=7), "hopeless": -table, "oracle": table}[
            name
        ]
    )


JACOBI = "jacobi"
"""What the target said in earlier rounds."""
WINDOW_SOURCES = {JACOBI: JacobiSource, "jacobi, stale draft law": ReleasedDrafts}
JOINT = "joint"
"""A drafter's tree and a window of such guesses."""
STRUCTURES = ("chain", "fitted", "published", "window", "dynamic", JOINT)
STATIC = STRUCTURES[:4]
"""Trees that sampled candidates may have."""


def sources(structure: str) -> tuple[str, ...]:
    """Those that a structure is certified with; to others a window is another fitted tree."""
    return {"window": (JACOBI,), "dynamic": (*SOURCES, JACOBI)}.get(structure, SOURCES)


WINDOW = 6
"""Nodes of the window's chain: it reaches past the end of the toy from the first round on."""
HIT_RATES = (0.5, 0.3, 0.1)


@cache
def structure(name: str, vocab: int) -> Structure:
    """A tree that fits a vocabulary."""
    shapes: dict[str, Any] = {
        "chain": ChainConfig(depth=DEPTH),
        "fitted": FittedConfig(depth=DEPTH, nodes=9),
        "published": PathsConfig(paths=_published(vocab)),
        "window": WindowConfig(window=WINDOW, siblings=5),
        "dynamic": DynamicConfig(depth=DEPTH, nodes=7, top_k=2),
        JOINT: JointConfig(
            tree=DynamicConfig(depth=DEPTH, nodes=7, top_k=2),
            window=WindowConfig(window=WINDOW, siblings=2),
            stale=JacobiConfig(hit_rates=list(HIT_RATES)),
        ),
    }
    built: Structure = shapes[name].build(HIT_RATES, CPU)
    return built


def _published(vocab: int) -> list[list[int]]:
    """The published rank paths as far as the toy has ranks and positions."""
    paths = OmegaConf.load(config.folder("conf") / "structure" / f"{PUBLISHED}.yaml").paths
    return [list(path) for path in paths if len(path) <= DEPTH and max(path) < vocab]


SAMPLINGS = {
    "plain": Sampling(),
    "temperature 0.8, top-k 2": Sampling(temperature=0.8, top_k=2),
    "top-p 0.8": Sampling(top_p=0.8),
    "greedy": Sampling(temperature=0.0),
}
