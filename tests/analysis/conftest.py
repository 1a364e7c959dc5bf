"""An invented study on disk, made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import synthetic
from vvsbench.analysis.frame import StudyFrame


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("outputs")
    synthetic.write(folder)
    return folder


@pytest.fixture(scope="session")
def study(root: Path) -> StudyFrame:
    return synthetic.frame("demo", root)
