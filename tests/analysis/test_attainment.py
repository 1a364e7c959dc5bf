"""Attainment over seeds: surfaces against counting by hand, and which seeds and cells count."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests import synthetic
from vvsbench.analysis import report, sentences
from vvsbench.analysis.attainment import BEST, MEDIAN, WORST, attainments, surfaces
from vvsbench.analysis.costs import EQUIVALENTS, FORWARDS

REFERENCE = {FORWARDS: (1.0, 40.0), EQUIVALENTS: (90.0, 40.0)}


@pytest.mark.parametrize("axis", [FORWARDS, EQUIVALENTS], ids=["more is better", "less is better"])
@pytest.mark.parametrize("count", [2, 3, 4, 5])
def test_a_point_is_attained_where_enough_seeds_dominate_it(axis, count):
    rng = np.random.default_rng(count)
    points = np.stack([rng.uniform(1, 80, 6 * count), rng.uniform(10, 40, 6 * count)], axis=1)
    seeds = list(rng.permutation(np.repeat(np.arange(count) * 7, 6)))
    found = surfaces(points, seeds, REFERENCE[axis], axis)
    levels = {BEST: 1, MEDIAN: count // 2 + 1, WORST: count}
    assert set(found) == ({BEST, WORST} if count == 2 else set(levels))
    for probe in np.stack([rng.uniform(1, 80, 200), rng.uniform(10, 40, 200)], axis=1):
        attained = len({seed for point, seed in zip(points, seeds, strict=True) if reaches(point, probe, axis)})
        for name, surface in found.items():
            assert surface.seeds == levels[name]
            assert any(reaches(corner, probe, axis) for corner in surface.points) == (attained >= levels[name])
    assert found[BEST].volume >= found[WORST].volume


def reaches(point, probe, axis):
    cheap = point[0] >= probe[0] if axis.more_is_better else point[0] <= probe[0]
    return cheap and point[1] <= probe[1]


def write(root: Path, seeds: dict[str, list[int]]) -> None:
    """The cells of the demo, each with its own seeds; a seed makes FID worse by its number."""
    cells = [
        replace(cell, harm=cell.harm + seed, changes={"seed": seed})
        for cell in synthetic.recipes()[:6]
        for seed in seeds.get(cell.label, seeds[""])
    ]
    synthetic.write(root, 16, cells=cells)


def test_families_are_compared_over_the_seeds_that_all_have(tmp_path):
    write(tmp_path, {"": [0, 1, 2], "eagle2": [1, 2, 3], "vvs i=4": [0]})
    (found,) = attainments(synthetic.frame("demo", tmp_path))
    assert list(found.seeds) == [1, 2]
    assert (list(found.once), found.uneven) == (["vvs i=4"], True)
    assert found.drawn["eagle2"] == [1, 2, 3]
    assert {family.name: family.cells for family in found.families} == {"vvs": 2, "sd": 1, "eagle2": 1}
    best, worst = (found.families[0].surfaces[name].points[:, 1].min() for name in (BEST, WORST))
    assert best < worst  # the seeds differ in FID alone, and the larger one is the worse
    told = sentences.about_attainment(found, "demo")
    assert "Two seeds have no median" in told
    assert "Only seeds that all these cells have count; drawn were: ar 0, 1 and 2; sd 0, 1 and 2; vvs" in told
    assert "drawn with one seed only: vvs i=4" in told


def test_the_report_shows_surfaces_over_three_seeds(tmp_path):
    write(tmp_path, {"": [0, 1, 2]})
    paths = report.write("demo", tmp_path)
    text = paths.html.read_text()
    assert "Fronts over 3 seeds" in text
    assert "what most of them do, 2 of 3" in text
    assert text.count('class="band') == 3
    assert text.count('class="again"') == 2  # the seeds after the first are folded
    assert "![attainment](attainment.svg)" in paths.markdown.read_text()
    assert {path.name for path in paths.more} >= {"attainment.csv"}
    # every cell is still compared with the baseline of its own seed
    rows = synthetic.frame("demo", tmp_path).usable
    assert (rows.loc[rows["label"] == "sd", "fid_change"] == 0).all()


def test_one_seed_is_said_to_be_one(tmp_path, no_figures):
    write(tmp_path, {"": [4]})
    paths = report.write("demo", tmp_path)
    for text in (paths.html.read_text(), paths.markdown.read_text()):
        assert "One seed (4): how far fronts move from seed to seed is not known" in text
        assert "Fronts over" not in text


def test_seeds_that_no_two_cells_share_make_no_surface(tmp_path):
    write(tmp_path, {"": [0, 1], "sd": [2, 3]})
    (found,) = attainments(synthetic.frame("demo", tmp_path))
    assert not found.families
    assert "No two seeds are shared" in sentences.about_attainment(found, "demo")
