"""What all tests share: the options of the command line, and time for those that run a compiler."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # models this small only wait for a second thread; before torch is read

import pytest
from hypothesis import settings

settings.register_profile("vvsbench", deadline=None)  # seconds prove nothing on a shared machine
settings.load_profile("vvsbench")

AN_HOUR = 3600
FIXTURES = Path(__file__).parent / "golden" / "fixtures"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the golden tests run on another folder of fixtures."""
    parser.addoption("--golden", default=str(FIXTURES), help="folder of golden fixtures (default: the shipped ones)")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test that compiles is not failed by the clock of a busy machine."""
    for item in items:
        if item.get_closest_marker("compiles"):
            item.add_marker(pytest.mark.timeout(AN_HOUR))


def _graphs() -> int:
    """What torch.compile has been given so far in this process."""
    dynamo = sys.modules.get("torch._dynamo.utils")
    return dynamo.counters["stats"]["unique_graphs"] if dynamo else 0


@pytest.fixture(autouse=True)
def _who_compiles_says_so(request: pytest.FixtureRequest) -> Iterator[None]:
    before = _graphs()
    yield
    if _graphs() > before and not request.node.get_closest_marker("compiles"):
        pytest.fail("this test calls torch.compile: mark it with pytest.mark.compiles, which gives it time")


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports without their figures, which take most of the time."""
    monkeypatch.setattr("vvsbench.analysis.report._figures", lambda study, target: [])
