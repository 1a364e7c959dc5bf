"""Two result sets against each other: which cells are the same cell, and what of them differs beyond its interval.

For what happens between two states of the program or two machines. Cells of equal settings are compared image by image
wherever they drew from the same prompts and noise; other pairs as independent sets. Two numbers can stand side by side
and still decide nothing: metrics of other image counts, for they depend on the count, and seconds of two runs, which
hold whatever changed on the machine in between. Such a row has no interval and no verdict, and a note says why. Seconds
of two machines are not even set side by side unless that is asked for.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from vvsbench.analysis import comparison
from vvsbench.analysis.dominance import Place
from vvsbench.analysis.estimate import Estimate
from vvsbench.analysis.frame import METRICS, hardware
from vvsbench.analysis.settings import flat
from vvsbench.analysis.speed import machine
from vvsbench.analysis.tables import LOWER_IS_BETTER
from vvsbench.identity import WITHOUT_EFFECT
from vvsbench.runs.record import CellRecord, MetricValue, QualityRecord
from vvsbench.runs.speed_record import Measured, SpeedRecord, Subject
from vvsbench.runs.states import same_settings
from vvsbench.runs.store import StoredCell, changed_since

COUNTS = (
    "step_compression",
    "target_forwards",
    "draft_forwards",
    "target_positions",
    "draft_positions",
    "skipped_steps",
    "cost",
    "target_head_evaluations",
    "draft_head_evaluations",
)
"""Columns of a trace, per image."""
MORE_IS_BETTER = frozenset({"step_compression", *METRICS}) - LOWER_IS_BETTER
NEUTRAL = frozenset({"skipped_steps"})
SPEED_UP, MEASURED = "speed-up", "speed-up, timed apart"
"""Names of ratios of seconds: of the batches that drew the images, and of speed records."""
RATIOS = (SPEED_UP, MEASURED)
WHILE_DRAWING = (
    "seconds of stage=images are those of drawing the set, A and B at different times; for a claim about speed time "
    "each in turn with its baseline: stage=speed"
)
TIMED_APART = "A and B were timed at different times; how each does against its baseline, in turn, can be compared"
SAME, BETTER, WORSE, OTHER = "the same", "better", "worse", "differs"
UNKNOWN, NO_VERDICT = Place.unknown.value, "no verdict"


@dataclass(frozen=True)
class Row:
    """One quantity of a pair of cells.

    Attributes:
        name: of the quantity; a metric has its protocol in front.
        a: of the first cell; of the speed-up its seconds per image.
        b: of the second.
        change: b less a; of the speed-up how many times faster b is.
        paired: whether the interval is from pairs of images, groups or batches.
        verdict: what is to be said of b: `SAME`, `BETTER`, `WORSE`, `OTHER` or `UNKNOWN`; `NO_VERDICT` where the two
            must not be compared, with the reason among the notes of the pair.
    """

    name: str
    a: float
    b: float
    change: Estimate
    paired: bool
    verdict: str


@dataclass(frozen=True)
class Pair:
    """Two cells that are compared.

    Attributes:
        a: the first.
        b: the second.
        settings: what differs between their settings, by name: both values.
        identical: images that have the same tokens; None when they cannot be compared.
        rows: quantities that both have.
        notes: what a reader must know before them.
        refused: two machines whose seconds were not compared, in words; empty when nothing was refused.
    """

    a: StoredCell | Timed
    b: StoredCell | Timed
    settings: Mapping[str, tuple[str, str]]
    identical: int | None
    rows: Sequence[Row]
    notes: Sequence[str] = field(default_factory=tuple)
    refused: str = ""


@dataclass(frozen=True)
class Timed:
    """A cell by its speed record.

    Attributes:
        record: of a cell that was timed.
    """

    record: SpeedRecord

    @cached_property
    def stale_because(self) -> str:
        """What changed since; empty when nothing did."""
        return changed_since(self.record.provenance, self.record.config)


Record = CellRecord | SpeedRecord
Found = TypeVar("Found", StoredCell, Timed)


def matched(
    ones: Sequence[Found], others: Sequence[Found]
) -> tuple[list[tuple[Found, Found]], list[Found], list[Found]]:
    """Which cells of two sets belong together: those of equal settings, then those that alone share a label.

    Where a side has several studies, only cells of studies of one name belong together. A single cell on either side
    belongs to the other, whatever its settings.

    Returns:
        The pairs, and what is left of both sides.
    """
    if len(ones) == len(others) == 1:
        return [(ones[0], others[0])], [], []
    left, right = list(ones), list(others)
    many = any(len({cell.record.study for cell in cells}) > 1 for cells in (ones, others))

    def related(one: Record, other: Record) -> bool:
        return not many or one.study == other.study

    pairs = _taken(left, right, lambda one, other: related(one, other) and _same(one, other))
    counts = [Counter((cell.record.study, cell.record.label) for cell in cells) for cells in (left, right)]

    def alone(one: Record, other: Record) -> bool:
        unique = counts[0][one.study, one.label] == counts[1][other.study, other.label] == 1
        return related(one, other) and one.label == other.label and unique

    pairs += _taken(left, right, alone)
    return pairs, left, right


def _taken(left: list[Found], right: list[Found], agree: Callable[[Record, Record], bool]) -> list[tuple[Found, Found]]:
    """The first of the right that agrees with each of the left; both are taken out of their lists."""
    pairs: list[tuple[Found, Found]] = []
    for one in list(left):
        twin = next((other for other in right if agree(one.record, other.record)), None)
        if twin is not None:
            pairs.append((one, twin))
            left.remove(one)
            right.remove(twin)
    return pairs


def _same(one: Record, other: Record) -> bool:
    if _external(one) or _external(other):
        return _external(one) and _external(other) and one.label == other.label
    return same_settings(one.config, other.config)


def _external(record: Record) -> bool:
    return isinstance(record, CellRecord) and record.external is not None


def compare(a: StoredCell, b: StoredCell, across_hardware: bool = False) -> Pair:
    """Compare two cells.

    Args:
        a: the one that the other is measured against.
        b: the other.
        across_hardware: whether seconds of different machines may be set against each other.
    """
    aligned = _aligned(a.record, b.record)
    notes = [f"{name} is stale: {cell.stale_because}" for name, cell in (("A", a), ("B", b)) if cell.stale]
    notes += _origins(a.record, b.record)
    if imported := [name for name, cell in (("A", a), ("B", b)) if cell.record.external]:
        notes.append(f"{' and '.join(imported)} imported: only metrics can be compared, as of independent sets")
    elif not aligned:
        notes.append("other prompts, seed or count: the sets are compared as independent ones")
    rows = [*_counts(a, b, aligned), *_metrics(a, b, aligned, notes)]
    machines = [hardware(cell.record.provenance.hardware) for cell in (a, b)]
    timed, refused = not (a.record.external or b.record.external), ""
    if timed:
        refused = _refused(machines, across_hardware, notes)
        taken = [] if refused else _seconds(a, b)
        notes += [f"no verdict on {SPEED_UP}: {WHILE_DRAWING}"] if taken else []
        rows += taken
    found = comparison.pairs(a, b) if aligned and timed and a.has_images and b.has_images else None
    identical = int(found.identical.sum()) if found else None
    return Pair(a, b, _changed(a.record, b.record), identical, rows, notes, refused)


def compare_speed(a: Timed, b: Timed, across_hardware: bool = False) -> Pair:
    """Compare the speed records of two cells, which were taken one after the other.

    Args:
        a: the one that the other is measured against.
        b: the other.
        across_hardware: whether seconds of different machines may be set against each other.
    """
    mine, theirs = a.record.measured, b.record.measured
    assert mine is not None
    assert theirs is not None
    notes = [f"{name} is stale: {one.stale_because}" for name, one in (("A", a), ("B", b)) if one.stale_because]
    notes += _origins(a.record, b.record)
    if mine.threads != theirs.threads:
        notes.append(f"A ran on {mine.threads} threads, B on {theirs.threads}")
    machines = [machine(a.record, mine), machine(b.record, theirs)]
    refused = _refused(machines, across_hardware, notes)
    rows = [] if refused else [_measured(mine.own, theirs.own), *_over_baseline(mine, theirs)]
    notes += [f"no verdict on {MEASURED}: {TIMED_APART}"] if rows else []
    return Pair(a, b, _changed(a.record, b.record), None, rows, notes, refused)


def _refused(machines: Sequence[str], across_hardware: bool, notes: list[str]) -> str:
    """Two machines whose seconds are not to be compared, in words; where they are all the same, a note is added."""
    if machines[0] == machines[1]:
        return ""
    said = f"A ran on {machines[0]} and B on {machines[1]}"
    if not across_hardware:
        return said
    notes.append(f"seconds of two machines: {said}")
    return ""


def _measured(one: Subject, other: Subject) -> Row:
    """Seconds of two decoders that were not timed in turn with each other."""
    mine, theirs = one.seconds_per_image.value, other.seconds_per_image.value
    return Row(MEASURED, mine, theirs, Estimate(mine / theirs), False, NO_VERDICT)


def _over_baseline(mine: Measured, theirs: Measured) -> list[Row]:
    """The change of the speed-up, of which each was taken in turn with its baseline."""
    if not (mine.baseline and theirs.baseline and mine.speed_up and theirs.speed_up):
        return []
    if mine.baseline.label != theirs.baseline.label:
        return []
    one, other = (Estimate(found.value, found.low, found.high) for found in (mine.speed_up, theirs.speed_up))
    change = comparison.change(other, one)
    said = UNKNOWN if not change.sure else BETTER if change.value > 0 else WORSE
    return [Row(f"times as fast as {mine.baseline.label}", one.value, other.value, change, False, said)]


def _aligned(one: CellRecord, other: CellRecord) -> bool:
    """Whether image i of one had the prompt and noise of image i of the other."""
    if one.external or other.external:
        return False
    return one.count == other.count and all(one.config.get(key) == other.config.get(key) for key in ("prompts", "seed"))


def _origins(one: Record, other: Record) -> list[str]:
    """What is not the same about the code and the weights of two records of this program."""
    if _external(one) or _external(other):
        return []
    mine, theirs = one.provenance, other.provenance
    code = ["A and B were drawn by different code"] if mine.code_digest != theirs.code_digest else []
    shared = mine.weights.keys() & theirs.weights.keys()
    changed = sorted(name for name in shared if mine.weights[name] != theirs.weights[name])
    return code + ([f"these weights are others in B: {', '.join(changed)}"] if changed else [])


def _changed(one: Record, other: Record) -> dict[str, tuple[str, str]]:
    if _external(one) or _external(other):
        return {}
    mine, theirs = (
        flat({key: value for key, value in record.config.items() if key not in WITHOUT_EFFECT})
        for record in (one, other)
    )
    names = [name for name in {**mine, **theirs} if mine.get(name) != theirs.get(name)]
    return {name: (mine.get(name, "-"), theirs.get(name, "-")) for name in names}


def _counts(a: StoredCell, b: StoredCell, aligned: bool) -> list[Row]:
    if a.record.external or b.record.external:
        return []
    rows = []
    for name in COUNTS:
        if name not in a.trace or name not in b.trace:
            continue
        one, other = (_in_order(cell, name) for cell in (a, b))
        if not (np.isfinite(one).all() and np.isfinite(other).all()) or not (one.any() or other.any()):
            continue
        if aligned:
            change = comparison.mean(other - one)
        else:
            change = comparison.change(comparison.mean(other), comparison.mean(one))
        rows.append(Row(name, float(one.mean()), float(other.mean()), change, aligned, verdict(name, change)))
    return rows


def _in_order(cell: StoredCell, name: str) -> NDArray[np.float64]:
    """A column of a trace by image, float64 [images]."""
    return cell.trace.sort_values("image")[name].to_numpy(dtype=np.float64)


def _metrics(a: StoredCell, b: StoredCell, aligned: bool, notes: list[str]) -> list[Row]:
    """The metrics of all protocols that both were scored under; where they do not fit each other a note is added."""
    rows = []
    same_images = bool(a.record.image_digest) and a.record.image_digest == b.record.image_digest
    for protocol in sorted(a.quality.keys() & b.quality.keys()):
        one, other = a.quality[protocol], b.quality[protocol]
        if reason := _unfit(a, one) or _unfit(b, other) or _apart(one, other):
            notes.append(f"{protocol}: {reason}")
            continue
        counts = [cell.record.count for cell in (a, b)]
        if counts[0] != counts[1]:
            what = f"of {counts[0]} images in A and {counts[1]} in B, and metrics depend on how many there are"
            notes.append(f"{NO_VERDICT} on {protocol}: {what}")
        theirs = {value.name: value for value in one.values}
        for value in other.values:
            if value.name in theirs:
                row = _metric(protocol, theirs[value.name], value, same_images, aligned and _dealt(one, other))
                rows.append(row if counts[0] == counts[1] else _undecided(row))
    return rows


def _undecided(row: Row) -> Row:
    """The same without interval and verdict."""
    return replace(row, change=Estimate(row.change.value), verdict=NO_VERDICT)


def _unfit(cell: StoredCell, quality: QualityRecord) -> str:
    return "" if quality.image_digest == cell.record.image_digest else f"{cell.record.label} has other images since"


def _apart(one: QualityRecord, other: QualityRecord) -> str:
    if one.version != other.version:
        return f"was measured as {one.version} and as {other.version}"
    return "" if one.reference_digest == other.reference_digest else "was measured against two references"


def _dealt(one: QualityRecord, other: QualityRecord) -> bool:
    return one.groups == other.groups


def _metric(protocol: str, one: MetricValue, other: MetricValue, same_images: bool, aligned: bool) -> Row:
    if same_images and one.value == other.value:
        change, paired = Estimate(0.0, 0.0, 0.0), True
    elif aligned:
        change, paired = comparison.metric_change(other, one, bool(one.jackknife))
    else:
        change = comparison.change(Estimate(other.value, other.low, other.high), Estimate(one.value, one.low, one.high))
        paired = False
    return Row(f"{protocol} {one.name}", one.value, other.value, change, paired, verdict(one.name, change))


def _seconds(a: StoredCell, b: StoredCell) -> list[Row]:
    means = [cell.record.summaries.get("seconds_per_image") for cell in (a, b)]
    if means[0] is None or means[1] is None:
        return []
    ratio = Estimate(means[0].mean / means[1].mean)
    return [Row(SPEED_UP, means[0].mean, means[1].mean, ratio, False, NO_VERDICT)]


def verdict(name: str, change: Estimate) -> str:
    """What a change means, by the direction in which the quantity is good.

    Args:
        name: of a count or a metric.
        change: of it.
    """
    if change.exact and change.value == 0:
        return SAME
    if not change.sure:
        return UNKNOWN
    if name in NEUTRAL:
        return OTHER
    return BETTER if (change.value > 0) == (name in MORE_IS_BETTER) else WORSE


REFUSED, ALLOWED = "seconds are not compared", "across_hardware=true"


def as_json(pair: Pair) -> dict[str, Any]:
    """A pair as plain containers."""
    return {
        "label": pair.a.record.label,
        "a": _named(pair.a),
        "b": _named(pair.b),
        "settings": {name: list(values) for name, values in pair.settings.items()},
        "identical_images": pair.identical,
        "notes": [*pair.notes, *([f"{REFUSED}: {pair.refused} ({ALLOWED} does)"] if pair.refused else [])],
        "rows": [
            {
                "name": row.name,
                "a": _finite(row.a),
                "b": _finite(row.b),
                "change": _finite(row.change.value),
                "low": _finite(row.change.low),
                "high": _finite(row.change.high),
                "paired": row.paired,
                "verdict": row.verdict,
            }
            for row in pair.rows
        ],
    }


def _named(cell: StoredCell | Timed) -> dict[str, Any]:
    record = cell.record
    drawn = {"count": record.count, "external": _external(record)} if isinstance(record, CellRecord) else {}
    return {
        "study": record.study,
        "label": record.label,
        "key": record.key,
        **drawn,
        "code": record.provenance.code_digest[:12],
        "hardware": hardware(record.provenance.hardware),
    }


def _finite(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None
