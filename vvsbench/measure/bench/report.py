"""What a bench found: tables as they fill, the targets at the end, and one JSON document of everything.

The document is written after every section, so that whatever happens later loses nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from vvsbench.measure.bench.targets import TARGETS
from vvsbench.measure.statistics import Interval
from vvsbench.runs import files

VERSION = 1

Row = dict[str, str | int | float | None]
"""One line of a table: column to value."""


def columns(name: str, value: Interval) -> Row:
    """A ratio, its interval and the rounds behind it."""
    return {name: value.value, "low": value.low, "high": value.high, "rounds": value.n}


@dataclass(frozen=True)
class Verdict:
    """A target and what was measured.

    Attributes:
        target: key of `TARGETS`.
        where: model, decoder, engine, batch size: what it was measured on.
        value, low, high: the ratio and its interval.
    """

    target: str
    where: str
    value: float
    low: float
    high: float

    @classmethod
    def of(cls, target: str, where: str, measured: Interval) -> Verdict:
        """From a measured ratio."""
        return cls(target, where, measured.value, measured.low, measured.high)

    @property
    def met(self) -> bool:
        """Whether the measured ratio is good enough."""
        return TARGETS[self.target].met(self.value)


@dataclass
class Section:
    """One part of a bench.

    Attributes:
        name, title: short, and for the reader.
        status: ok, failed, out_of_memory, out_of_time or left_out.
        seconds: that it took.
        note: what went wrong, or what the reader must know.
    """

    name: str
    title: str
    status: str = "ok"
    seconds: float = 0.0
    note: str = ""
    rows: list[Row] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)

    def take(self, found: Row | Verdict) -> None:
        """Add what the section has found."""
        if isinstance(found, Verdict):
            self.verdicts.append(found)
        else:
            self.rows.append(found)


@dataclass
class Report:
    """A whole bench.

    Attributes:
        bench: cpu or gpu.
        about: machine, versions, commit and settings.
    """

    bench: str
    about: Mapping[str, Any]
    sections: list[Section] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        """Everything, for JSON (experiments/measured/README.md says what is in it)."""
        verdicts = [
            asdict(verdict) | {"asked": TARGETS[verdict.target].asked, "met": verdict.met}
            for section in self.sections
            for verdict in section.verdicts
        ]
        sections = [{key: value for key, value in asdict(one).items() if key != "verdicts"} for one in self.sections]
        return {"version": VERSION, "bench": self.bench, **self.about, "sections": sections, "targets": verdicts}

    def write(self, path: Path) -> None:
        """Write the document."""
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write(path, (json.dumps(self.document(), indent=1) + "\n").encode())


def show(section: Section, console: Console) -> None:
    """Print a section's table."""
    if section.rows:
        columns = list(dict.fromkeys(key for row in section.rows for key in row))
        table = Table(title=section.title, title_justify="left", title_style="bold", box=None)
        for column in columns:
            words = any(isinstance(row.get(column), str) for row in section.rows)
            table.add_column(column, justify="left" if words else "right")
        for row in section.rows:
            table.add_row(*(_cell(column, row.get(column)) for column in columns))
        console.print(table)
    if section.status != "ok" or section.note:
        head = "" if section.status == "ok" else f"{section.title}: {section.status.replace('_', ' ')}. "
        console.print(f"{head}{section.note}", style="dim" if section.status == "ok" else "yellow", highlight=False)
    console.print()


def show_verdicts(sections: Sequence[Section], console: Console) -> None:
    """Print the targets, and which of them were met."""
    verdicts = [verdict for section in sections for verdict in section.verdicts]
    if not verdicts:
        return
    table = Table(title="targets", title_justify="left", title_style="bold", box=None)
    for heading in ("target", "asked", "measured", "", "where"):
        table.add_column(heading)
    for one in verdicts:
        target = TARGETS[one.target]
        measured = f"{one.value:.3g} [{one.low:.3g} to {one.high:.3g}]"
        table.add_row(target.text, target.asked, escape(measured), "met" if one.met else "missed", one.where)
    console.print(table)


def _cell(column: str, value: str | int | float | None) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.1%}" if column.startswith("share") else f"{value:#.3g}".rstrip(".")
    return str(value)
