"""`vvsbench report`: from the records of a study to pages and figures, and to Weights & Biases when asked."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from vvsbench.errors import ConfigError

DEFAULTS = {"study": "single", "output_root": "outputs", "logger": "none", "logger.mode": "online"}
CHOICES = {"logger": ("none", "wandb"), "logger.mode": ("online", "offline", "disabled")}
USAGE = """\
usage: vvsbench report study=NAME [output_root=outputs] [logger=wandb] [logger.mode=offline]

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
    study, root = settings["study"], Path(settings["output_root"])
    exists(study, root)
    from vvsbench.analysis import report

    paths = report.write(study, root)
    console = Console(highlight=False, soft_wrap=True)
    report.print_front(study, root, console)
    console.print(f"report: {paths.html}")
    if settings["logger"] == "wandb":
        from vvsbench.tracking.wandb import log_study

        log_study(study, root, settings["logger.mode"])
    return 0


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
        elif key == "size" and "study" in defaults:
            problems.append(f"{argument}: is part of a study's name here, as in study=NAME_{value}.")
        elif key not in defaults:
            near = difflib.get_close_matches(key, defaults, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            problems.append(f"{key}: there is no such setting; choose from {', '.join(defaults)}.{hint}")
        else:
            settings[key] = value
    if problems:
        raise ConfigError(problems)
    return settings


def exists(study: str, root: Path) -> None:
    """Check that a study has cells.

    Raises:
        ConfigError: it has none; the message names those that have.
    """
    from vvsbench.runs.store import Store

    studies = Store(root).studies()
    if study not in studies:
        known = f"studies there: {', '.join(studies)}" if studies else "there are none yet"
        raise ConfigError(
            [f"study={study} has no cells below {root} ({known}); run it first: vvsbench run study={study}."]
        )
