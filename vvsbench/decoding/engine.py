"""How the steps of a decoder run: operation by operation, with compiled networks, or captured once and repeated.

A decoder cuts its loop into stages: functions of no arguments that read and write tensors which stay where they are,
and ask the host for nothing. Run eagerly a stage is a call. Captured, it is recorded the second time it is asked for
(the first time it runs as it is, which warms up what has to be) and repeated from then on: a whole stage for one
launch. What the host decides (how wide attention reads, whether a chain is pending) is the stage's `shape`: every shape
is recorded apart, and all of them leave their result in the same place, where the next stage looks for it.

Networks are called inside stages, and calls are counted by hooks, which a repetition does not run. So what the hooks
saw while a stage was recorded is counted again at every repetition, for the images that are named then.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from vvsbench.axes import EngineKind
from vvsbench.decoding.trace import CallCounter
from vvsbench.errors import UserError
from vvsbench.fusing import fusing
from vvsbench.models.transformer import FeedForward

T = TypeVar("T")
M = TypeVar("M", bound=nn.Module)


class EngineError(UserError):
    """The engine cannot run here."""


@dataclass(frozen=True)
class Charge:
    """Whom the forwards of a stage are counted for.

    Attributes:
        counter: of one network.
        images: that take part.
    """

    counter: CallCounter
    images: list[int]


class Engine(ABC):
    """Runs stages.

    Attributes:
        static: whether stages must have fixed shapes and no host reads.
    """

    static: ClassVar[bool] = False

    def network(self, module: M) -> M:
        """The module as this engine calls it, over the same weights and hooks; the module itself stays as it is."""
        return _twin(module, compiled=False)

    def apart(self) -> Engine:
        """An engine of the same kind for other tensors: what this one has recorded is of its own ones."""
        return self

    @abstractmethod
    def run(self, stage: str, shape: Hashable, step: Callable[[], T], charges: Sequence[Charge] = ()) -> T:
        """Run a stage.

        Args:
            stage: its name.
            shape: what its recording depends on beside the tensors' own shapes.
            step: the stage itself. What it returns is a tensor, a dataclass or a tuple of such.
            charges: whom the forwards inside are counted for, in the order in which the networks are first called.

        Returns:
            What the stage returned. It is overwritten by the stage's next run where the engine is static.
        """


class Eager(Engine):
    """Operation by operation."""

    def run(self, stage: str, shape: Hashable, step: Callable[[], T], charges: Sequence[Charge] = ()) -> T:
        """See `Engine.run`."""
        return step()


class Compiled(Eager):
    """The blocks of the networks by torch.compile, and what is marked as fusible between them."""

    def network(self, module: M) -> M:
        """See `Engine.network`. One compilation serves all layers, lengths of blocks and caches."""
        return _twin(module, compiled=True)

    def run(self, stage: str, shape: Hashable, step: Callable[[], T], charges: Sequence[Charge] = ()) -> T:
        """See `Engine.run`."""
        with fusing():
            return super().run(stage, shape, step, charges)


class Captured(Engine):
    """Stages that are recorded once per shape; subclasses say how."""

    static: ClassVar[bool] = True

    def __init__(self) -> None:
        self._warm: set[tuple[str, Hashable]] = set()
        self._recorded: dict[tuple[str, Hashable], _Recording] = {}
        self._results: dict[str, Any] = {}

    @abstractmethod
    def record(self, step: Callable[[], None]) -> Callable[[], None]:
        """Record what a step does to tensors, without doing it; returns what does it."""

    def run(self, stage: str, shape: Hashable, step: Callable[[], T], charges: Sequence[Charge] = ()) -> T:
        """See `Engine.run`."""
        key = (stage, shape)
        if key in self._recorded:
            recording = self._recorded[key]
            for charge, seen in zip(charges, recording.calls, strict=True):
                charge.counter.repeat(seen, charge.images)
            recording.play()
        elif key in self._warm:
            before = [len(charge.counter.log) for charge in charges]
            play = self.record(lambda: self._keep(stage, step()))
            calls = [charge.counter.log[start:] for charge, start in zip(charges, before, strict=True)]
            self._recorded[key] = _Recording(play, calls)
            play()
        else:
            self._warm.add(key)
            self._keep(stage, step())
        result: T = self._results[stage]
        return result

    def _keep(self, stage: str, result: Any) -> None:
        """Leave a result where the stage's results lie."""
        if stage not in self._results:
            self._results[stage] = _copied(result)
            return
        for place, value in zip(_tensors(self._results[stage]), _tensors(result), strict=True):
            if place.shape != value.shape:
                raise RuntimeError(
                    f"stage {stage} returned {tuple(value.shape)} where it returned {tuple(place.shape)}"
                )
            place.copy_(value)


