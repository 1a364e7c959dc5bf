"""`vvsbench diff`: cells find their twins, pairs get paired intervals, and what cannot be compared is not."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import pytest

from tests import synthetic
from vvsbench import cli
from vvsbench.runs import store
from vvsbench.runs.record import External
from vvsbench.runs.store import Store


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    """A study before, and after: sd accepts less, vvs i=2 is better, ar is on another machine, i=5 is new."""
    before, after = (tmp_path_factory.mktemp(name) for name in ("before", "after"))
    cells = synthetic.recipes()
    synthetic.write(before, count=32, cells=cells[:4])
    changed = [
        replace(cells[0], hardware={**synthetic.HARDWARE, "cpu": "Another Processor"}),
        replace(cells[1], accept=0.3),
        cells[2],
        replace(cells[3], harm=1.0, seconds=0.2),
        cells[6],
    ]
    synthetic.write(after, count=32, cells=changed)
    return before, after


@pytest.fixture
def run(capsys, monkeypatch, roots):
    monkeypatch.setenv("COLUMNS", "200")

    def compare(*arguments):
        code = cli.main(["diff", *map(str, arguments), f"output_root={roots[0]}"])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return compare


def pairs_of(out):
    return {pair["label"]: pair for pair in json.loads(out)["pairs"]}


def rows(pair):
    return {row["name"]: row for row in pair["rows"]}


def test_what_changed_is_found_and_what_did_not_is_the_same(run, roots):
    code, out, _ = run("demo", roots[1] / "cells" / "demo", "--json")
    assert code == 0
    found = pairs_of(out)
    assert set(found) == {"ar", "sd", "eagle2", "vvs i=2"}
    assert json.loads(out)["b"]["unmatched"] == ["vvs i=5"]
    assert {row["verdict"] for name, row in rows(found["eagle2"]).items() if name != "speed-up"} == {"the same"}
    assert found["eagle2"]["identical_images"] == 32
    drafting = rows(found["sd"])
    assert drafting["target_forwards"]["verdict"] == "worse"
    assert drafting["target_forwards"]["low"] > 0
    assert drafting["step_compression"]["verdict"] == "worse"
    assert drafting["target_forwards"]["paired"]
    skipping = rows(found["vvs i=2"])
    assert skipping["tiny fid"]["verdict"] == "better"
    assert skipping["tiny fid"]["paired"]
    assert skipping["tiny fid"]["high"] < 0


def test_seconds_of_two_machines_are_compared_only_when_asked_for(run, roots):
    other = roots[1] / "cells" / "demo"
    _, out, _ = run("demo/ar", Store(roots[1]).cell("demo", "ar").folder, "--json")
    pair = pairs_of(out)["ar"]
    assert "speed-up" not in rows(pair)
    assert any("Another Processor" in note and "across_hardware=true" in note for note in pair["notes"])
    _, out, _ = run("demo", other, "--json", "across_hardware=true")
    assert "speed-up" in rows(pairs_of(out)["ar"])


def test_the_refusal_is_one_message_that_says_what_allows_it(run, roots):
    _, out, _ = run("demo", roots[1] / "cells" / "demo")
    assert out.count("across_hardware=true") == 1
    assert (
        "seconds are not compared: A ran on Invented Processor 9000, 2 cores and B on Another Processor, 2 cores" in out
    )


def test_output_roots_are_compared_study_by_study(run, tmp_path):
    cells = synthetic.recipes()
    for name, changed in (("a", cells[1]), ("b", replace(cells[1], accept=0.2))):
        for study in ("one", "two"):
            synthetic.write(tmp_path / name, 16, study, [cells[0], changed if study == "one" else cells[1]])
    code, out, _ = run(tmp_path / "a", tmp_path / "b", "--json")
    assert code == 0
    pairs = json.loads(out)["pairs"]
    assert all(pair["a"]["study"] == pair["b"]["study"] for pair in pairs)
    verdicts = {(pair["a"]["study"], pair["label"]): rows(pair)["target_forwards"]["verdict"] for pair in pairs}
    assert verdicts == {
        ("one", "ar"): "the same",
        ("one", "sd"): "worse",
        ("two", "ar"): "the same",
        ("two", "sd"): "the same",
    }


def test_speed_records_are_compared(run, tmp_path):
    for name, seconds in (("a", 0.1), ("b", 0.05)):
        (folder,) = synthetic.write(tmp_path / name, 16, cells=synthetic.recipes()[1:2])
        synthetic.write_speed(folder, seconds)
    code, out, _ = run(tmp_path / "a", tmp_path / "b", "--json")
    assert code == 0
    (pair,) = json.loads(out)["speeds"]
    row = rows(pair)["speed-up, timed apart"]
    assert (row["verdict"], row["low"], row["high"]) == ("no verdict", None, None)
    assert row["change"] == pytest.approx(2)
    assert any("timed at different times" in note for note in pair["notes"])
    assert rows(pair)["times as fast as ar"]["verdict"] == "cannot be told"  # both are twice as fast


def test_studies_that_were_only_timed_are_refused_across_machines(run, tmp_path):
    for name in ("a", "b"):
        (folder,) = synthetic.write(tmp_path / name, 16, cells=synthetic.recipes()[1:2])
        record = synthetic.write_speed(folder, 0.1)
        origin = record.provenance.model_copy(update={"hardware": {"cpu": f"machine {name}", "cores": 2}})
        moved = record.model_copy(update={"provenance": origin})
        (folder / store.SPEED).write_text(moved.model_dump_json())
        (folder / store.RECORD).unlink()
    code, _, err = run(tmp_path / "a", tmp_path / "b")
    assert code == 2
    assert "seconds are not compared" in err
    assert "To compare them all the same: across_hardware=true." in err
    code, out, _ = run(tmp_path / "a", tmp_path / "b", "across_hardware=true")
    assert code == 0
    assert "speed of sd, timed apart" in out
    assert "seconds of two machines" in out


def test_two_cells_are_compared_whatever_their_settings(run):
    code, out, _ = run("demo/ar", "demo/sd", "--json")
    assert code == 0
    (pair,) = json.loads(out)["pairs"]
    assert pair["settings"]["decoder.name"] == ["ar", "sd"]
    assert rows(pair)["target_forwards"]["verdict"] == "better"
    assert rows(pair)["tiny fid"]["verdict"] == "the same"


def test_other_prompts_are_compared_as_independent_sets(run, roots):
    folder = Store(roots[1]).cell("demo", "eagle2").folder
    record = store.read_record(folder)
    store.write_record(folder, record.model_copy(update={"config": record.config | {"seed": 7}}))
    _, out, _ = run("demo/eagle2", folder, "--json")
    store.write_record(folder, record)
    (pair,) = json.loads(out)["pairs"]
    assert not rows(pair)["target_forwards"]["paired"]
    assert pair["identical_images"] is None
    assert any("independent" in note for note in pair["notes"])


def test_an_imported_set_is_compared_by_its_metrics_alone(run, roots, tmp_path):
    theirs = Store(roots[1]).cell("demo", "eagle2").folder
    record = store.read_record(theirs)
    imported = record.model_copy(update={"external": External(source="there", captions=False), "image_digest": "other"})
    quality = theirs / store.QUALITY / "tiny.json"
    kept = quality.read_text()
    store.write_record(theirs, imported)
    quality.write_text(kept.replace(record.image_digest, "other"))
    _, out, _ = run("demo/ar", theirs, "--json")
    _, shown, _ = run("demo/ar", theirs)
    store.write_record(theirs, record)
    quality.write_text(kept)
    (pair,) = json.loads(out)["pairs"]
    assert (pair["settings"], pair["identical_images"]) == ({}, None)
    assert all(row["name"].startswith("tiny ") and not row["paired"] for row in pair["rows"])
    assert len(pair["rows"]) == 7
    assert "B imported: only metrics can be compared" in shown


def test_other_code_and_weights_are_told(run, roots):
    folder = Store(roots[1]).cell("demo", "sd").folder
    record = store.read_record(folder)
    origin = record.provenance
    changed = origin.model_copy(update={"code_digest": "x", "weights": dict.fromkeys(origin.weights, "y")})
    store.write_record(folder, record.model_copy(update={"provenance": changed}))
    _, out, _ = run("demo/sd", folder, "--json")
    store.write_record(folder, record)
    notes = " ".join(json.loads(out)["pairs"][0]["notes"])
    assert "B is stale: the code that draws tokens has changed" in notes
    assert "A and B were drawn by different code" in notes
    assert ("these weights are others in B" in notes) is bool(origin.weights)


def test_the_table_says_the_same(run, roots):
    code, out, _ = run("demo", roots[1] / "cells" / "demo")
    assert code == 0
    assert "only in B: vvs i=5" in out
    assert "32 of 32 images have the same tokens" in out
    assert "would by chance" in out.splitlines()[-1]
    line = next(line for line in out.splitlines() if line.strip().startswith("target forwards"))
    assert len(line.split()) >= 4


def test_metrics_of_other_image_counts_get_no_verdict(run, tmp_path):
    """FID falls with the number of images, whatever the decoder: the same recipe at twice the count is not better."""
    cells = synthetic.recipes()
    synthetic.write(tmp_path / "a", 16, cells=[cells[3]])
    synthetic.write(tmp_path / "b", 32, cells=[replace(cells[3], harm=-9.0)])
    code, out, _ = run(tmp_path / "a", tmp_path / "b", "--json")
    assert code == 0
    (pair,) = json.loads(out)["pairs"]
    found = rows(pair)
    metrics = [row for name, row in found.items() if name.startswith("tiny ")]
    assert len(metrics) == 7
    assert {(row["verdict"], row["low"], row["high"]) for row in metrics} == {("no verdict", None, None)}
    assert any("of 16 images in A and 32 in B" in note for note in pair["notes"])
    assert found["target_forwards"]["verdict"] != "no verdict"  # a mean over images, of any number of them
    assert found["target_forwards"]["low"] is not None


def test_seconds_of_drawing_get_no_verdict(run, roots):
    _, out, _ = run("demo/vvs i=2", Store(roots[1]).cell("demo", "vvs i=2").folder, "--json")
    (pair,) = json.loads(out)["pairs"]
    row = rows(pair)["speed-up"]
    assert row["change"] < 0.5  # four times as many seconds in the second run
    assert (row["verdict"], row["low"], row["high"]) == ("no verdict", None, None)
    assert any("stage=speed" in note for note in pair["notes"])


def test_eighty_columns_are_enough(run, roots, monkeypatch, tmp_path):
    monkeypatch.setenv("COLUMNS", "80")
    synthetic.write(tmp_path / "a", 16, cells=synthetic.continuous())
    synthetic.write(tmp_path / "b", 32, cells=[replace(cell, cost=1.3 * cell.cost) for cell in synthetic.continuous()])
    for one, other in (("demo", roots[1] / "cells" / "demo"), (tmp_path / "a", tmp_path / "b")):
        _, out, _ = run(one, other)
        lines = out.splitlines()
        assert max(map(len, lines)) <= 80
        table = [line for line in lines if line.startswith(" ")]
        shown = " ".join(table)
        for word in ("target forwards", "no verdict", "step compression"):
            assert word in shown, word
        assert "…" not in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["demo"], "write: vvsbench diff A B"),
        (["demo", "dmo"], "study=dmo has no cells below"),
        (["demo", "demo/nothing"], "cell=nothing means 0 cells"),
        (["demo", "demo", "across_hardware=maybe"], "write: vvsbench diff A B"),
        (["demo", "demo", "across=true"], "there is no such setting"),
    ],
)
def test_mistakes_are_one_message(run, arguments, message):
    code, _, err = run(*arguments)
    assert code == 2
    assert message in err


def test_diff_imports_no_torch():
    code = "import sys, vvsbench.diffing; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
