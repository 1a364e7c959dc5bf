"""The synthetic data sets that the zoos are trained on, behind one interface: each is a module of this package."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Protocol, cast

from torch import Tensor

from vvsbench.models import checkpoints
from vvsbench.training.settings import DataName


class DataSet(Protocol):
    """Images that are functions of (seed, index); `vvsbench.training.shapes` says what each member promises."""

    __name__: str
    NUM_CLASSES: int
    CLASS_NAMES: tuple[str, ...]
    TRAIN_FIRST: int
    HELD_OUT_FIRST: int

    def render(self, indices: Tensor, size: int = ..., seed: int = 0) -> tuple[Tensor, Tensor]: ...
    def labels_of(self, indices: Tensor, seed: int = 0) -> Tensor: ...
    def balanced(self, first: int, count: int, seed: int = 0) -> Tensor: ...
    def attributes(self, indices: Tensor, seed: int = 0) -> Tensor: ...


def name_of(data: DataSet) -> DataName:
    """The name of a data set."""
    return DataName(data.__name__.rpartition(".")[2])


MODELS = {DataName.shapes: "tiny", DataName.scenes: "scenes"}
"""As which `vvsbench run` knows the target of each data set."""

FACTORS = {
    DataName.shapes: {"shape": 8, "colour": 8},
    DataName.scenes: {"shape": 8, "number": 2},
}
"""What a class is made of, and how many there are of each; the last one varies fastest."""


def factors(data: DataSet, labels: Tensor) -> dict[str, Tensor]:
    """What classes int64 [...] are made of, each int64 [...]."""
    out, rest = dict[str, Tensor](), labels
    for name, count in reversed(FACTORS[name_of(data)].items()):
        out[name], rest = rest % count, rest // count
    return dict(reversed(out.items()))


def data_set(name: str) -> DataSet:
    """The data set of this name."""
    return cast(DataSet, importlib.import_module(f"vvsbench.training.{DataName(name).value}"))


def data_of(path: Path) -> DataSet:
    """The data set that a finished part was trained on, as its file says; one that does not say is of the shapes."""
    settings = json.loads(checkpoints.header(path).metadata["training"])["settings"]
    return data_set(settings.get("data_set", DataName.shapes.value))
