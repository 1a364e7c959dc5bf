from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tests import synthetic
from vvsbench.analysis import sentences, tables
from vvsbench.analysis.costs import FORWARDS, SECONDS
from vvsbench.analysis.estimate import Estimate, estimate
from vvsbench.analysis.frame import StudyFrame
from vvsbench.analysis.pareto import fronts
from vvsbench.runs import store
from vvsbench.runs.speed_record import Interval


def said(study: StudyFrame) -> dict[str, sentences.Verdict]:
    return {
        verdict.label: verdict for _, rows in study.comparisons() for verdict in sentences.verdicts(rows, study.axis)
    }


def test_what_is_won_and_what_is_lost(study: StudyFrame) -> None:
    found = said(study)
    assert set(found) == {"sd", "eagle2", "vvs i=2", "vvs i=3", "vvs i=4", "vvs i=5"}
    assert any("token for token" in clause for clause in found["sd"].won)
    assert not found["sd"].lost
    assert not found["eagle2"].lost
    harmed = found["vvs i=2"]
    assert any(clause.startswith("FID rises by 9.4 [") for clause in harmed.lost)
    assert any(clause.startswith("class accuracy falls by") for clause in harmed.lost)
    assert any("fewer target forwards than ar [" in clause for clause in harmed.won)


def test_a_change_within_its_interval_is_neither_won_nor_lost(study: StudyFrame) -> None:
    even = said(study)["vvs i=5"]
    assert not even.lost
    assert any("FID changes by +1.6" in clause and "may be no change" in clause for clause in even.even)


def test_a_better_quality_is_won(tmp_path: Path) -> None:
    cells = synthetic.recipes()
    synthetic.write(tmp_path, 8, cells=[cells[0], replace(cells[3], harm=-9.0)])
    found = said(synthetic.frame("demo", tmp_path))["vvs i=2"]
    assert any(clause.startswith("FID falls by 9.0") for clause in found.won)


def test_the_same_cost_is_neither_won_nor_lost(tmp_path: Path) -> None:
    cells = synthetic.continuous()[0], synthetic.masked(64, 26, 80.0, 2.0)
    synthetic.write(tmp_path, 8, cells=list(cells))
    study = synthetic.frame("demo", tmp_path)
    (found,) = sentences.verdicts(study.usable, study.axis)
    assert "needs as much as masked 64 x 25, in target calls" in found.even
    assert not any("computation" in clause for clause in (*found.won, *found.lost))


def test_more_forwards_are_lost(tmp_path: Path) -> None:
    cells = synthetic.recipes()
    synthetic.write(tmp_path, 8, cells=[replace(cells[1], label="ar", decoder={"name": "ar"}), cells[2]])
    found = said(synthetic.frame("demo", tmp_path))["eagle2"]
    assert any("more target forwards than ar" in clause for clause in found.lost)


def test_an_exact_decoder_that_differs_says_so(tmp_path: Path) -> None:
    cells = synthetic.recipes()
    synthetic.write(
        tmp_path, 8, cells=[cells[0], cells[1], replace(cells[3], guarantee="exact", label="sd odd", flips=2)]
    )
    found = said(synthetic.frame("demo", tmp_path))["sd odd"]
    assert any("6 of 8 images equal ar’s token for token" in clause for clause in found.even)


def test_the_headline_has_the_free_gain_and_the_paid_one(study: StudyFrame) -> None:
    (_, rows) = study.comparisons()[0]
    free, paid, clock = map(str, sentences.headline(rows, FORWARDS))
    assert free.startswith("sd draws ar’s images token for token with 2.")
    assert paid.startswith("vvs i=2 needs 3.")
    assert "its FID rises by 9.40 [" in paid
    assert clock.startswith("vvs i=2 drew quickest of them, at 2.")
    assert clock.endswith(
        "the pace of ar, but not in turn with it: for a claim about speed time them with stage=speed."
    )