class Graphed(Captured):
    """Networks and fusible functions by torch.compile, and every stage a CUDA graph."""

    def __init__(self, pool: Any = None) -> None:
        super().__init__()
        # one pool for all graphs: nothing that lies in it is needed once its graph has run
        self._pool = torch.cuda.graph_pool_handle() if pool is None else pool

    def network(self, module: M) -> M:
        """See `Engine.network`."""
        return _twin(module, compiled=True)

    def apart(self) -> Engine:
        """See `Engine.apart`."""
        return Graphed(self._pool)

    def run(self, stage: str, shape: Hashable, step: Callable[[], T], charges: Sequence[Charge] = ()) -> T:
        """See `Engine.run`."""
        with fusing():
            return super().run(stage, shape, step, charges)

    def record(self, step: Callable[[], None]) -> Callable[[], None]:
        """See `Captured.record`."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            step()
        return graph.replay


@dataclass(frozen=True)
class _Recording:
    """A recorded stage, and per charge what its counter saw when it was recorded."""

    play: Callable[[], None]
    calls: list[list[tuple[list[int], int, bool]]]


def make(kind: EngineKind, device: torch.device) -> Engine:
    """The engine of a setting.

    Raises:
        EngineError: it needs another device.
    """
    if kind == EngineKind.graphed and device.type != "cuda":
        raise EngineError(
            f"engine=graphed records CUDA graphs, and the device is {device.type}; choose engine=compiled or eager."
        )
    return {EngineKind.eager: Eager, EngineKind.compiled: Compiled, EngineKind.graphed: Graphed}[kind]()


def _twin(module: M, *, compiled: bool) -> M:
    """A module that shares weights and hooks with another, and lays those that are read together behind each other.

    Args:
        module: stays as it is.
        compiled: whether the parts that it calls fusible are compiled. Not the whole: a compiler that is shown writes
            into one layer after the other of the cache copies the cache.
    """
    double = copy.copy(module)
    parts = module._modules.items()
    double.__dict__["_modules"] = {name: child and _twin(child, compiled=compiled) for name, child in parts}
    if isinstance(module, FeedForward):
        double.__dict__["packed"] = module.pack()
    for name in getattr(module, "fusible", ()) if compiled else ():
        double.__dict__[name] = torch.compile(getattr(double, name), dynamic=True)
    return double


def _parts(value: Any) -> Iterator[Any]:
    if is_dataclass(value):
        yield from (getattr(value, field.name) for field in fields(value))
    elif isinstance(value, tuple | list):
        yield from value


def _tensors(value: Any) -> Iterator[Tensor]:
    """The tensors of a result, in order."""
    if isinstance(value, Tensor):
        yield value
    for part in _parts(value):
        yield from _tensors(part)


def _copied(value: Any) -> Any:
    """The same result in tensors of its own."""
    if isinstance(value, Tensor):
        return value.clone()
    if is_dataclass(value) and not isinstance(value, type):
        made = copy.copy(value)
        for field in fields(value):
            object.__setattr__(made, field.name, _copied(getattr(value, field.name)))
        return made
    return tuple(_copied(part) for part in value) if isinstance(value, tuple | list) else value
