"""`vvsbench status`: a study's cells and what has become of each, from its file and its records alone."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from vvsbench import catalog
from vvsbench.analysis.settings import differences, flat, unmet
from vvsbench.analysis.troubles import several
from vvsbench.commands import command, run
from vvsbench.errors import ConfigError
from vvsbench.identity import WITHOUT_EFFECT
from vvsbench.reporting import named, parse
from vvsbench.runs.record import CellRecord
from vvsbench.runs.states import CellState, State, of_study
from vvsbench.runs.store import QUALITY, SPEED, Store
from vvsbench.sizes import declared
from vvsbench.terminal import Terminal

DEFAULTS = {"study": "", "size": "", "output_root": "outputs"}
USAGE = """\
usage: vvsbench status [study=NAME] [size=SIZE] [output_root=outputs]

Shows every cell of a study: done, running (a live process holds it), interrupted (the same command goes on), failed and
why, stale (code or weights have changed since), missing (declared in the study's file, and there is no record).
vvsbench run study=NAME rerun=missing (or failed, stale) runs just those; rerun=done draws those again that are done.
Without a study: the studies that have outputs, their cells, when they were last written and how much room they take.
"""
STYLES = {
    State.done: "green",
    State.running: "cyan",
    State.interrupted: "yellow",
    State.failed: "red",
    State.stale: "yellow",
    State.missing: "dim",
}


def main(arguments: Sequence[str]) -> int:
    """Show the state of a study.

    Args:
        arguments: settings as key=value.

    Returns:
        0, whatever the state.

    Raises:
        UserError: there is no such study, or a setting is unknown.
    """
    if {"-h", "--help"} & set(arguments):
        print(USAGE)
        return 0
    settings = parse(arguments, DEFAULTS)
    store, console = Store(settings["output_root"]), Terminal()
    if settings["study"] or settings["size"]:
        _show(named(settings, store.root), store, console)
    else:
        _show_all(store, console)
    return 0


def _show(study: str, store: Store, console: Terminal) -> None:
    """The cells of a study."""
    cells = of_study(store, study)
    own = [cell.record.config for cell in cells if cell.record and cell.record.external is None]
    written = declared(study)
    if not cells and written is None:
        raise ConfigError([_unknown(study, store)])
    absent = unmet(written if written is not None else _recorded(own[-1] if own else {}), own)
    console.print(_table(study, cells, absent))
    for line in _reasons(cells):
        console.print(line)
    console.print(_counts(cells, absent))


def _show_all(store: Store, console: Terminal) -> None:
    """The studies that have outputs."""
    studies = store.studies()
    if not studies:
        console.print(Text(f"no study has outputs below {store.root}; the first one: {run('demo', root=store.root)}"))
        return
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("study", overflow="fold")
    table.add_column("cells", overflow="fold")
    table.add_column("last written", no_wrap=True)
    table.add_column("on disk", justify="right", no_wrap=True)
    for study in studies:
        counted = Counter(cell.state for cell in of_study(store, study))
        said = ", ".join(f"{counted[state]} {state.value}" for state in State if counted[state]) or "timed only"
        latest, size = _extent(store.root / "cells" / study)
        table.add_row(Text(study), said, f"{datetime.fromtimestamp(latest):%Y-%m-%d %H:%M}", size_text(size))
    console.print(table)
    console.print(Text(f"the cells of one: {command('status', 'study=NAME', root=store.root)}"))


def _extent(folder: Path) -> tuple[float, int]:
    """When something in a folder was last written, and how many bytes it holds."""
    found = [path.stat() for path in folder.rglob("*") if path.is_file()]
    return max((one.st_mtime for one in found), default=0.0), sum(one.st_size for one in found)


def size_text(size: float) -> str:
    """Bytes in the unit in which one thinks of them."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def _unknown(study: str, store: Store) -> str:
    if study in store.studies():
        shown = command("report", f"study={study}", root=store.root)
        return f"study={study} has been timed only, and drew no images; {shown} shows its times."
    known = sorted({*store.studies(), *catalog.names("study")})
    near = difflib.get_close_matches(study, known, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    return f"study={study} has neither a file nor cells below {store.root}; there are {', '.join(known)}.{hint}"


def _recorded(config: Mapping[str, Any]) -> list[list[str]]:
    """The overrides of each cell of a study without a file, as a record has them."""
    return (config.get("study") or {}).get("cells") or []


def _table(study: str, cells: Sequence[CellState], absent: Sequence[Sequence[str]]) -> Table:
    table = Table(
        title=f"study {study}",
        title_justify="left",
        title_style="bold",
        box=SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    table.add_column("cell", overflow="fold")
    table.add_column("key", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("images", justify="right", no_wrap=True)
    table.add_column("scored", overflow="fold")
    table.add_column("timed", no_wrap=True)
    names = labels([cell.record for cell in cells if cell.record])
    for cell in cells:
        state = Text(cell.state.value, style=STYLES[cell.state])
        if cell.record is None:
            table.add_row(Text(cell.folder.name), "", state, "", "", "")
            continue
        record = cell.record
        scored = ", ".join(sorted(path.stem for path in (cell.folder / QUALITY).glob("*.json")))
        timed = "yes" if (cell.folder / SPEED).is_file() else ""
        images = f"{record.done}/{record.count}"
        table.add_row(Text(names[record.key]), record.key, state, images, scored, timed)
    for overrides in absent:
        state = Text(State.missing.value, style=STYLES[State.missing])
        table.add_row(Text(" ".join(overrides)), "", state, "", "", "")
    return table


def _reasons(cells: Sequence[CellState]) -> Iterator[RenderableType]:
    """Why cells are in their states, below the table, where there is room for words; cells with one reason together."""
    names = labels([cell.record for cell in cells if cell.record])
    found: dict[tuple[State, str], list[str]] = {}
    for cell in cells:
        if reason := _reason(cell):
            found.setdefault((cell.state, reason), []).append(
                names[cell.record.key] if cell.record else cell.folder.name
            )
    for (state, reason), subjects in found.items():
        text = Text.assemble((f"{several(subjects)}: ", "bold"), (f"{state.value}: ", STYLES[state]), reason)
        yield Padding(text, (0, 0, 0, 1))


def _reason(cell: CellState) -> str:
    if cell.record and cell.record.external:
        return f"imported from {cell.record.external.source}"
    older = len(cell.older)
    more = f"{older} older record{'s' * (older > 1)} of it" if older else ""
    return "; ".join(text for text in (cell.why, more) if text)


def labels(records: Sequence[CellRecord]) -> dict[str, str]:
    """Names of cells by key: the label, and what tells a cell from others with the same one.

    Args:
        records: of one study.
    """
    settings = {record.key: flat(_own(record.config)) for record in records}
    found = {}
    for record in records:
        twins = [settings[other.key] for other in records if other.label == record.label]
        extra = differences(settings[record.key], twins) if len(twins) > 1 else ""
        found[record.key] = f"{record.label} {extra}".strip()
    return found


def _own(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key not in WITHOUT_EFFECT}


def _counts(cells: Sequence[CellState], absent: Sequence[Sequence[str]]) -> Text:
    counted = Counter([*(cell.state for cell in cells), *[State.missing] * len(absent)])
    total = sum(counted.values())
    parts = [f"{counted[state]} {state.value}" for state in State if counted[state]]
    text = f"{total} cell{'s' * (total != 1)}: {', '.join(parts) or 'none declared'}"
    return Text(text)