def test_seconds_are_won_or_lost_only_where_they_were_taken_in_turn(tmp_path: Path) -> None:
    folders = synthetic.write(tmp_path, 16, cells=synthetic.recipes()[:3])
    before = said(synthetic.frame("demo", tmp_path))
    for verdict in before.values():
        assert not any("faster" in clause or "slower" in clause for clause in (*verdict.won, *verdict.lost))
        assert any("the pace of ar, not timed in turn with it" in clause for clause in verdict.even)
    timed = synthetic.write_speed(folders[1], 0.05)
    study = synthetic.frame("demo", tmp_path)
    assert "is 2.00× faster per image [1.90, 2.10]" in said(study)["sd"].won
    assert str(sentences.headline(study.usable, FORWARDS)[-1]).startswith("sd is the fastest on this machine: 2.00× ")
    against_another = timed.measured.model_copy(update={"baseline": timed.measured.own})
    for stale in (
        timed.model_copy(update={"measured": against_another}),
        timed.model_copy(update={"provenance": timed.provenance.model_copy(update={"code_digest": "0" * 64})}),
    ):
        (folders[1] / store.SPEED).write_text(stale.model_dump_json())
        assert not any("faster" in clause for clause in said(synthetic.frame("demo", tmp_path))["sd"].won)


def test_a_slower_decoder_is_called_slower_in_the_headline(tmp_path: Path) -> None:
    folders = synthetic.write(tmp_path, 16, cells=synthetic.recipes()[:3])
    timed = synthetic.write_speed(folders[1], 0.4)
    slow = timed.measured.model_copy(update={"speed_up": Interval(value=0.3, low=0.28, high=0.32, n=6)})
    (folders[1] / store.SPEED).write_text(timed.model_copy(update={"measured": slow}).model_dump_json())
    (_, rows) = synthetic.frame("demo", tmp_path).comparisons()[0]
    clock = str(sentences.headline(rows, FORWARDS)[-1])
    assert "the fastest of them on this machine, and still slower than ar: 3.33× its time" in clock
    assert any("is 3.33× slower" in clause for clause in said(synthetic.frame("demo", tmp_path))["sd"].lost)


def test_every_metric_whose_interval_excludes_zero_is_won_or_lost(study: StudyFrame) -> None:
    """KID and IS too, and whether or not FID moves as well."""
    for key, row in study.usable[~study.usable["is_baseline"]].iterrows():
        verdict = said(study)[str(row["label"])]
        for column in tables.QUALITY_COLUMNS:
            moved = estimate(row, f"{column.name}_change")
            clauses = [clause for clause in (*verdict.won, *verdict.lost) if clause.startswith(f"{column.spoken} ")]
            assert len(clauses) == bool(moved and moved.sure), (key, column.name)
    harmed = said(study)["vvs i=2"].lost
    assert any(clause.startswith("IS falls by ") for clause in harmed)
    assert any(clause.startswith("KID ×10³ rises by ") for clause in harmed)


def test_an_end_near_zero_keeps_its_sign() -> None:
    assert sentences.telling(Estimate(4.9, -0.03, 9.9), 1) == 2
    assert sentences.telling(Estimate(4.9, -1.3, 9.9), 1) == 1
    assert sentences.telling(Estimate(0.0, 0.0, 0.0), 1) == 1


def test_fronts_state_their_places_and_their_reference_point(study: StudyFrame) -> None:
    (_, rows) = study.comparisons()[0]
    forwards, seconds = fronts(study, rows)
    text = sentences.about_front(forwards)
    assert text.startswith(
        "On the front: vvs i=2, vvs i=3. Dominated: eagle2, ar. Cannot be told: vvs i=4, vvs i=5, sd."
    )
    assert "FID 30.8" in text
    assert sentences.ONE_AFTER_THE_OTHER not in text
    assert seconds.axis is SECONDS
    assert sentences.ONE_AFTER_THE_OTHER in sentences.about_front(seconds)
