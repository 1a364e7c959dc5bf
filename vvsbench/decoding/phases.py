"""The phases of a step, named where they happen and timed only by who asks.

A decoder marks what it does with `phase`; unless somebody listens that is next to nothing. The listener decides what
a beginning and an end mean: a wall clock, a device event, or a synchronisation between them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from enum import StrEnum


class Phase(StrEnum):
    """What a decoder may be doing.

    prefill: the target and the drafter read the condition. sampling: logits become tokens, in vanilla decoding. draft:
    a tree is grown, or a draft drawn. verify: the target's forward. accept: the acceptance rule and what follows from
    it on the device. commit: caches and bookkeeping, the drafter's reading of what was accepted included.
    """

    prefill = "prefill"
    draft = "draft"
    verify = "verify"
    accept = "accept"
    commit = "commit"
    sampling = "sampling"


Listener = Callable[[Phase], AbstractContextManager[None]]

_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


def phase(name: Phase) -> AbstractContextManager[None]:
    """Mark the block inside `with` as a phase."""
    listener = _listener.get()
    return nullcontext() if listener is None else listener(name)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Hear of every phase inside `with`.

    Args:
        listener: makes the context manager that surrounds each phase.
    """
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)
