"""`vvsbench report`: from the records of a study to pages and figures, and to Weights & Biases when asked."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from vvsbench import commands
from vvsbench.errors import ConfigError

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
        elif key not in defaults:
            near = difflib.get_close_matches(key, defaults, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            problems.append(f"{key}: there is no such setting; choose from {', '.join(defaults)}.{hint}")
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
    from vvsbench.runs.store import Store

    studies = Store(root).studies()
    if study not in studies:
        known = f"studies there: {', '.join(studies)}" if studies else "there are none yet"
        raise ConfigError(
            [f"study={study} has no cells below {root} ({known}); run it first: {commands.run(study, root=root)}"]
        )
