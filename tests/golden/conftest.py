"""Golden fixtures: tiny checkpoints in the official formats with the numbers the authors' own code gives for them.

`pytest tests/golden --golden DIR` runs the same checks on another folder laid out in the same way with other sizes
and other settings: a test reads both from the fixture's config.json, and is made once for every run that it names.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor


@dataclass(frozen=True)
class GoldenFolder:
    """One fixture: its folder, the sizes it was made with, and inputs and expected outputs by name."""

    path: Path
    config: dict[str, Any]
    tensors: dict[str, Tensor]

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]


def each_run(metafunc: pytest.Metafunc, fixture: str, key: str = "runs") -> None:
    """Make a test with an argument `run` once for every name under a key of the fixture's config.json."""
    path = Path(metafunc.config.getoption("--golden")) / fixture / "config.json"
    metafunc.parametrize("run", json.loads(path.read_text())[key] if path.is_file() else [])


def recorded_names(config: pytest.Config, fixture: str, prefix: str) -> list[str]:
    """The outputs that a fixture holds under names that begin so."""
    path = Path(config.getoption("--golden")) / fixture / "io.safetensors"
    if not path.is_file():
        return []
    with safe_open(path, "pt") as file:
        return sorted(name for name in file.keys() if name.startswith(prefix))  # noqa: SIM118 (it is no mapping)


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str], GoldenFolder]:
    """Open a fixture by name; a folder given with --golden need not hold every fixture."""
    root = Path(request.config.getoption("--golden"))

    def open_folder(name: str) -> GoldenFolder:
        path = root / name
        if not path.is_dir():
            pytest.skip(f"{root} holds no fixture {name}")
        config = json.loads((path / "config.json").read_text())
        return GoldenFolder(path, config, load_file(str(path / "io.safetensors")))

    return open_folder
