"""Whether a method gets outside the front of the plain decoder at fewer steps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from tests import synthetic
from vvsbench.analysis import findings, report, sentences
from vvsbench.analysis.standings import INSIDE, OUTSIDE, UNKNOWN, Standings, standings
from vvsbench.runs import files, store


def placed(root: Path, cells: list[synthetic.Recipe], count: int = 64) -> Standings:
    synthetic.write(root, count, cells=cells)
    study = synthetic.frame("demo", root)
    found = standings(study, study.usable)
    assert found is not None
    return found


def told(found: Standings) -> dict[str, tuple[str, str]]:
    return {cell.label: (cell.where, cell.rival) for cell in found.cells}


def test_each_cell_is_set_against_the_best_that_costs_no_more(tmp_path: Path) -> None:
    found = placed(tmp_path, synthetic.continuous())
    assert told(found) == {
        "csd exact": (INSIDE, "masked 64 x 25"),  # dearer than the baseline, and worse
        "csd released": (OUTSIDE, "masked 4 x 10"),  # 16 x 25 is better and costs more
    }
    better = next(cell for cell in found.cells if cell.label == "csd released")
    assert better.change is not None
    assert better.change.value == pytest.approx(5.0 - 40.0)
    assert better.change.high < 0


def test_a_difference_within_its_interval_tells_nothing(tmp_path: Path) -> None:
    cells = [*synthetic.continuous()[:3], synthetic.csd("released", 25.0, 5.9), synthetic.csd("exact", 26.0, 6.2)]
    found = placed(tmp_path, cells)
    assert told(found) == {label: (UNKNOWN, "masked 16 x 25") for label in ("csd released", "csd exact")}


def test_a_cell_that_draws_the_same_images_at_more_cost_lies_inside(tmp_path: Path) -> None:
    cells = synthetic.continuous()
    found = placed(tmp_path, [cells[0], cells[2], synthetic.csd("exact", 81.0, 0.0)])
    (cell,) = found.cells
    assert (cell.where, cell.rival) == (INSIDE, "masked 64 x 25")
    assert (cell.change.value, cell.change.low, cell.change.high) == (0, 0, 0)


def test_a_rival_whose_cost_cannot_be_told_apart_is_met_and_does_not_win(tmp_path: Path) -> None:
    """A rival that may be the cheaper one must be beaten to lie outside; to lie inside needs one that surely is."""
    cells = [synthetic.masked(64, 25, 80.0, 0.0), synthetic.masked(16, 25, 24.0, 6.0)]
    unsure = placed(tmp_path / "a", [*cells, synthetic.csd("exact", 24.0, 20.0)])
    assert told(unsure) == {"csd exact": (UNKNOWN, "masked 16 x 25")}
    assert unsure.cells[0].change.low > 0  # worse for certain, but perhaps cheaper
    cheaper = placed(tmp_path / "b", [*cells, synthetic.csd("exact", 23.0, 20.0)])
    assert told(cheaper) == {"csd exact": (OUTSIDE, "")}
    assert "csd exact (cheaper than any masked here)" in sentences.about_standings(cheaper)[0]


def test_without_intervals_nothing_is_told(tmp_path: Path) -> None:
    folders = synthetic.write(tmp_path, 16, cells=[replace(cell, keeps=False) for cell in synthetic.continuous()])
    for folder in folders:
        quality = store.read_quality(folder)["tiny"]
        bare = [value.model_copy(update={"low": None, "high": None}) for value in quality.values]
        files.write(
            folder / "quality" / "tiny.json", quality.model_copy(update={"values": bare}).model_dump_json().encode()
        )
    study = synthetic.frame("demo", tmp_path)
    found = standings(study, study.usable)
    assert found is not None
    assert {cell.where for cell in found.cells} == {UNKNOWN}


def test_only_a_study_that_names_a_front_has_places(tmp_path: Path) -> None:
    synthetic.write(tmp_path, 8, cells=synthetic.continuous())
    study = synthetic.frame("demo", tmp_path)
    for other in (replace(study, front=""), replace(study, front="ar")):
        assert standings(other, other.usable) is None
    assert standings(study, study.usable[study.usable["decoder"] == "masked"]) is None
    assert standings(study, study.usable.drop(columns="fid")) is None


def test_the_sentence_counts_all_of_them(tmp_path: Path) -> None:
    some = sentences.about_standings(placed(tmp_path / "a", synthetic.continuous()))
    assert len(some) == 1
    assert some[0].startswith(
        "1 of the 2 cells of csd lies outside the front of masked (FID against cost in target calls): "
        "csd released (FID lower by 35.0"
    )
    assert some[0].endswith("than masked 4 x 10’s); 1 lies inside it.")
    cells = synthetic.continuous()
    none = sentences.about_standings(placed(tmp_path / "b", [*cells[:4], synthetic.csd("released", 81.0, 30.0)]))
    (text,) = none
    assert text.startswith("None of the 2 cells of csd lies outside the front of masked (FID against ")
    assert text.endswith("; 2 lie inside it.")


def test_every_form_of_the_report_says_it_first(tmp_path: Path, no_figures: None) -> None:
    synthetic.write(tmp_path, 32, cells=synthetic.continuous())
    paths = report.write("demo", tmp_path)
    page, text = paths.html.read_text(), paths.markdown.read_text()
    for content in (page, text):
        assert (
            0
            < content.index("1 of the 2 cells of csd lies outside the front of masked")
            < content.index("less computation")
        )
        assert "Against the front of masked" in content
        assert "outside when its FID is lower than that of every cell of masked that may cost no more" in content
    assert "Against the front of masked" in paths.latex.read_text()
    lines = pd.read_csv(next(path for path in paths.more if path.name == "standings.csv")).set_index("label")
    assert lines.loc["csd released", "where"] == "outside"
    assert lines.loc["csd released", "high"] < 0


def test_a_report_of_continuous_tokens_has_their_columns_and_another_has_not(tmp_path: Path) -> None:
    synthetic.write(tmp_path / "a", 16, cells=synthetic.continuous())
    synthetic.write(tmp_path / "b", 16)
    for root, there in ((tmp_path / "a", True), (tmp_path / "b", False)):
        study = synthetic.frame("demo", root)
        made = findings.every(study, study.usable)
        shown = {column.name for table in made for column in table.columns}
        wanted = {"cost", "cost_ratio", "target_head_evaluations", "draft_head_evaluations", "kept", "kept_relaxed"}
        wanted |= {"distance", "fallback", "drafted", "token_distance"}
        assert wanted & shown == (wanted if there else set())
        assert {"target_forwards", "draft_forwards", "step_compression"} <= shown


def test_the_whole_report_of_continuous_tokens(tmp_path: Path) -> None:
    synthetic.write(tmp_path, 16, cells=synthetic.continuous())
    content = report.write("demo", tmp_path).html.read_text()
    for words in (
        "In computation: the same on any machine",
        "4 + 4 layers of width 128 with a diffusion head of 3 blocks of width 192",
        "an image is 8 × 8 tokens of 4 numbers",
        "needs 3.33× less computation than masked 64 x 25",
        "distance of tokens",
        "has no draft: it takes the AR steps per image",
        "given those before it, so that its own law is kept, and takes back",
        "judges a whole block from what was verified before it",
        "the baseline’s own cost, and an FID 10 % above the worst here",
    ):
        assert words in content, words
