"""Which trees can be chosen: the settings under decoder.structure. Other packages add theirs as vvsbench.structures.

The module imports no torch, because settings are read before torch is; `build` does.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from omegaconf import MISSING

from vvsbench.axes import Candidates
from vvsbench.drafting.rates import by_run, fitted_paths
from vvsbench.drafting.sources import JacobiConfig

if TYPE_CHECKING:
    import torch

    from vvsbench.drafting.growing import Structure
    from vvsbench.drafting.protocols import DraftSource
    from vvsbench.models.protocols import TokenModel

MOST_NODES = 1024
"""Of a tree: more than any published one has by far, and few enough for the square of visible nodes of a batch."""


@dataclass
class StructureConfig:
    """Shape of the draft, and where its candidates come from.

    Attributes:
        name: as in conf/structure.
        candidates: which tokens a node proposes.
    """

    name: str = MISSING
    candidates: Candidates = Candidates.shared_noise

    @abstractmethod
    def build(self, hit_rates: Sequence[Any], device: torch.device) -> Structure:
        """The structure.

        Args:
            hit_rates: of the drafter, see `fitted_paths`.
            device: of the models.
        """

    def source(self, drafter: DraftSource[Any], target: TokenModel[Any]) -> DraftSource[Any]:
        """What the structure asks for drafts, where that is not the drafter alone."""
        return drafter

    @property
    def label(self) -> list[str]:
        """What tells this setting apart in tables and plots."""
        chosen = Candidates(self.candidates)
        return [] if chosen is Candidates.shared_noise else [chosen.value.replace("_", "-")]

    def problems(self, vocab: int, hit_rates: Sequence[Any]) -> Iterator[str]:
        """What is wrong with the settings, one line each: the field, the fault and the remedy."""
        yield from ()


@dataclass
class ChainConfig(StructureConfig):
    """One candidate per level.

    Attributes:
        depth: levels below the root.
    """

    name: str = "chain"
    depth: int = 5

    def build(self, hit_rates: Sequence[Any], device: torch.device) -> Structure:
        """See `StructureConfig.build`."""
        from vvsbench.drafting.growing import StaticTree

        return StaticTree([(0,) * level for level in range(1, self.depth + 1)], device)

    @property
    def label(self) -> list[str]:
        """Its name, its depth and the candidates."""
        return [f"chain {self.depth}", *super().label]

    def problems(self, vocab: int, hit_rates: Sequence[Any]) -> Iterator[str]:
        """See `StructureConfig.problems`."""
        if self.depth < 1:
            yield f"depth={self.depth} must be at least 1"
        yield from _too_many("depth", self.depth, 1 + self.depth)


@dataclass
class FittedConfig(StructureConfig):
    """The rank paths that are likeliest to be accepted by the drafter's measured hit rates, the same at every step.

    Attributes:
        depth: levels below the root.
        nodes: size of the tree, root included.
    """

    name: str = "fitted"
    depth: int = 5
    nodes: int = 27

    def build(self, hit_rates: Sequence[Any], device: torch.device) -> Structure:
        """See `StructureConfig.build`."""
        from vvsbench.drafting.growing import StaticTree

        return StaticTree(fitted_paths(hit_rates, self.nodes, self.depth), device)

    def problems(self, vocab: int, hit_rates: Sequence[Any]) -> Iterator[str]:
        """See `StructureConfig.problems`."""
        yield from _sizes(self.depth, self.nodes)
        yield from _rate_problems(self.name, hit_rates, self.candidates)


@dataclass
class PathsConfig(StructureConfig):
    """The same rank paths at every step, named one by one: the published trees, or a user's own.

    Attributes:
        paths: [0, 2] is the third candidate below the first one; every node needs its parent.
    """

    name: str = "paths"
    paths: list[list[int]] = field(default_factory=list)

    def build(self, hit_rates: Sequence[Any], device: torch.device) -> Structure:
        """See `StructureConfig.build`."""
        from vvsbench.drafting.growing import StaticTree

        return StaticTree([tuple(path) for path in self.paths], device)

    @property
    def label(self) -> list[str]:
        """Its name and the candidates."""
        return [self.name, *super().label]

    def problems(self, vocab: int, hit_rates: Sequence[Any]) -> Iterator[str]:
        """See `StructureConfig.problems`."""
        yield from _path_problems([tuple(path) for path in self.paths], vocab, self.candidates)


@dataclass
class WindowConfig(StructureConfig):
    """A chain of first candidates and, near the root, candidates of other ranks beside it: a Jacobi window.

    It goes with any source, but only one that knows all levels at once (drafter=jacobi) drafts it for nothing.

    Attributes:
        window: nodes of the chain, the root included: positions that a forward looks at.
        siblings: nodes beside it, where they are likeliest to be accepted by the measured hit rates.
        paths: rank paths of siblings of your own, as of structure=paths; the chain is there without being named.
    """

    name: str = "window"
    window: int = 16
    siblings: int = 16
    paths: list[list[int]] = field(default_factory=list)

    def build(self, hit_rates: Sequence[Any], device: torch.device) -> Structure:
        """See `StructureConfig.build`."""
        from vvsbench.drafting.growing import StaticTree

        spine = self.window - 1
        if self.paths:
            return StaticTree([*self._chain(), *map(tuple, self.paths)], device)
        return StaticTree(fitted_paths(hit_rates, self.window + self.siblings, spine, spine), device)

    @property
    def label(self) -> list[str]:
        """Its sizes and the candidates."""
        beside = len(self.paths) if self.paths else self.siblings
        return [f"window {self.window}" + (f"+{beside}" if beside else ""), *super().label]

    def problems(self, vocab: int, hit_rates: Sequence[Any]) -> Iterator[str]:
        """See `StructureConfig.problems`."""
        if self.window < 2:
            yield f"window={self.window} must be at least 2, the root and a guess; decoder=ar is the one without"
        if self.siblings < 0:
            yield f"siblings={self.siblings} must be 0 or more"
        if too_many := [*_too_many("window", self.window), *_too_many("siblings", self.siblings)]:
            yield from too_many
        elif self.paths:
            yield from _path_problems([*self._chain(), *map(tuple, self.paths)], vocab, self.candidates)
        elif self.siblings > 0:
            yield from _rate_problems(self.name, hit_rates, self.candidates)

    def _chain(self) -> list[tuple[int, ...]]:
        """The rank paths of the chain."""
        return [(0,) * level for level in range(1, self.window)]


@dataclass
class JointConfig(StructureConfig):
    """A drafter's tree and the window of stale guesses below one root.

    Attributes:
        tree: of the drafter.
        window: of the target's stale guesses.
        stale: their rates.
    """

    name: str = "joint"
    tree: StructureConfig = MISSING
    window: WindowConfig = field(default_factory=WindowConfig)
    stale: JacobiConfig = field(default_factory=JacobiConfig)

    def build(self, hit_rates: Sequence[Any], device: torch.device) -> Structure:
        """See `StructureConfig.build`."""
        from vvsbench.drafting.joint import Joint

        return Joint(self.tree.build(hit_rates, device), self.window.build(self.stale.hit_rates, device))

    def source(self, drafter: DraftSource[Any], target: TokenModel[Any]) -> DraftSource[Any]:
        """See `StructureConfig.source`."""
        from vvsbench.drafting.jacobi import JacobiSource
        from vvsbench.drafting.joint import JointSource

        return JointSource(drafter, JacobiSource(target))

    @property
    def label(self) -> list[str]:
        """The labels of its parts."""
        return [f"{self.tree.name} + {word}" for word in self.window.label]

    def problems(self, vocab: int, hit_rates: Sequence[Any]) -> Iterator[str]:
        """See `StructureConfig.problems`."""
        yield from (f"tree.{problem}" for problem in self.tree.problems(vocab, hit_rates))
        yield from (f"window.{problem}" for problem in self.window.problems(vocab, self.stale.hit_rates))
        parts = (self, self.tree, self.window)
        if any(part.candidates != Candidates.shared_noise for part in parts):
            yield (
                "name=joint proposes a token twice where both parts do, which only shared noise forgives: set "
                "candidates, tree.candidates and window.candidates to shared_noise"
            )


@dataclass
class DynamicConfig(StructureConfig):
    """EAGLE-2: the nodes whose whole path is likeliest, found anew at every step.

    Attributes:
        depth: levels below the root.
        nodes: size of the tree, root included.
        top_k: nodes of the beam, and children of each.
    """

    name: str = "dynamic"
    depth: int = 5
    nodes: int = 59
    top_k: int = 10

    def build(self, hit_rates: Sequence[Any], device: torch.device) -> Structure:
        """See `StructureConfig.build`."""
        from vvsbench.drafting.growing import DynamicTree

        return DynamicTree(self.depth, self.top_k, self.nodes)

    @property
    def label(self) -> list[str]:
        """Whether it is dynamic where that is not what everybody does, and the candidates."""
        return [*(["dynamic"] if self.candidates == Candidates.shared_noise else []), *super().label]

    def problems(self, vocab: int, hit_rates: Sequence[Any]) -> Iterator[str]:
        """See `StructureConfig.problems`."""
        yield from _sizes(self.depth, self.nodes)
        if not 1 <= self.top_k <= vocab:
            yield f"top_k={self.top_k} must lie in [1, {vocab}]"
        if Candidates(self.candidates).drawn:
            yield (
                f"candidates={self.candidates} needs a tree whose shape does not depend on the draws; "
                "choose structure=fitted"
            )


def _path_problems(paths: Sequence[tuple[int, ...]], vocab: int, candidates: Candidates) -> Iterator[str]:
    """What is wrong with rank paths that a user names."""
    if not all(paths) or not paths or any(not 0 <= rank < vocab for path in paths for rank in path):
        shown = [list(path) for path in paths]
        yield f"paths={shown} must be lists of ranks from 0 to {vocab - 1}, as in [[0],[1],[0,0]]"
    elif alone := [list(path) for path in paths if path[:-1] and path[:-1] not in paths]:
        yield f"paths: {alone[0]} has no parent; add {alone[0][:-1]}"
    elif Candidates(candidates).drawn and (gaps := _gaps(paths)):
        yield f"paths: candidates={candidates} may leave no draw out; add {gaps[0]}"


def _rate_problems(name: str, hit_rates: Sequence[Any], candidates: Candidates) -> Iterator[str]:
    """What is wrong with the rates that a tree is fitted to."""
    runs = by_run(hit_rates)
    if not all(rates and all(map(_is_rate, rates)) and rates[0] > 0 for rates in runs):
        yield (
            f"name={name} needs a rate below 1 for each rank in decoder.drafter.hit_rates, as in [0.5,0.15,0.1], or a "
            f"list of such lists, one for each run, not {list(hit_rates)}; python -m vvsbench.decoding.fitting "
            "measures them"
        )
    elif Candidates(candidates).drawn and any(rates != sorted(rates, reverse=True) for rates in runs):
        yield f"candidates={candidates} needs decoder.drafter.hit_rates that fall, so that no draw is left out"


def _is_rate(value: Any) -> bool:
    return isinstance(value, int | float) and 0 <= value < 1


def _gaps(paths: Sequence[tuple[int, ...]]) -> list[list[int]]:
    """Ranks that are left out although a later one of the same node is there."""
    before = [(*path[:-1], path[-1] - 1) for path in paths if path[-1] > 0]
    return [list(path) for path in before if path not in paths]


def _sizes(depth: int, nodes: int) -> Iterator[str]:
    if depth < 1:
        yield f"depth={depth} must be at least 1"
    if nodes < 1 + depth:
        yield f"nodes={nodes} must be at least {1 + depth}, one per level"
    yield from _too_many("nodes", nodes)


def _too_many(name: str, value: int, nodes: int | None = None) -> Iterator[str]:
    """Whether a size means more nodes than a tree may have: its value, if it does not count them."""
    if (value if nodes is None else nodes) > MOST_NODES:
        yield f"{name}={value} is more than a tree can use; {MOST_NODES} nodes at most"


STRUCTURES: tuple[type[StructureConfig], ...] = (
    ChainConfig,
    FittedConfig,
    PathsConfig,
    WindowConfig,
    DynamicConfig,
    JointConfig,
)
"""What conf/structure can name."""
