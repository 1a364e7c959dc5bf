"""`vvsbench run stage=speed` from outside: a process per cell, of which one may die."""

from __future__ import annotations

import contextlib
import time

import pandas as pd
import psutil

from tests import nano
from tests.e2e.conftest import PATIENCE, environment
from vvsbench.analysis.speed import speeds
from vvsbench.runs.store import Store


def measuring(pid):
    """The process that a run has started to measure a cell."""
    deadline = time.monotonic() + PATIENCE
    while True:
        for child in psutil.Process(pid).children():
            with contextlib.suppress(psutil.Error):  # another one, just gone
                if any("speed_child" in word for word in child.cmdline()):
                    return child
        assert time.monotonic() < deadline, "nothing was measured"
        time.sleep(0.02)


def test_a_cell_whose_process_is_killed_is_told_and_the_next_is_timed(start, weights, tmp_path):
    command = ["run", "-m", *nano.overrides(weights, drafter=True), "study.name=s", "stage=speed", "decoder=sd"]
    child = start(*command, "batch_size=1,2", "speed.rounds=2", env=environment(TMPDIR=str(tmp_path)))
    measuring(child.pid).kill()
    out, err = child.communicate(timeout=PATIENCE)
    assert child.returncode == 1
    assert "1 of 2 cells failed" in err
    assert "its process was ended by SIGKILL" in err
    assert "Traceback" not in err
    assert err.index("floor") < len(err)
    assert "times as fast as ar" in out
    died, timed = Store(tmp_path / "outputs").speeds("s").sound
    assert (died.status, timed.status) == ("crashed", "ok")
    assert timed.measured.own.floor_share > 0
    assert timed.measured.baseline.forwards == nano.GRID**2
    assert timed.provenance.command.startswith("vvsbench run -m")
    folder = next((tmp_path / "outputs").rglob("speed.parquet")).parent
    assert sorted(pd.read_parquet(folder / "speed.parquet")["decoder"]) == ["baseline"] * 2 + ["own"] * 2
    assert not (folder / "record.json").exists()  # timed, never drawn
    found = speeds("s", tmp_path / "outputs")
    assert [table.name for table in found.tables][:1] == ["speed"]
    assert "crashed" in found.troubles[0].what
