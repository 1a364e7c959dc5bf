"""What papers claim, beside what was measured here: read from experiments/published, never mixed with our own numbers.

A file there holds the figures of one paper, each with its source and the grade of the evidence: most of these papers'
tables are known through other people's notes. A claim names its cell by settings of a study's file; at another size of
the study (`size=smoke`) it finds what stands in for that cell, and is said to be about another model.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pandas as pd
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator

from vvsbench import config
from vvsbench.analysis.estimate import Estimate, estimate, interval, number
from vvsbench.analysis.settings import fits
from vvsbench.analysis.tables import Column, Entry, Line, Table, scaled
from vvsbench.errors import UserError

Grade = Literal["paper", "reading notes", "re-measured"]
"""Where a figure was read: in its authors' own publication, in someone's notes of it, or in a later paper that took it
again (itself, as a rule, read in notes)."""

OURS = {
    "speed-up": "speed_up",
    "step compression": "step_compression",
    "target forwards": "target_forwards",
    "seconds per image": "seconds_per_image",
    "accepted length": "accepted_length",
    "acceptance": "kept_relaxed",
    "token distance": "distance",
    "FID": "fid",
    "IS": "is",
    "CLIP": "clip",
    "precision": "precision",
    "recall": "recall",
}
"""Claimed quantities that this package measures too, and the column of the frame that has them."""

OTHERS = (
    *("FID change", "GenEval", "DPG", "HPSv2", "rFID", "accepted length kept", "accepted length lost", "draft cost"),
    *("feature cosine", "similar paths", "similarity cost", "mean ratio", "memory ratio", "seconds per batch"),
    "tokens equal",
)
"""Claimed quantities that it does not."""

SCALES = {("CLIP", "cosine"): 0.01}
"""Our number in the unit of a claim: ours is 100 times the cosine."""

WEAK = "†"
"""Marks every claim that was not read in its authors' own publication."""


class ClaimsError(UserError):
    """A file of published figures is missing or wrong."""


def _blank(text: Any) -> Any:
    return None if text == "" else text


class Claim(BaseModel):
    """One published figure.

    Attributes:
        paper: that reports it.
        arxiv: its number there, empty when the sources do not say.
        table: where in the paper.
        metric: a key of `OURS`, or one of `OTHERS`.
        value: as printed.
        spread: half width that the paper prints behind it.
        by: whose publication or notes it was read in; of a re-measured figure, who measured it.
        target: names of conf/model that it is about, by spaces; empty when there is none here.
        cell: the other settings of its cell in a study's file, by spaces.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    paper: str = Field(min_length=1)
    arxiv: str = Field(pattern=r"^(\d{4}\.\d{5})?$")
    table: str = Field(min_length=1)
    method: str = Field(min_length=1)
    model: str = Field(min_length=1)
    setting: str
    hardware: str
    metric: str
    value: float
    unit: Literal["", "x", "tokens", "s", "share", "cosine", "cosine x100"]
    spread: Annotated[float | None, BeforeValidator(_blank)]
    grade: Grade
    by: str = Field(min_length=1)
    note: str
    target: str
    cell: str

    @field_validator("metric")
    @classmethod
    def _known(cls, metric: str) -> str:
        if metric not in OURS and metric not in OTHERS:
            raise ValueError(f"no such metric; choose from {', '.join([*OURS, *OTHERS])}")
        return metric

    @property
    def weak(self) -> bool:
        """Whether it was not read in its authors' own publication."""
        return self.grade != "paper"

    @property
    def source(self) -> str:
        """Where it stands, how it is known, and what has to be known of it."""
        where = ", ".join(word for word in (self.table, self.model, self.hardware) if word)
        known = self.by if self.grade == "paper" else f"{self.grade}: {self.by} {WEAK}"
        told = [f"{self.paper}{f' ({self.arxiv})' if self.arxiv else ''}, {where}", known, self.note]
        return "; ".join(text for text in told if text)

    def of(self, settings: Mapping[str, Any], stands_for: Mapping[str, str]) -> tuple[bool, bool]:
        """Whether it is about a cell, and whether that is a cell of the model that it speaks of.

        Args:
            settings: of the cell, resolved.
            stands_for: overrides of the study's file to what the size that was run has instead.
        """
        words = self.cell.split()
        taken = set(stands_for.values()) - stands_for.keys()  # at this size they mean another cell
        rest = [stands_for.get(word, word) for word in words]
        if not self.target or not rest or taken & set(words) or not all(fits(settings, word) for word in rest):
            return False, False
        models = [f"model={name}" for name in self.target.split()]
        same = any(fits(settings, word) for word in models)
        return same or any(fits(settings, stands_for.get(word, word)) for word in models), same


def published(names: Sequence[str]) -> list[Claim]:
    """The figures of some files, in their order.

    Args:
        names: of files in experiments/published, without suffix.

    Raises:
        ClaimsError: a file is missing or wrong.
    """
    folder = config.folder("experiments") / "published"
    if wrong := [name for name in names if not config.STUDY_NAME.fullmatch(name)]:
        raise ClaimsError(f"study.claims={wrong[0]} is no file of {folder}.")
    return [claim for name in names for claim in read(folder / f"{name}.csv")]


