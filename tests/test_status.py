"""`vvsbench status`: what it shows of a study, and that it needs neither torch nor records to do so."""

from __future__ import annotations

import subprocess
import sys

from tests import synthetic
from vvsbench import cli
from vvsbench.analysis.settings import unmet
from vvsbench.runs import store
from vvsbench.runs.store import Store


def shown(capsys, *arguments):
    code = cli.main(["status", *arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_a_study_without_records_is_missing_cell_by_cell(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("COLUMNS", "200")
    code, out, _ = shown(capsys, "study=demo", f"output_root={tmp_path}")
    assert code == 0
    assert out.splitlines()[-1] == "7 cells: 7 missing"
    assert "decoder=vvs_coupled decoder.schedule.chance=0.15" in out


def test_states_are_counted_and_reasons_are_given(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("COLUMNS", "200")
    made = synthetic.recipes()[:3]
    made[1].stale, made[2].status = True, "failed"
    synthetic.write(tmp_path, cells=made)
    code, out, _ = shown(capsys, "study=demo", f"output_root={tmp_path}")
    assert code == 0
    lines = {line.split()[0]: line for line in out.splitlines() if line.startswith((" ar", " sd", " eagle2"))}
    assert "done" in lines["ar"]
    assert "tiny" in lines["ar"]
    assert "the code that draws tokens has changed" in lines["sd"]
    assert "failed" in lines["eagle2"]
    assert out.splitlines()[-1].split(": ")[1].startswith("1 done, 1 failed, 1 stale")


def test_a_study_that_is_nowhere_is_a_message(capsys, tmp_path):
    code, _, err = shown(capsys, "study=dmo", f"output_root={tmp_path}")
    assert code == 2
    assert "Did you mean demo?" in err


def test_a_damaged_record_does_not_hide_the_others(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("COLUMNS", "200")
    synthetic.write(tmp_path, cells=synthetic.recipes()[:2])
    folder = Store(tmp_path).folders("demo")[0]
    (folder / store.RECORD).write_text("{")
    code, out, _ = shown(capsys, "study=demo", f"output_root={tmp_path}")
    assert code == 0
    assert "record.json is damaged" in out
    assert "1 done, 1 failed" in out


def test_what_each_setting_of_the_command_line_lacks_is_missing():
    declared = [["decoder=ar"], ["decoder=sd"]]
    base = {"decoder": {"name": "ar"}, "count": 8, "rerun": "all"}
    configs = [base | {"seed": 0}, base | {"seed": 0, "decoder": {"name": "sd"}}, base | {"seed": 1}]
    assert unmet(declared, configs) == [["seed=1", "decoder=sd"]]
    assert unmet(declared, configs[:1]) == [["decoder=sd"]]
    assert unmet(declared, []) == declared


def test_status_imports_no_torch():
    code = "import sys, vvsbench.status; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
