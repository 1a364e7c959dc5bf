"""A search from outside: killed and gone on with, its front, what it saves, and what goes wrong within it."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
from pathlib import Path

import moocore
import numpy as np
import pytest
import yaml

from tests import nano
from tests.e2e.conftest import PATIENCE, VVSBENCH, environment
from tests.e2e.test_run import wait_for
from vvsbench import cli
from vvsbench.runs.store import Store

OBJECTIVES = ["step_compression", "draft_forwards"]
SPACE = [
    "decoder=vvs_coupled",
    "decoder.schedule.chance=tag(log,interval(0.001,0.5))",
    "decoder.skip.in_a_row=choice(1,2)",
    "decoder.structure.depth=range(1,5)",
]
TRIALS = 6


def searching(weights, *more, trials=TRIALS):
    """A search without a metric, so that a trial takes a moment."""
    own = [f"search.trials={trials}", f"search.objectives=[{','.join(OBJECTIVES)}]", "study.name=s"]
    return ["run", *nano.overrides(weights, drafter=True), *own, *more]


def finished(root):
    return [path for path in root.rglob("record.json") if json.loads(path.read_text())["status"] == "ok"]


@pytest.fixture(scope="module")
def whole(weights, tmp_path_factory):
    """Folder and output of a search that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    command = [*VVSBENCH, *searching(weights, *SPACE)]
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, cwd=folder, env=environment(), timeout=PATIENCE
    )
    return folder, done.stdout


def test_a_killed_search_goes_on_to_the_same_front(start, vvsbench, weights, tmp_path, whole):
    child = start(*searching(weights, *SPACE))
    wait_for(lambda: len(finished(tmp_path)) >= 3)
    child.send_signal(signal.SIGKILL)
    child.wait()
    before = len(finished(tmp_path))
    assert before < TRIALS + 1
    assert not list(tmp_path.glob("outputs/search/**/*.json"))
    code, out, _ = vvsbench(*searching(weights, *SPACE))
    assert (code, out.count("done already, nothing to do")) == (0, before)
    names = sorted(path.relative_to(whole[0]) for path in whole[0].glob("outputs/search/**/*.*"))
    assert names == sorted(path.relative_to(tmp_path) for path in tmp_path.glob("outputs/search/**/*.*"))
    for name in names:
        assert (tmp_path / name).read_bytes() == (whole[0] / name).read_bytes()


def test_the_front_is_what_no_record_dominates(whole):
    folder, out = whole
    found = json.loads((folder / "outputs/search/s/front.json").read_text())
    baseline, *cells = Store(folder / "outputs").cells("s")
    assert baseline.record.label == "ar"
    values = np.array([[cell.record.summaries[name].mean for name in OBJECTIVES] for cell in cells])
    kept = moocore.is_nondominated(values, maximise=[True, False], keep_weakly=True)
    assert 1 < kept.sum() < len(cells)
    best = {cell.folder.name for cell, good in zip(cells, kept, strict=True) if good}
    assert {trial["cell"] for trial in found["trials"] if trial["name"] in found["front"]} >= best
    assert {trial["cell"] for trial in found["trials"] if trial["name"]} == best
    assert found["sampler"].startswith("optuna")
    assert f"chosen on these very 8 images, and the best of {TRIALS} noisy trials look better than they are" in out


def test_what_was_found_runs_by_its_name_and_is_the_same_cell(whole, weights, monkeypatch, capsys):
    folder, out = whole
    monkeypatch.chdir(folder)
    decoder, schedule = re.search(r"vvsbench run: (\S+) or (\S+)", out).groups()
    settings = [word for word in nano.overrides(weights) if not word.startswith("decoder")]
    assert cli.main(["run", *settings, "study.name=s", decoder]) == 0
    assert "done already, nothing to do" in capsys.readouterr().out
    assert cli.main(["run", *nano.overrides(weights, drafter=True), "study.name=other", "decoder=vvs", schedule]) == 0
    (other,) = Store("outputs").cells("other")
    assert other.record.config["decoder"]["schedule"] == composed_schedule(folder, schedule)
    assert cli.main(["list", "schedules"]) == 0
    assert "outputs/search/s" in capsys.readouterr().out


def composed_schedule(folder, word):
    path = folder / "outputs/search/s/schedule" / f"{word.split('=')[1]}.yaml"
    return {key: value for key, value in yaml.safe_load(path.read_text()).items() if key != "defaults"}