def read(path: Path) -> list[Claim]:
    """The figures of one file.

    Raises:
        ClaimsError: it is missing, or a line of it is wrong; the message names line and column.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            lines = csv.DictReader(file, restkey="(more)", restval=None)
            return [_claim(path, number, line) for number, line in enumerate(lines, start=2)]
    except FileNotFoundError:
        known = ", ".join(sorted(other.stem for other in path.parent.glob("*.csv")))
        raise ClaimsError(f"{path} does not exist; study.claims can name {known}.") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise ClaimsError(f"{path} cannot be read as CSV ({error}).") from error


def _claim(path: Path, number: int, line: Mapping[str, Any]) -> Claim:
    try:
        return Claim.model_validate(line)
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(map(str, one['loc']))}={one['input']!r}: {one['msg']}"
            for one in error.errors(include_url=False)
        )
        raise ClaimsError(f"{path}, line {number}: {wrong}.") from error


COLUMNS = (
    Column("setting", "its setting", "what the publication says of the cell", words=True),
    Column("metric", "metric", "", words=True),
    Column("ours", "ours", "as in the tables above"),
    Column("claimed", "claimed", "as published; a half width behind ± is the publication's own"),
    Column("difference", "ours less claimed", "", words=True),
    Column("source", "source", "see below the table", words=True),
)


@dataclass(frozen=True)
class Match:
    """A claim about a cell.

    Attributes:
        key: of the cell.
        same: whether the cell's model is the one that the claim speaks of.
    """

    key: str
    claim: Claim
    same: bool


@dataclass(frozen=True)
class Beside:
    """Claims beside our numbers.

    Attributes:
        about: what a reader must know of them.
        sources: of the claims, numbered from 1 in the table.
    """

    table: Table
    about: str
    sources: Sequence[str]


def beside(
    claims: Sequence[Claim], stands_for: Mapping[str, str], rows: pd.DataFrame, configs: Mapping[str, Any]
) -> Beside | None:
    """Our numbers, the claims about the same cells and their differences.

    Args:
        claims: that the study names.
        stands_for: see `vvsbench.config.StudyConfig`.
        rows: one comparison of a frame.
        configs: resolved settings by cell key.

    Returns:
        A table with a line per claim and cell; None when no claim is about a cell of the comparison.
    """
    found = [
        Match(str(key), claim, same)
        for key in rows.index
        for claim in claims
        for about, same in [claim.of(configs[str(key)], stands_for)]
        if about
    ]
    if not found:
        return None
    sources = list(dict.fromkeys(one.claim.source for one in found))
    digits = {one.claim.metric: 1 for one in found}
    for one in found:
        digits[one.claim.metric] = max(digits[one.claim.metric], _decimals(one.claim.value))
    by_key = {str(key): row for key, row in rows.iterrows()}
    lines = [_line(one, by_key[one.key], digits[one.claim.metric], sources) for one in found]
    table = Table("claims", "Claims beside ours", COLUMNS, lines, noted="method in the claim", small="")
    return Beside(table, _about(found, str(configs[found[0].key]["model"]["name"])), sources)


def _about(found: Sequence[Match], model: str) -> str:
    text = (
        "Claims are other people’s numbers, on their hardware and by their protocol; none of them enters a table, a "
        f"front or a chart of ours. {WEAK} marks what was not read in its authors’ own publication, but in notes of it "
        "or in a later paper."
    )
    others = list(dict.fromkeys(one.claim.model for one in found if not one.same))
    if not others:
        return text
    return (
        f"These claims are about {', '.join(others)}, and what was run here is {model}: nothing can be compared. {text}"
    )


def _line(one: Match, row: pd.Series[Any], digits: int, sources: Sequence[str]) -> Line:
    claim, found = one.claim, _ours(one.claim, row)
    ours = Entry("not measured")
    if found is not None:
        ours = Entry(number(found.value, digits), interval(found, digits))
    spread = "" if claim.spread is None else f" ± {claim.spread:g}"
    entries = [
        Entry(claim.setting),
        Entry(f"{claim.metric}, {claim.unit}" if claim.unit else claim.metric),
        ours,
        Entry(f"{number(claim.value, digits)}{spread}{f' {WEAK}' if claim.weak else ''}"),
        Entry(_difference(one, found, digits)),
        Entry(f"{claim.paper} [{sources.index(claim.source) + 1}]"),
    ]
    return Line(one.key, str(row["label"]), str(row["family"]), claim.method, entries)


def _ours(claim: Claim, row: pd.Series[Any]) -> Estimate | None:
    """Our number in the claim's unit."""
    found = estimate(row, OURS[claim.metric]) if claim.metric in OURS else None
    return None if found is None else scaled(found, SCALES.get((claim.metric, claim.unit), 1.0))


def _difference(one: Match, ours: Estimate | None, digits: int) -> str:
    """Ours less the claim, or why there is none."""
    if not one.same:
        return "– (another model)"
    if ours is None:
        return "– (not measured)"
    return number(ours.value - one.claim.value, digits, sign=True)


def _decimals(value: float) -> int:
    """Decimals of a number as it was published."""
    return len(f"{value:.10f}".rstrip("0").partition(".")[2])
