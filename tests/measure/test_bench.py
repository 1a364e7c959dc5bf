"""The benches run to their ends, keep what they found whatever happens, and say which targets were met."""

from __future__ import annotations

import contextlib
import json

import pytest
from rich.console import Console

from tests.measure import works
from vvsbench import config
from vvsbench.measure.bench import __main__ as bench
from vvsbench.measure.bench import cpu, gpu, report, sections
from vvsbench.measure.bench.report import Report, Section, Verdict
from vvsbench.measure.bench.sections import Plan
from vvsbench.measure.bench.targets import TARGETS

NANO = ("model=llamagen_b_384", *gpu._NANO)


def test_what_a_section_found_outlives_it():
    """A failure, an exhausted memory, a crash and a stop each cost what was missing, and the next section nothing."""
    every = [works.fails, works.exhausts, works.dies, works.sleeps]
    plans = [Plan(work.__name__, "", work, 1) for work in every]
    plans += [Plan("last", "", works.finds, 3, own=(2,))]
    seen: list[Section] = []
    sections.run(plans, None, 20, seen.append, isolated=True)
    assert [one.status for one in seen] == ["failed", "out_of_memory", "failed", "out_of_time", "ok"]
    assert [len(one.rows) for one in seen] == [1, 1, 1, 1, 2]
    assert "nothing works" in seen[0].note
    assert "7" in seen[2].note


def test_a_section_without_time_is_left_out_and_said():
    seen: list[Section] = []
    plans = [Plan("long", "", works.lingers, 1), Plan("late", "", works.finds, 1e-9, own=(1,))]
    sections.run(plans, None, 0.01, seen.append, isolated=False)
    assert [one.status for one in seen] == ["ok", "left_out"]
    assert "no time" in seen[1].note


def test_the_gpu_bench_on_a_nano_model(tmp_path):
    """Every section of it, in this process."""
    settings = gpu.settings("nano", "cpu")
    found = Report("gpu", {})
    sections.run(gpu.plans(settings), settings, 300, found.sections.append, isolated=False)
    assert {one.name: one.status for one in found.sections} == {one.name: "ok" for one in gpu.plans(settings)}
    met = {verdict.target for one in found.sections for verdict in one.verdicts}
    assert met == {name for name, target in TARGETS.items() if name.split("_")[-1] != "cpu"} - {
        "host_share",
        "time_per_image",
        "memory",
    }
    found.write(tmp_path / "bench.json")
    document = json.loads((tmp_path / "bench.json").read_text())
    assert document["version"] == report.VERSION
    assert len(document["sections"]) == len(found.sections)
    assert {"target", "where", "value", "low", "high", "asked", "met"} == set(document["targets"][0])


def test_the_cpu_bench_on_a_nano_model():
    """Without the sections that compile, which take a minute, and the zoo's table, which loads four decoders."""
    settings = cpu.Settings(
        rounds=1, warm_up=0, parts=1, large=(("nano", NANO),), steps=4, batches=(1,), counts=(1, 2), few=1
    )
    plans = [plan for plan in cpu.plans(settings) if plan.name != "zoo" and "compiled" not in plan.name]
    seen: list[Section] = []
    sections.run(plans, settings, 300, seen.append, isolated=False)
    assert {one.name: one.status for one in seen} == {one.name: "ok" for one in plans}
    named = {verdict.target for one in seen for verdict in one.verdicts}
    assert named == {"ar_over_reference_cpu", "host_share", "time_per_image", "memory"}


def test_one_command_prints_and_writes(tmp_path, capsys, monkeypatch):
    here = sections.run
    monkeypatch.setattr(sections, "run", lambda *given, isolated: here(*given, isolated=False))
    monkeypatch.setattr(bench, "alone", lambda say: contextlib.nullcontext())
    monkeypatch.setattr(config, "folder", lambda name, folder=config.folder: _folder(name, folder, tmp_path))
    command = ["gpu", "--sizes", "nano", "--device", "cpu", "--minutes", "1", "--only", "widths", "--keep"]
    assert bench.main(command) == 0
    (kept,) = (tmp_path / "measured").glob("*.json")
    assert json.loads(kept.read_text())["bench"] == "gpu"
    assert "cost of a forward" in capsys.readouterr().out


def _folder(name, folder, ours):
    return ours if name == "experiments" else folder(name)


def test_a_mistake_is_one_message(capsys):
    assert bench.main(["cpu", "--only", "nonsense"]) == 2
    assert "the sections are" in capsys.readouterr().out


@pytest.mark.skipif(gpu.torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_the_gpu_bench_says_so(capsys):
    assert bench.main(["gpu"]) == 2
    assert "no GPU answers" in capsys.readouterr().out


@pytest.mark.parametrize(("target", "value", "met"), [("kept", 0.8, True), ("skipped_step", 0.21, False)])
def test_a_target_is_met_on_its_side(target, value, met, capsys):
    section = Section("one", "one", verdicts=[Verdict(target, "here", value, value, value)])
    report.show_verdicts([section], Console(width=200))
    assert ("met" if met else "missed") in capsys.readouterr().out
    assert section.verdicts[0].met is met
