"""`vvsbench report`: from the records of a study to pages and figures, and to Weights & Biases when asked."""

from __future__ import annotations

import difflib
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from vvsbench.config import study_problem
from vvsbench.errors import ConfigError
from vvsbench.terminal import Terminal

DEFAULTS = {"study": "", "size": "", "output_root": "outputs", "logger": "none", "logger.mode": "online"}
CHOICES = {"logger": ("none", "wandb"), "logger.mode": ("online", "offline", "disabled")}
USAGE = """\
usage: vvsbench report study=NAME [size=SIZE] [output_root=outputs] [logger=wandb] [logger.mode=offline]

Compares the cells of a study from their records alone and writes HTML, Markdown, LaTeX and figures to
OUTPUT_ROOT/reports/NAME. logger=wandb sends the study to Weights & Biases as well (docs/dashboards.md).
"""


def main(arguments: Sequence[str]) -> int:
    """Write a study's report and say where it is.

    Args:
        arguments: settings as key=value.

    Raises:
        UserError: there is no such study, or a setting is unknown.
    """
    if {"-h", "--help"} & set(arguments):
        print(USAGE)
        return 0
    settings = parse(arguments, DEFAULTS)
    for key, choices in CHOICES.items():
        if settings[key] not in choices:
            raise ConfigError([f"{key}={settings[key]}: choose from {', '.join(choices)}."])
    root = Path(settings["output_root"])
    study = named(settings, root)
    exists(study, root)
    from vvsbench.analysis import report

    paths = report.write(study, root)
    console = Terminal(soft_wrap=True)
    report.print_front(study, root, console)
    console.print(f"report: {paths.html}")
    if settings["logger"] == "wandb":
        from vvsbench.tracking.wandb import log_study

        log_study(study, root, settings["logger.mode"])
    return 0


def place(word: str, settings: Collection[str]) -> bool:
    """Whether an argument is no setting but something's name or path, which may have an `=` in it.

    Args:
        word: the argument.
        settings: keys that the verb knows.
    """
    key, equals, _ = word.partition("=")
    return not equals or (key not in settings and (os.sep in key or Path(word).exists()))


def parse(arguments: Sequence[str], defaults: dict[str, str]) -> dict[str, str]:
    """Read key=value arguments.

    Raises:
        ConfigError: one is not of that form, or its key is unknown.
    """
    settings, problems = dict(defaults), []
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not equals:
            problems.append(f"{argument}: write KEY=VALUE, with a key of {', '.join(defaults)}.")
        elif key not in defaults:
            near = difflib.get_close_matches(key, defaults, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            problems.append(f"{key}: there is no such setting; choose from {', '.join(defaults)}.{hint}")
        elif key == "study" and (problem := study_problem(value)):
            problems.append(problem)
        else:
            settings[key] = value
    if problems:
        raise ConfigError(problems)
    return settings


def named(settings: Mapping[str, str], root: Path) -> str:
    """The study that a verb is asked for: study=NAME, or study=NAME size=SIZE, or the only one that has outputs.

    Args:
        settings: with study, size, and maybe an output root.
        root: the output root.

    Raises:
        ConfigError: none is named and there are several, or none; the message names them.
    """
    from vvsbench.runs.store import Store
    from vvsbench.sizes import of_size

    study, size = settings["study"], settings.get("size", "")
    if not study and size:
        raise ConfigError([f"size={size}: is a size of one study; write study=NAME size={size}."])
    if not study:
        studies = Store(root).studies()
        if len(studies) != 1:
            there = ", ".join(studies)
            known = f"those with cells below {root}: {there}" if studies else f"none has cells below {root}"
            raise ConfigError([f"study has no value; write study=NAME ({known})."])
        return studies[0]
    return of_size(study, size) if size else study


def exists(study: str, root: Path) -> None:
    """Check that a study has cells.

    Raises:
        ConfigError: it has none; the message names those that have.
    """
    from vvsbench import catalog, commands, sizes
    from vvsbench.config import StudyConfig
    from vvsbench.runs.store import Store

    studies = Store(root).studies()
    if study not in studies:
        known = f"studies there: {', '.join(studies)}" if studies else "there are none yet"
        near = difflib.get_close_matches(study, [*studies, *catalog.names("study")], n=1)
        meant = f" Did you mean {near[0]}?" if near else ""
        first = f", and no file of experiments/study has that name.{meant}"
        if study == StudyConfig.name or sizes.declared(study) is not None:
            first = f"; run it first: {commands.run(study, root=root)}"
        raise ConfigError([f"study={study} has no cells below {root} ({known}){first}"])
