"""What a search says at its end: each setting's place goes by the rule of all fronts."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests import synthetic
from vvsbench.runs.job import Outcome
from vvsbench.runs.store import StoredCell, read_record
from vvsbench.search import shown
from vvsbench.search.objectives import difference, measured
from vvsbench.search.trials import State

NAMES = ["step_compression", "fid"]


def test_objectives_are_told_apart_in_pairs_and_less_is_better(tmp_path: Path) -> None:
    folders = synthetic.write(tmp_path, 32, cells=synthetic.recipes()[:4:3])
    ar, vvs = (StoredCell(folder, record) for folder in folders if (record := read_record(folder)) is not None)
    cost, fid = (difference(vvs, ar, "tiny", name) for name in NAMES)
    assert cost is not None
    assert fid is not None
    assert cost.high is not None
    assert cost.high < 0  # more tokens per forward
    assert (fid.value, fid.low is not None and fid.low > 0) == (pytest.approx(9.4), True)
    accepted = difference(vvs, ar, "tiny", "accepted_length")  # a summary that is in no trace
    assert accepted is not None
    assert accepted.value < 0
    assert difference(vvs, ar, "another protocol", "fid") is None


def test_the_table_says_what_can_be_told(tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    folders = synthetic.write(tmp_path, 64, cells=synthetic.recipes())
    run = SimpleNamespace(
        study=SimpleNamespace(name="demo"), metrics=SimpleNamespace(name="tiny"), output_root=str(tmp_path), count=64
    )
    trials = [
        SimpleNamespace(folder=folder, values=measured(folder, "tiny", NAMES), overrides=[], state=State.measured)
        for folder in folders[3:]
    ]
    space = SimpleNamespace(told=lambda overrides: "setting=1")
    search: Any = SimpleNamespace(names=NAMES, trials=trials, space=space, count=lambda state: 0)
    found = enumerate(trials)
    front: Any = [SimpleNamespace(trial=one, run=run, name=f"found_{n}", schedule="") for n, one in found]
    ran = [Outcome(folder.name, None, "demo", str(tmp_path)) for folder in folders[:3]]
    shown.show(search, front, ran)
    lines = capsys.readouterr().out.splitlines()
    names = ("ar", "sd", "eagle2", "found_0", "found_3")
    looks = {name: line for line in lines for name in names if f" {name} " in line}
    assert {name: next(look for look in "●◐○" if look in line) for name, line in looks.items()} == {
        "ar": "○",
        "eagle2": "○",
        "sd": "◐",
        "found_0": "●",
        "found_3": "◐",
    }
    assert "● on the front   ◐ cannot be told   ○ dominated" in lines
    assert any("by the numbers alone 4 of them are the front, and of 2 it can be told" in line for line in lines)
