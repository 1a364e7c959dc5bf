"""What a report says of speed records: a table per machine, and what is stale or failed before the numbers."""

from __future__ import annotations

import pytest

from vvsbench import identity
from vvsbench.analysis import report
from vvsbench.analysis.frame import NothingToReport
from vvsbench.analysis.speed import speeds
from vvsbench.analysis.troubles import Trouble
from vvsbench.reporting import main
from vvsbench.runs import files, store
from vvsbench.runs.record import Provenance
from vvsbench.runs.speed_record import Interval, Measured, Memory, Moment, SpeedRecord, Subject

CONFIG = {
    "model": {"name": "tiny"},
    "decoder": {"name": "vvs"},
    "study": {"name": "s", "title": "How fast"},
    **{"sampling": {}, "prompts": {}},
    **{"engine": "eager", "dtype": "fp32", "device": "cpu"},
    **{"count": 4, "batch_size": 4, "shard_size": 4, "seed": 0},
}


def subject(label, seconds, forwards):
    counts = {"target_forwards": forwards - 1.0, "prefill_forwards": 1.0}
    times = Interval(value=seconds, low=seconds * 0.9, high=seconds * 1.1, n=9)
    return Subject(
        label=label, seconds_per_image=times, load_seconds=1.0, first_seconds=2.0, counts=counts, floor_seconds=0.01
    )


def measured(**changes):
    facts = {
        "device": "a processor",
        "cores": 2,
        "threads": 1,
        "own": subject("vvs i=2", 0.02, 16.0),
        "baseline": subject("ar", 0.05, 64.0),
        "speed_up": Interval(value=2.5, low=2.4, high=2.6, n=9),
        "paint_seconds_per_image": Interval(value=0.001, low=0.001, high=0.001, n=9),
        "memory": Memory(allocated=None, reserved=None, process=2**30),
        "phases": {"verify": 0.6, "draft": 0.3, "host": 0.1},
        "ending": "narrow",
        "before": Moment(),
        "after": Moment(),
        "seconds": 9.0,
    }
    return Measured(**(facts | changes))


def write(root, key, label="vvs i=2", status="ok", error=None, code=None, **changes):
    record = SpeedRecord(
        status=status,
        error=error,
        study="s",
        label=label,
        key=key,
        speed_key="0",
        config=CONFIG,
        provenance=Provenance(
            code_digest=code or identity.code_digest(CONFIG),
            weights={},
            git=None,
            versions={},
            hardware={"cpu": "a processor", "cores": 2},
            host="linux",
            command="vvsbench run stage=speed",
        ),
        measured=measured(**changes) if status == "ok" else None,
        started=f"2026-01-01T00:00:0{len(list(root.rglob(store.SPEED)))}",
    )
    files.write(root / "cells" / "s" / key / store.SPEED, record.model_dump_json().encode())


def numbers(table, label):
    line = next(line for line in table.lines if line.label == label)
    return {column.name: entry.text for column, entry in zip(table.columns, line.entries, strict=True)}


def test_a_cell_shows_what_it_is_worth(tmp_path):
    write(tmp_path, "one")
    found = speeds("s", tmp_path)
    assert found.said == []
    times, phases = found.tables
    shown = numbers(times, "vvs i=2")
    (line,) = times.lines
    round_cost = next(e for c, e in zip(times.columns, line.entries, strict=True) if c.name == "round_cost")
    assert round_cost.interval == "[1.54, 1.67]"  # 4 times fewer forwards, 2.4 to 2.6 times as fast
    assert shown["images_per_second"].startswith("50")
    assert shown["speed_up"] == "2.50× over ar"
    assert (shown["compression"], shown["round_cost"], shown["floor_share"]) == ("4.00×", "1.60", "50 %")
    assert "joules" not in shown  # nobody has any
    assert numbers(phases, "vvs i=2") == {"phase_verify": "60 %", "phase_draft": "30 %", "phase_host": "10 %"}
    assert times.lines[0].note == "tiny, eager, fp32, batch 4, 1 thread"


def test_a_verified_and_a_skipped_step_are_told_apart(tmp_path):
    own = subject("vvs i=2", 0.02, 17.0)
    counts = own.counts | {"verified_steps": 16.0, "skipped_steps": 8.0}
    phases = {"verify": 0.4, "accept": 0.08, "draft": 0.24, "host": 0.08, "pixels": 0.2}
    write(tmp_path, "one", own=own.model_copy(update={"counts": counts}), phases=phases)
    row = speeds("s", tmp_path).rows.iloc[0]
    step = 0.05 / 64  # of the baseline; 0.02 s hold 16 verifications of 0.6 and 24 times the rest of 0.4
    assert row["skipped_cost"] == pytest.approx(0.4 * 0.02 / 24 / step)
    assert row["verified_cost"] == pytest.approx((0.4 / 24 + 0.6 / 16) * 0.02 / step)
    assert {"a verified step", "a skipped step"} <= {column.title for column in speeds("s", tmp_path).tables[0].columns}


def test_two_machines_are_two_tables(tmp_path):
    write(tmp_path, "one")
    write(tmp_path, "two", label="sd", device="another GPU")
    found = speeds("s", tmp_path)
    assert "different machines" in found.said[0]
    assert len([table for table in found.tables if table.name == "speed"]) == 2
    assert all(len(table.lines) == 1 for table in found.tables)


def test_what_has_no_number_is_said(tmp_path):
    write(tmp_path, "one", code="of another time")
    write(tmp_path, "two", label="sd", status="crashed", error="its process was ended by SIGSEGV.")
    write(
        tmp_path,
        "three",
        label="ar",
        slowed_by=["power cap"],
        after=Moment(strangers=[7], load_average=4.0),
        speed_up=None,
    )
    found = speeds("s", tmp_path)
    stale, crashed = found.troubles
    assert (stale.subject, stale.what[:37]) == ("vvs i=2", "was timed before a change and is stal")
    assert crashed == Trouble("sd", "was not timed, crashed: its process was ended by SIGSEGV")
    assert found.said[0] == "ar: the GPU's clocks were held down: power cap."
    assert found.said[1] == "ar: others used this machine too: its load average was 4.0, and it has 2 cores."
    assert found.said[2] == "ar: other processes computed on this GPU: 7."
    assert [line.label for line in found.tables[0].lines] == ["ar"]


def test_a_study_that_was_only_timed_has_a_report(tmp_path, capsys):
    write(tmp_path, "one")
    assert main(["study=s", f"output_root={tmp_path}"]) == 0
    assert "2.50× over ar" in capsys.readouterr().out
    page = (tmp_path / "reports" / "s" / "index.html").read_text()
    assert "<h2>Speed</h2>" in page
    assert "2.50× over ar" in page
    assert "How fast" in page
    assert "2.50× over ar" in (tmp_path / "reports" / "s" / "report.md").read_text()
    assert "round_cost" in (tmp_path / "reports" / "s" / "speed.csv").read_text()


def test_a_report_without_speed_does_not_mention_it(root, no_figures):
    paths = report.write("demo", root)
    assert "<h2>Speed</h2>" not in paths.html.read_text()
    with pytest.raises(NothingToReport):
        report.write("nothing", root)


def test_a_damaged_record_is_named(tmp_path):
    write(tmp_path, "one")
    (tmp_path / "cells" / "s" / "one" / store.SPEED).write_text("{}")
    (found,) = speeds("s", tmp_path).troubles
    assert found.subject == "one"
    assert "speed.json is damaged (status" in found.what
