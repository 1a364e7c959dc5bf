"""`vvsbench wandb sync`: send what was logged while there was no key or no network.

wandb's own `sync` does the sending; this finds the runs of an output root, sends of every run only its latest version,
says beforehand why it cannot work, and afterwards whether it did.
"""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vvsbench.errors import ConfigError, UserError
from vvsbench.reporting import parse

DEFAULTS = {"output_root": "outputs"}
USAGE = """\
usage: vvsbench wandb sync [output_root=outputs]

Sends to Weights & Biases the runs that were logged offline below OUTPUT_ROOT/wandb (or WANDB_DIR/wandb), each once.
To log a study: vvsbench report study=NAME logger=wandb, or logger=wandb with vvsbench run.
"""
ACTIONS = ("sync",)


class NotSent(UserError):
    """Runs could not be sent; they are still there, and the same command tries again."""

    exit_code = 1


def main(arguments: Sequence[str]) -> int:
    """Send offline runs.

    Args:
        arguments: "sync", then settings as key=value.

    Raises:
        ConfigError: the request is wrong.
        NotSent: there is no wandb, no key or no network, or some runs did not get through.
    """
    if {"-h", "--help"} & set(arguments):
        print(USAGE)
        return 0
    if tuple(arguments[:1]) != ACTIONS:
        raise ConfigError(["wandb: say what to do, there is only sync: vvsbench wandb sync [output_root=outputs]."])
    from vvsbench.tracking.wandb import folder

    place = folder(Path(parse(arguments[1:], DEFAULTS)["output_root"])) / "wandb"
    versions = latest(place)
    waiting = [path for path in versions if not _sent(path)]
    if not versions:
        print(f"nothing to send: there is no offline run in {place}; vvsbench report study=NAME logger=wandb logs one.")
    elif not waiting:
        print(f"nothing to send: all {len(versions)} runs in {place} were sent before.")
    else:
        _send(waiting)
    return 0


def latest(place: Path) -> list[Path]:
    """The files of all offline runs, of each its latest version: older ones would overwrite it.

    Args:
        place: wandb's folder of runs.
    """
    paths = sorted(place.glob("offline-run-*/run-*.wandb"))  # the folders' names begin with the time
    return list({path.name: path for path in paths}.values())


def _sent(path: Path) -> bool:
    """Whether wandb has put down that a run was sent."""
    return path.with_name(f"{path.name}.synced").exists()


def _send(waiting: Sequence[Path]) -> None:
    from vvsbench.tracking.wandb import out_of_reach

    count = len(waiting)
    if reason := out_of_reach(_library()):
        raise NotSent(f"{count} runs wait below {waiting[0].parent.parent}, and Weights & Biases: {reason}.")
    command = [sys.executable, "-m", "wandb", "sync", *(str(path.parent) for path in waiting)]
    ended = subprocess.run(command, check=False)
    left = [path for path in waiting if not _sent(path)]
    if left or ended.returncode:
        raise NotSent(
            f"{len(left)} of {count} runs were not sent, see above; the same command tries again. A run that was "
            "deleted over there cannot be sent again under its id."
        )
    print(f"{count} runs sent.")


def _library() -> Any:
    try:
        return importlib.import_module("wandb")
    except ImportError as error:
        raise NotSent(f"wandb cannot be imported ({error}); install it: pip install wandb.") from error
