"""Golden fixtures: tiny checkpoints in the official formats with the numbers the authors' own code gives for them.

`pytest tests/golden --golden DIR` runs the same checks on another folder laid out in the same way with other sizes.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
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
