"""The tables of a report, first what it cost and how good it is, and their forms: Markdown, LaTeX and the terminal.

A table is built once from the frame, as text; the page, the terminal and the paper only set it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.table import Table as RichTable
from rich.text import Text

from vvsbench.analysis.costs import Axis
from vvsbench.analysis.dominance import Place
from vvsbench.analysis.estimate import Estimate, estimate, interval, number

RATIOS = ("forwards_ratio", "cost_ratio", "speed_up")
"""Columns that say how many times cheaper than the baseline a cell is."""
LOWER_IS_BETTER = frozenset({"fid", "sfid", "kid"})


@dataclass(frozen=True)
class Column:
    """One quantity of a table.

    Attributes:
        name: column of the frame.
        title: heading, the unit included.
        hint: what it means, for a reader who hovers or reads the notes.
        digits: decimals at most; fewer when the intervals are wide.
        scale: shown is the value times this.
        suffix: behind the number.
        judged: whether a change against the baseline beyond its interval is marked.
        words: whether its entries are words, which are set to the left.
        prose: what a sentence calls it; by default its heading without unit and arrow.
    """

    name: str
    title: str
    hint: str
    digits: int = 2
    scale: float = 1.0
    suffix: str = ""
    judged: bool = False
    words: bool = False
    prose: str = ""

    @property
    def spoken(self) -> str:
        """Its name in a sentence."""
        return self.prose or self.title.rstrip(" ↓↑")


COST_COLUMNS = (
    Column(
        "step_compression", "step compression", "image tokens per target forward, prefill included: mean over images"
    ),
    Column(
        "forwards_ratio", "fewer forwards", "target forwards of the baseline divided by these, same images", suffix="×"
    ),
    Column("cost", "cost in target calls", "FLOPs of all transformers and heads over those of one target call", 2),
    Column("cost_ratio", "less computation", "cost of the baseline divided by this one's, same images", suffix="×"),
    Column("target_forwards", "target forwards", "per image, without prefill", 1),
    Column("prefill_forwards", "prefill", "target forwards that read the prompt, per image", 0),
    Column("draft_forwards", "draft forwards", "forwards of the drafter per image", 1),
    Column(
        "target_head_evaluations",
        "target head evaluations",
        "tokens times denoising steps that the target's head computes per image; a guided pair counts once",
        0,
    ),
    Column("draft_head_evaluations", "draft head evaluations", "the same of the drafter's head", 0),
    Column("target_positions", "target positions", "token positions that the target computes per image", 0),
    Column("accepted_length", "tokens per verified step", "accepted drafts and the token the target adds"),
    Column(
        "seconds_per_image",
        "seconds per image",
        "wall clock of decoding, divided by the images; taken one decoder after the other on this machine",
        4,
    ),
    Column(
        "speed_up",
        "speed-up",
        "seconds of the baseline divided by these, same images; taken one decoder after the other",
        suffix="×",
    ),
    Column(
        "timed_speed_up",
        "speed-up, in turn",
        "median of the ratios of baseline and cell, timed in turn (stage=speed)",
        suffix="×",
    ),
)
QUALITY_COLUMNS = (
    Column("fid", "FID ↓", "Fréchet distance to the reference, of features", 2, judged=True),
    Column("sfid", "sFID ↓", "Fréchet distance to the reference, of features with their places", 2, judged=True),
    Column("kid", "KID ×10³ ↓", "kernel distance to the reference, of features", 2, 1000.0, judged=True),
    Column("is", "IS ↑", "inception score", 2, judged=True),
    Column("precision", "precision ↑", "share of the images inside the reference's manifold", 3, judged=True),
    Column("recall", "recall ↑", "share of the reference inside the images' manifold", 3, judged=True),
    Column("clip", "CLIP ↑", "CLIP score with the prompt, times 100", 2, judged=True, prose="the CLIP score"),
    Column(
        "hps",
        "HPS ↑",
        "human preference score v2 for the prompt, times 100",
        2,
        judged=True,
        prose="the preference score",
    ),
    Column(
        "accuracy",
        "class accuracy ↑",
        "share of the images in which the class is recognised",
        1,
        100.0,
        " %",
        judged=True,
    ),
    Column(
        "hue", "hue agreement ↑", "how far the strong colours of an image are of one hue; 1 for one", 3, judged=True
    ),
)


@dataclass(frozen=True)
class Entry:
    """One number as text.

    Attributes:
        interval: 95 %, empty without one.
        verdict: "better", "worse" or empty: against the baseline, beyond the interval of the difference.
    """

    text: str
    interval: str = ""
    verdict: str = ""


@dataclass(frozen=True)
class Line:
    """One line of a table, as a rule a cell of the study.

    Attributes:
        key: of the cell; empty for a line about something else.
        family: for its colour; empty for none.
        note: below its label; of a cell its guarantee.
    """

    key: str
    label: str
    family: str
    note: str
    entries: Sequence[Entry]


@dataclass(frozen=True)
class Table:
    """A table of text.

    Attributes:
        name: short, for the names of files and labels.
        caption: its heading.
        head: heading of the labels.
        noted: heading of the notes; empty when there are none.
        small: what the small print of its entries is; empty when there is none.
    """

    name: str
    caption: str
    columns: Sequence[Column]
    lines: Sequence[Line]
    head: str = "decoder"
    noted: str = "guarantee"
    small: str = "95 % intervals in brackets"


EMPTY = Entry("\N{EN DASH}")


def costs(rows: pd.DataFrame, axis: Axis) -> Table:
    """What every decoder costs, and where it lies.

    Args:
        rows: one comparison of a frame.
        axis: the study's cost.
    """
    made = _table("cost", "What it costs", COST_COLUMNS, rows)
    places = rows[axis.place] if axis.place in rows else pd.Series(None, rows.index)
    if places.isna().all():
        return made
    place = Column("place", "place", f"in {axis.short} and FID, as far as intervals tell", words=True)
    told = [EMPTY if pd.isna(found) else Entry(str(found)) for found in places]
    lines = [replace(line, entries=[found, *line.entries]) for line, found in zip(made.lines, told, strict=True)]
    return replace(made, columns=[place, *made.columns], lines=lines)


def quality(rows: pd.DataFrame) -> Table:
    """How good every decoder's images are."""
    return _table("quality", "How good the images are", QUALITY_COLUMNS, rows)


