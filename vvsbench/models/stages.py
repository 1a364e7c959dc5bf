"""Pieces of a model that an engine may record and repeat, and how their calls are counted whatever it does.

A recording is of one shape and of fixed places, and rows come in any number. So rows are filled up to the next of a few
sizes and copied to where the recording looks for them; where nothing is recorded exactly the wanted rows run. Calls are
counted by a hook on the stage around the network: it is called once by the host for every run, repeated or not.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)
T = TypeVar("T")


class Engine(Protocol):
    """What a model asks of an engine (see `vvsbench.decoding.engine`)."""

    @property
    def static(self) -> bool:
        """Whether stages must have fixed shapes and no host reads."""
        ...

    def network(self, module: M) -> M:
        """The module as this engine calls it, over the same weights."""
        ...

    def apart(self) -> Engine:
        """An engine of the same kind for other tensors."""
        ...

    def run(self, stage: str, shape: Hashable, step: Callable[[], T]) -> T:
        """Run a stage; what it returns is overwritten by its next run where the engine is static."""
        ...


@dataclass(frozen=True)
class Call:
    """What a call of a stage is charged to and costs; handed to the stage so that a hook can read it.

    Attributes:
        images: index of the image of every row, guided branches counted as one row.
        positions: token positions per row and evaluation.
        flops: multiply-adds x 2 per row and evaluation, all branches.
        evaluations: of the network, one after the other; a chain of a head has one per head step.
    """

    images: tuple[int, ...]
    positions: int
    flops: float
    evaluations: int = 1


def room(rows: int) -> int:
    """The least of the sizes that are recorded that holds so many rows: four per octave, at most a quarter too many."""
    grain = 1 << max(0, (rows - 1).bit_length() - 3)
    return -(-rows // grain) * grain


class Stage(nn.Module):
    """A function of tensors, run by an engine; its first argument is a `Call`, for hooks.

    Args:
        function: takes tensors (or None in places that may be empty) and returns a tuple of tensors with a row for
            each; rows must not depend on each other.
        rows: the dimension along which the rows of each argument lie.
        out: likewise, of all results.
        engine: None to call the function as it is.
    """

    def __init__(
        self,
        function: Callable[..., tuple[Tensor, ...]],
        rows: tuple[int, ...],
        out: int = 0,
        engine: Engine | None = None,
    ) -> None:
        super().__init__()
        self._function, self._rows, self._out = function, rows, out
        self._engine = engine.apart() if engine is not None and engine.static else None
        self._places: dict[Hashable, list[Tensor | None]] = {}

    def forward(self, call: Call | None, *arguments: Tensor | None) -> tuple[Tensor, ...]:
        """The function's results; `call` is what its hooks charge."""
        if self._engine is None:
            return self._function(*arguments)
        first = arguments[0]
        assert first is not None
        count = first.shape[self._rows[0]]
        shapes = tuple(
            None if each is None else (*each.shape[:dim], room(count), *each.shape[dim + 1 :], each.dtype)
            for each, dim in zip(arguments, self._rows, strict=True)
        )
        places = self._filled(shapes, arguments, count)
        found: Any = self._engine.run(str(shapes), None, lambda: self._function(*places))
        return tuple(each.narrow(self._out, 0, count).clone() for each in found)

    def _filled(self, shapes: tuple[Any, ...], arguments: tuple[Tensor | None, ...], count: int) -> list[Tensor | None]:
        """Where a recording of these shapes looks for its arguments, with these in it; other rows are left alone."""
        if shapes not in self._places:
            self._places[shapes] = [
                None if each is None else torch.zeros(shape[:-1], dtype=shape[-1], device=each.device)
                for each, shape in zip(arguments, shapes, strict=True)
            ]
        places = self._places[shapes]
        for place, each, dim in zip(places, arguments, self._rows, strict=True):
            if place is not None and each is not None:
                place.narrow(dim, 0, count).copy_(each)
        return places
