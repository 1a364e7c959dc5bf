"""Every command that a message, a help text or a page recommends is one that can be typed.

Commands are found in the source of what prints them, in the settings and in what a report writes, and read by the
parsers that would read them if they were typed: verbs and keys exist, settings of a run compose.
"""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import synthetic
from vvsbench import cli, commands, diffing, exporting, importing, reporting, status
from vvsbench.analysis import report
from vvsbench.composition import composed
from vvsbench.errors import ConfigError
from vvsbench.runs import store
from vvsbench.sizes import sized

ROOT = Path(__file__).parent.parent
COMMAND = re.compile(rf"vvsbench (?:{'|'.join(cli.VERBS)})\b(?:[^\n;,()&|`<]|,(?=\S))*")
"""A command in a sentence: what follows the program up to a mark that ends it."""
HOLE = "HOLE"
"""Stands for whatever a message puts in at run time."""
NAMES = ("NAME", "STUDY", "FOLDER", "LABEL", "PART", "PATH", "KEY", HOLE, "...")
TEXT_KEYS = {
    "status": status.DEFAULTS,
    "report": reporting.DEFAULTS,
    "export": exporting.DEFAULTS,
    "import": importing.DEFAULTS,
    "diff": diffing.DEFAULTS,
    "wandb": {"output_root": ""},
}


def texts(file: Path) -> Iterator[str]:
    """The strings of a module that may be shown, docstrings left out."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    told = {id(node.body[0].value) for node in ast.walk(tree) if isinstance(node, documented) and _documented(node)}
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else HOLE for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in told | inside:
            yield node.value


def _documented(node: ast.AST) -> bool:
    body = getattr(node, "body", [])
    return bool(body) and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant)


def found(text: str) -> Iterator[str]:
    for match in COMMAND.finditer(text):
        yield re.split(r"\.(?:\s|$)|: | #|  ", match.group())[0].strip()


def recommended() -> dict[str, str]:
    """Commands, each with a place that recommends it."""
    known = {}
    for file in sorted((ROOT / "vvsbench").rglob("*.py")):
        for text in texts(file):
            known |= dict.fromkeys(found(text), str(file.relative_to(ROOT)))
    settings = [*(ROOT / "conf").rglob("*.yaml"), *(ROOT / "experiments").rglob("*.yaml")]
    for file in sorted([*settings, ROOT / "experiments" / "README.md"]):
        known |= dict.fromkeys(found(file.read_text(encoding="utf-8")), str(file.relative_to(ROOT)))
    return known


def words_of(command: str) -> list[str]:
    """A command as a shell splits it, with what only a sentence has (brackets, quotes of prose) left out."""
    words = shlex.split(command.replace("[", " ").replace("]", " ").replace("'", " "))[1:]
    kept = []
    for word in words:
        if word not in kept[:1] and not re.match(r"-|[\w.@/+~]+=|\w+$", word) and not word.startswith(NAMES):
            break
        kept.append(word)
    return kept


def check(command: str) -> None:
    verb, *rest = words_of(command)
    keys = [word.split("=")[0] for word in rest if "=" in word]
    if verb in TEXT_KEYS:
        unknown = [key for key in keys if key not in TEXT_KEYS[verb] and not key.startswith("metrics")]
        assert not unknown, f"{verb} has no {unknown}"
    elif verb == "run" and "-sc" not in rest:
        overrides = [word for word in rest if "=" in word and not any(name in word for name in NAMES)]
        overrides = [word for word in overrides if not word.startswith(("hydra", "size="))] + [
            word for word in overrides if word.startswith("size=") and any(w.startswith("study=") for w in overrides)
        ]
        composed([re.sub(r"=([^,]*),.*", r"=\1", word) for word in sized(overrides)])


@pytest.mark.parametrize("command", recommended())
def test_a_recommended_command_can_be_typed(command: str) -> None:
    check(command)


def test_commands_are_found_and_wrong_ones_are_caught() -> None:
    assert len(recommended()) > 40
    for wrong in ("vvsbench report studdy=demo", "vvsbench run study=no_such_study", "vvsbench run counts=3"):
        with pytest.raises((AssertionError, ConfigError)):
            check(wrong)


@pytest.mark.parametrize(
    ("study", "words"),
    [
        ("demo", ["run", "study=demo"]),
        ("single", ["run"]),
        ("vvs_table_stage1_smoke", ["run", "study=vvs_table_stage1", "size=smoke"]),
        ("my_own", ["run", "study.name=my_own"]),
    ],
)
def test_what_runs_a_study_is_named_as_a_run_takes_it(study: str, words: list[str]) -> None:
    """study=NAME is an option only where there is a file of that name."""
    assert shlex.split(commands.run(study)) == ["vvsbench", *words]
    assert composed(sized(words[1:])).study.name == study


def test_a_command_to_repeat_says_nothing_of_which_work_was_done() -> None:
    typed = "vvsbench run -m decoder=vvs schedule@decoder.schedule=uniform decoder.schedule.interval=3 count=8"
    assert commands.again(f"{typed} rerun=done") == typed
    assert commands.again(typed, "decoder=ar") == "vvsbench run -m count=8 decoder=ar"
    assert commands.again("vvsbench run 'unclosed", "decoder=ar") == "vvsbench run 'unclosed"


def test_another_output_root_is_named() -> None:
    assert commands.command("report", "study=demo", root="outputs") == "vvsbench report study=demo"
    assert commands.command("report", "study=demo", root="a b") == "vvsbench report study=demo 'output_root=a b'"


def test_a_report_recommends_commands_that_exist(tmp_path: Path, no_figures: None) -> None:
    """Of a study without a file, without its baseline, and with one seed: every command of the page can be typed."""
    folders = synthetic.write(tmp_path, 8, "my_own", synthetic.recipes()[3:5])
    for folder in folders:
        record = store.read_record(folder)
        assert record is not None
        config = record.config | {"study": record.config["study"] | {"cells": []}, "output_root": "outputs"}
        typed = "vvsbench run -m decoder=vvs decoder.schedule.interval=2,3 count=8 study.name=my_own rerun=failed"
        origin = record.provenance.model_copy(update={"command": typed})
        store.write_record(folder, record.model_copy(update={"config": config, "provenance": origin}))
    text = report.write("my_own", tmp_path).markdown.read_text(encoding="utf-8")
    said = [line.strip() for part in text.splitlines() for line in found(part)]
    assert "vvsbench run -m count=8 study.name=my_own decoder=ar" in said
    assert "vvsbench run -m decoder=vvs decoder.schedule.interval=2,3 count=8 study.name=my_own" in said
    assert "vvsbench report study=my_own" in said
    for command in said:
        check(command)
