"""What is chosen before the cells of a run, and what is said after them."""

from __future__ import annotations

from tests import synthetic
from tests.runs.conftest import SETTINGS
from vvsbench.composition import composed, plain
from vvsbench.runs import app, states, store
from vvsbench.runs.cell import Cell
from vvsbench.runs.console import Console
from vvsbench.runs.job import Outcome


def test_cells_to_be_drawn_again_are_cleared_once_before_any_runs(decoder, tmp_path, capsys):
    def run(rerun, seed):
        return composed([*SETTINGS, f"output_root={tmp_path}", f"rerun={rerun}", f"seed={seed}"])

    done = run("all", 0)
    Cell(done, plain(done), states.place(done), Console()).run()
    digest = store.read_record(states.place(done)).image_digest
    assert app.chosen([run("done", 0), run("done", 1)]) == [True, False]  # what was never drawn is not meant
    assert "rerun=done: 1 of 2 cells" in capsys.readouterr().out
    assert list((states.place(done) / "images").iterdir()) == []
    decoder.batches.clear()
    again = run("done", 0)
    Cell(again, plain(again), states.place(again), Console()).run()
    assert decoder.batches
    assert store.read_record(states.place(done)).image_digest == digest
    assert app.chosen([run("all", 0)]) == [True]
    assert list((states.place(done) / "images").iterdir())


def test_a_study_without_its_baseline_says_what_draws_it(tmp_path, capsys):
    folders = synthetic.write(tmp_path, 4, "mine", synthetic.recipes()[1:3])
    for folder in folders:
        record = store.read_record(folder)
        config = record.config | {"study": record.config["study"] | {"cells": []}}
        origin = record.provenance.model_copy(update={"command": "vvsbench run decoder=sd count=4 study.name=mine"})
        store.write_record(folder, record.model_copy(update={"config": config, "provenance": origin}))
    app.finish([Outcome(folders[0].name, None, "mine", str(tmp_path))])
    said = capsys.readouterr().out.splitlines()
    assert said[0].endswith(f"to compare them: vvsbench report study=mine output_root={tmp_path}")
    assert said[1] == (
        "ar, the baseline, is not among them; to draw it: vvsbench run count=4 study.name=mine decoder=ar"
    )
    synthetic.write(tmp_path, 4, "mine", synthetic.recipes()[:1])
    app.finish([Outcome(folders[0].name, None, "mine", str(tmp_path))])
    assert len(capsys.readouterr().out.splitlines()) == 1
