"""`vvsbench status`: a study's cells and what has become of each, from its file and its records alone."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from vvsbench import catalog
from vvsbench.analysis.settings import differences, flat, unmet
from vvsbench.errors import ConfigError
from vvsbench.identity import WITHOUT_EFFECT
from vvsbench.reporting import parse
from vvsbench.runs.record import CellRecord
from vvsbench.runs.states import CellState, State, of_study
from vvsbench.runs.store import QUALITY, SPEED, Store
from vvsbench.terminal import Terminal

DEFAULTS = {"study": "single", "output_root": "outputs"}
USAGE = """\
usage: vvsbench status study=NAME [output_root=outputs]

Shows every cell of a study: done, running (a live process holds it), interrupted (the same command goes on), failed and
why, stale (code or weights have changed since), missing (declared in the study's file, and there is no record).
vvsbench run study=NAME rerun=missing (or failed, stale) runs just those.
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
    study, store = settings["study"], Store(settings["output_root"])
    cells = of_study(store, study)
    own = [cell.record.config for cell in cells if cell.record and cell.record.external is None]
    if not cells and study not in catalog.names("study"):
        raise ConfigError([_unknown(study, store)])
    absent = unmet(_declared(study, own[-1] if own else {}), own)
    console = Terminal()
    console.print(_table(study, cells, absent))
    console.print(_counts(cells, absent))
    return 0


def _unknown(study: str, store: Store) -> str:
    if study in store.studies():
        return f"study={study} has been timed only, and drew no images; vvsbench report study={study} shows its times."
    known = sorted({*store.studies(), *catalog.names("study")})
    near = difflib.get_close_matches(study, known, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    return f"study={study} has neither a file nor cells below {store.root}; there are {', '.join(known)}.{hint}"


def _declared(study: str, config: Mapping[str, Any]) -> list[list[str]]:
    """The overrides of each cell of a study: from its file, else as a record has them."""
    for folder, _ in catalog.folders():
        if (file := folder / "study" / f"{study}.yaml").is_file():
            content = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
            return (content.get("study") or {}).get("cells") or []
    return (config.get("study") or {}).get("cells") or []


def _table(study: str, cells: Sequence[CellState], absent: Sequence[Sequence[str]]) -> Table:
    table = Table(title=f"study {study}", title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("cell", overflow="fold")
    table.add_column("key", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("images", justify="right", no_wrap=True)
    table.add_column("scored", overflow="fold")
    table.add_column("timed", no_wrap=True)
    table.add_column("why", overflow="fold")
    names = labels([cell.record for cell in cells if cell.record])
    for cell in cells:
        state = Text(cell.state.value, style=STYLES[cell.state])
        if cell.record is None:
            table.add_row(Text(cell.folder.name), "", state, "", "", "", Text(cell.why))
            continue
        record = cell.record
        scored = ", ".join(sorted(path.stem for path in (cell.folder / QUALITY).glob("*.json")))
        timed = "yes" if (cell.folder / SPEED).is_file() else ""
        images = f"{record.done}/{record.count}"
        table.add_row(Text(names[record.key]), record.key, state, images, scored, timed, Text(_reason(cell)))
    for overrides in absent:
        state = Text(State.missing.value, style=STYLES[State.missing])
        table.add_row(Text(" ".join(overrides)), "", state, "", "", "", "not run yet")
    return table


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
