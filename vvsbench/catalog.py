"""What can be chosen: decoders, models, studies and metric suites, with one line each and where they come from.

A file of settings is an option, and its first comment is its description. Other packages add theirs by an entry point
(see `vvsbench.registry`); a user's own studies are found in ./experiments, what a search found in outputs/search.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from rich.table import Table

from vvsbench import config
from vvsbench.axes import Guarantee
from vvsbench.errors import ConfigError
from vvsbench.terminal import Terminal

KINDS = {
    "decoders": "decoder",
    "drafters": "drafter",
    "structures": "structure",
    "rules": "acceptance",
    "schedules": "schedule",
    "models": "model",
    "studies": "study",
    "metrics": "metrics",
}
"""What `vvsbench list` shows: heading to group."""

USAGE = "usage: vvsbench list [decoders | drafters | structures | rules | schedules | models | studies | metrics] ..."


@dataclass(frozen=True)
class Option:
    """One choice in a group.

    Attributes:
        origin: package that it comes from, or the folder for a user's own.
    """

    name: str
    summary: str
    origin: str


def main(arguments: Sequence[str]) -> int:
    """Print the options of some kinds, or of all.

    Raises:
        ConfigError: there is no such kind.
    """
    if {"-h", "--help"} & set(arguments):
        print(USAGE)
        return 0
    if unknown := [kind for kind in arguments if kind not in KINDS]:
        near = difflib.get_close_matches(unknown[0], KINDS, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise ConfigError([f"{unknown[0]}: nothing of that kind to list; choose from {', '.join(KINDS)}.{hint}"])
    console = Terminal()
    for kind in arguments or KINDS:
        table = Table(
            title=kind, title_justify="left", title_style="bold", box=None, pad_edge=False, header_style="dim"
        )
        table.add_column(KINDS[kind], no_wrap=True)
        table.add_column("what it is", overflow="fold")
        table.add_column("from", no_wrap=True)
        if kind == "decoders":
            table.add_column("guarantee", no_wrap=True)
            table.add_column("drafts", no_wrap=True)
        for option in options(KINDS[kind]):
            promised = _promise(option.name) if kind == "decoders" else ()
            table.add_row(option.name, option.summary, option.origin, *promised)
        console.print(table)
        console.print()
    return 0


def options(group: str) -> list[Option]:
    """Everything that can be chosen in a group, the package's own first."""
    found: dict[str, Option] = {}
    for folder, origin in folders():
        for file in sorted((folder / group).glob("*.yaml")):
            found.setdefault(file.stem, Option(file.stem, summary(file), origin))
    for plugin in config.PLUGINS.get(group, ()):
        found.setdefault(plugin.name, Option(plugin.name, plugin.summary, plugin.origin))
    return list(found.values())


def names(group: str) -> list[str]:
    """What can be chosen in a group, sorted."""
    return sorted(option.name for option in options(group))


def folders() -> Iterator[tuple[Path, str]]:
    """Places where settings are looked for, in order, with a name for each."""
    yield config.folder("conf"), "vvsbench"
    yield config.folder("experiments"), "vvsbench"
    own = Path("experiments").resolve()
    if own.is_dir() and own != config.folder("experiments").resolve():
        yield own, "./experiments"
    for found in sorted(Path(config.RunConfig.output_root, "search").glob("*/")):
        yield found.resolve(), found.as_posix()


def _promise(decoder: str) -> tuple[str, str]:
    """The guarantee of a decoder as its file has it, and what drafts; nothing of one that is no point of the grid."""
    from vvsbench.decoding.acceptance.settings import RULES
    from vvsbench.decoding.schedule import SCHEDULES

    parts = _parts(decoder)
    if "acceptance" not in parts:
        return {"ar": ("exact", "nobody")}.get(decoder, ("", ""))
    skips = next((kind().ever_skips for kind in SCHEDULES if kind.name == parts["schedule"]), True)
    rule = next((kind.guarantee for kind in RULES if kind.name == parts["acceptance"]), Guarantee.none)
    promised = Guarantee.none if skips else rule
    drafter = parts["drafter"]
    return promised.value, "the model's drafter" if "$" in drafter else drafter


def _parts(decoder: str) -> dict[str, str]:
    """What a decoder's file chooses, by group: names as they stand in its defaults and in those it builds on."""
    file = next((found for folder, _ in folders() if (found := folder / "decoder" / f"{decoder}.yaml").is_file()), None)
    chosen: dict[str, str] = {}
    content: Any = OmegaConf.to_container(OmegaConf.load(file)) if file else {}
    for entry in content.get("defaults", []):
        if isinstance(entry, str):
            chosen |= _parts(entry) if "/" not in entry and entry != "_self_" else {}
            continue
        for group, name in entry.items():
            chosen[group.split("@")[-1]] = str(name)
    return chosen


def summary(file: Path) -> str:
    """The first comment of a settings file that is not one of Hydra's directives."""
    for line in file.read_text(encoding="utf-8").splitlines():
        text = line.lstrip("# ").strip()
        if line.startswith("#") and text and not text.startswith("@package"):
            return text
    return ""
