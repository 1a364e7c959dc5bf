"""Fixtures of the runner's tests."""

from __future__ import annotations

import pytest

from tests.runs.fakes import FakeDecoder
from vvsbench import decoding, identity
from vvsbench.composition import composed, plain
from vvsbench.runs.cell import Cell
from vvsbench.runs.console import Console

SETTINGS = ["metrics=none", "device=cpu", "model.class_names=null", "count=10", "batch_size=2", "shard_size=4"]


@pytest.fixture
def decoder(monkeypatch):
    """The decoder that every run of the test loads."""
    fake = FakeDecoder()
    monkeypatch.setattr(decoding, "build", lambda cfg, device, dtype: fake)
    monkeypatch.setattr(identity, "weights_names", lambda config: {})
    return fake


@pytest.fixture
def make_cell(tmp_path, decoder):
    """Makes a cell in a folder of the test, like a new process would."""

    def make(*overrides: str, name: str = "ar-test") -> Cell:
        cfg = composed([*SETTINGS, *overrides])
        return Cell(cfg, plain(cfg), tmp_path / "cells" / "single" / name, Console())

    return make
