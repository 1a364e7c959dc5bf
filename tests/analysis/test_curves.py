from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tests import synthetic
from vvsbench.analysis import page, report
from vvsbench.analysis.curves import curves
from vvsbench.analysis.frame import StudyFrame

INTERVAL = "decoder.schedule.interval"


def varied(root: Path, x: str, cells: list[synthetic.Recipe] | None = None) -> StudyFrame:
    synthetic.write(root, 16, cells=[replace(cell, study={"x": x}) for cell in cells or synthetic.recipes()])
    return synthetic.frame("demo", root)


def test_a_curve_goes_through_the_cells_of_a_family_in_order(tmp_path: Path) -> None:
    study = varied(tmp_path, INTERVAL)
    cost, fid = curves(study.usable, study.x, study.axis)
    assert [point.x for point in cost.families["vvs"]] == [2, 3, 4, 5]
    assert [point.label for point in cost.families["vvs"]] == [f"vvs i={i}" for i in (2, 3, 4, 5)]
    assert set(cost.families) == {"vvs"}
    assert [point.label for _, point in cost.levels] == ["ar", "sd", "eagle2"]
    values = study.usable.set_index("label")["fid"]
    assert [point.y.value for point in fid.families["vvs"]] == [values[f"vvs i={i}"] for i in (2, 3, 4, 5)]


def test_levels_that_lie_on_each_other_share_a_label(tmp_path: Path) -> None:
    study = varied(tmp_path, INTERVAL)
    cost, fid = curves(study.usable, study.x, study.axis)
    assert [label for *_, label in fid.named_levels()] == ["ar, sd, eagle2"]  # the same images
    assert [label for *_, label in cost.named_levels()] == ["ar", "eagle2", "sd"]


def test_values_that_are_no_numbers_stand_side_by_side(tmp_path: Path) -> None:
    study = varied(tmp_path, "decoder.structure.candidates")
    cost = curves(study.usable, study.x, study.axis)[0]
    assert [text for _, text in cost.marks] == ["shared_noise", "top_k"]
    assert {family: {point.x for point in points} for family, points in cost.families.items()} == {
        "sd": {0},
        "vvs": {0},
        "eagle2": {1},
    }
    assert [point.label for _, point in cost.levels] == ["ar"]


def test_one_place_or_no_setting_is_no_curve(tmp_path: Path) -> None:
    study = varied(tmp_path, INTERVAL, synthetic.recipes()[:4])
    assert curves(study.usable, study.x, study.axis) == []
    assert curves(study.usable, "", study.axis) == []


def test_only_measured_quantities_are_drawn(tmp_path: Path) -> None:
    study = varied(tmp_path, INTERVAL)
    rows = study.usable.assign(fid=None)
    assert [one.title for one in curves(rows, study.x, study.axis)] == ["tokens per target forward"]


def test_a_setting_of_the_decoder_is_drawn_within_a_comparison_and_others_across(tmp_path: Path) -> None:
    study = varied(tmp_path / "a", INTERVAL)
    assert page.across(study) == []
    assert len(page.within(study, study.usable)) == 2
    cells = synthetic.recipes()[:2]
    study = varied(tmp_path / "b", "seed", [*cells, *(replace(cell, changes={"seed": 1}) for cell in cells)])
    assert page.within(study, study.usable) == []
    assert [sorted(one.families) for one in page.across(study)] == [["ar", "sd"]] * 2


def test_the_report_shows_the_curves(tmp_path: Path) -> None:
    varied(tmp_path, INTERVAL, synthetic.recipes()[3:5])
    paths = report.write("demo", tmp_path)
    assert "Against decoder.schedule.interval" in paths.html.read_text()
    assert "![curves](curves.svg)" in paths.markdown.read_text()
    assert {"curves.pdf", "curves.svg"} <= {path.name for path in paths.figures}
