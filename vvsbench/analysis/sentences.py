"""The numbers in words: what each decoder wins over the baseline, and what it loses.

A change is called one only if its interval leaves out "no change", and then whatever metric it is of; FID is always
told, since it is the other axis of the front. Seconds are judged only where decoder and baseline were timed in turn
(stage=speed): what a run took while it drew its images holds the mood of the machine too. A decoder that promises the
baseline's images and draws them has nothing to lose, and its sentence says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from vvsbench import commands
from vvsbench.analysis.attainment import Attainment
from vvsbench.analysis.costs import SECONDS, Axis
from vvsbench.analysis.dominance import Place
from vvsbench.analysis.estimate import Estimate, estimate, interval, inverted, number
from vvsbench.analysis.hypervolume import MARGIN, Contest
from vvsbench.analysis.pareto import Front
from vvsbench.analysis.standings import INSIDE, OUTSIDE, Standing, Standings
from vvsbench.analysis.tables import QUALITY_COLUMNS, Column, scaled, settled, verdict
from vvsbench.analysis.troubles import several

GUARANTEES = {
    "exact": "The target’s own distribution is promised by",
    "bounded": "A distribution within a stated distance of the target’s is promised by",
    "none": "Nothing is promised by",
}


ONE_AFTER_THE_OTHER = (
    "These seconds were taken one decoder after the other; what changed on the machine in between is in no bar. For a "
    "claim, stage=speed takes them in turn."
)


@dataclass
class Verdict:
    """One decoder against the baseline, in clauses without a subject.

    Attributes:
        won: what is better.
        lost: what is worse.
        even: what cannot be told from no change.
    """

    key: str
    label: str
    family: str
    won: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    even: list[str] = field(default_factory=list)

    def predicate(self) -> str:
        """All of it in prose, to follow the decoder's name."""
        text = "; ".join([*(self.won or ["wins nothing"]), *self.lost]) + "."
        return f"{text} {capital('; '.join(self.even))}." if self.even else text


def capital(text: str) -> str:
    """With a capital at its start."""
    return text[:1].upper() + text[1:]


def verdicts(rows: pd.DataFrame, axis: Axis) -> list[Verdict]:
    """One verdict for every row of a comparison but the baseline; none if there is no baseline.

    Args:
        rows: one comparison of a frame.
        axis: the study's cost.
    """
    if "baseline" not in rows:
        return []
    compared = rows[~rows["is_baseline"] & rows["baseline"].notna()]
    told = [settled(column, rows) for column in QUALITY_COLUMNS if column.name in rows]
    return [_verdict(str(key), row, told, axis) for key, row in compared.iterrows()]


def _verdict(key: str, row: pd.Series[Any], told: list[Column], axis: Axis) -> Verdict:
    found = Verdict(key, str(row["label"]), str(row["family"]))
    base, same = str(row["baseline"]), row["equal_images"] == row["count"]
    _cost(found, estimate(row, axis.ratio), base, axis)
    _time(found, row, base)
    if same:
        found.won.append(f"draws {base}’s {row['count']} images token for token, so no quality is lost")
        return found
    if row["guarantee"] == "exact" and pd.notna(row["equal_images"]):
        found.even.append(f"{int(row['equal_images'])} of {row['count']} images equal {base}’s token for token")
    for column in told:
        _quality(found, row, column)
    return found


def _cost(found: Verdict, ratio: Estimate | None, base: str, axis: Axis) -> None:
    if ratio is None:
        return
    if ratio.exact and ratio.value == 1:
        found.even.append(f"needs as much as {base}, in {axis.unit}")
    elif ratio.value >= 1:
        found.won.append(f"needs {times(ratio)} {axis.less} than {base} {interval(ratio, 2)}".strip())
    else:
        more = inverse(ratio)
        found.lost.append(f"needs {times(more)} {axis.more} than {base} {interval(more, 2)}".strip())


