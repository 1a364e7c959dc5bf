"""The speed of a study's cells, from their speed records: a table per machine, and what has to be said first.

Times hold on one machine, so those of two machines never share a table. A stale record is named and left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.table import Table as RichTable

from vvsbench.analysis import tables
from vvsbench.analysis.frame import hardware
from vvsbench.analysis.tables import Column, Entry, Line, Table
from vvsbench.analysis.troubles import Trouble, together
from vvsbench.commands import own
from vvsbench.decoding.phases import Phase
from vvsbench.runs import speed_record
from vvsbench.runs.speed_record import Measured, SpeedRecord
from vvsbench.runs.speed_table import warnings
from vvsbench.runs.store import Store, changed_since

GIB = 2**30
COLUMNS = (
    Column("images_per_second", "images per second", "by the wall clock of decoding tokens; median over repeats", 3),
    Column("seconds_per_image", "seconds per image", "of decoding tokens, median over repeats", 5),
    Column("speed_up", "speed-up", "median of the ratios of baseline and cell within rounds", suffix="×"),
    Column("compression", "fewer forwards", "target forwards of the baseline divided by these", suffix="×"),
    Column(
        "round_cost",
        "round cost",
        "seconds per target forward, skipped steps and all, in those of the baseline: fewer forwards / speed-up",
    ),
    Column(
        "verified_cost",
        "a verified step",
        "in steps of the baseline: its verification, and its share of all other work; from the phases",
    ),
    Column("skipped_cost", "a skipped step", "in steps of the baseline: its share of all work but verification"),
    Column(
        "floor_share",
        "floor",
        "least time for the bytes and operations of these forwards on this machine, as a share of the time",
        *(0, 100.0, " %"),
    ),
    Column("paint_seconds", "pixels, seconds", "per image, of turning tokens into pixels; timed apart", 4),
    Column("gpu_gib", "GPU memory, GiB", "most in tensors at a time", 2),
    Column("process_gib", "process memory, GiB", "most resident at a time", 2),
    Column("joules", "energy, J", "of the GPU, per image, by its own counter", 2),
    Column("first_seconds", "first batch, seconds", "which pays for compiling, capturing and warming up", 1),
    Column("load_seconds", "loading, seconds", "until the weights are where they are needed", 1),
    Column("rounds", "rounds", "timed repeats of cell and baseline in turn", 0),
)
VERIFYING = (Phase.verify, Phase.accept)
"""Phases that a step without verification does not have."""
SHORT = ("images_per_second", "seconds_per_image", "speed_up", "round_cost", "floor_share")
"""Columns for a terminal."""


@dataclass(frozen=True)
class Speeds:
    """What a report shows of speed.

    Attributes:
        said: what has to be known beside the tables.
        troubles: what has no times, and why: told before all numbers of a report.
        tables: per machine its times, and where they go.
        rows: every number, unrounded, a row per cell.
        commands: what was typed.
    """

    said: Sequence[str]
    troubles: Sequence[Trouble]
    tables: Sequence[Table]
    rows: pd.DataFrame
    commands: Sequence[str]

    @property
    def anything(self) -> bool:
        """Whether any cell was timed, or was to be."""
        return bool(self.troubles or self.tables)


def speeds(study: str, root: Path) -> Speeds:
    """Read the speed records of a study.

    Args:
        study: its name.
        root: the output root.
    """
    kept = Store(root).speeds(study)
    wrong = [(record, _trouble(record)) for record in kept.sound]
    fresh = [record for record, trouble in wrong if not trouble]
    troubles = [Trouble(one.folder.name, f"has no times to show: {one.why}") for one in kept.unreadable]
    troubles += together([Trouble(record.label, trouble) for record, trouble in wrong if trouble])
    said = list[str]()
    rows = pd.DataFrame([_row(record, record.measured) for record in fresh if record.measured])
    machines = list(dict.fromkeys(rows["machine"])) if len(rows) else []
    if len(machines) > 1:
        said.insert(0, "Times were taken on different machines, and those of two tables cannot be set side by side.")
    said += [f"{record.label}: {text}." for record in fresh if record.measured for text in warnings(record.measured)]
    made = [table for machine in machines for table in _tables(machine, rows[rows["machine"] == machine])]
    commands = dict.fromkeys(record.provenance.command for record in fresh if own(record.provenance.command))
    return Speeds(said, troubles, made, rows, list(commands))


def _trouble(record: SpeedRecord) -> str:
    """Why a record has no numbers to show; empty when it has."""
    if record.status == "started":
        return "is being timed or was killed meanwhile"
    if record.status != "ok" or record.measured is None:
        return f"was not timed, {record.status.replace('_', ' ')}: {(record.error or 'no reason given').rstrip('.')}"
    changed = changed_since(record.provenance, record.config)
    return (
        f"was timed before a change and is stale ({changed}); its times are left out until it is timed again"
        if changed
        else ""
    )


def machine(record: SpeedRecord, found: Measured) -> str:
    """What a cell was timed on: those whose seconds may be set side by side have the same."""
    described = hardware(record.provenance.hardware)
    return described if found.device in described else f"{found.device} ({described})"


def _row(record: SpeedRecord, found: Measured) -> dict[str, Any]:
    own, config = found.own, record.config
    seconds = own.seconds_per_image
    how = [config["model"]["name"], config["engine"], config["dtype"], f"batch {config['batch_size']}"]
    how.append(f"{found.threads} {'thread' if found.threads == 1 else 'threads'}")
    return {
        "key": record.key,
        "label": record.label,
        "note": ", ".join(how),
        "machine": machine(record, found),
        "device": found.device,
        "baseline": found.baseline.label if found.baseline else "",
        "is_baseline": False,
        "images_per_second": 1 / seconds.value,
        "images_per_second_low": 1 / seconds.high,
        "images_per_second_high": 1 / seconds.low,
        **_interval("seconds_per_image", seconds),
        **_interval("device_seconds_per_image", own.device_seconds_per_image),
        **_interval("speed_up", found.speed_up),
        "compression": found.compression,
        **_round_cost(found),
        **_steps(found),
        "floor_share": own.floor_share,
        "paint_seconds": found.paint_seconds_per_image.value,
        "gpu_gib": None if found.memory.allocated is None else found.memory.allocated / GIB,
        "process_gib": found.memory.process / GIB,
        "joules": found.joules_per_image,
        "first_seconds": own.first_seconds,
        "load_seconds": own.load_seconds,
        "rounds": seconds.n,
        **{f"phase_{name}": share for name, share in found.phases.items()},
    }


def _round_cost(found: Measured) -> dict[str, float | None]:
    """What a round costs in steps of the baseline; the interval is that of the speed-up, for forwards are counts."""
    if found.compression is None or found.speed_up is None:
        return _interval("round_cost", None)
    low, high = found.compression / found.speed_up.high, found.compression / found.speed_up.low
    return {"round_cost": found.round_cost, "round_cost_low": low, "round_cost_high": high}


def _steps(found: Measured) -> dict[str, float | None]:
    """A verified and a skipped step apart, in steps of the baseline; None for a decoder that skips none.

    Phases that only a verified step has are shared out over those, the others over all steps. No interval: the phases
    are of one pass, which waits at every mark.
    """
    verified, skipped = (found.own.counts.get(name, 0.0) for name in ("verified_steps", "skipped_steps"))
    if not found.baseline or not found.phases or not verified or not skipped:
        return {"verified_cost": None, "skipped_cost": None}
    shares = {name: share for name, share in found.phases.items() if name != speed_record.PIXELS}
    only = sum(shares.get(phase, 0.0) for phase in VERIFYING)
    both = sum(share for name, share in shares.items() if name not in (*VERIFYING, Phase.prefill))
    seconds = found.own.seconds_per_image.value / sum(shares.values())
    step = found.baseline.seconds_per_image.value / found.baseline.forwards
    every = both / (verified + skipped)
    return {
        "verified_cost": (every + only / verified) * seconds / step,
        "skipped_cost": every * seconds / step,
    }


def _interval(name: str, found: speed_record.Interval | None) -> dict[str, float | None]:
    if found is None:
        return {name: None, f"{name}_low": None, f"{name}_high": None}
    return {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}


def _tables(machine: str, rows: pd.DataFrame) -> Iterator[Table]:
    """Times on one machine, and where they go by phase."""
    yield _table("speed", f"Speed on {machine}", COLUMNS, rows)
    names = [str(name) for name in rows.columns if str(name).startswith("phase_") and rows[name].notna().any()]
    phases = [
        Column(
            name,
            name.removeprefix("phase_"),
            "share of the time, in a slower pass that waits at every mark",
            0,
            100.0,
            " %",
        )
        for name in names
    ]
    if phases:
        yield _table("phases", f"Where the time goes, on {machine}", phases, rows)


def _table(name: str, caption: str, columns: Sequence[Column], rows: pd.DataFrame) -> Table:
    chosen = tables.present(columns, rows)
    lines = [
        Line("", str(row["label"]), "", str(row["note"]), [_entry(column, row) for column in chosen])
        for _, row in rows.iterrows()
    ]
    return Table(name, caption, chosen, lines, noted="how")


def _entry(column: Column, row: pd.Series[Any]) -> Entry:
    found = tables.entry(column, row)
    if column.name == "speed_up" and found is not tables.EMPTY:
        return Entry(f"{found.text} over {row['baseline']}", found.interval)
    return found


def console(table: Table) -> RichTable:
    """A table of speeds for a terminal."""
    shown = RichTable(title=table.caption, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    shown.add_column("decoder", max_width=28)
    wanted = [index for index, column in enumerate(table.columns) if column.name in SHORT or table.name == "phases"]
    for index in wanted:
        shown.add_column(table.columns[index].title, justify="right")
    for line in table.lines:
        shown.add_row(line.label, *(line.entries[index].text for index in wanted))
    return shown
