"""What all tests share: the options of the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

FIXTURES = Path(__file__).parent / "golden" / "fixtures"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the golden tests run on another folder of fixtures."""
    parser.addoption("--golden", default=str(FIXTURES), help="folder of golden fixtures (default: the shipped ones)")
