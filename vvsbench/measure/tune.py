"""Which lossless setting is the fastest on this machine: expected tokens per round over what a round costs here.

A tree of 27 nodes is nearly free on a large GPU and three forwards on a processor, so no shape is the best everywhere.
The rounds of a few shapes are timed in turn with the steps of `ar`; from them follows what any other shape costs, and
from a drafter's hit rates how many tokens it adds. The likeliest are then timed against `ar`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.optimize import nnls

from vvsbench.decoding.base import Decoder
from vvsbench.decoding.trace import DecodeTrace
from vvsbench.drafting.rates import RankPath, expected_tokens, fitted_paths
from vvsbench.measure.clock import Stopwatch
from vvsbench.measure.statistics import LEAST, Interval, median_ratio

WIDE = 12
"""Nodes from which on, on a processor, a forward's arithmetic may outweigh reading the weights."""


@dataclass(frozen=True)
class Shape:
    """A tree that does not change from step to step.

    Attributes:
        overrides: the settings that choose it.
        paths: its rank paths.
        levels: its depth, 0 where it is drafted without a forward of a drafter.
    """

    overrides: tuple[str, ...]
    paths: tuple[RankPath, ...]
    levels: int

    @property
    def nodes(self) -> int:
        """With the root."""
        return 1 + len(self.paths)

    @property
    def basis(self) -> list[float]:
        """What the cost of its round is a sum of, each with a factor that is measured and at least 0."""
        return [1.0, float(self.levels), float(self.nodes), float(max(0, self.nodes - WIDE))]


def fitted(rates: Sequence[Any], most: int = 27, depth: int = 5) -> Iterator[Shape]:
    """Trees that are fitted to a drafter's hit rates."""
    seen = set()
    for levels in range(1, depth + 1):
        for nodes in range(1 + levels, most + 1):
            paths = tuple(fitted_paths(rates, nodes, levels))
            own = max(map(len, paths))
            if own == levels and len(paths) == nodes - 1 and paths not in seen:
                seen.add(paths)
                sizes = f"decoder.structure.nodes={nodes}", f"decoder.structure.depth={levels}"
                yield Shape(("decoder=sd", *sizes), paths, levels)


def windows(rates: Sequence[Any], most: int = 16, siblings: int = 16, depth: int = 6) -> Iterator[Shape]:
    """Windows of the target's own guesses, which no drafter has to run for."""
    seen = set()
    for length in range(2, most + 1):
        for beside in range(siblings + 1):
            paths = tuple(fitted_paths(rates, length + beside, depth, length - 1))
            sizes = f"decoder.structure.window={length}", f"decoder.structure.siblings={beside}"
            if len(paths) == length + beside - 1 and paths not in seen:
                seen.add(paths)
                yield Shape(("decoder=jacobi", *sizes), paths, 0)


def spread(shapes: Sequence[Shape], count: int) -> list[Shape]:
    """A few shapes from the smallest to the largest, evenly by their nodes and levels."""
    ordered = sorted(shapes, key=lambda shape: (shape.nodes, shape.levels))
    places = np.linspace(0, len(ordered) - 1, min(count, len(ordered))).round().astype(int)
    return [ordered[place] for place in sorted(set(places.tolist()))]


@dataclass(frozen=True)
class Costs:
    """What a round costs by its shape, in steps of `ar`."""

    factors: tuple[float, ...]

    @classmethod
    def fit(cls, shapes: Sequence[Shape], measured: Sequence[float]) -> Costs:
        """The factors that explain measured rounds best; relative errors count."""
        values = np.asarray(measured)
        factors, _ = nnls(np.array([shape.basis for shape in shapes]) / values[:, None], np.ones(len(values)))
        return cls(tuple(float(factor) for factor in factors))

    def of(self, shape: Shape) -> float:
        """A round of a shape."""
        return sum(factor * part for factor, part in zip(self.factors, shape.basis, strict=True))


@dataclass(frozen=True)
class Choice:
    """A shape and what is expected of it.

    Attributes:
        tokens: expected per round.
        cost: of a round, in steps of `ar`, by the curve.
        measured: times as fast as `ar`, timed in turn with it; None where it was not.
    """

    shape: Shape
    tokens: float
    cost: float
    measured: Interval | None = None

    @property
    def speed_up(self) -> float:
        """Expected, over `ar`."""
        return self.tokens / self.cost


def ranked(shapes: Sequence[Shape], rates: Sequence[Any], costs: Costs) -> list[Choice]:
    """Shapes by their expected speed-up, the fastest first."""
    choices = [Choice(shape, expected_tokens(rates, shape.paths), costs.of(shape)) for shape in shapes]
    return sorted(choices, key=lambda choice: -choice.speed_up)


@dataclass(frozen=True)
class Run:
    """Seconds of a generation, its steps and its tokens, those of one row."""

    seconds: float
    steps: float
    tokens: float


def timed(decoder: Decoder, rows: int, number: int) -> Run:
    """Generate a batch, prefill and all.

    Args:
        decoder: of discrete tokens.
        rows: images, all in flight together.
        number: of the batch; each draws other images.
    """
    images = range(number * rows, (number + 1) * rows)
    conditions = decoder.target.conditions([image % 10 for image in images])
    with Stopwatch(decoder.target.device) as watch:
        tokens, trace = decoder.generate(conditions, images, 0)
    assert isinstance(trace, DecodeTrace)
    return Run(watch.seconds, max(len(steps) for steps in trace.steps), tokens.shape[1] - 1)


def in_turn(decoders: Mapping[Any, Decoder], rows: int, rounds: int, until: float) -> dict[Any, list[Run]]:
    """Every decoder once a round, on the same images, after each has run unseen; as many rounds as an interval needs.

    Args:
        decoders: by whatever names them.
        rows: of a batch.
        rounds: at most.
        until: time, by `time.monotonic`, after which no round begins.
    """
    for decoder in decoders.values():
        timed(decoder, rows, 0)
    runs: dict[Any, list[Run]] = {name: [] for name in decoders}
    for number in range(rounds):
        if number >= LEAST and time.monotonic() > until:
            break
        for name in list(decoders) if number % 2 else list(reversed(list(decoders))):
            runs[name].append(timed(decoders[name], rows, number + 1))
    return runs


def curve(runs: Mapping[Any, Sequence[Run]], baseline: Any, shapes: Sequence[Shape]) -> Costs:
    """What rounds cost, from runs of these shapes in turn with the baseline's."""
    steps = [run.seconds / run.steps for run in runs[baseline]]
    measured = []
    for shape in shapes:
        own = [run.seconds / run.steps for run in runs[shape]]
        measured.append(float(np.median([mine / step for mine, step in zip(own, steps, strict=True)])))
    return Costs.fit(shapes, measured)


def checked(
    choices: Sequence[Choice], build: Callable[[Shape], Decoder], baseline: Decoder, rows: int, until: float
) -> list[Choice]:
    """The same choices, timed against the baseline."""
    decoders: dict[Any, Decoder] = {None: baseline} | {choice.shape: build(choice.shape) for choice in choices}
    runs = in_turn(decoders, rows, 40, until)
    base = [run.seconds for run in runs[None]]
    return [
        replace(choice, measured=median_ratio(base, [run.seconds for run in runs[choice.shape]])) for choice in choices
    ]
