from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests import synthetic
from vvsbench.analysis.diagnostics import ACCEPTED, SKIPPED, Depth, depths, diagnose, looked_at, numbers, places
from vvsbench.analysis.frame import StudyFrame

D, A, S = 0, ACCEPTED, SKIPPED


def trace(**columns: list[Any]) -> pd.DataFrame:
    """Two images of nine tokens: verified steps with 2, 0 and 1 drafts and a skip of 2; one of 3 and a skip of 4."""
    rows = {
        "accepted": [[2, 0, 1], [3]],
        "skipped": [[2], [4]],
        "origin": [[D, A, A, D, S, S, D, A, D], [D, A, A, A, D, S, S, S, S]],
    }
    return pd.DataFrame(rows | columns)


def test_depths_count_the_steps_that_got_so_far() -> None:
    assert depths(trace()) == [Depth(1, 3, 4), Depth(2, 2, 3), Depth(3, 1, 2)]
    assert [depth.share for depth in depths(trace())] == [0.75, pytest.approx(2 / 3), 0.5]


def test_a_step_that_fills_the_image_counts_up_to_where_it_ends() -> None:
    """Of two steps with one draft, that of the second image had no room for another; the first failed at depth 2."""
    ends = trace(accepted=[[2, 1], [1]], skipped=[[], []], origin=[[D, A, A, D, A, D], [D, D, D, D, D, A]])
    assert depths(ends) == [Depth(1, 3, 3), Depth(2, 1, 2)]


def test_drafts_that_are_judged_one_by_one_have_no_depths() -> None:
    each = trace(kept_relaxed=[0.5, 0.75], rolled_back=[0, 0])  # some failed, and nothing was taken back
    assert depths(each) == []
    assert depths(trace(kept_relaxed=[0.5, 0.75], rolled_back=[2, 0])) == depths(trace())
    assert depths(trace(kept_relaxed=[1.0, np.nan], rolled_back=[0, 0])) == depths(trace())


def test_no_accepted_draft_has_no_depths() -> None:
    assert depths(trace(accepted=[[0, 0], [0]])) == []
    assert depths(trace(accepted=[[], []])) == []


def test_numbers_are_ratios_of_totals() -> None:
    found = numbers(trace())
    assert found["share_drawn"].value == pytest.approx(6 / 18)
    assert found["share_accepted"].value == pytest.approx(6 / 18)
    assert found["share_skipped"].value == pytest.approx(6 / 18)
    assert found["tokens_per_skip"].value == 3
    assert not {"agreed", "rolled_back"} & set(found)


def test_agreement_is_of_the_skips_that_were_looked_at() -> None:
    """The second image ends with its skip of four, which no verification follows; one look may see two skips."""
    found = numbers(trace(skipped=[[2], [1, 2, 4]], agreed=[[1], [3]], rolled_back=[1, 0]))
    assert found["agreed"].value == pytest.approx(4 / 5)
    assert found["rolled_back"].value == pytest.approx(1 / 4)


@pytest.mark.parametrize(
    ("skipped", "origin", "seen"),
    [
        ([2, 3], [D, S, S, D, S, S, S], 2),
        ([2, 3], [D, S, S, D, S, S], 2),
        ([2, 2], [D, S, S, S, S], 0),
        ([2], [S, S, D], 2),
    ],
)
def test_skips_at_the_end_of_an_image_are_not_looked_at(skipped: list[int], origin: list[int], seen: int) -> None:
    assert looked_at(skipped, origin) == seen


@pytest.mark.parametrize("agreed", [[[], []], [[0], []]])
def test_an_empty_agreement_breaks_nothing(agreed: list[list[int]]) -> None:
    found = numbers(trace(agreed=agreed, rolled_back=[0, 0]))
    assert ("agreed" in found) == bool(agreed[0])
    assert "rolled_back" not in found


def test_places_are_shares_of_the_images() -> None:
    found = places(trace(), (ACCEPTED, SKIPPED))
    np.testing.assert_array_equal(found, [[0, 1, 1], [0.5, 0.5, 1], [0.5, 1, 0.5]])
    assert places(trace(origin=[[D] * 9, [D] * 9]), (SKIPPED,)) is None
    assert places(trace(origin=[[D, A], [D, A]]), (ACCEPTED,)) is None  # not a square


def test_a_cell_without_skips_has_all_the_rest(study: StudyFrame) -> None:
    cell = next(cell for cell in study.cells.values() if cell.record.label == "sd")
    found = diagnose(cell.trace)
    assert not len(found.kept)
    assert found.never_verified is None
    assert found.accepted.sum() == pytest.approx(1)
    assert len(found.depths) == synthetic.DEPTH
    assert found.depths[0].steps == cell.trace["verified_steps"].sum()  # none of them accepted nothing at the end


def test_the_frame_has_the_numbers_of_those_that_draft(study: StudyFrame) -> None:
    rows = study.rows.set_index("label")
    assert pd.isna(rows.loc["ar", "share_drawn"])
    assert pd.isna(rows.loc["sd", "tokens_per_skip"])
    shares = rows.loc["vvs i=2", ["share_drawn", "share_accepted", "share_skipped"]].sum()
    assert shares == pytest.approx(1)
    assert rows.loc["vvs i=2", "tokens_per_skip_low"] < 2 < rows.loc["vvs i=2", "tokens_per_skip_high"]
