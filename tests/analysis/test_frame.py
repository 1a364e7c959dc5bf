from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests import synthetic
from vvsbench.analysis.estimate import estimate
from vvsbench.analysis.frame import NothingToReport, StudyFrame, timed
from vvsbench.analysis.settings import missing
from vvsbench.runs import files, store


def named(study: StudyFrame, label: str):
    return study.rows[study.rows["label"] == label].iloc[0]


def test_every_cell_has_a_row_the_baseline_first_and_families_together(study: StudyFrame) -> None:
    assert list(study.rows["label"]) == ["ar", "sd", "eagle2", "vvs i=5", "vvs i=4", "vvs i=3", "vvs i=2"]
    assert list(study.rows["family"].unique()) == ["ar", "sd", "eagle2", "vvs"]
    assert study.rows["usable"].all()
    assert not study.troubles
    assert study.title == "Skipping verification on the tiny model"


def test_numbers_are_those_of_the_records(study: StudyFrame) -> None:
    for key, row in study.rows.iterrows():
        cell = study.cells[str(key)]
        recorded = cell.record.summaries["step_compression"]
        found = estimate(row, "step_compression")
        assert found is not None
        assert (found.value, found.low, found.high) == (recorded.mean, recorded.low, recorded.high)
        fid = next(value for value in cell.quality["tiny"].values if value.name == "fid")
        assert (row["fid"], row["fid_low"], row["fid_high"]) == (fid.value, fid.low, fid.high)


def test_ratios_are_of_totals_over_the_same_images(study: StudyFrame) -> None:
    base, row = named(study, "ar"), named(study, "vvs i=2")
    traces = [study.cells[str(found.name)].trace for found in (base, row)]
    totals = [(trace["target_forwards"] + trace["prefill_forwards"]).sum() for trace in traces]
    assert row["forwards_ratio"] == pytest.approx(totals[0] / totals[1])
    assert row["forwards_ratio_low"] < row["forwards_ratio"] < row["forwards_ratio_high"]
    times = [study.cells[str(found.name)].repeats["seconds"].sum() for found in (base, row)]
    assert row["speed_up"] == pytest.approx(times[0] / times[1])


def test_equal_images_are_counted_and_have_no_change_of_quality(study: StudyFrame) -> None:
    exact, skipping = named(study, "sd"), named(study, "vvs i=2")
    assert exact["equal_images"] == exact["count"]
    assert (exact["fid_change"], exact["fid_change_low"], exact["fid_change_high"]) == (0, 0, 0)
    assert skipping["equal_images"] == 0
    assert 0.3 < skipping["equal_tokens"] < 0.6
    assert skipping["fid_change"] == pytest.approx(9.4)
    assert skipping["fid_change_low"] < 9.4 < skipping["fid_change_high"]


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        ({"stale": True}, "is stale"),
        ({"status": "failed"}, "failed: stopped by the user"),
        ({"status": "out_of_memory"}, "out of memory"),
        ({"status": "started"}, "is being drawn or was killed"),
        ({"status": "interrupted"}, "interrupted"),
    ],
)
def test_a_cell_that_does_not_hold_is_told_and_not_compared(tmp_path: Path, broken: dict, words: str) -> None:
    cells = synthetic.recipes()[:3]
    cells[1] = replace(cells[1], **broken)
    synthetic.write(tmp_path, 8, cells=cells)
    found = synthetic.frame("demo", tmp_path)
    row = named(found, "sd")
    assert not row["usable"]
    assert row[["fid", "step_compression", "speed_up", "fid_change"]].isna().all()
    assert any(trouble.subject == "sd" and words in trouble.what for trouble in found.troubles)
    assert "sd" not in set(found.usable["label"])


def test_stale_cells_that_were_run_again_are_told_in_one_line(tmp_path: Path) -> None:
    cells = synthetic.recipes()
    synthetic.write(tmp_path, 8, cells=[*(replace(cell, stale=True, changes={"old": 1}) for cell in cells), *cells])
    found = synthetic.frame("demo", tmp_path)
    assert len(found.usable) == 7
    (trouble,) = found.troubles
    assert trouble.subject == "Older records"
    assert "ar, sd, eagle2, vvs i=" in trouble.what
    assert [name for name, _ in found.comparisons()] == [""]


def test_quality_of_other_images_is_left_out(tmp_path: Path) -> None:
    folder = synthetic.write(tmp_path, 8, cells=synthetic.recipes()[:2])[1]
    path = folder / store.QUALITY / "tiny.json"
    quality = store.read_quality(folder)["tiny"]
    files.write(path, quality.model_copy(update={"image_digest": "other"}).model_dump_json().encode())
    found = synthetic.frame("demo", tmp_path)
    assert named(found, "sd")[["fid", "fid_change"]].isna().all()
    assert any("other images" in trouble.what for trouble in found.troubles)


def test_missing_cells_are_told(tmp_path: Path) -> None:
    synthetic.write(tmp_path, 8, cells=synthetic.recipes()[:2])
    (trouble,) = synthetic.frame("demo", tmp_path).troubles
    assert trouble.subject == "Not run yet"
    assert trouble.what.count(";") == 4
    assert "decoder=vvs decoder.schedule.interval=3" in trouble.what


def test_each_record_answers_to_its_most_specific_declaration() -> None:
    plain = {"decoder": {"name": "sd", "structure": {"candidates": "shared_noise"}}}
    top_k = {"decoder": {"name": "sd", "structure": {"candidates": "top_k"}}}
    declared = [["decoder=sd"], ["decoder=sd", "decoder.structure.candidates=top_k"]]
    assert missing(declared, [top_k, plain]) == []
    assert missing(declared, [top_k]) == [["decoder=sd"]]
    assert missing(declared, [plain]) == [["decoder=sd", "decoder.structure.candidates=top_k"]]


