"""`vvsbench diff`: two studies or two cells, number by number, in the terminal or as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from vvsbench.analysis import diff
from vvsbench.analysis.diff import Pair, Row
from vvsbench.analysis.estimate import Estimate
from vvsbench.errors import ConfigError
from vvsbench.reporting import exists, parse
from vvsbench.runs.states import CellState, State, of_folders
from vvsbench.runs.store import RECORD, Store, StoredCell

DEFAULTS = {"output_root": "outputs", "across_hardware": "false"}
JSON = "--json"
SHOWN = 12
"""Settings of a pair that are named one by one."""
USAGE = """\
usage: vvsbench diff A B [output_root=outputs] [across_hardware=true] [--json]

A and B: a study (demo), one of its cells (demo/sd, demo/KEY), or the folder of either (elsewhere/outputs/cells/demo).
Cells of equal settings are compared, then those that alone share a label: counts, metrics and seconds of B less those
of A, with intervals, paired image by image where both drew from the same prompts and noise. Seconds of different
machines are compared only with across_hardware=true.
"""
STYLES = {diff.BETTER: "green", diff.WORSE: "red", diff.OTHER: "yellow"}


@dataclass(frozen=True)
class Side:
    """One of the two result sets.

    Attributes:
        name: as typed.
        cells: that have numbers.
        left_out: cells without, and why.
    """

    name: str
    cells: Sequence[StoredCell]
    left_out: Sequence[str]


def main(arguments: Sequence[str]) -> int:
    """Compare two result sets.

    Args:
        arguments: the two, and settings as key=value.

    Returns:
        0, whatever differs.

    Raises:
        UserError: one of them is not there, or nothing in them belongs together.
    """
    if {"-h", "--help"} & set(arguments):
        print(USAGE)
        return 0
    names = [word for word in arguments if "=" not in word and word != JSON]
    settings = parse([word for word in arguments if word not in {*names, JSON}], DEFAULTS)
    across = {"true": True, "false": False}.get(settings["across_hardware"].lower())
    if len(names) != 2 or across is None:
        raise ConfigError(["write: vvsbench diff A B [across_hardware=true] [--json]; A and B are studies or cells."])
    one, other = (side(name, Path(settings["output_root"])) for name in names)
    couples, left, right = diff.matched(one.cells, other.cells)
    if not couples:
        raise ConfigError([f"{one.name} and {other.name} have no cell in common: neither settings nor labels agree."])
    pairs = [diff.compare(a, b, across) for a, b in couples]
    if JSON in arguments:
        print(json.dumps(_json(one, other, pairs, left, right), indent=2))
    else:
        _show(one, other, pairs, left, right)
    return 0


def side(name: str, root: Path) -> Side:
    """Find a result set.

    Args:
        name: a study, STUDY/CELL, or a folder of either.
        root: the output root.

    Raises:
        UserError: there is none, or none of its cells has numbers.
    """
    path = Path(name).expanduser()
    if (path / RECORD).is_file():
        found = of_folders([path])
    elif folders := sorted(record.parent for record in path.glob(f"*/{RECORD}")):
        found = of_folders(folders)
    else:
        study, _, cell = name.partition("/")
        exists(study, root)
        store = Store(root)
        found = of_folders([store.cell(study, cell).folder] if cell else store.folders(study))
    usable = [StoredCell(one.folder, one.record) for one in found if one.record and _usable(one)]
    left_out = [f"{one.folder.name}: {one.state.value} ({one.why})" for one in found if not _usable(one)]
    if not usable:
        raise ConfigError([f"{name} has no finished cell: {'; '.join(left_out)}."])
    return Side(name, usable, left_out)


def _usable(cell: CellState) -> bool:
    """Stale cells too: what has changed since is what a comparison is for."""
    return cell.state in (State.done, State.stale)


def _json(
    one: Side, other: Side, pairs: Sequence[Pair], left: Sequence[StoredCell], right: Sequence[StoredCell]
) -> dict[str, Any]:
    return {
        "a": {"name": one.name, "left_out": list(one.left_out), "unmatched": [cell.record.label for cell in left]},
        "b": {"name": other.name, "left_out": list(other.left_out), "unmatched": [cell.record.label for cell in right]},
        "pairs": [diff.as_json(pair) for pair in pairs],
    }


def _show(
    one: Side, other: Side, pairs: Sequence[Pair], left: Sequence[StoredCell], right: Sequence[StoredCell]
) -> None:
    console = Console(highlight=False)
    console.print(Text(f"A = {one.name}, B = {other.name}; changes are B less A, with 95 % intervals\n"))
    for pair in pairs:
        console.print(Text(_title(pair), style="bold"))
        for name, (mine, theirs) in list(pair.settings.items())[:SHOWN]:
            console.print(Text(f"  {name}: {mine} in A, {theirs} in B"))
        if len(pair.settings) > SHOWN:
            console.print(Text(f"  and {len(pair.settings) - SHOWN} more settings differ; {JSON} has them all"))
        for note in pair.notes:
            console.print(Text(f"  {note}", style="yellow"))
        console.print(_table(pair.rows) if pair.rows else Text("  nothing that both have is comparable\n"))
    for name, cells in (("A", left), ("B", right)):
        if cells:
            console.print(Text(f"only in {name}: {', '.join(cell.record.label for cell in cells)}"))
    for name, found in (("A", one), ("B", other)):
        for text in found.left_out:
            console.print(Text(f"left out of {name}: {text}", style="yellow"))
    console.print(Text(_summary(pairs)))


def _title(pair: Pair) -> str:
    a, b = pair.a.record, pair.b.record
    name = a.label if a.label == b.label else f"{a.label} and {b.label}"
    images = "" if pair.identical is None else f", {pair.identical} of {a.count} images have the same tokens"
    return f"{name}: {a.key} and {b.key}{images}"


def _table(rows: Sequence[Row]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("per image or set", overflow="fold")
    for heading in ("A", "B", "change", "interval"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("B is", no_wrap=True)
    for row in rows:
        name = f"{row.name} (seconds)" if row.name == diff.SPEED_UP else row.name
        said = Text(row.verdict, style=STYLES.get(row.verdict, "dim"))
        table.add_row(name, f"{row.a:.4g}", f"{row.b:.4g}", _change(row), _interval(row.change, row.paired), said)
    return table


def _change(row: Row) -> str:
    return f"{row.change.value:.3g}x" if row.name == diff.SPEED_UP else f"{row.change.value:+.3g}"


def _interval(found: Estimate, paired: bool) -> str:
    if found.low is None or found.high is None or found.exact:
        return ""
    return f"[{found.low:.3g}, {found.high:.3g}]{'' if paired else ' unpaired'}"


def _summary(pairs: Sequence[Pair]) -> str:
    rows = [row for pair in pairs for row in pair.rows]
    same = sum(row.verdict == diff.SAME for row in rows)
    unsure = sum(row.verdict == diff.UNKNOWN for row in rows)
    apart = len(rows) - same - unsure
    tested = apart + unsure
    chance = f" (of {tested} with an interval about {tested / 20:.0f} would by chance)" if tested else ""
    return (
        f"{len(rows)} numbers: {same} the same, {apart} differ beyond their interval{chance}, {unsure} cannot be told"
    )
