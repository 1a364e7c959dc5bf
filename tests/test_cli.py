"""The command's verbs: fast to answer, plain about what exists and what is wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

from vvsbench import cli


def run(*arguments, **options):
    command = [sys.executable, "-m", "vvsbench.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, **options)


@pytest.mark.parametrize("arguments", ["['--help']", "[]", "['--version']"])
def test_help_imports_nothing_that_takes_time(arguments):
    code = (
        f"import sys; from vvsbench.cli import main; main({arguments}); "
        "heavy = {'torch', 'hydra', 'omegaconf', 'numpy', 'pandas', 'rich', 'pydantic'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.parametrize(
    "module", ["vvsbench.config", "vvsbench.runs.app", "vvsbench.runs.store", "vvsbench.runs.cell", "vvsbench.catalog"]
)
def test_settings_and_records_import_no_torch(module):
    code = f"import sys, {module}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_help_names_every_verb(capsys):
    assert cli.main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"\n  {verb} " in text for verb in cli.VERBS)


def test_an_unknown_verb_is_answered_with_the_verbs(capsys):
    assert cli.main(["rnu"]) == 2
    message = f"vvsbench: there is no verb rnu; choose from {', '.join(cli.VERBS)}. Did you mean run?\n"
    assert capsys.readouterr().err == message


def test_list_shows_what_there_is_and_where_it_comes_from(capsys):
    assert cli.main(["list"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in ("decoders", "models", "studies", "metrics", "llamagen_3b_384", "demo", "vvs"))
    assert "from" in text


def test_list_says_what_a_decoder_promises_and_what_drafts(capsys):
    assert cli.main(["list", "decoders"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line[:1].strip()}
    said = {name: line.split("vvsbench ")[-1].split() for name, line in lines.items()}
    assert said["ar"] == ["exact", "nobody"]
    assert said["jacobi"] == ["exact", "jacobi"]
    assert said["eagle2"] == ["exact", "the", "model's", "drafter"]
    assert said["lantern"][0] == said["vvs"][0] == "none"


def test_list_of_something_else_is_a_message(capsys):
    assert cli.main(["list", "decoder"]) == 2
    message = capsys.readouterr().err
    assert (
        "choose from decoders, drafters, structures, rules, schedules, models, studies, metrics. Did you mean decoders?"
        in message
    )


def test_doctor_describes_the_machine(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("VVSBENCH_WEIGHTS", str(tmp_path))
    assert cli.main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert all(word in text for word in ("torch", "memory", "disk", "llamagen_t2i_xl_256", "metric suites"))
    assert find_spec("open_clip") or "vvsbench[hps]" in text, "brackets are no markup"


def test_doctor_says_which_files_a_model_needs_and_where_to_put_them(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("VVSBENCH_WEIGHTS", str(tmp_path))
    assert cli.main(["doctor", "model=llamagen_t2i_xl_512"]) == 1
    text = capsys.readouterr().out
    for name in (
        "llamagen/t2i_XL_stage2_512.pt",
        "llamagen/vq_ds16_t2i.pt",
        "jadohu/llamagen2_drafter",
        "google/flan-t5-xl",
    ):
        assert f"{tmp_path}/{name}" in text
    assert text.count("MISSING") == 4
    (tmp_path / "llamagen").mkdir()
    for name in ("t2i_XL_stage2_512.pt", "vq_ds16_t2i.pt"):
        (tmp_path / "llamagen" / name).touch()
    (tmp_path / "google" / "flan-t5-xl").mkdir(parents=True)
    assert cli.main(["doctor", "model=llamagen_t2i_xl_512"]) == 0
    text = capsys.readouterr().out
    assert text.count("MISSING") == 1
    assert "decoder=ar and decoder=jacobi can run" in text


def test_a_report_of_nothing_says_what_to_run(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["report", "study=demo"]) == 2
    assert "run it first: vvsbench run study=demo" in capsys.readouterr().err
    assert cli.main(["report", "stduy=demo"]) == 2
    assert "Did you mean study?" in capsys.readouterr().err


def test_hydra_answers_behind_the_verb(tmp_path):
    shown = run("run", "--cfg", "job", "decoder=vvs", cwd=tmp_path)
    assert shown.returncode == 0
    assert "interval: 2" in shown.stdout
    helped = run("run", "--help", cwd=tmp_path)
    assert helped.returncode == 0
    assert "decoder: ar, cool_sd, csd, eagle2" in helped.stdout
    assert "schema" not in helped.stdout
    assert list(tmp_path.iterdir()) == []


def test_tab_completion_reaches_the_settings_of_a_verb(tmp_path):
    installed = run("run", "-sc", "install=bash", cwd=tmp_path)
    assert "complete -o nospace" in installed.stdout
    verbs = run("-sc", "query=bash", env=completing("vvsbench r"), cwd=tmp_path)
    assert verbs.stdout.split() == list(cli.VERBS)
    decoders = run("-sc", "query=bash", env=completing("vvsbench run decoder="), cwd=tmp_path)
    assert {"decoder=ar", "decoder=sd", "decoder=vvs"} < set(decoders.stdout.split())


def completing(line):
    return os.environ | {"COMP_LINE": line}
