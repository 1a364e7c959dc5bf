"""`vvsbench status`: what it shows of a study, and that it needs neither torch nor records to do so."""

from __future__ import annotations

import subprocess
import sys

import pytest

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
    assert out.splitlines()[-1] == "8 cells: 8 missing"
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
    assert "failed" in lines["eagle2"]
    said = [line.rstrip() for line in out.splitlines()]
    assert " sd: stale: the code that draws tokens has changed" in said
    assert " eagle2: failed: stopped by the user" in said
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


def test_eighty_columns_are_enough_for_reasons_and_labels(capsys, monkeypatch, tmp_path):
    """Reasons of several lines are whole words, and a reason that cells share stands once."""
    monkeypatch.setenv("COLUMNS", "80")
    folders = synthetic.write(tmp_path, 16, cells=synthetic.recipes())
    why = "the process was killed by signal 9 while it drew image 1043: the memory of this machine is full " * 3
    for folder in folders[3:]:
        record = store.read_record(folder)
        long = f"{record.label} structure=dynamic candidates=top_k nodes=60 depth=7"
        changed = {"status": "failed", "error": why.strip(), "label": long}
        store.write_record(folder, record.model_copy(update=changed))
    code, out, _ = shown(capsys, "study=demo", f"output_root={tmp_path}")
    assert code == 0
    lines = out.splitlines()
    assert max(map(len, lines)) <= 80
    words = [word for line in lines for word in line.split()]
    assert words.count("1043:") == 3  # once, and not per cell
    for word in ("structure=dynamic", "candidates=top_k", "decoder.schedule.chance=0.15"):
        assert word in words


def test_without_a_study_those_with_outputs_are_shown(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = shown(capsys, f"output_root={tmp_path}")
    assert code == 0
    assert "vvsbench run study=demo" in out
    synthetic.write(tmp_path, 16, "one", synthetic.recipes()[:2])
    made = synthetic.recipes()[:3]
    made[1].status = "failed"
    synthetic.write(tmp_path, 16, "another", made)
    code, out, _ = shown(capsys, f"output_root={tmp_path}")
    assert code == 0
    lines = {line.split()[0]: line for line in out.splitlines() if line.startswith(" ") and line.strip()}
    assert "2 done" in lines["one"]
    assert "2 done, 1 failed" in lines["another"]
    assert " kB" in lines["one"]


def test_a_size_of_a_study_is_asked_for_as_in_a_run(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("COLUMNS", "200")
    code, out, _ = shown(capsys, "study=vvs_table_stage1", "size=smoke", f"output_root={tmp_path}")
    assert code == 0
    assert "study vvs_table_stage1_smoke" in out
    assert out.splitlines()[-1].endswith(" missing")
    assert shown(capsys, "study=vvs_table_stage1_smoke", f"output_root={tmp_path}")[1] == out
    code, _, err = shown(capsys, "study=vvs_table_stage1", "size=huge", f"output_root={tmp_path}")
    assert (code, "Choose from: full, smoke" in err) == (2, True)
    code, _, err = shown(capsys, "size=smoke", f"output_root={tmp_path}")
    assert (code, "write study=NAME size=smoke" in err) == (2, True)


@pytest.mark.parametrize("verb", ["report", "export"])
def test_other_verbs_name_the_studies_that_there_are(capsys, tmp_path, verb):
    words = [verb, f"output_root={tmp_path}", *(["to=there"] if verb == "export" else [])]
    assert cli.main(words) == 2
    assert "none has cells below" in capsys.readouterr().err
    for study in ("one", "two"):
        synthetic.write(tmp_path, 4, study, synthetic.recipes()[:1])
    assert cli.main(words) == 2
    assert f"write study=NAME (those with cells below {tmp_path}: one, two)" in capsys.readouterr().err


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
