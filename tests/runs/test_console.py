"""What is said while a cell is drawn, and about a finished one."""

from __future__ import annotations

import logging
import math
import time

import numpy as np
import pytest

from vvsbench.runs import console, tables
from vvsbench.runs.console import Console, Drawing, duration, written
from vvsbench.runs.record import CellRecord, MetricValue, QualityRecord


@pytest.mark.parametrize(
    ("counted", "said"),
    [
        ({}, "drew 8 images"),
        ({"step_compression": 2.5}, "drew 8 images\n    2.5 tokens per forward"),
        (
            {"step_compression": 4.0, "cost": 12.28},
            "drew 8 images\n    4 tokens per forward   12.28 target calls",
        ),
    ],
)
def test_the_line_of_a_cell_says_what_was_counted(counted, said, capsys):
    summaries = {name: tables.summary(np.array([value])) for name, value in counted.items()}
    Console().finished(CellRecord.model_construct(label="sd", key="0123", summaries=summaries), "drew 8 images")
    assert capsys.readouterr().out.strip().endswith(said)


def metric(name, value, half=None):
    ends = {} if half is None else {"low": value - half, "high": value + half}
    return MetricValue(name=name, value=value, n=8, higher_is_better=True, **ends)


def test_the_metrics_of_a_cell_stand_below_it_with_their_intervals(capsys):
    values = [metric("fid", 18.6312, 1.3), metric("kid", 0.00623, 0.0013), metric("clip", 28.4), metric("recall", 0.5)]
    values += [metric(f"metric number {n}", 12.3456, 0.5) for n in range(4)]
    quality = QualityRecord.model_construct(protocol="tiny", version="v1", values=values)
    summaries = {"step_compression": tables.summary(np.array([2.0, 3.0, 2.5]))}
    record = CellRecord.model_construct(label="sd", key="0123", summaries=summaries)
    Console().finished(record, "scored in 3 s", quality)
    first, *rest = capsys.readouterr().out.splitlines()
    assert first.endswith("scored in 3 s")
    assert all(line.startswith("    ") and len(line) <= 80 for line in rest)
    text = " ".join(line.strip() for line in rest)
    for number in ("FID 18.6 [17.3, 19.9]", "KID 0.0062 [0.0049, 0.0075]", "CLIP 28.4", "recall 0.5"):
        assert number in text
    assert "] tokens per forward" in text
    assert text.endswith("(protocol tiny v1)")


@pytest.mark.parametrize(
    ("value", "low", "high", "expected"),
    [
        (2.0, 2.0, 2.0, "2"),
        (123456.0, 123400.0, 123500.0, "123456 [123400, 123500]"),
        (0.5, None, None, "0.5"),
        (math.nan, math.nan, math.nan, "nan"),
    ],
)
def test_numbers(value, low, high, expected):
    assert written(value, low, high) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0.2, "0.2 s"), (89, "89 s"), (95, "2 min"), (3700, "62 min"), (7500, "2 h 05 min")]
)
def test_durations(seconds, expected):
    assert duration(seconds) == expected


def test_without_a_terminal_progress_is_lines(capsys, caplog, monkeypatch):
    monkeypatch.setattr(console, "MINUTE", 0.05)
    with caplog.at_level(logging.INFO), Console().drawing("sd", 8, 2) as (advance, wrote):
        advance(3)
        wrote("shard-00000.safetensors")
        for _ in range(200):
            if len(caplog.messages) > 1:
                break
            time.sleep(0.02)
    said = capsys.readouterr().err.splitlines()
    assert said == caplog.messages
    assert said[0].startswith("sd: 5 of 8 images, about ")
    assert said[0].endswith(" left (shard-00000.safetensors)")
    assert said[1].startswith("sd: 5 of 8 images, about ")  # a sign of life while no file is written


def test_work_without_a_measure_gives_signs_of_life(capsys, monkeypatch):
    monkeypatch.setattr(console, "MINUTE", 0.05)
    with Console().working("sd: measuring fid"):
        time.sleep(0.3)
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "sd: measuring fid"
    assert said[1].startswith("sd: measuring fid, for 0.")


def test_on_a_terminal_lines_go_to_the_log_alone(capsys, caplog, monkeypatch):
    shown = Console()
    monkeypatch.setattr(shown, "_bars", True)
    with caplog.at_level(logging.INFO), shown.drawing("sd", 8, 0) as (advance, wrote):
        advance(8)
        wrote("shard-00000.safetensors")
    assert caplog.messages == ["sd: 8 of 8 images after 0.0 s (shard-00000.safetensors)"]
    assert "shard" not in capsys.readouterr().err


def test_what_is_left_is_told_from_what_this_process_drew():
    so_far = Drawing("sd", 100, 50)
    so_far._started -= 10
    assert str(so_far) == "sd: 50 of 100 images after 10 s"
    so_far.done = 60
    assert str(so_far) == "sd: 60 of 100 images, about 40 s left"
