"""`vvsbench diff`: two studies or two cells, number by number, in the terminal or as JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from vvsbench.analysis import diff
from vvsbench.analysis.diff import Pair, Row, Timed
from vvsbench.analysis.estimate import Estimate
from vvsbench.config import study_problem
from vvsbench.errors import ConfigError
from vvsbench.reporting import exists, parse, place
from vvsbench.runs.record import CellRecord
from vvsbench.runs.states import CellState, State, of_folders
from vvsbench.runs.store import RECORD, SPEED, RecordError, Store, StoredCell, read_speed
from vvsbench.terminal import Terminal

DEFAULTS = {"output_root": "outputs", "across_hardware": "false"}
JSON = "--json"
SETTING = re.compile(r"[\w.]+=")
"""Beginning of a setting; labels and paths may have an = further on, as in demo/vvs i=2."""
UNPAIRED = "°"
"""Behind an interval of two independent sets."""
SHOWN = 12
"""Settings of a pair that are named one by one."""
USAGE = """\
usage: vvsbench diff A B [output_root=outputs] [across_hardware=true] [--json]

A and B: a study (demo), one of its cells (demo/sd, demo/KEY), the folder of either (elsewhere/outputs/cells/demo), or a
whole output root (elsewhere/outputs), of which studies of the same name are compared.
Cells of equal settings are compared, then those that alone share a label: counts, metrics and seconds of B less those
of A, with intervals, paired image by image where both drew from the same prompts and noise; then their speed records.
Metrics of different image counts and seconds taken at different times are shown without a verdict; seconds of different
machines only with across_hardware=true.
"""
STYLES = {diff.BETTER: "green", diff.WORSE: "red", diff.OTHER: "yellow"}


@dataclass(frozen=True)
class Side:
    """One of the two result sets.

    Attributes:
        name: as typed.
        cells: that have numbers.
        timed: the same or others, by their speed records.
        left_out: cells without, and why.
    """

    name: str
    cells: Sequence[StoredCell]
    timed: Sequence[Timed]
    left_out: Sequence[str]


@dataclass(frozen=True)
class Found:
    """What of two result sets belongs together.

    Attributes:
        pairs: cells that are compared.
        speeds: speed records that are compared.
        left: cells of the first alone.
        right: cells of the second alone.
    """

    pairs: Sequence[Pair]
    speeds: Sequence[Pair]
    left: Sequence[StoredCell | Timed]
    right: Sequence[StoredCell | Timed]

    @property
    def refused(self) -> list[str]:
        """Machines whose seconds were not compared, each two once."""
        return list(dict.fromkeys(pair.refused for pair in [*self.pairs, *self.speeds] if pair.refused))


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
    names = [word for word in arguments if word != JSON and place(word, DEFAULTS)]
    settings = parse([word for word in arguments if word not in {*names, JSON}], DEFAULTS)
    across = {"true": True, "false": False}.get(settings["across_hardware"].lower())
    if len(names) != 2 or across is None:
        raise ConfigError(["write: vvsbench diff A B [across_hardware=true] [--json]; A and B are studies or cells."])
    one, other = (side(name, Path(settings["output_root"])) for name in names)
    found = compared(one, other, across)
    if JSON in arguments:
        print(json.dumps(_json(one, other, found), indent=2))
    else:
        _show(one, other, found)
    return 0


def compared(one: Side, other: Side, across: bool) -> Found:
    """Compare whatever of two result sets belongs together.

    Args:
        one: what the other is measured against.
        other: the other.
        across: whether seconds of two machines are compared.

    Raises:
        UserError: nothing belongs together, or nothing of it may be compared.
    """
    couples, left, right = diff.matched(one.cells, other.cells)
    timed, left_timed, right_timed = diff.matched(one.timed, other.timed)
    if not couples and not timed:
        raise ConfigError([f"{one.name} and {other.name} have no cell in common: neither settings nor labels agree."])
    found = Found(
        [diff.compare(a, b, across) for a, b in couples],
        [diff.compare_speed(a, b, across) for a, b in timed],
        [*left, *_only(left_timed, one)],
        [*right, *_only(right_timed, other)],
    )
    if found.refused and not any(pair.rows for pair in [*found.pairs, *found.speeds]):
        raise ConfigError([_refusal(found.refused)])
    return found


def _only(timed: Sequence[Timed], of: Side) -> list[Timed]:
    """Those that are not there as cells with images too."""
    drawn = {cell.record.key for cell in of.cells}
    return [one for one in timed if one.record.key not in drawn]


def _refusal(machines: Sequence[str]) -> str:
    return f"{diff.REFUSED}: {'; '.join(machines)}. To compare them all the same: {diff.ALLOWED}."


def side(name: str, root: Path) -> Side:
    """Find a result set.

    Args:
        name: a study, STUDY/CELL, or a folder of either.
        root: the output root.

    Raises:
        UserError: there is none, or none of its cells has numbers.
    """
    folders = _folders(name, root)
    studies: dict[str, list[Path]] = {}
    for folder in folders:
        if (folder / RECORD).is_file():
            studies.setdefault(folder.parent.name, []).append(folder)
    found = [cell for members in studies.values() for cell in of_folders(members)]
    usable, left_out = _readable([StoredCell(one.folder, one.record) for one in found if one.record and _usable(one)])
    left_out += [f"{one.folder.name}: {one.state.value} ({one.why})" for one in found if not _usable(one)]
    timed = []
    for folder in folders:
        try:
            record = read_speed(folder)
        except RecordError as error:
            left_out.append(f"speed of {folder.name}: {error}")
            continue
        if record and record.measured:
            timed.append(Timed(record))
        elif record:
            left_out.append(f"speed of {record.label}: {record.status} ({record.error})")
    if not usable and not timed:
        raise ConfigError([f"{name} has no finished cell: {'; '.join(left_out)}."])
    return Side(name, usable, timed, left_out)


def _readable(cells: Sequence[StoredCell]) -> tuple[list[StoredCell], list[str]]:
    """Those whose tables can be read, and a line about each of the others and each lost score."""
    sound, left_out = [], []
    for cell in cells:
        try:
            cell.check()
        except RecordError as error:
            left_out.append(f"{cell.folder.name}: {error}")
        else:
            sound.append(cell)
            left_out += [f"a score of {cell.record.label}: {why}" for why in cell.unscored]
    return sound, left_out


def _folders(name: str, root: Path) -> list[Path]:
    """The folders of the cells that a name means.

    Raises:
        UserError: there is none.
    """
    path = Path(name).expanduser()
    if (path / RECORD).is_file() or (path / SPEED).is_file():
        return [path]
    for depth in ("*", "cells/*/*"):
        if found := sorted({file.parent for kind in (RECORD, SPEED) for file in path.glob(f"{depth}/{kind}")}):
            return found
    study, _, cell = name.partition("/")
    if study_problem(study):
        raise ConfigError([f"{name}: there is no folder of that name with cells in it, and it cannot be a study."])
    exists(study, root)
    store = Store(root)
    return [store.cell(study, cell).folder] if cell else sorted({*store.folders(study), *store.timed(study)})


def _usable(cell: CellState) -> bool:
    """Stale cells too: what has changed since is what a comparison is for."""
    return cell.state in (State.done, State.stale)


def _json(one: Side, other: Side, found: Found) -> dict[str, Any]:
    return {
        "a": _told(one, found.left),
        "b": _told(other, found.right),
        "refused": found.refused,
        "pairs": [diff.as_json(pair) for pair in found.pairs],
        "speeds": [diff.as_json(pair) for pair in found.speeds],
    }


def _told(side: Side, unmatched: Sequence[StoredCell | Timed]) -> dict[str, Any]:
    labels = [cell.record.label for cell in unmatched]
    return {"name": side.name, "left_out": list(side.left_out), "unmatched": labels}


def _show(one: Side, other: Side, found: Found) -> None:
    console = Terminal()
    console.print(Text(f"A = {one.name}, B = {other.name}; changes are B less A, with 95 % intervals\n"))
    if found.refused:
        console.print(Text(f"{_refusal(found.refused)}\n", style="yellow"))
    for pair in found.pairs:
        _show_pair(pair, _title(pair), console)
    for pair in found.speeds:
        if not pair.refused:
            names = f"{pair.a.record.key} and {pair.b.record.key}"
            _show_pair(pair, f"speed of {_label(pair)}, timed apart: {names}", console)
    for name, cells in (("A", found.left), ("B", found.right)):
        if cells:
            console.print(Text(f"only in {name}: {', '.join(cell.record.label for cell in cells)}"))
    for name, side in (("A", one), ("B", other)):
        for text in side.left_out:
            console.print(Text(f"left out of {name}: {text}", style="yellow"))
    console.print(Text(_summary([*found.pairs, *found.speeds])))


def _show_pair(pair: Pair, title: str, console: Console) -> None:
    console.print(Text(title, style="bold"))
    for name, (mine, theirs) in list(pair.settings.items())[:SHOWN]:
        console.print(Padding(Text(f"{name}: {mine} in A, {theirs} in B"), (0, 0, 0, 2)))
    if len(pair.settings) > SHOWN:
        console.print(Text(f"  and {len(pair.settings) - SHOWN} more settings differ; {JSON} has them all"))
    for note in pair.notes:
        console.print(Padding(Text(note, style="yellow"), (0, 0, 0, 2)))
    console.print(_table(pair.rows) if pair.rows else Text("  nothing that both have is comparable\n"))


def _label(pair: Pair) -> str:
    a, b = pair.a.record, pair.b.record
    return a.label if a.label == b.label else f"{a.label} and {b.label}"


def _title(pair: Pair) -> str:
    a, b = pair.a.record, pair.b.record
    images = ""
    if pair.identical is not None and isinstance(a, CellRecord):
        images = f", {pair.identical} of {a.count} images have the same tokens"
    return f"{_label(pair)}: {a.key} and {b.key}{images}"


def _table(rows: Sequence[Row]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("per image or set", overflow="fold", min_width=16)
    for heading in ("A", "B", "change", "interval"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("B is", no_wrap=True)
    if any(_interval(row.change, row.paired).endswith(UNPAIRED) for row in rows):
        table.caption, table.caption_justify = f"{UNPAIRED} unpaired", "left"
    for row in rows:
        name = (f"{row.name} (seconds)" if row.name in diff.RATIOS else row.name).replace("_", " ")
        said = Text(row.verdict, style=STYLES.get(row.verdict, "dim"))
        table.add_row(name, f"{row.a:.4g}", f"{row.b:.4g}", _change(row), _interval(row.change, row.paired), said)
    return table


def _change(row: Row) -> str:
    return f"{row.change.value:.3g}x" if row.name in diff.RATIOS else f"{row.change.value:+.3g}"


def _interval(found: Estimate, paired: bool) -> str:
    if found.low is None or found.high is None or found.exact:
        return ""
    return f"[{found.low:.3g}, {found.high:.3g}]{'' if paired else UNPAIRED}"


def _summary(pairs: Sequence[Pair]) -> str:
    rows = [row for pair in pairs for row in pair.rows]
    same = sum(row.verdict == diff.SAME for row in rows)
    unsure = sum(row.verdict == diff.UNKNOWN for row in rows)
    undecided = sum(row.verdict == diff.NO_VERDICT for row in rows)
    apart = len(rows) - same - unsure - undecided
    tested = apart + unsure
    chance = f" (of {tested} with an interval about {tested / 20:.0f} would by chance)" if tested else ""
    parts = [f"{same} the same", f"{apart} differ beyond their interval{chance}", f"{unsure} cannot be told"]
    parts += [f"{undecided} without a verdict"] if undecided else []
    return f"{len(rows)} numbers: {', '.join(parts)}"