def external(rows: pd.DataFrame) -> Table | None:
    """Imported image sets: how good they are, beside what made ours; None without any.

    Args:
        rows: of `vvsbench.analysis.frame.StudyFrame.external`.
    """
    if rows.empty:
        return None
    images = Column("count", "images", "number of images in the set; metrics compare at equal counts only", 0)
    made = _table("external", EXTERNAL, (images, *QUALITY_COLUMNS), rows)
    protocol = Column("protocol", "protocol", "that the set was scored under", words=True)
    source = Column("source", "imported from", "folder or file that it was read from", words=True)
    told = [[Entry(str(row["protocol"]) or "not scored"), Entry(str(row["source"]))] for _, row in rows.iterrows()]
    lines = [replace(line, entries=[*line.entries, *more]) for line, more in zip(made.lines, told, strict=True)]
    return replace(made, columns=[*made.columns, protocol, source], lines=lines, head="image set", noted="origin")


EXTERNAL = "Image sets that others made, imported and scored here"
"""Caption of the table of them."""


def _table(name: str, caption: str, columns: Sequence[Column], rows: pd.DataFrame) -> Table:
    chosen = present(columns, rows)
    lines = [
        Line(str(key), str(row["label"]), str(row["family"]), str(row["guarantee"]), [entry(c, row) for c in chosen])
        for key, row in rows.iterrows()
    ]
    return Table(name, caption, chosen, lines)


def present(columns: Sequence[Column], rows: pd.DataFrame) -> list[Column]:
    """The columns that some row has a number for, settled."""
    found = [column for column in columns if column.name in rows and rows[column.name].notna().any()]
    return [settled(column, rows) for column in found]


