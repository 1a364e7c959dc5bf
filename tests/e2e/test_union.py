"""A study is the union of its invocations: cells are added by any number of sweeps, and `rerun` chooses among them."""

from __future__ import annotations

from tests import nano
from vvsbench.runs.store import Store


def test_sweeps_add_up_and_rerun_chooses(vvsbench, weights, tmp_path):
    command = ["run", "-m", *nano.overrides(weights, drafter=True), "count=2", "study.name=s", "decoder=vvs"]
    assert vvsbench(*command, "decoder.schedule.interval=2")[0] == 0
    code, out, _ = vvsbench(*command, "decoder.schedule.interval=2,3", "rerun=missing")
    assert code == 0
    assert out.startswith("rerun=missing: 1 of 2 cells of study s\nvvs i=3")
    code, out, _ = vvsbench("status", "study=s")
    assert code == 0
    assert out.splitlines()[-1] == "2 cells: 2 done"
    assert "vvs i=2" in out
    assert "vvs i=3" in out
    assert len(Store(tmp_path / "outputs").cells("s")) == 2  # the key does not know of rerun