def _time(found: Verdict, row: pd.Series[Any], base: str) -> None:
    ratio, drawn = estimate(row, "timed_speed_up"), estimate(row, "speed_up")
    if ratio is None:
        if drawn is not None:
            found.even.append(f"drew at {times(drawn)} the pace of {base}, not timed in turn with it: no verdict")
    elif ratio.low is not None and ratio.low > 1:
        found.won.append(f"is {times(ratio)} faster per image {interval(ratio, 2)}")
    elif ratio.high is not None and ratio.high < 1:
        slower = inverse(ratio)
        found.lost.append(f"is {times(slower)} slower per image {interval(slower, 2)}")
    else:
        told = f"{times(ratio)} {interval(ratio, 2)}".strip()
        found.even.append(f"its time per image cannot be told from {base}’s ({told})")


def _quality(found: Verdict, row: pd.Series[Any], column: Column) -> None:
    moved = estimate(row, f"{column.name}_change")
    value = estimate(row, column.name)
    if moved is None or value is None:
        return
    change, now = scaled(moved, column.scale), value.value * column.scale
    digits, name = telling(change, column.digits), column.spoken
    unit = " points" if column.suffix == " %" else ""
    side = verdict(column.name, moved)
    if side:
        verb = "rises" if change.value > 0 else "falls"
        size = Estimate(change.value, change.low, change.high) if change.value > 0 else inverted(change)
        text = f"{name} {verb} by {number(size.value, digits)}{unit} {interval(size, digits)}"
        if column.name == "fid":
            text += f", from {number(now - change.value, digits)} to {number(now, digits)}"
        (found.won if side == "better" else found.lost).append(text)
    elif column.name == "fid":
        moved_by = f"{number(change.value, digits, sign=True)} {interval(change, digits, sign=True)}".strip()
        found.even.append(f"{name} changes by {moved_by}, which may be no change")


def telling(change: Estimate, digits: int) -> int:
    """Decimals at which an end of an interval near zero still shows on which side it lies."""
    ends = [abs(end) for end in (change.low, change.high) if end]
    while digits < 4 and any(round(end, digits) == 0 for end in ends):
        digits += 1
    return digits


def times(ratio: Estimate) -> str:
    """A ratio as "4.13×"."""
    return f"{number(ratio.value, 2)}×"


def inverse(ratio: Estimate) -> Estimate:
    """The ratio the other way round."""
    low = None if ratio.high is None else 1 / ratio.high
    high = None if ratio.low is None else 1 / ratio.low
    return Estimate(1 / ratio.value, low, high)


@dataclass(frozen=True)
class Claim:
    """A sentence about one decoder.

    Attributes:
        family: of the decoder, for its colour.
        text: what follows its name.
    """

    label: str
    family: str
    text: str

    def __str__(self) -> str:
        return f"{self.label} {self.text}"


def headline(rows: pd.DataFrame, axis: Axis) -> list[Claim]:
    """The study in at most three sentences: the most that is won for nothing, the most at a price, and the clock.

    Args:
        rows: one comparison of a frame.
        axis: the study's cost.
    """
    if "baseline" not in rows or rows["baseline"].isna().all():
        return []
    base = str(rows["baseline"].dropna().iloc[0])
    compared = rows[~rows["is_baseline"]]
    free = compared[compared["equal_images"] == compared["count"]]
    said = []
    best = _most(free, axis.ratio)
    if best is not None:
        ratio = estimate(best, axis.ratio)
        if ratio and ratio.value > 1:
            said.append(_claim(best, f"draws {base}’s images token for token with {times(ratio)} {axis.less}."))
    most = _most(compared.drop(free.index), axis.ratio)
    if most is not None and (best is None or most[axis.ratio] > best[axis.ratio]):
        said.append(_claim(most, _at_a_price(most, base, axis, bool(said))))
    alone = len(compared) == 1
    fastest = _most(compared, "timed_speed_up") if "timed_speed_up" in compared else None
    if fastest is not None:
        said.append(_claim(fastest, _by_the_clock(fastest, base, alone)))
    elif (quickest := _most(compared, SECONDS.ratio)) is not None:
        said.append(_claim(quickest, _while_drawing(quickest, base, alone)))
    return said


def _claim(row: pd.Series[Any], text: str) -> Claim:
    return Claim(str(row["label"]), str(row["family"]), text)


def _most(rows: pd.DataFrame, name: str) -> pd.Series[Any] | None:
    known = rows[rows[name].notna()]
    return None if known.empty else known.iloc[int(known[name].astype(float).argmax())]


