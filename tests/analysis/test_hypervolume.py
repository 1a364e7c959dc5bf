from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests import synthetic
from vvsbench.analysis import sentences
from vvsbench.analysis.costs import EQUIVALENTS, FORWARDS
from vvsbench.analysis.frame import StudyFrame
from vvsbench.analysis.hypervolume import _Points, _replicates, area, contest, reference_point, without_groups


def compared(study: StudyFrame):
    ((_, rows),) = study.comparisons()
    found = contest(study, rows)
    assert found is not None
    return found


def test_an_area_is_that_of_the_stair() -> None:
    points = np.array([[3.0, 10.0], [5.0, 16.0], [2.0, 12.0]])
    # from 1 to 3 down to 10, from 3 to 5 down to 16; the third is dominated by the first
    assert area(points, (1.0, 20.0), FORWARDS) == pytest.approx(2 * 10 + 2 * 4)
    assert area(np.array([[1.0, 5.0]]), (1.0, 20.0), FORWARDS) == 0


def test_an_area_grows_towards_less_of_what_is_better_small() -> None:
    points = np.array([[8.0, 10.0], [2.0, 16.0], [9.0, 12.0]])
    # from 10 down to 8 at 10, from 8 down to 2 at 16; the third is dominated by the first
    assert area(points, (10.0, 20.0), EQUIVALENTS) == pytest.approx(2 * 10 + 6 * 4)
    assert area(np.array([[10.0, 5.0]]), (10.0, 20.0), EQUIVALENTS) == 0


def test_the_reference_point_is_a_tenth_above_the_worst() -> None:
    points = np.array([[7.0, 10.0], [3.0, 30.0], [2.0, 20.0]])
    first, none = np.array([True, False, False]), np.zeros(3, dtype=bool)
    assert reference_point(points, first, FORWARDS) == (1.0, pytest.approx(33.0))
    assert reference_point(points, none, FORWARDS) == (1.0, pytest.approx(33.0))
    assert reference_point(points, first, EQUIVALENTS) == (7.0, pytest.approx(33.0))
    assert reference_point(points, none, EQUIVALENTS) is None


def test_a_replicate_is_measured_against_its_own_reference_point() -> None:
    points = np.array([[1.0, 30.0], [2.0, 20.0], [1.5, 25.0]])
    luckless = points + [0.0, 10.0]
    every, anchors = np.array([True, True, True]), np.array([True, False, False])
    replicates = np.stack([points, luckless])[None]
    found = _replicates(_Points(points, replicates, 1.0), every, anchors, FORWARDS)
    # up to 33 the first time, up to 44 the second; against 33 alone the second would have half an area left
    np.testing.assert_allclose(found, [[0.5 * (33 - 20) + 0.5 * (33 - 20), 0.5 * (44 - 30) + 0.5 * (44 - 30)]])


def test_means_without_each_group() -> None:
    dealt = np.array([[0, 1, 0, 1, -1], [0, 0, 1, 1, -1]], dtype=np.int16)
    found = without_groups(np.array([1.0, 2.0, 3.0, 4.0, 100.0]), dealt)
    np.testing.assert_allclose(found, [[3, 2], [3.5, 1.5]])


def test_a_family_that_dominates_has_a_larger_area_for_certain(tmp_path: Path) -> None:
    cells = synthetic.recipes()
    better = replace(cells[3], label="vvs ours", harm=0.5, decoder=cells[3].decoder | {"schedule": {"name": "ours"}})
    synthetic.write(tmp_path, 64, cells=[cells[0], *cells[3:], better])
    found = compared(synthetic.frame("demo", tmp_path))
    assert [family.name for family in found.families] == ["vvs ours", "vvs uniform"]
    apart = found.differences["vvs ours", "vvs uniform"]
    assert apart.low is not None
    assert apart.low > 0
    back = found.differences["vvs uniform", "vvs ours"]
    assert (back.value, back.high) == (pytest.approx(-apart.value), pytest.approx(-apart.low))
    (claim,) = sentences.contests(found)
    assert str(claim).startswith("vvs ours is a better front than vvs uniform’s by ")


def test_families_with_the_same_cells_differ_by_nothing_for_certain(tmp_path: Path) -> None:
    cells = synthetic.recipes()
    twin = replace(cells[3], label="twin", decoder=cells[3].decoder | {"name": "twin"})
    folders = synthetic.write(tmp_path, 16, cells=[cells[0], cells[3], twin])
    for name in ("trace.parquet", "quality/tiny.json"):
        (folders[2] / name).write_bytes((folders[1] / name).read_bytes())
    for folder in folders[1:]:  # one trace, so one mean
        record = folder / "record.json"
        record.write_text(record.read_text().replace(str(_compression(folders[2])), str(_compression(folders[1]))))
    study = synthetic.frame("demo", tmp_path)
    rows = study.usable.assign(fid=[20.0, 25.0, 25.0], step_compression=[1.0, 3.0, 3.0])
    rows["protocol"] = "tiny v1"
    found = contest(replace(study, rows=rows), rows)
    assert found is not None
    apart = found.differences["vvs", "twin"]
    assert (apart.value, apart.low, apart.high) == (0, 0, 0)
    (claim,) = sentences.contests(found) or [None]
    assert claim is not None
    assert "cannot be told from" in str(claim)


def _compression(folder: Path) -> float:
    from vvsbench.runs import store

    record = store.read_record(folder)
    assert record is not None
    return record.summaries["step_compression"].mean


def test_the_baseline_anchors_every_family(study: StudyFrame) -> None:
    found = compared(study)
    assert {family.name: family.cells for family in found.families} == {"vvs": 4, "sd": 1, "eagle2": 1}
    assert all(family.volume.low < family.volume.value < family.volume.high for family in found.families)
    ((_, rows),) = study.comparisons()
    values = rows.set_index("label")[["step_compression", "fid"]]
    alone = area(values.loc[["ar", "sd"]].to_numpy(dtype=float), found.reference, FORWARDS)
    assert next(family for family in found.families if family.name == "sd").volume.value == pytest.approx(alone)
    assert found.reference == (1.0, pytest.approx(1.1 * 28.0))


def test_luck_that_all_cells_share_cancels_in_a_difference(study: StudyFrame) -> None:
    found = compared(study)
    apart = found.differences["vvs", "sd"]
    widths = [family.volume.high - family.volume.low for family in found.families if family.name in ("vvs", "sd")]
    assert apart.high - apart.low < np.hypot(*widths)


def test_records_without_replicates_have_areas_without_intervals(tmp_path: Path) -> None:
    synthetic.write(tmp_path, 16, cells=[replace(cell, keeps=False) for cell in synthetic.recipes()])
    found = compared(synthetic.frame("demo", tmp_path))
    assert not found.paired
    assert all(family.volume.low is None for family in found.families)
    assert sentences.contests(found) == []
    assert "run the study again to have them" in sentences.about_contest(found)


def test_nothing_to_compare_is_no_contest(study: StudyFrame) -> None:
    assert contest(study, study.usable[study.usable["is_baseline"]]) is None
    assert contest(study, study.usable.drop(columns="fid")) is None
