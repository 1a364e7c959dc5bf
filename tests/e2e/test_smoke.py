"""Paper tables run on the tiny zoo through the same files as on real weights, and say what they lack without those."""

from __future__ import annotations

import pytest

from vvsbench import cli
from vvsbench.analysis import report

SMALL = ["count=1", "batch_size=1", "shard_size=1", "metrics=none"]


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VVSBENCH_WEIGHTS", "weights")
    monkeypatch.setattr(report, "_figures", lambda study, target: [])


def test_the_table_of_vvs_runs_small_and_is_reported_beside_its_claims(tmp_path, capsys):
    assert cli.main(["run", "study=vvs_table_stage1", "size=smoke", *SMALL]) == 0
    assert "vvsbench report study=vvs_table_stage1_smoke" in capsys.readouterr().out
    assert len(list((tmp_path / "outputs/cells/vvs_table_stage1_smoke").glob("*/record.json"))) == 5
    assert cli.main(["report", "study=vvs_table_stage1_smoke"]) == 0
    text = (tmp_path / "outputs/reports/vvs_table_stage1_smoke/report.md").read_text()
    assert "Not run yet" not in text
    for claim in ("| VVS-U | i=4, delta 0.2 | FID |", "2.10 †", "3.10 †", "– (another model)"):
        assert claim in text
    assert "what was run here is tiny" in text


def test_without_the_weights_a_study_says_in_one_line_what_is_missing(tmp_path, capsys):
    assert cli.main(["run", "study=vvs_table_stage1"]) == 2
    said = capsys.readouterr().err.strip()
    assert len(said.splitlines()) == 1
    for name in ("weights/llamagen/t2i_XL_stage1_256.pt", "weights/jadohu/llamagen_drafter", "data/coco/val2017"):
        assert name in said
    assert "vvsbench run study=vvs_table_stage1 size=smoke" in said
    assert not list(tmp_path.iterdir())
