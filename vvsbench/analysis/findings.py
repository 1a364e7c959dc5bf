"""The tables beyond cost and quality: pairs with the baseline, where tokens come from, depths of the draft, fronts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from vvsbench.analysis import claims, tables
from vvsbench.analysis.attainment import BEST, Attainment
from vvsbench.analysis.diagnostics import Depth, Diagnosis, diagnose
from vvsbench.analysis.estimate import Estimate, estimate, interval, number
from vvsbench.analysis.frame import StudyFrame
from vvsbench.analysis.hypervolume import Contest, Family, contest
from vvsbench.analysis.standings import INSIDE, OUTSIDE, UNKNOWN, Standings, standings
from vvsbench.analysis.tables import EMPTY, QUALITY_COLUMNS, Column, Entry, Line, Table

PAIRED_COLUMNS = (
    Column(
        "changed_tokens",
        "tokens that differ",
        "share of the tokens, at the same place of the same image",
        1,
        100.0,
        " %",
    ),
    Column(
        "token_distance",
        "distance of tokens",
        "mean Euclidean distance of the tokens at the same place, in units of the latent",
        3,
    ),
    Column("equal_images", "identical images", "images whose tokens all equal those of the baseline's image", 0),
    Column("pixel_change", "Δ pixels", "mean absolute difference of the pixels, 0 to 255", 2),
    *(
        Column(
            f"{column.name}_change", f"Δ {column.title}", column.hint, column.digits, column.scale, column.suffix, True
        )
        for column in sorted(QUALITY_COLUMNS, key=lambda column: column.name != "clip")
    ),
)
DRAFTING_COLUMNS = (
    Column("share_drawn", "drawn", "share of the tokens that the target drew", 1, 100.0, " %"),
    Column("share_accepted", "accepted", "share of the tokens that were drafted and accepted", 1, 100.0, " %"),
    Column("share_skipped", "skipped", "share of the tokens that were drafted and never verified", 1, 100.0, " %"),
    Column("tokens_per_skip", "tokens per skip", "drafted tokens kept at a step that skips verification", 2),
    Column(
        "agreed",
        "target’s own",
        "share of the skipped tokens that the target would have drawn itself, of those it looked at afterwards",
        *(1, 100.0, " %"),
    ),
    Column("rolled_back", "rolled back", "share of the skips whose tail was taken back", 1, 100.0, " %"),
    Column("drafted", "judged", "drafted tokens that the target judged, per image", 1),
    Column(
        "kept",
        "kept by the rule",
        "share of them that the rule keeps without any tolerance: mean over images",
        1,
        100.0,
        " %",
    ),
    Column("kept_relaxed", "kept", "share of them that was kept in fact: mean over images", 1, 100.0, " %"),
    Column("distance", "draft’s distance", "mean Euclidean distance of a draft to the target’s own aligned token", 3),
    Column("fallback", "fallback", "tokens per image that the method gave up on and replaced by its fallback", 2),
)
MOST_FAMILIES = 8
"""Families that are set against each other in a table; the others only have their area."""


def diagnoses(study: StudyFrame, rows: pd.DataFrame) -> dict[str, Diagnosis]:
    """What the steps of every cell that drafts did, by its key."""
    cells = {str(key): study.cells[str(key)] for key in rows.index}
    return {key: diagnose(cell.trace) for key, cell in cells.items() if cell.drafts}


def every(study: StudyFrame, rows: pd.DataFrame) -> list[Table]:
    """All tables of a comparison that have something to say, in the order of the page.

    Args:
        study: that the rows are of.
        rows: one comparison of it.
    """
    made = [
        against(standings(study, rows)),
        fronts(contest(study, rows)),
        tables.costs(rows, study.axis),
        tables.quality(rows),
        paired(rows),
    ]
    made += [drafting(rows), depths(rows, diagnoses(study, rows))]
    if published := claimed(study, rows):
        made.append(published.table)
    return [table for table in made if table is not None and table.columns and table.lines]


def claimed(study: StudyFrame, rows: pd.DataFrame) -> claims.Beside | None:
    """What papers claim about the cells, beside our numbers and apart from them; None where they claim nothing."""
    configs = {str(key): study.cells[str(key)].record.config for key in rows.index}
    return claims.beside(study.claims, study.stands_for, rows, configs)


def against(found: Standings | None) -> Table | None:
    """Where every cell stands against the front of the decoder to beat."""
    if found is None:
        return None
    changes = [cell.change for cell in found.cells if cell.change is not None]
    digits = _digits(changes) if changes else 2
    columns = [
        Column(
            "where", "lies", "outside: better than all that cost no more; inside: one of them is as good", words=True
        ),
        Column("rival", "best that costs no more", f"cell of {found.front} with the lowest FID", words=True),
        Column("change", "Δ FID ↓ against it", "FID less that cell's, paired image by image", digits),
    ]
    lines = [
        Line(cell.key, cell.label, cell.family, "", [_WHERE[cell.where], Entry(cell.rival or "none"), change])
        for cell in found.cells
        for change in [_change(cell.change, digits)]
    ]
    return Table("standings", f"Against the front of {found.front}", columns, lines, noted="")


_WHERE = {OUTSIDE: Entry(OUTSIDE, verdict="better"), INSIDE: Entry(INSIDE, verdict="worse"), UNKNOWN: Entry(UNKNOWN)}


def _change(found: Estimate | None, digits: int) -> Entry:
    if found is None:
        return EMPTY
    return Entry(number(found.value, digits, sign=True), interval(found, digits, sign=True))


def paired(rows: pd.DataFrame) -> Table | None:
    """Every decoder against the baseline, image by image; None without a baseline."""
    if "baseline" not in rows:
        return None
    compared = rows[~rows["is_baseline"] & rows["baseline"].notna()]
    if compared.empty:
        return None
    columns = tables.present(PAIRED_COLUMNS, compared)
    base = compared["baseline"].iloc[0]
    return Table("paired", f"In pairs with {base}: same prompts, same noise", columns, _lines(compared, columns, _pair))


def _pair(column: Column, row: pd.Series[Any]) -> Entry:
    found = estimate(row, column.name)
    if found is None:
        return EMPTY
    if column.name == "equal_images":
        return Entry(f"{int(found.value)} of {row['count']}")
    if not column.judged:
        return _plain(column, row)
    shown = tables.scaled(found, column.scale)
    digits, metric = column.digits, column.name.removesuffix("_change")
    text = number(shown.value, digits, sign=True) + column.suffix
    return Entry(text, interval(shown, digits, sign=True), tables.verdict(metric, found))


def drafting(rows: pd.DataFrame) -> Table | None:
    """Where the tokens of every decoder that drafts come from; None when none does."""
    if "share_drawn" not in rows or rows["share_drawn"].isna().all():
        return None
    drafted = rows[rows["share_drawn"].notna()]
    columns = tables.present(DRAFTING_COLUMNS, drafted)
    return Table("drafting", "Where the tokens come from", columns, _lines(drafted, columns, _plain))


def _plain(column: Column, row: pd.Series[Any]) -> Entry:
    found = estimate(row, column.name)
    if found is None:
        return EMPTY
    shown = tables.scaled(found, column.scale)
    return Entry(number(shown.value, column.digits) + column.suffix, interval(shown, column.digits))


def _lines(rows: pd.DataFrame, columns: Sequence[Column], entry: Any) -> list[Line]:
    return [
        Line(str(key), str(row["label"]), str(row["family"]), str(row["guarantee"]), [entry(c, row) for c in columns])
        for key, row in rows.iterrows()
    ]


def depths(rows: pd.DataFrame, found: Mapping[str, Diagnosis]) -> Table | None:
    """How often each depth of the draft held once the one before it had; None when no draft was ever accepted."""
    deepest = max((len(diagnosis.depths) for diagnosis in found.values()), default=0)
    if not deepest:
        return None
    columns = [
        Column(
            f"depth_{depth}",
            f"depth {depth}",
            f"share of the steps that accepted depth {depth}, of those with depth {depth - 1}",
        )
        for depth in range(1, deepest + 1)
    ]
    lines = [
        Line(key, str(row["label"]), str(row["family"]), str(row["guarantee"]), _depths(found[key].depths, deepest))
        for key, row in ((str(key), row) for key, row in rows.iterrows())
        if key in found and found[key].depths
    ]
    caption = "Acceptance by depth of the draft, once the depth before it was accepted"
    return Table("depths", caption, columns, lines, small="number of steps behind each share in small print")


def _depths(found: Sequence[Depth], deepest: int) -> list[Entry]:
    told = [
        Entry(f"{number(100 * depth.share, 0)} %", f"n={number(depth.steps, 0)}") if depth.steps else EMPTY
        for depth in found
    ]
    return [*told, *[EMPTY] * (deepest - len(told))]


def fronts(found: Contest | None) -> Table | None:
    """Families by the area of their fronts, and each less each other."""
    if found is None:
        return None
    rivals = found.families[:MOST_FAMILIES] if len(found.families) > 1 else []
    digits = _digits([*(family.volume for family in found.families), *found.differences.values()])
    columns = [
        Column("cells", "cells", "cells of the family, the baseline not counted", 0),
        Column("hypervolume", "hypervolume", "area between the family's front and the reference point", digits),
        *(
            Column(f"less_{rival.name}", f"less {rival.name}’s", f"hypervolume less that of {rival.name}", digits)
            for rival in rivals
        ),
    ]
    lines = [
        Line("", family.name, family.name, " · ".join(family.front), _against(family, found, rivals, digits))
        for family in found.families
    ]
    return Table("fronts", "Fronts by family", columns, lines, head="family", noted="its front")


def _against(family: Family, found: Contest, rivals: Sequence[Family], digits: int) -> list[Entry]:
    entries = [Entry(str(family.cells)), Entry(number(family.volume.value, digits), interval(family.volume, digits))]
    for rival in rivals:
        apart = found.differences.get((family.name, rival.name))
        if apart is None:
            entries.append(EMPTY)
            continue
        side = ("better" if apart.value > 0 else "worse") if apart.sure else ""
        entries.append(Entry(number(apart.value, digits, sign=True), interval(apart, digits, sign=True), side))
    return entries


def attained(found: Attainment) -> Table | None:
    """Areas of the surfaces of families over seeds; None without any."""
    if not found.families:
        return None
    surfaces = found.families[0].surfaces
    largest = max(family.surfaces[BEST].volume for family in found.families)
    digits = 0 if largest >= 100 else 1 if largest >= 10 else 3
    columns = [
        Column("cells", "cells", "cells of the family that every seed has, the baseline not counted", 0),
        *(Column(name, f"area, {name}", f"below what {one.seeds} seeds reach") for name, one in surfaces.items()),
        Column("ahead", "largest area", "seeds with which the family's own area is the largest of all"),
    ]
    lines = [
        Line(
            *("", family.name, family.name, ""),
            [
                Entry(str(family.cells)),
                *(Entry(number(family.surfaces[name].volume, digits)) for name in surfaces),
                Entry(f"with {family.ahead} of {len(found.seeds)} seeds"),
            ],
        )
        for family in found.families
    ]
    caption = f"Fronts over {len(found.seeds)} seeds{f' ({found.setting})' if found.setting else ''}"
    return Table("attainment", caption, columns, lines, head="family", noted="", small="")


def _digits(values: Sequence[Estimate]) -> int:
    """As many decimals as the intervals justify, the same for a whole table."""
    halves = pd.DataFrame([{"v": value.value, "v_low": value.low, "v_high": value.high} for value in values])
    return tables.settled(Column("v", "", "", 2), halves.astype(float)).digits
