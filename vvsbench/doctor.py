"""`vvsbench doctor`: what this machine has, which weights are found where, and what that allows.

With `model=NAME` it says, file by file, what that model needs, where to put it and what is missing.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from rich.console import Console
from rich.table import Table

from vvsbench import catalog, composition, identity
from vvsbench.config import PromptKind, RunConfig
from vvsbench.errors import ConfigError, UserError
from vvsbench.models import checkpoints
from vvsbench.needs import Need, networks_of
from vvsbench.runs import provenance
from vvsbench.terminal import Terminal

GIB = 2**30
ROLES = {
    "model.checkpoint": "the target",
    "model.tokenizer.checkpoint": "its tokenizer",
    "model.text_encoder": "its text encoder",
    "model.pixel_checkpoint": "what makes its pixels",
}
DRAFTER = "its drafter"
"""What every other file is for."""
USAGE = "usage: vvsbench doctor [model=NAME] [KEY=VALUE ...]"


def main(arguments: Sequence[str]) -> int:
    """Examine the machine, or one model's files.

    Returns:
        0, or 1 when the model that was asked about cannot run.

    Raises:
        ConfigError: a setting is wrong.
    """
    if {"-h", "--help"} & set(arguments):
        print(USAGE)
        return 0
    console = Terminal(soft_wrap=True)
    if any(argument.startswith("model=") for argument in arguments):
        return _one_model(arguments, console)
    _machine(console)
    _weights(console)
    _suites(console)
    return 0


def _machine(console: Console) -> None:
    import psutil

    hardware = provenance.hardware()
    table = Table(title="this machine", title_justify="left", title_style="bold", box=None, show_header=False)
    device = identity.device("auto")
    disk = shutil.disk_usage(Path.cwd())
    rows = {
        "python": provenance.versions()["python"],
        "torch": f"{_version('torch')}, torchvision {_version('torchvision')}",
        "device": f"{device}" + (f" ({hardware['gpu']}, driver {hardware['driver']})" if device == "cuda" else ""),
        "processor": f"{hardware['cpu']}, {hardware['cores']} cores",
        "memory": f"{psutil.virtual_memory().available / GIB:.1f} of {hardware['memory_gib']} GiB free",
        "disk": f"{disk.free / GIB:.1f} of {disk.total / GIB:.1f} GiB free below {Path.cwd()}",
        "weights": f"{checkpoints.weights_root().absolute()} (${checkpoints.WEIGHTS_VARIABLE} names another folder)",
    }
    for name, value in rows.items():
        table.add_row(name, value)
    console.print(table)
    console.print()


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return "not installed"


def _weights(console: Console) -> None:
    table = Table(title="weights", title_justify="left", title_style="bold", box=None, header_style="dim")
    for heading in ("model", "target", "tokenizer", "text encoder", "pixels", "drafter"):
        table.add_column(heading)
    for option in catalog.options("model"):
        needs = {role(need): need for need in networks_of(_settings([f"model={option.name}"]))}
        cells = [_mark(needs.get(role)) for role in (*ROLES.values(), DRAFTER)]
        table.add_row(option.name, *cells)
    console.print(table)
    console.print("vvsbench doctor model=NAME says which files a model needs and where to put them.\n")


def _mark(need: Need | None) -> str:
    if need is None:
        return "-"
    return "found" if need.found else "missing"


def _suites(console: Console) -> None:
    """Metric suites and whether their networks and references are there."""
    table = Table(title="metric suites", title_justify="left", title_style="bold", box=None, header_style="dim")
    table.add_column("suite")
    table.add_column("can run")
    for option in catalog.options("metrics"):
        table.add_row(option.name, _suite_state(option.name))
    console.print(table)


def _suite_state(name: str) -> str:
    from vvsbench import quality

    try:
        cfg = composition.composed([f"metrics={name}"])
        if problems := quality.problems(cfg.metrics):
            return f"no: {problems[0]}"
        quality.key(cfg.metrics, "", None)
    except ConfigError as error:
        return f"no: {error.problems[0]}"
    except UserError as error:
        return f"no: {error}"
    return "yes"


def _settings(overrides: Sequence[str]) -> RunConfig:
    """Settings with the richest decoder, so that the drafter is among them."""
    *_, richest = composition.composed(overrides).model.decoders
    return composition.composed([*overrides, f"decoder={richest}"])


def role(need: Need) -> str:
    """What a model needs a file for."""
    return ROLES.get(need.key, DRAFTER)


def _one_model(arguments: Sequence[str], console: Console) -> int:
    """File by file: needed, found, and where to put it."""
    cfg = _settings(arguments)
    console.print(f"model={cfg.model.name} reads these files; relative names are looked up below")
    console.print(f"{checkpoints.weights_root().absolute()} (${checkpoints.WEIGHTS_VARIABLE} names another folder).\n")
    alone = " and ".join(f"decoder={name}" for name in cfg.model.undrafted)
    drafting = " and ".join(name for name in cfg.model.decoders if name not in cfg.model.undrafted)
    missing = []
    for need in networks_of(cfg):
        console.print(f"  {'found  ' if need.found else 'MISSING'}  {role(need)}: {need.name}")
        console.print(f"           {need.path.absolute()}   (setting {need.key})")
        if not need.found:
            missing.append(need)
    if getattr(cfg.decoder, "drafter", None) is None:
        console.print(f"  none     no drafter is known for this model: without it {alone} can run; {drafting} cannot")
    if cfg.prompts.kind == PromptKind.captions:
        console.print(
            "  choose   prompts.file=FILE: .txt with one caption a line, .json with a list, or COCO's captions_*.json"
        )
    required = [need for need in missing if role(need) != DRAFTER]
    if not missing:
        console.print("\nEverything is there.")
    elif not required:
        console.print(f"\n{alone} can run; the drafter is missing for {drafting}.")
    else:
        console.print(f"\n{len(missing)} missing. Put each file at its path above, or name another with SETTING=PATH.")
    return 1 if required else 0
