"""Commands that messages and pages recommend. Each can be typed as it stands, and does what is said of it.

A study of a name is not always a file: it may be another size of one (`size=smoke`), or only a name that cells were
given (`study.name=mine`), and then `study=mine` is no option of a run.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from vvsbench import catalog
from vvsbench.config import RunConfig, StudyConfig
from vvsbench.runs.record import CellRecord
from vvsbench.sizes import declared, size_of

WITHOUT_MEANING = ("rerun=", "shards=")
"""Settings that say which work is done and by how many, and nothing of a cell: to repeat a command leave them out."""


def command(verb: str, *words: str, root: str | Path = RunConfig.output_root) -> str:
    """A command line.

    Args:
        verb: of the program.
        words: its arguments, unquoted.
        root: the output root, named where it is not the usual one.
    """
    where = [] if str(root) == RunConfig.output_root else [f"output_root={root}"]
    return shlex.join(["vvsbench", *verb.split(" "), *words, *where])


def run(study: str, *words: str, root: str | Path = RunConfig.output_root) -> str:
    """What runs the cells of a study, or more of them.

    Args:
        study: its name, of a file, of another size of one, or only a name.
        words: further settings.
        root: the output root.
    """
    named = [f"study={study}"]
    if study == StudyConfig.name:
        named = []
    elif study not in catalog.names("study"):
        sized = size_of(study)
        named = [f"study={sized[0]}", f"size={sized[1]}"] if sized else [f"study.name={study}"]
    return command("run", *named, *words, root=root)


def again(typed: str, *instead: str) -> str:
    """A command that was typed, with some of its settings in place of others of the same group.

    Args:
        typed: as a record has it.
        instead: settings, as decoder=ar, which takes the place of decoder=vvs and of all that is set below it.

    Returns:
        The command as it was typed where it cannot be read.
    """
    keys = [word.split("=")[0] for word in instead]
    try:
        words = shlex.split(typed)
    except ValueError:
        return typed
    kept = [word for word in words if not _below(word, keys) and not word.startswith(WITHOUT_MEANING)]
    return shlex.join([*kept, *instead])


def own(command: str) -> bool:
    """Whether a recorded command is one of this program, and nothing besides: a record may come from anybody."""
    try:
        words = shlex.split(command)
    except ValueError:
        return False
    return words[:1] == ["vvsbench"] and shlex.join(words) == command


def drawing_baseline(record: CellRecord, study: str, baseline: str) -> str:
    """What draws the baseline of a cell, with everything else as in the cell.

    Args:
        record: of the cell.
        study: that it belongs to.
        baseline: decoder that the study declares as such.
    """
    if declared(study) or baseline not in catalog.names("decoder") or not own(record.provenance.command):
        return run(study, root=str(record.config.get("output_root", RunConfig.output_root)))
    return again(record.provenance.command, f"decoder={baseline}")


def _below(word: str, keys: Sequence[str]) -> bool:
    """Whether a setting is one of some groups or lies below them, as decoder.schedule.interval and a@decoder.b do."""
    parts = word.lstrip("+~").split("=")[0].split("@") if "=" in word else []
    return any(part == group or part.startswith(f"{group}.") for part in parts for group in keys)
