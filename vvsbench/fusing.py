"""Functions of tensors between the networks that a compiler may fuse: a dozen tiny kernels each, one or two when fused.

A function is marked where it is defined, and nothing else changes there: it is called as it is, unless an engine that
compiles runs the stage around it (see `vvsbench.decoding.engine`). Such a function changes none of its arguments and
asks the host for nothing.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")

_wanted: ContextVar[bool] = ContextVar("fusing", default=False)


@contextmanager
def fusing() -> Iterator[None]:
    """Fuse what is called inside."""
    before = _wanted.set(True)
    try:
        yield
    finally:
        _wanted.reset(before)


def fusible(function: Callable[P, R]) -> Callable[P, R]:
    """Mark a function; it is compiled when it is first called inside `fusing`: the compiler takes seconds to import."""
    compiled: list[Callable[P, R]] = []

    @functools.wraps(function)
    def called(*args: P.args, **kwargs: P.kwargs) -> R:
        if torch.compiler.is_compiling() or not _wanted.get():  # compiling: it is part of a larger function
            return function(*args, **kwargs)
        if not compiled:
            compiled.append(torch.compile(function, dynamic=True))
        return compiled[0](*args, **kwargs)

    return called
