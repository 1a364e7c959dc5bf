"""What all tests share: the options of the command line."""

from __future__ import annotations

import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # models this small only wait for a second thread; before torch is read

import pytest
from hypothesis import settings

settings.register_profile("vvsbench", deadline=None)  # seconds prove nothing on a shared machine
settings.load_profile("vvsbench")

FIXTURES = Path(__file__).parent / "golden" / "fixtures"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the golden tests run on another folder of fixtures."""
    parser.addoption("--golden", default=str(FIXTURES), help="folder of golden fixtures (default: the shipped ones)")


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports without their figures, which take most of the time."""
    monkeypatch.setattr("vvsbench.analysis.report._figures", lambda study, target: [])
