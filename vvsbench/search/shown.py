"""What a search says at its end: the front, how far it can be trusted, and what to type next."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.table import Table

from vvsbench.analysis import tables
from vvsbench.analysis.dominance import Place, Placing, Relation, placing, relation
from vvsbench.analysis.estimate import Estimate
from vvsbench.commands import command
from vvsbench.config import RunConfig
from vvsbench.errors import UserError
from vvsbench.runs.console import Console
from vvsbench.runs.job import Outcome
from vvsbench.runs.store import StoredCell, read_record
from vvsbench.search.found import Member, confirmation, folder
from vvsbench.search.objectives import NotMeasured, difference, measured
from vvsbench.search.settings import OBJECTIVES
from vvsbench.search.trials import Search, State

COLUMNS = {column.name: column for column in (*tables.COST_COLUMNS, *tables.QUALITY_COLUMNS)}
Values = Mapping[str, Estimate]


def show(search: Search, front: Sequence[Member], ran: Sequence[Outcome]) -> None:
    """Print the front of a search.

    Args:
        search: that is over.
        front: what it found.
        ran: how the study's own cells ended.
    """
    console = Console()
    own = _own(search, front[0].run, ran)
    places = _places(search, front, own)
    console.show(_table(search, front, own, places))
    console.show(tables.legend([found.place for found in places.values()]))
    for line in (*_ended(search, front, places), *_next(front[-1], len(search.trials))):
        console.show(line)


@dataclass(frozen=True)
class Own:
    """A cell of the study itself.

    Attributes:
        cell: as it is stored.
        values: its objectives.
    """

    cell: StoredCell
    values: Values


def _own(search: Search, run: RunConfig, ran: Sequence[Outcome]) -> dict[str, Own]:
    """The study's own cells by their labels; those that are not measured are left out."""
    found: dict[str, Own] = {}
    for outcome in ran:
        place = Path(outcome.root) / "cells" / outcome.study / outcome.name
        try:
            values = measured(place, run.metrics.name, search.names)
            record = read_record(place)
        except (NotMeasured, UserError):
            continue
        if record is not None:
            found[record.label] = Own(StoredCell(place, record), values)
    return found


def _places(search: Search, front: Sequence[Member], own: Mapping[str, Own]) -> dict[str, Placing[str]]:
    """Where the settings of the front and the study's own cells lie among each other, by the rule of all fronts."""
    protocol = front[0].run.metrics.name
    cells = {label: one.cell for label, one in own.items()}
    for member in front:
        place = member.trial.folder
        if place is not None and (record := read_record(place)) is not None:
            cells[member.name] = StoredCell(place, record)

    def against(mine: StoredCell, other: StoredCell) -> Relation:
        return relation(difference(mine, other, protocol, name) for name in search.names)

    return {
        name: placing({rival: against(cell, other) for rival, other in cells.items() if rival != name})
        for name, cell in cells.items()
    }


def _table(
    search: Search, front: Sequence[Member], own: Mapping[str, Own], places: Mapping[str, Placing[str]]
) -> Table:
    """The study's own cells, then the front."""
    table = Table(
        title=f"{front[0].run.study.name}: front of {len(search.trials)} trials",
        title_justify="left",
        title_style="bold",
        box=SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column("name", overflow="fold", min_width=20)
    table.add_column("front", justify="center")
    for name in search.names:
        title, arrow = COLUMNS[name].title, "↑" if OBJECTIVES[name] else "↓"
        table.add_column(title if arrow in title else f"{title} {arrow}", justify="right")
    table.add_column("settings", overflow="fold")
    for label, one in own.items():
        look = tables.LOOKS[places[label].place]
        table.add_row(label, look, *_numbers(one.values), "of the study itself", style="dim")
    for member in front:
        settings = search.space.told(member.trial.overrides).split(" ")
        found = places.get(member.name, Placing(Place.unknown))
        beaten = [f"(dominated by {label})" for label in found.by]
        look = tables.LOOKS[found.place]
        table.add_row(member.name, look, *_numbers(member.trial.values), "\n".join([*settings, *beaten]))
    return table


def _numbers(values: Values) -> list[str]:
    found = []
    for name, one in values.items():
        row = pd.Series({name: one.value, f"{name}_low": one.low, f"{name}_high": one.high, "is_baseline": False})
        entry = tables.entry(COLUMNS[name], row)
        found.append(f"{entry.text}\n{entry.interval}" if entry.interval else entry.text)
    return found


def _ended(search: Search, front: Sequence[Member], places: Mapping[str, Placing[str]]) -> list[str]:
    """How the trials ended."""
    cells = len({trial.folder for trial in search.trials if trial.state is State.measured})
    sure = sum(places[member.name].place is Place.front for member in front if member.name in places)
    said = [
        f"{len(search.trials)} trials: {cells} different cells measured; by the numbers alone {len(front)} of them are "
        f"the front, and of {sure} it can be told"
    ]
    for state in (State.failed, State.impossible):
        if number := search.count(state):
            first = next(trial for trial in search.trials if trial.state is state)
            said.append(f"{number} {state.value}, the first with {search.space.told(first.overrides)}: {first.why}")
    return said


def _next(member: Member, trials: int) -> list[str]:
    """What the front is worth, and what to do with it."""
    run, root, confirm = member.run, folder(member.run), confirmation(member.run)
    usual = run.output_root == RunConfig.output_root
    place = "" if usual else f"--config-dir {shlex.quote(str(root.resolve()))} "
    uses = [f"decoder={member.name}", *([f"schedule@decoder.schedule={member.name}"] if member.schedule else [])]
    return [
        f"The front was chosen on these very {run.count} images, and the best of {trials} noisy trials look better "
        "than they are.",
        f"to confirm it under another seed: vvsbench run {place}study={confirm} && "
        f"{command('report', f'study={confirm}', root=run.output_root)}",
        f"saved in {root}; each is an option of vvsbench run{f' {place}'.rstrip()}: {' or '.join(uses)}",
    ]
