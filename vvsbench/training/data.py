"""The synthetic data sets that the zoos are trained on, behind one interface: each is a module of this package."""

from __future__ import annotations

import importlib
from typing import Protocol, cast

from torch import Tensor

from vvsbench.training.settings import DataName


class DataSet(Protocol):
    """Images that are functions of (seed, index); see `vvsbench.training.shapes` for what each member promises."""

    @property
    def NUM_CLASSES(self) -> int: ...  # noqa: D102, N802
    @property
    def CLASS_NAMES(self) -> tuple[str, ...]: ...  # noqa: D102, N802
    @property
    def TRAIN_FIRST(self) -> int: ...  # noqa: D102, N802
    @property
    def HELD_OUT_FIRST(self) -> int: ...  # noqa: D102, N802

    def render(self, indices: Tensor, size: int = ..., seed: int = 0) -> tuple[Tensor, Tensor]: ...  # noqa: D102
    def labels_of(self, indices: Tensor, seed: int = 0) -> Tensor: ...  # noqa: D102
    def balanced(self, first: int, count: int, seed: int = 0) -> Tensor: ...  # noqa: D102
    def attributes(self, indices: Tensor, seed: int = 0) -> Tensor: ...  # noqa: D102


def data_set(name: DataName) -> DataSet:
    """The data set of this name."""
    return cast(DataSet, importlib.import_module(f"vvsbench.training.{name.value}"))
