"""Standard output as it is found: no markup, letters that it lacks, a width of nothing, a reader who leaves."""

from __future__ import annotations

import io
import os
import sys

import pytest

from vvsbench import cli, streams
from vvsbench.terminal import Terminal


def test_texts_are_never_markup():
    out = io.StringIO()
    Terminal(file=out, soft_wrap=True).print("[red]a[/] :smile: [link=x]b")
    assert out.getvalue() == "[red]a[/] :smile: [link=x]b\n"


@pytest.mark.parametrize("columns", ["0", "-1", "3", "wide"])
def test_a_width_of_nothing_is_ignored(columns, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", columns)
    assert cli.main(["list", "rules"]) == 0
    assert "lantern" in capsys.readouterr().out
    assert "COLUMNS" not in os.environ
    monkeypatch.setenv("COLUMNS", "80")
    streams.prepare()
    assert os.environ["COLUMNS"] == "80"


def test_letters_that_the_output_lacks_are_question_marks(monkeypatch):
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", out)
    streams.prepare()
    out.write("FID ↓ ●")
    out.flush()
    assert out.buffer.getvalue() == b"FID ? ?"


def test_a_reader_who_leaves_is_no_error(monkeypatch):
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w", encoding="utf-8") as out:
        monkeypatch.setattr(sys, "stdout", out)
        assert cli.main(["list", "rules"]) == 0