def _by_the_clock(row: pd.Series[Any], base: str, alone: bool) -> str:
    """What the fastest decoder's time is, which may be a loss."""
    ratio = estimate(row, "timed_speed_up")
    assert ratio is not None
    if ratio.low is not None and ratio.low > 1:
        first = "" if alone else "the fastest on this machine: "
        return f"is {first}{times(ratio)} faster than {base} {interval(ratio, 2)}."
    if ratio.high is not None and ratio.high < 1:
        slower = inverse(ratio)
        first = "is slower" if alone else "is the fastest of them on this machine, and still slower"
        return f"{first} than {base}: {times(slower)} its time {interval(slower, 2)}."
    return f"takes as long as {base} on this machine, as far as can be told: {times(ratio)} {interval(ratio, 2)}."


def _while_drawing(row: pd.Series[Any], base: str, alone: bool) -> str:
    """How long the quickest decoder took to draw its images, which is no claim about its speed."""
    ratio = estimate(row, SECONDS.ratio)
    assert ratio is not None
    first = "drew" if alone else "drew quickest of them,"
    return (
        f"{first} at {times(ratio)} the pace of {base}, but not in turn with it: for a claim about speed time them "
        "with stage=speed."
    )


def _at_a_price(row: pd.Series[Any], base: str, axis: Axis, follows: bool) -> str:
    ratio, moved = estimate(row, axis.ratio), estimate(row, "fid_change")
    assert ratio is not None
    text = f"needs {times(ratio)} {axis.less}" + ("" if follows else f" than {base}")
    if moved is None:
        return f"{text}; its quality was not measured."
    if not moved.sure:
        return f"{text}; its FID changes by {number(moved.value, 2, sign=True)} {interval(moved, 2, sign=True)}."
    size = moved if moved.value > 0 else inverted(moved)
    verb = "rises" if moved.value > 0 else "falls"
    return f"{text}, and its FID {verb} by {number(size.value, 2)} {interval(size, 2)}."


def about_front(found: Front) -> str:
    """What a front's figure shows, for its caption."""
    placed = [(place, found.labels(place)) for place in Place]
    text = " ".join(f"{capital(place)}: {several(labels)}." for place, labels in placed if labels)
    if found.axis is SECONDS:
        text += f" {ONE_AFTER_THE_OTHER}"
    if found.hypervolume is not None and found.reference is not None:
        text += f" Hypervolume {number(found.hypervolume, 2)} against the reference point {point(found.reference)}."
    return text


def point(reference: tuple[float, float]) -> str:
    """A reference point in text."""
    cost, fid = reference
    return f"({number(cost, 2 if cost >= 1 else 3)}, FID {number(fid, 1)})"


def about_contest(found: Contest) -> str:
    """What the areas of families are, to stand above their table."""
    text = (
        f"Hypervolume: the area between a family’s front and the reference point {point(found.reference)}, which is "
        f"the same for all: {found.axis.reference}, and an FID {100 * MARGIN:.0f} % above the worst here. The baseline "
        "belongs to every family."
    )
    if not found.paired:
        return text + " These records keep no jackknife, so there are no intervals; run the study again to have them."
    return text + (
        " Intervals leave the same groups of images out of FID and cost of every decoder and of the reference "
        "point at once, so a difference is one of pairs; each holds for itself, with no allowance for their number."
    )


def contests(found: Contest) -> list[Claim]:
    """Which family's front is better than which, one claim for each that can be told from another."""
    said = []
    for place, family in enumerate(found.families, 1):
        rest = [(other.name, found.differences[family.name, other.name]) for other in found.families[place:]]
        won = [f"{name}’s by {number(apart.value, 2)} {interval(apart, 2)}" for name, apart in rest if apart.sure]
        even = [name for name, apart in rest if apart.low is not None and not apart.sure]
        clauses = [f"is a better front than {listed(won)}"] if won else []
        clauses += [f"cannot be told from {listed([f'{name}’s' for name in even])}"] if even else []
        if clauses:
            said.append(Claim(family.name, family.name, f"{'; it '.join(clauses)}."))
    return said


