"""A recording engine for the CPU: what a CUDA graph does, so that it can be tested where there is no GPU.

A stage is recorded as the list of operations that it dispatches, each with the very tensors it was given. Playing it
runs the same operations on the same tensors and puts every result where the recording left it. Whatever the host knew
at recording time is baked in, as in a graph; and what a capture refuses, reading a tensor on the host or a shape that
depends on data, is refused here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from vvsbench.decoding.engine import Captured, Engine

aten = torch.ops.aten
REFUSED = {
    aten._local_scalar_dense.default,
    aten.nonzero.default,
    aten.masked_select.default,
    aten.lift_fresh.default,
    aten.is_nonzero.default,
}


class HostRead(RuntimeError):
    """A stage asked the host, or brought something from it."""


class Tape(TorchDispatchMode):
    """Runs operations and notes them."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Any, Sequence[Any], dict[str, Any], list[Any]]] = []
        self.done = True
        """Whether the next play is the one that recording has done already: here it cannot but run."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in REFUSED:
            raise HostRead(f"{func} inside a stage")
        by_index = func in (aten.index.Tensor, aten.index_put_.default, aten.index_put.default)
        if by_index and any(isinstance(index, Tensor) and index.dtype == torch.bool for index in args[1]):
            raise HostRead(f"{func} by a mask: its shape depends on data")
        out = func(*args, **kwargs)
        self.operations.append((func, args, kwargs, tree_leaves(out)))
        return out

    def play(self) -> None:
        if self.done:
            self.done = False
            return
        for func, args, kwargs, before in self.operations:
            inputs = {leaf.untyped_storage().data_ptr() for leaf in tree_leaves((args, kwargs)) if _is(leaf)}
            if all(_is(out) and out.untyped_storage().data_ptr() in inputs for out in before) and _is_view(func):
                continue
            for place, fresh in zip(before, tree_leaves(func(*args, **kwargs)), strict=True):
                if _is(place) and place is not fresh and place.data_ptr() != fresh.data_ptr():
                    place.copy_(fresh)


def _is(value: Any) -> bool:
    return isinstance(value, Tensor)


def _is_view(func: Any) -> bool:
    """Whether an operation only looks at its input; one that writes to it has to run again."""
    return not func._schema.is_mutable


class Taped(Captured):
    """Stages on tapes.

    Attributes:
        stages: names and shapes of what was recorded, and how often it was played.
    """

    def __init__(self, stages: dict[tuple[str, Any], int] | None = None) -> None:
        super().__init__()
        self.stages = {} if stages is None else stages

    def apart(self) -> Engine:
        return Taped(self.stages)

    def run(self, stage: str, shape: Any, step: Callable[[], Any], charges: Any = ()) -> Any:
        self.stages[stage, shape] = self.stages.get((stage, shape), 0) + 1
        return super().run(stage, shape, step, charges)

    def record(self, step: Callable[[], None]) -> Callable[[], None]:
        with Tape() as tape:
            step()
        return tape.play
