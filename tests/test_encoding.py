"""Text is utf-8 whatever the locale says: a cell's key, its record and its log must not depend on it."""

from __future__ import annotations

import ast

import yaml

from vvsbench import config

SOURCES = sorted([*config.PACKAGE.rglob("*.py"), *(config.PACKAGE.parent / "docs").glob("*.py")])


def named(call):
    return {keyword.arg: keyword.value for keyword in call.keywords}


def unspoken(call):
    """Whether a call reads or writes text in an encoding that the machine chooses."""
    given = named(call)
    called = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if "encoding" in given:
        return False
    if called == "open":
        if isinstance(call.func, ast.Attribute) and ast.unparse(call.func.value) in ("Image", "os", "archive"):
            return False  # these know no text
        modes = [given.get("mode"), *call.args[0 if isinstance(call.func, ast.Attribute) else 1 :][:1]]
        return "b" not in "".join(ast.unparse(mode) for mode in modes if mode)
    as_text = {"text", "universal_newlines"} & set(given) and called in ("run", "Popen", "check_output")
    return called in ("read_text", "write_text", "FileHandler", "TextIOWrapper") or bool(as_text)


def test_what_counts_as_text_without_an_encoding():
    wrong = (
        "p.read_text()",
        "p.write_text(t)",
        "open(p)",
        "p.open('w')",
        "run(c, text=True)",
        "logging.FileHandler(p)",
    )
    right = ("p.read_text(encoding='utf-8')", "open(p, 'rb')", "p.open('ab+')", "run(c)", "Image.open(p)")
    assert all(unspoken(ast.parse(text, mode="eval").body) for text in wrong)
    assert not any(unspoken(ast.parse(text, mode="eval").body) for text in right)


def test_every_text_names_its_encoding():
    found = []
    for path in SOURCES:
        calls = [node for node in ast.walk(ast.parse(path.read_bytes())) if isinstance(node, ast.Call)]
        found += [f"{path}:{call.lineno}: {ast.unparse(call)}" for call in calls if unspoken(call)]
    assert len(SOURCES) > 100
    assert found == []


def test_the_log_is_utf_8():
    settings = yaml.safe_load((config.folder("conf") / "run.yaml").read_bytes())
    assert settings["hydra"]["job_logging"]["handlers"]["file"]["encoding"] == "utf-8"
