"""Paper tables run on the tiny zoo through the same files as on real weights, and say what they lack without those."""

from __future__ import annotations

import pytest

from vvsbench import cli, config
from vvsbench.analysis import report
from vvsbench.composition import composed
from vvsbench.sizes import sized

REPORTED = "vvs_table_stage1"
FILES = (config.folder("experiments") / "study").glob("*.yaml")
OTHERWISE = (REPORTED, "schedule_search")
"""Studies whose smoke size another test runs: one is reported too, one is a search."""
STUDIES = sorted(path.stem for path in FILES if "    smoke:" in path.read_text() and path.stem not in OTHERWISE)
SMALL = ["count=1", "batch_size=1", "shard_size=1", "metrics=none", "threads=1"]


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VVSBENCH_WEIGHTS", "weights")
    monkeypatch.setattr(report, "_figures", lambda study, target: [])


@pytest.mark.parametrize("study", STUDIES)
def test_every_study_with_a_smoke_size_runs_it_to_the_last_cell(study, tmp_path, capsys):
    """One image a cell; those of a study that is about batches say themselves how many."""
    declared = composed(sized([f"study={study}", "size=smoke"])).study.cells
    own = {word.partition("=")[0] for cell in declared for word in cell}
    small = [word for word in SMALL if word.partition("=")[0] not in own]
    small = [word for word in small if "batch_size" not in own or not word.startswith("shard_size")]
    assert cli.main(["run", f"study={study}", "size=smoke", *small]) == 0
    assert len(list(tmp_path.glob(f"outputs/cells/{study}_smoke/*/record.json"))) == len(declared)
    capsys.readouterr()
    assert cli.main(["status", f"study={study}_smoke"]) == 0
    assert f"{len(declared)} cells: {len(declared)} done\n" in capsys.readouterr().out


def test_the_table_of_vvs_is_reported_beside_its_claims(tmp_path, capsys):
    assert cli.main(["run", f"study={REPORTED}", "size=smoke", *SMALL]) == 0
    assert "vvsbench report study=vvs_table_stage1_smoke" in capsys.readouterr().out
    assert len(list((tmp_path / "outputs/cells/vvs_table_stage1_smoke").glob("*/record.json"))) == 5
    assert cli.main(["report", "study=vvs_table_stage1_smoke"]) == 0
    text = (tmp_path / "outputs/reports/vvs_table_stage1_smoke/report.md").read_text()
    assert "Not run yet" not in text
    for claim in ("| VVS-U | i=4, delta 0.2 | FID |", "2.10 †", "3.10 †", "– (another model)"):
        assert claim in text
    assert "what was run here is tiny" in text


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ([], ("weights/llamagen/t2i_XL_stage1_256.pt", "weights/jadohu/llamagen_drafter", "data/coco/val2017")),
        (["metrics=vgg-pr", "metrics.reference.path=photos"], ("vgg16-397923af.pth", "captions_val2017_longest.json")),
        (["metrics.values=[hps]", "metrics.hps=preference.pt"], ("weights/preference.pt",)),
    ],
)
def test_without_the_weights_a_study_says_in_one_line_what_is_missing(words, names, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    assert cli.main(["run", f"study={REPORTED}", *words]) == 2
    said = capsys.readouterr().err.strip()
    assert len(said.splitlines()) == 1
    assert all(name in said for name in names), said
    assert ("inception" in said) is (words == [])
    assert f"vvsbench run study={REPORTED} size=smoke" in said
    assert not list(tmp_path.iterdir())
