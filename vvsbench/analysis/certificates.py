"""What `make certify` found on the toy target: who is exact, that the tests can fail, and how far the others are off.

The file is shipped with the experiments. A certificate is about code: one that was made by other code than the present
is shown, and said to be so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ValidationError

from vvsbench import config, identity
from vvsbench.analysis.estimate import Estimate, interval, number
from vvsbench.analysis.tables import Column, Entry, Line, Table
from vvsbench.runs.store import RecordError

FILE = "certificates.json"
COMMAND = "make certify"
KINDS = ("exact", "controls", "relaxed", "continuous", "continuous_controls")
"""The lists of the file, a table each."""


class Made(BaseModel):
    """How the certificates were made."""

    date: str
    code_digest: str
    draws: int
    alpha: float
    power: str


class Exact(BaseModel):
    """One combination that promises the target's distribution, and the test of its samples against it."""

    structure: str
    source: str
    candidates: str
    rule: str
    schedule: str
    batch: int
    sampling: str
    draws: int
    test: str = "law"  # law: chi-square against the enumerated law; ar, batch: token for token, which has no p-value
    p_value: float
    passed: bool


class Control(BaseModel):
    """A wrong decoder, which the tests must catch."""

    name: str
    what: str
    p_value: float
    caught: bool


class Relaxed(BaseModel):
    """A decoder that promises less, with its measured distance to the target."""

    decoder: str
    setting: str
    sampling: str
    tv: float
    low: float
    high: float
    tokens_per_forward: float


class Continuous(BaseModel):
    """A case of continuous tokens or a decoder of them, and the test of its samples against their law."""

    case: str
    dtype: str
    draws: int
    kept: float
    overlap: float | None
    ks: float
    ks_critical: float
    covariance: float
    p_value: float
    passed: bool


class ContinuousControl(BaseModel):
    """A wrong rule, loop or decoder of continuous tokens, which the tests must catch."""

    name: str
    what: str
    case: str
    draws: int
    kept: float
    fallback: float
    ks: float
    ks_critical: float
    covariance: float
    p_value: float
    caught: bool


class Certificates(BaseModel):
    """The file."""

    version: Literal[2]
    made: Made
    exact: list[Exact]
    controls: list[Control]
    relaxed: list[Relaxed]
    continuous: list[Continuous]
    continuous_controls: list[ContinuousControl]

    @property
    def stale(self) -> bool:
        """Whether they were made by other code than the present."""
        return self.made.code_digest != identity.code_digest()


@dataclass(frozen=True)
class Proofs:
    """What a report says about certificates.

    Attributes:
        said: sentences above the tables; without a file the only one says what makes it.
        tables: the exact combinations, the controls and the relaxed decoders; then those of continuous tokens.
    """

    said: Sequence[str]
    tables: Sequence[Table]


def path() -> Path:
    """Where the certificates are."""
    return config.folder("experiments") / FILE


