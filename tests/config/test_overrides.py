"""What was typed: home folders, letters that Hydra has no grammar for, and settings that are nobody's."""

from __future__ import annotations

from pathlib import Path

import pytest

from vvsbench import cli, sizes
from vvsbench.config import study_problem
from vvsbench.errors import ConfigError
from vvsbench.overrides import expanded, problems, quoted
from vvsbench.reporting import DEFAULTS, parse, place


def test_a_home_folder_is_expanded_wherever_a_value_begins(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert expanded("model.checkpoint=~/w.pt") == "model.checkpoint=/home/me/w.pt"
    assert expanded("a=[~/x,~/y]") == "a=[/home/me/x,/home/me/y]"
    for word in ("~decoder.ablation", "a=x~y", "a=~nobody-of-that-name/x", "study=demo"):
        assert expanded(word) == word


def test_plain_values_may_have_any_letter():
    assert quoted("study.name=größe") == "study.name='größe'"
    assert quoted("a=x~y,z") == "a='x~y',z"
    for word in ("a='größe'", "a=[ä]", "a=${b}", "a=/x/y=z.pt", "-m", "a=1,2"):
        assert quoted(word) in (word, "a='/x/y=z.pt'")


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("=3", "has no key"),
        ("hydra.run.dir=x", "set output_root"),
        ("++hydra.sweep.dir=x", "set output_root"),
        ("hydra.sweep.subdir=x", "set output_root"),
        ("model=null", "names no option"),
        ("model=tiny,null", "names no option"),
        ("metrics=null", "write metrics=none"),
        ("drafter@decoder.drafter=null", "names no option"),
        ("study=", "names no option"),
        ("hydra/launcher=null", "names no option"),
    ],
)
def test_words_that_hydra_would_obey_or_fail_at_are_refused(word, message):
    (problem,) = problems([word])
    assert problem.startswith(word)
    assert message in problem


def test_usual_words_are_no_problem():
    usual = ["-m", "study", "study=demo", "model.class_names=null", "~study", "hydra.launcher.n_jobs=2", "decoder=ar"]
    assert list(problems(usual)) == []


NAMES = ("../x", "/tmp/x", "", "a/b", ".", "..", ".hidden", "a b", "a\nb", "x" * 101, "-m", "a\x1b[31m")


@pytest.mark.parametrize("name", NAMES)
def test_a_study_is_a_folder_below_the_output_root(name, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert study_problem(name)
    for verb, *others in (["status"], ["report"], ["export", "to=x"], ["import", "pictures", "label=x"]):
        assert cli.main([verb, f"study={name}", *others]) == 2
        assert "the name of a folder" in capsys.readouterr().err
    assert cli.main(["diff", f"{name}/", "demo"]) == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["demo", "vvs_table_stage1_smoke", "größe", "a.b-c+d", "1"])
def test_usual_names_are_studies(name):
    assert study_problem(name) == ""


def test_a_path_with_an_equals_sign_is_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("lr=3").mkdir()
    assert all(place(word, DEFAULTS) for word in ("lr=3", "runs/lr=3", "/a=b", "demo"))
    assert not any(place(word, DEFAULTS) for word in ("study=demo", "stduy=demo", "logger=a/b"))
    with pytest.raises(ConfigError, match="Did you mean study"):
        parse(["stduy=demo"], DEFAULTS)


FILES = {
    "empty": ("", "says no study.name"),
    "list": ("- a\n", "says no study.name"),
    "nameless": ("study:\n  cells: [[decoder=ar]]\n", "says no study.name"),
    "comma": ("study:\n  name: comma\n  cells:\n    - [decoder=vvs decoder.schedule.interval=3]\n", "comma between"),
    "flat": ("study:\n  name: flat\n  cells:\n    - decoder=ar seed=1\n", "write a list for each cell"),
    "word": ("study:\n  name: word\n  cells: [[ar]]\n", "ar is no setting"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_no_study_is_refused(name, tmp_path, monkeypatch):
    text, message = FILES[name]
    monkeypatch.chdir(tmp_path)
    Path("experiments/study").mkdir(parents=True)
    Path(f"experiments/study/{name}.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        sizes.check_files([f"study={name}"])


def test_every_study_of_the_package_is_one():
    from vvsbench import catalog

    sizes.check_files([f"study={','.join(catalog.names('study'))}"])