def settled(column: Column, rows: pd.DataFrame) -> Column:
    """A column with as many decimals as its intervals justify: two digits of the typical half width."""
    return replace(column, digits=_digits(column, rows))


def _digits(column: Column, rows: pd.DataFrame) -> int:
    if f"{column.name}_low" not in rows:
        return column.digits
    halves = (rows[f"{column.name}_high"] - rows[f"{column.name}_low"]).dropna().astype(float) * column.scale / 2
    halves = halves[halves > 0]
    if halves.empty:
        return column.digits
    return max(0, min(column.digits, 1 - math.floor(math.log10(float(halves.median())))))


def entry(column: Column, row: pd.Series[Any]) -> Entry:
    """A number of a row as a table shows it."""
    found = estimate(row, column.name)
    if found is None or (row["is_baseline"] and column.name in RATIOS):
        return EMPTY if found is None else Entry("1" + column.suffix)
    shown = scaled(found, column.scale)
    return Entry(
        number(shown.value, column.digits) + column.suffix,
        interval(shown, column.digits),
        verdict(column.name, estimate(row, f"{column.name}_change")) if column.judged else "",
    )


def scaled(found: Estimate, scale: float) -> Estimate:
    """The same in another unit."""
    low = None if found.low is None else found.low * scale
    high = None if found.high is None else found.high * scale
    return Estimate(found.value * scale, low, high)


def verdict(metric: str, change: Estimate | None) -> str:
    """Whether a change is beyond its interval, and to which side."""
    if change is None or not change.sure:
        return ""
    return "better" if (change.value < 0) == (metric in LOWER_IS_BETTER) else "worse"


MARKS = {"better": " ▲", "worse": " ▼", "": ""}


def markdown(table: Table) -> str:
    """A GitHub table; intervals behind the numbers."""
    noted = [table.noted] if table.noted else []
    heads = [table.head, *noted, *(column.title for column in table.columns)]
    rules = ["---"] * (1 + len(noted)) + ["---" if column.words else "---:" for column in table.columns]
    lines = ["| " + " | ".join(heads) + " |", "|" + "|".join(rules) + "|"]
    for line in table.lines:
        numbers = [f"{e.text}{MARKS[e.verdict]}{' ' + e.interval if e.interval else ''}" for e in line.entries]
        told = [f"**{plain(line.label)}**", *([plain(line.note)] if noted else []), *map(plain, numbers)]
        lines.append("| " + " | ".join(text.replace("|", "\\|") for text in told) + " |")
    return "\n".join(lines)


def plain(text: str) -> str:
    """Text on one line that Markdown shows as it is: no tag, link, picture or code begins in it."""
    return re.sub(r"([\\`*<]|(?<=\])\()", r"\\\1", re.sub(r"\s*\n\s*", " ", text))


FORMULAS = frozenset("=+-@")
"""What a formula begins with in a spreadsheet."""


def formula_free(rows: pd.DataFrame) -> pd.DataFrame:
    """The same with no text that a spreadsheet would compute: one that could gets an apostrophe in front."""

    def text(value: Any) -> Any:
        return f"'{value}" if isinstance(value, str) and value.lstrip()[:1] in FORMULAS else value

    texts = [name for name in rows.columns if rows[name].dtype.kind not in "biufc"]
    return rows.assign(**{name: rows[name].map(text) for name in texts}).rename(index=text)


ESCAPES = (
    {"\\": r"\textbackslash{}"}
    | {mark: f"\\{mark}" for mark in "&%$#_{}"}
    | {
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "×": r"$\times$",
        "³": r"$^3$",
        "↓": r"$\downarrow$",
        "↑": r"$\uparrow$",
        "–": "--",
        "\N{MINUS SIGN}": "$-$",
        "\N{THIN SPACE}": r"\,",
        "\N{NO-BREAK SPACE}": "~",
        "Δ": r"$\Delta$",
        "≤": r"$\leq$",
        "±": r"$\pm$",
        "†": r"$\dagger$",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        "’": "'",
    }
)