def test_the_printed_command_confirms_the_front_elsewhere_too(start, weights, tmp_path, monkeypatch, capsys):
    """With several trials at once, and an output root of one's own."""
    monkeypatch.chdir(tmp_path)
    more = [*SPACE, "search.parallel=2", "study.title=Mine", f"output_root={tmp_path / 'my results'}"]
    assert cli.main(searching(weights, *more, trials=3)) == 0
    out = capsys.readouterr().out
    command = re.search(r"another seed: vvsbench (run .*?) && vvsbench (report .*)", out)
    child = start(*shlex.split(command.group(1)))
    said, err = child.communicate(timeout=PATIENCE)
    assert child.returncode == 0, err
    cells = Store(tmp_path / "my results").cells("s_confirm")
    front = json.loads((tmp_path / "my results/search/s/front.json").read_text())["front"]
    assert len(cells) == 1 + len(front)
    assert {cell.record.config["seed"] for cell in cells} == {1}
    searched = {json.dumps(cell.record.config["decoder"]) for cell in Store(tmp_path / "my results").cells("s")}
    assert {json.dumps(cell.record.config["decoder"]) for cell in cells} <= searched
    assert not any(cell.record.config["search"]["trials"] for cell in cells)
    assert "drew 8 of 8 images" in said
    assert shlex.split(command.group(2))[1:] == ["study=s_confirm", f"output_root={tmp_path / 'my results'}"]


def test_trials_that_fail_or_cannot_be_do_not_stop_the_others(weights, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.pt").write_bytes(b"not a checkpoint")
    space = [
        "decoder=sd",
        "decoder.structure.candidates=top_k",
        "decoder.structure.depth=1",
        "decoder.skip.recheck=choice(none,rollback)",
        "acceptance@decoder.acceptance=choice(match,sequential)",
        f"decoder.drafter.checkpoint=choice({weights}/drafter.safetensors,{tmp_path}/broken.pt)",
    ]
    command = [word for word in searching(weights, trials=9) if not word.startswith("decoder.drafter.checkpoint")]
    assert cli.main([*command, *space]) == 1
    said = capsys.readouterr()
    states = {}
    for trial in json.loads(Path("outputs/search/s/front.json").read_text(encoding="utf-8"))["trials"]:
        states.setdefault(trial["state"], []).append(trial)
    assert set(states) == {"measured", "failed", "impossible"}
    assert all("broken.pt" in " ".join(trial["overrides"]) for trial in states["failed"])
    assert all("rollback does not go with acceptance=sequential" in trial["why"] for trial in states["impossible"])
    assert f"{len(states['failed'])} failed, the first with" in said.out
    assert "cells failed" in said.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["decoder=vvs_coupled", "search.trials=3"], "search.trials has nothing to vary"),
        ([*SPACE[:2]], "needs a sweep, vvsbench run -m, or a search"),
        (["-m", *SPACE[:2]], "To search an interval say how often: search.trials=20."),
        ([*SPACE[:2], "search.trials=-1"], "search.trials=-1 must be at least 1"),
        (["study=schedule_search", "search.trials=0"], "search.trials=0 must be at least 1"),
        ([*SPACE[:2], "search.trials=3", "search.parallel=0"], "search.parallel=0 must be at least 1"),
        ([*SPACE[:2], "search.trials=3", "metrics=none"], "metrics=none does not measure fid"),
        ([*SPACE[:2], "search.trials=3", "search.objectives=[]"], "search.objectives is empty"),
        ([*SPACE[:2], "search.trials=3", "search.objectives=[fib]"], "fib is unknown"),
        ([*SPACE[:2], "search.trials=3", "stage=speed"], "stage=speed: a search goes by images and counts"),
        ([*SPACE[:2], "search.trials=3", "rerun=failed"], "rerun=failed: chooses among cells that are known"),
        (
            ["decoder=vvs_coupled", "decoder.schedule.chance=interval(0.1,2)", "search.trials=3"],
            "decoder.schedule.chance=2.0 must lie in [0, 1]",
        ),
        (["decoder=vvs_coupled", "decoder.skip.in_a_row=interval(1,3)", "search.trials=3"], "must be a whole number"),
    ],
)
def test_a_wrong_search_is_refused_before_anything_is_written(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["run", *arguments]) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert not list(tmp_path.iterdir())


def test_without_optuna_it_says_what_to_install(vvsbench, weights, tmp_path):
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden" / "optuna.py").write_text("raise ImportError('no optuna here')\n")
    path = environment().get("PYTHONPATH", "")
    code, out, err = vvsbench(
        *searching(weights, *SPACE), env=environment(PYTHONPATH=f"{tmp_path / 'hidden'}:{path}".rstrip(":"))
    )
    assert (code, out) == (2, "")
    assert err == (
        "vvsbench: a search needs optuna, an optional extra (no optuna here): pip install 'vvsbench[search]'.\n"
    )
    assert not (tmp_path / "outputs").exists()


def test_the_study_that_is_shipped_runs_small(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["run", "study=schedule_search", "size=smoke", "search.trials=2", "metrics.values=[fid]"]) == 0
    out = capsys.readouterr().out
    assert "FID ↓" in out
    assert len(Store("outputs").cells("schedule_search_smoke")) == 4
    assert cli.main(["status", "study=schedule_search_smoke"]) == 0
    assert "4 cells: 4 done" in capsys.readouterr().out
    confirm = yaml.safe_load(
        Path("outputs/search/schedule_search_smoke/study/schedule_search_smoke_confirm.yaml").read_text(
            encoding="utf-8"
        )
    )
    assert confirm["metrics"] == {"values": ["fid"]}
    assert confirm["study"]["cells"][:2] == [["decoder=ar"], ["decoder=sd", "structure@decoder.structure=coupled"]]
