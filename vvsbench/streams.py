"""Standard output and error as they are found: letters that they lack, a width of nothing, a reader who leaves."""

from __future__ import annotations

import os
import sys
from typing import Any

NARROWEST = 20
"""Columns below which a width is taken for a mistake."""


def prepare() -> None:
    """Make this process's streams, and what libraries take for their width, safe to print to."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure") and (stream.encoding or "").lower().replace("-", "") != "utf8":
            stream.reconfigure(errors="replace")  # what the encoding lacks becomes a question mark
    for name, least in (("COLUMNS", NARROWEST), ("LINES", 1)):
        given = os.environ.get(name, "")
        if given and not (given.isdecimal() and int(given) >= least):
            del os.environ[name]


def silence(stream: Any) -> None:
    """Send what is still to come of a stream whose reader has left, as `head` does, to nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