def escape(text: str) -> str:
    """Text for LaTeX, on one line; what begins with a bracket would be taken for an option of the command before it."""
    made = _marks(" ".join(text.split("\n")))
    return f"{{}}{made}" if made.startswith(("[", "*")) else made


def _marks(text: str) -> str:
    return "".join(ESCAPES.get(mark, mark) for mark in text)


def latex(table: Table, label: str) -> str:
    """A booktabs table; intervals in small print below the numbers.

    Args:
        table: to set.
        label: of the table environment.
    """
    heads = [rf"\textbf{{{escape(table.head)}}}", *(_stacked(column.title) for column in table.columns)]
    small = f"; {table.small}" if table.small else ""
    body = []
    for line in table.lines:
        body.append(" & ".join([escape(line.label), *(escape(entry.text) for entry in line.entries)]) + r" \\")
        if any(entry.interval for entry in line.entries):
            below = [
                rf"{{\tiny {escape(entry.interval).removeprefix('{}')}}}" if entry.interval else ""
                for entry in line.entries
            ]
            body.append(" & ".join(["", *below]) + r" \\[2pt]")
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering\footnotesize\setlength{\tabcolsep}{4pt}",
            rf"\caption{{{escape(table.caption + small)}.}}",
            rf"\label{{tab:{label}}}",
            rf"\begin{{tabular}}{{l{''.join('l' if column.words else 'r' for column in table.columns)}}}",
            r"\toprule",
            " & ".join(heads) + r" \\",
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def _stacked(title: str) -> str:
    """A heading on as many lines as it needs, without a package."""
    words = title.split(" ")
    lines = (
        [" ".join(words)]
        if len(title) <= 12
        else [" ".join(words[: len(words) // 2]), " ".join(words[len(words) // 2 :])]
    )
    return r"\begin{tabular}[b]{@{}r@{}}" + r"\\".join(escape(line) for line in lines) + r"\end{tabular}"


TERMINAL = {
    "seconds_per_image": "seconds per image",
    "fid": "FID ↓",
    "accuracy": "accuracy ↑",
}
"""What fits into eighty letters beside the study's own cost, and its headings there."""


WIDTHS = {"fid": 20, "seconds_per_image": 9, "accuracy": 8}
"""Letters of the terminal's columns, ten of the others: labels and headings give way, numbers do not."""


LOOKS = {Place.front: "●", Place.unknown: "◐", Place.dominated: "○"}
"""Places in a terminal."""


def console(rows: pd.DataFrame, title: str, axis: Axis) -> RichTable:
    """The front as a table for a terminal.

    Args:
        rows: one comparison of a frame.
        title: above it.
        axis: the cost of that front.
    """
    places = {str(key): Place(place) for key, place in rows[axis.place].dropna().items()}
    heads = {axis.column: axis.unit} | TERMINAL
    wanted = [column for column in (*COST_COLUMNS, *QUALITY_COLUMNS) if column.name in heads]
    table = _table("front", title, wanted, rows)
    shown = RichTable(
        title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True
    )
    shown.add_column("decoder", max_width=28)
    shown.add_column("front", justify="center")
    for column in table.columns:
        shown.add_column(heads[column.name], justify="right", width=WIDTHS.get(column.name, 10))
    for line in table.lines:
        numbers = [_printed(column, entry) for column, entry in zip(table.columns, line.entries, strict=True)]
        shown.add_row(line.label, LOOKS[places[line.key]] if line.key in places else "", *numbers)
    if places:
        shown.caption, shown.caption_justify = legend(list(places.values())), "left"
    return shown


def legend(places: Sequence[Place]) -> str:
    """What the looks of places mean.

    Args:
        places: that occur.
    """
    return "   ".join(f"{look} {place}" for place, look in LOOKS.items() if place in places)


def _printed(column: Column, entry: Entry) -> Text:
    """A number for a terminal: of the intervals only FID's, since a line has eighty letters."""
    text = Text(entry.text)
    return text.append(f" {entry.interval}", style="dim") if column.name == "fid" and entry.interval else text