def test_a_declaration_need_not_spell_a_value_as_the_record_does() -> None:
    config = {"sampling": {"guidance_scale": 1.0}, "decoder": {"hit_rates": [0.5, 0.25], "repair": True}}
    declared = [["sampling.guidance_scale=1", "decoder.hit_rates=[0.5,0.25]", "decoder.repair=true"]]
    assert missing(declared, [config]) == []
    assert missing([["sampling.guidance_scale=2"]], [config]) != []


def test_seconds_of_two_machines_never_share_an_axis(tmp_path: Path) -> None:
    cells = synthetic.recipes()[:3]
    cells[2] = replace(cells[2], hardware=synthetic.HARDWARE | {"cpu": "Another Processor"})
    synthetic.write(tmp_path, 8, cells=cells)
    found = synthetic.frame("demo", tmp_path)
    assert list(timed(found.usable)["label"]) == ["ar", "sd"]
    assert named(found, "eagle2")[["speed_up"]].isna().all()
    assert named(found, "eagle2")["forwards_ratio"] > 1
    assert any(trouble.subject == "Times" and "eagle2" in trouble.what for trouble in found.troubles)


def test_only_cells_of_one_setting_are_compared(tmp_path: Path) -> None:
    cells = synthetic.recipes()[:2]
    synthetic.write(tmp_path, 8, cells=cells + [replace(cell, changes={"seed": 1}) for cell in cells])
    parts = synthetic.frame("demo", tmp_path).comparisons()
    assert [name for name, _ in parts] == ["seed=0", "seed=1"]
    assert all(list(rows["label"]) == ["ar", "sd"] for _, rows in parts)


def test_labels_that_collide_say_what_differs(tmp_path: Path) -> None:
    cells = [cell for cell in synthetic.recipes() if cell.label in ("ar", "vvs i=2")]
    twin = replace(cells[1], decoder=cells[1].decoder | {"skip": {"selector": "random", "truncation": "none"}})
    synthetic.write(tmp_path, 8, cells=[*cells, twin])
    labels = set(synthetic.frame("demo", tmp_path).rows["label"])
    assert labels == {"ar", "vvs i=2 truncation=dynamic", "vvs i=2 truncation=none"}


def test_of_several_cells_of_the_baselines_decoder_the_first_declared_is_the_baseline(tmp_path: Path) -> None:
    cells = synthetic.continuous()
    synthetic.write(tmp_path, 8, cells=cells[::-1])  # whatever the order in which they ran
    found = synthetic.frame("demo", tmp_path)
    assert list(found.rows.loc[found.rows["is_baseline"], "label"]) == ["masked 64 x 25"]
    assert set(found.rows["baseline"]) == {"masked 64 x 25"}
    assert list(found.rows["label"])[:3] == ["masked 64 x 25", "csd released", "csd exact"]
    assert named(found, "masked 16 x 25")["cost_ratio"] == pytest.approx(80 / 24)


def test_a_baseline_that_failed_is_not_replaced_by_another_cell_of_its_decoder(tmp_path: Path) -> None:
    cells = synthetic.continuous()
    synthetic.write(tmp_path, 8, cells=[replace(cells[0], status="failed"), *cells[1:]])
    found = synthetic.frame("demo", tmp_path)
    assert not found.usable["is_baseline"].any()
    assert "baseline" not in found.rows or found.rows["baseline"].isna().all()


def test_a_baseline_that_was_run_again_is_the_baseline(tmp_path: Path) -> None:
    cells = synthetic.continuous()
    stale = replace(cells[0], stale=True)
    synthetic.write(tmp_path, 8, cells=[stale, *cells])
    found = synthetic.frame("demo", tmp_path)
    assert list(found.usable.loc[found.usable["is_baseline"], "label"]) == ["masked 64 x 25"]


def test_without_a_declaration_the_first_that_ran_is_the_baseline(tmp_path: Path) -> None:
    cells = [replace(cell, study=cell.study | {"cells": []}) for cell in synthetic.continuous()[1:]]
    synthetic.write(tmp_path, 8, cells=cells)
    found = synthetic.frame("demo", tmp_path)
    assert list(found.rows.loc[found.rows["is_baseline"], "label"]) == ["masked 16 x 25"]


def test_every_setting_has_a_baseline_of_its_own(tmp_path: Path) -> None:
    cells = synthetic.continuous()
    synthetic.write(tmp_path, 8, cells=[*cells, *(replace(cell, changes=cell.changes | {"seed": 1}) for cell in cells)])
    found = synthetic.frame("demo", tmp_path)
    assert list(found.rows.loc[found.rows["is_baseline"], "label"]) == ["masked 64 x 25"] * 2


def test_cells_that_do_not_count_the_fronts_cost_are_told(tmp_path: Path) -> None:
    cells = [replace(cell, study={"cost": "equivalents", "cells": []}) for cell in synthetic.recipes()[:2]]
    synthetic.write(tmp_path, 8, cells=cells)
    (trouble,) = synthetic.frame("demo", tmp_path).troubles
    assert (trouble.subject, trouble.what) == (
        "Fronts",
        "count the cost in target calls, which these cells do not: ar, sd",
    )


def test_a_study_without_numbers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NothingToReport, match="run it first"):
        synthetic.frame("demo", tmp_path)
    synthetic.write(tmp_path, 8, cells=[replace(synthetic.recipes()[0], status="failed")])
    with pytest.raises(NothingToReport, match="stopped by the user"):
        synthetic.frame("demo", tmp_path)


def test_reading_a_study_imports_no_torch(root: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from vvsbench.analysis import report\n"
        f"report.frames('demo', Path({str(root)!r}))\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