def read(where: Path) -> Certificates | None:
    """Read the certificates; None without a file.

    Raises:
        RecordError: it is damaged or of another version.
    """
    try:
        return Certificates.model_validate_json(where.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (ValidationError, UnicodeDecodeError) as error:
        raise RecordError(f"{where} is damaged or of another version; {COMMAND} makes it anew.") from error


def proofs(where: Path) -> Proofs:
    """The section of a report.

    Args:
        where: the file.
    """
    try:
        found = read(where)
    except RecordError as error:
        return Proofs([str(error)], [])
    if found is None:
        return Proofs([f"There are no certificates yet: {COMMAND} makes them."], [])
    made = [
        exact(found.exact),
        controls(found.controls),
        relaxed(found.relaxed),
        continuous(found.continuous),
        continuous_controls(found.continuous_controls),
    ]
    return Proofs(_said(found), [table for table in made if table.lines])


def _said(found: Certificates) -> list[str]:
    made = found.made
    said = [
        f"Made on {made.date[:10]} by {COMMAND}: {number(made.draws, 0)} samples per combination against the toy "
        f"target’s enumerated distribution, tested at level {made.alpha:g}. Power: {made.power.rstrip('.')}."
    ]
    if failed := [one for one in found.exact if not one.passed]:
        names = ", ".join(dict.fromkeys(f"{one.rule} on {one.structure}" for one in failed))
        said.append(f"{len(failed)} of {len(found.exact)} exact combinations failed: {names}.")
    if wrong := [f"{one.case} in {one.dtype}" for one in found.continuous if not one.passed]:
        said.append(f"{len(wrong)} of {len(found.continuous)} cases of continuous tokens failed: {', '.join(wrong)}.")
    controls: list[Control | ContinuousControl] = [*found.controls, *found.continuous_controls]
    if missed := [one.name for one in controls if not one.caught]:
        said.append(f"Not caught, so the tests have no power against it: {', '.join(missed)}.")
    if found.stale:
        said.append(f"They were made by other code than the present; {COMMAND} makes them anew.")
    return said


def exact(found: Sequence[Exact]) -> Table:
    """Exact combinations, one line per rule, candidates and structure."""
    columns = [
        Column("structure", "structure", "", words=True),
        Column("source", "draft sources", "", words=True),
        Column("schedule", "schedules", "", words=True),
        Column("batch", "batch sizes", "", words=True),
        Column("sampling", "sampling settings", "settings of temperature, top-k and top-p", 0),
        Column("number", "passed", "combinations whose samples fit the target, of those tested", 0),
        Column("p_value", "smallest p-value", "of tests against the law; the others compare with ar, token for token"),
    ]
    groups: dict[tuple[str, str, str], list[Exact]] = {}
    for one in found:
        groups.setdefault((one.rule, one.candidates, one.structure), []).append(one)
    lines = [
        Line("", f"{rule}, {candidates}", "", "", [Entry(structure), *_combinations(members)])
        for (rule, candidates, structure), members in groups.items()
    ]
    caption = "Exact decoders: samples against the target’s enumerated distribution"
    return Table("exact", caption, columns, lines, head="rule, candidates", noted="", small="")


def _combinations(members: Sequence[Exact]) -> list[Entry]:
    passed = sum(one.passed for one in members)
    whole = passed == len(members)
    return [
        Entry(", ".join(dict.fromkeys(one.source for one in members))),
        Entry(", ".join(dict.fromkeys(one.schedule for one in members))),
        Entry(", ".join(str(size) for size in sorted({one.batch for one in members}))),
        Entry(str(len({one.sampling for one in members}))),
        Entry(f"{passed} of {len(members)}", verdict="" if whole else "worse"),
        Entry(small(min(laws)) if (laws := [one.p_value for one in members if one.test == "law"]) else "–"),
    ]


def controls(found: Sequence[Control]) -> Table:
    """Wrong decoders that must be caught."""
    columns = [
        Column("what", "what is wrong", "", words=True),
        Column("p_value", "p-value", "of its samples against the target"),
        Column("caught", "caught", "", words=True),
    ]
    lines = [Line("", one.name, "", "", [Entry(one.what), Entry(small(one.p_value)), _caught(one)]) for one in found]
    return Table("controls", "Wrong decoders, which the tests must catch", columns, lines, "control", "", "")


def _caught(one: Control | ContinuousControl) -> Entry:
    return Entry("yes") if one.caught else Entry("no", verdict="worse")


def relaxed(found: Sequence[Relaxed]) -> Table:
    """Relaxed rules and skip schedules with their distance to the target."""
    columns = [
        Column("setting", "setting", "", words=True),
        Column("sampling", "sampling", "", words=True),
        Column("tv", "total variation", "distance to the target’s distribution on the toy, 0 to 1", 4),
        Column("tokens_per_forward", "tokens per forward", "on the toy", 2),
    ]
    lines = [Line("", one.decoder, "", "", _measured(one)) for one in found]
    caption = "Relaxed rules and skip schedules: measured distance to the target"
    return Table("relaxed", caption, columns, lines, noted="")


def _measured(one: Relaxed) -> list[Entry]:
    distance = Entry(number(one.tv, 4), interval(Estimate(one.tv, one.low, one.high), 4))
    return [Entry(one.setting), Entry(one.sampling), distance, Entry(number(one.tokens_per_forward, 2))]


def continuous(found: Sequence[Continuous]) -> Table:
    """Continuous tokens: the exact rule on every case, and the exact decoders."""
    columns = [
        Column("dtype", "precision", "", words=True),
        Column("draws", "samples", "", 0),
        Column("kept", "kept", "share of the drafts", 4),
        Column("overlap", "overlap", "what that share must be, where it has a closed form", 4),
        Column("ks", "KS", "largest Kolmogorov-Smirnov distance of a projection; the critical value follows", 4),
        Column(
            "critical", "critical", "of the test of this case, all cases together having the level of the family", 4
        ),
        Column("covariance", "error of covariance", "largest, in units of both standard deviations", 4),
        Column("p_value", "p-value", "of projections and moments"),
        Column("passed", "passed", "", words=True),
    ]
    lines = [Line("", one.case, "", "", _exactly(one)) for one in found]
    caption = "Continuous tokens, exact rule and decoders: samples against laws in closed form"
    return Table("continuous", caption, columns, lines, head="case", noted="", small="")


def _exactly(one: Continuous) -> list[Entry]:
    return [
        Entry(one.dtype),
        Entry(number(one.draws, 0)),
        Entry(number(one.kept, 4)),
        Entry("–" if one.overlap is None else number(one.overlap, 4)),
        Entry(number(one.ks, 4)),
        Entry(number(one.ks_critical, 4)),
        Entry(number(one.covariance, 4)),
        Entry(small(one.p_value)),
        Entry("yes") if one.passed else Entry("no", verdict="worse"),
    ]


def continuous_controls(found: Sequence[ContinuousControl]) -> Table:
    """Wrong rules, loops and decoders of continuous tokens that must be caught."""
    columns = [
        Column("what", "what is wrong", "", words=True),
        Column("case", "case", "", words=True),
        Column("kept", "kept", "share of the drafts", 3),
        Column("fallback", "fallback", "share of the drafts whose tries ran out", 3),
        Column("ks", "KS", "largest Kolmogorov-Smirnov distance of a projection", 4),
        Column("critical", "critical", "it is caught from here on", 4),
        Column("covariance", "error of covariance", "largest, in units of both standard deviations", 4),
        Column("p_value", "p-value", "of projections and moments"),
        Column("caught", "caught", "", words=True),
    ]
    lines = [Line("", one.name, "", "", _wrongly(one)) for one in found]
    caption = "Continuous tokens: wrong rules, loops and decoders, which the tests must catch"
    return Table("continuous_controls", caption, columns, lines, "control", "", "")


def _wrongly(one: ContinuousControl) -> list[Entry]:
    return [
        Entry(one.what),
        Entry(one.case),
        Entry(number(one.kept, 3)),
        Entry(number(one.fallback, 3)),
        Entry(number(one.ks, 4)),
        Entry(number(one.ks_critical, 4)),
        Entry(number(one.covariance, 4)),
        Entry(small(one.p_value)),
        _caught(one),
    ]


def small(p_value: float) -> str:
    """A p-value in text."""
    return number(p_value, 3) if p_value >= 0.001 else "0" if p_value == 0 else f"{p_value:.0e}".replace("e-0", "e-")


def known(where: Path) -> Certificates | None:
    """The certificates, as far as they can be read."""
    try:
        return read(where)
    except RecordError:
        return None


def plain(found: Certificates) -> dict[str, list[dict[str, Any]]]:
    """Every certificate unrounded, by the name of its list."""
    return {kind: [one.model_dump() for one in getattr(found, kind)] for kind in KINDS}