def about_attainment(found: Attainment, study: str) -> str:
    """How surfaces over seeds are to be read, or why there are none."""
    if not found.families:
        return _without_surfaces(found, study)
    count, seeds = len(found.seeds), listed([str(seed) for seed in found.seeds])
    text = f"Seeds {seeds}: a front each. Band: from what the best of them reaches to what every one does. "
    text += (
        f"Line: what most of them do, {count // 2 + 1} of {count}. "
        if count > 2
        else "Two seeds have no median; a third would show which of them is the odd one. "
    )
    text += (
        "Dots: cells at one seed. Area: hypervolume between a surface and the reference point "
        f"{point(found.reference or (0.0, 0.0))}, the same for all seeds and families; the baseline of each seed "
        "belongs to every family."
    )
    if found.uneven:
        have = [f"{name} {listed([str(seed) for seed in seeds])}" for name, seeds in found.drawn.items()]
        text += f" Only seeds that all these cells have count; drawn were: {'; '.join(have)}."
    if found.once:
        text += f" Left out, since drawn with one seed only: {several(found.once)}."
    return text


def _without_surfaces(found: Attainment, study: str) -> str:
    more = f"{commands.run(study, '-m', 'seed=0,1,2')} draws three"
    seeds = sorted({seed for drawn in found.drawn.values() for seed in drawn})
    if len(seeds) == 1:
        return f"One seed ({seeds[0]}): how far fronts move from seed to seed is not known. {more}."
    have = "; ".join(f"{name} {listed([str(seed) for seed in drawn])}" for name, drawn in found.drawn.items())
    return (
        f"No two seeds are shared by all cells that have several, so fronts over seeds are not shown ({have}). {more}."
    )


def about_standings(found: Standings) -> list[str]:
    """Whether any cell lies outside the front to beat: a sentence for each decoder that has cells beside it."""
    said = []
    for decoder in dict.fromkeys(cell.decoder for cell in found.cells):
        cells = [cell for cell in found.cells if cell.decoder == decoder]
        outside = [cell for cell in cells if cell.where == OUTSIDE]
        inside = sum(cell.where == INSIDE for cell in cells)
        front = f"the front of {found.front} (FID against {found.axis.short})"
        text = (
            f"None of the {len(cells)} cells of {decoder} lies" if len(cells) > 1 else f"{cells[0].label} does not lie"
        )
        if outside:
            text = f"{len(outside)} of the {len(cells)} cells of {decoder} {'lies' if len(outside) == 1 else 'lie'}"
            front += f": {listed([_reached(cell, found) for cell in outside])}"
        rest = [f"{inside} {'lies' if inside == 1 else 'lie'} inside it"] if inside else []
        unknown = len(cells) - len(outside) - inside
        rest += [f"of {unknown} it cannot be told"] if unknown else []
        said.append(f"{text} outside {front}{'; ' if rest else ''}{listed(rest)}.")
    return said


def _reached(cell: Standing, found: Standings) -> str:
    """A cell outside a front, with the margin by which it is."""
    if cell.change is None:
        return f"{cell.label} (cheaper than any {found.front} here)"
    by = inverted(cell.change)
    digits = telling(by, 2)
    return f"{cell.label} (FID lower by {number(by.value, digits)} {interval(by, digits)} than {cell.rival}’s)"


def rule(found: Standings) -> str:
    """How the places of cells are told, to stand below their table."""
    return (
        f"A cell is outside when its FID is lower than that of every cell of {found.front} that may cost no more, and "
        "inside when one of these is at least as good on both axes, in both cases beyond the 95 % interval of the "
        "paired difference; else it cannot be told."
    )


def about_places(found: Front) -> str:
    """How the places of a front are told: what its legend needs."""
    paired = "" if found.axis is SECONDS else "paired "
    return (
        f"A cell is dominated when another one is at least as good on both axes and better on one, and on the front "
        f"when none may be, in both cases beyond the 95 % interval of the {paired}difference; else it cannot be told. "
        "The line goes by the numbers alone."
    )


def dominations(found: Contest) -> list[str]:
    """Each beaten decoder with those that beat it."""
    return [f"{label} is dominated by {listed(by)}." for label, by in found.dominated.items()]


def listed(words: Sequence[str]) -> str:
    """Words as "a, b and c"."""
    return " and ".join(part for part in (", ".join(words[:-1]), *words[-1:]) if part)
