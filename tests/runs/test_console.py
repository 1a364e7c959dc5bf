"""What is said about a finished cell."""

from __future__ import annotations

import numpy as np
import pytest

from vvsbench.runs import tables
from vvsbench.runs.console import Console
from vvsbench.runs.record import CellRecord


@pytest.mark.parametrize(
    ("counted", "said"),
    [
        ({}, "drew 8 images"),
        ({"step_compression": 2.5}, "drew 8 images; 2.50 tokens per forward"),
        (
            {"step_compression": 4.0, "cost": 12.28},
            "drew 8 images; 4.00 tokens per forward, 12.3 target calls of computation",
        ),
    ],
)
def test_the_line_of_a_cell_says_what_was_counted(counted, said, capsys):
    summaries = {name: tables.summary(np.array([value])) for name, value in counted.items()}
    Console().finished(CellRecord.model_construct(label="sd", key="0123", summaries=summaries), "drew 8 images")
    assert capsys.readouterr().out.strip().endswith(said)
