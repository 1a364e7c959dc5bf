"""The page's drawings as SVG text: they take their colours from the page, so they follow its light and dark.

A chart is drawn twice, wide and narrow, and the page shows the one that fits: letters stay readable on a phone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from markupsafe import Markup

from vvsbench.analysis.costs import Axis
from vvsbench.analysis.dominance import Place
from vvsbench.analysis.estimate import Estimate, estimate, number
from vvsbench.analysis.hypervolume import nondominated
from vvsbench.analysis.layout import Box, Scale, lines, padded, place, segments, ticks
from vvsbench.analysis.pareto import QUALITY, Front, outline

LETTER = 7.1
"""Mean width of a letter of a label, in pixels."""
LINE = 16.0
"""Height of a line of it."""
SHAPES = ("circle", "square", "diamond", "triangle", "cross", "hexagon")
TOP, RIGHT, BOTTOM, LEFT = 34, 18, 48, 44
CROWD = 40
"""Points beyond which marks shrink, and only those on the front and the baseline are named."""


def shape(slot: int, x: float, y: float, radius: float = 5.5) -> Markup:
    """The mark of a family: colour is never the only difference."""
    kind = SHAPES[slot % len(SHAPES)]
    if kind == "circle":
        return Markup('<circle cx="{:.1f}" cy="{:.1f}" r="{}"/>').format(x, y, radius)
    corners = {
        "square": [(-0.88, -0.88), (0.88, -0.88), (0.88, 0.88), (-0.88, 0.88)],
        "diamond": [(0, -1.25), (1.25, 0), (0, 1.25), (-1.25, 0)],
        "triangle": [(0, -1.2), (1.15, 0.85), (-1.15, 0.85)],
        "cross": [
            *((-0.4, -1.2), (0.4, -1.2), (0.4, -0.4), (1.2, -0.4), (1.2, 0.4), (0.4, 0.4)),
            *((0.4, 1.2), (-0.4, 1.2), (-0.4, 0.4), (-1.2, 0.4), (-1.2, -0.4), (-0.4, -0.4)),
        ],
        "hexagon": [(-1.1, 0), (-0.55, -0.95), (0.55, -0.95), (1.1, 0), (0.55, 0.95), (-0.55, 0.95)],
    }[kind]
    text = " ".join(f"{x + dx * radius:.1f},{y + dy * radius:.1f}" for dx, dy in corners)
    return Markup('<polygon points="{}"/>').format(text)


def front(found: Front, slots: Mapping[str, int], size: tuple[int, int]) -> Markup:
    """A scatter of cost against FID with intervals, the front as a stair and a label beside every point.

    Args:
        found: the front.
        slots: colour and mark of each family.
        size: width and height in pixels.
    """
    width, height = size
    points = found.points.sort_values("on_line", ascending=False, kind="stable")
    x_of, y_of = scales(found, width, height)
    parts = [grid(x_of, y_of, found.axis.title), _stair(found, x_of, y_of)]
    base = points[points["is_baseline"]]
    if len(base):
        y = y_of(float(base[QUALITY].iloc[0]))
        parts.append(line("base", x_of.start, y, x_of.end, y))
    for family, rows in points.groupby("family", sort=False):
        parts.append(_family_line(rows, slots[str(family)], found.axis, x_of, y_of))
    parts += [_point(str(key), row, found, slots, x_of, y_of) for key, row in points.iloc[::-1].iterrows()]
    for (key, row), box in zip(named(found).iterrows(), labels(found, x_of, y_of, width), strict=True):
        if box is None:
            continue
        parts.append(_label(str(key), lines(str(row["label"])), slots[str(row["family"])], box))
    parts.append(_better(found, x_of, y_of))
    return svg(size, f"FID against {found.axis.title}", parts, "crowd" if len(points) > CROWD else "")


def _label(key: str, texts: Sequence[str], slot: int, box: Box) -> Markup:
    rows = [
        Markup('<tspan x="{:.1f}" y="{:.1f}">{}</tspan>').format(box.x, box.y + LINE * (number + 1) - 4, text)
        for number, text in enumerate(texts)
    ]
    return Markup('<text class="name f{}" data-key="{}">{}</text>').format(slot, key, Markup(" ").join(rows))


def named(found: Front) -> pd.DataFrame:
    """The points of a front that have a label, those on its line first."""
    points = found.points if len(found.points) <= CROWD else found.points[found.prominent]
    return points.sort_values("on_line", ascending=False, kind="stable")


def svg(size: tuple[int, int], title: str, parts: Sequence[Markup], kind: str = "") -> Markup:
    """A drawing with its name for those who do not see it, and a class of the page's style if it has one."""
    head = Markup('<svg viewBox="0 0 {} {}" width="{}" height="{}" role="img" aria-label="{}"{}>').format(
        *size, *size, title, Markup(' class="{}"').format(kind) if kind else ""
    )
    return head + Markup("").join(parts) + Markup("</svg>")


def scales(found: Front, width: float, height: float) -> tuple[Scale, Scale]:
    """Data to pixels, with every interval inside."""
    spans = []
    for name in (found.axis.column, QUALITY):
        values = [value for _, row in found.points.iterrows() for value in _ends(estimate(row, name))]
        spans.append(padded(values))
    (x_low, x_high), (y_low, y_high) = spans
    return Scale(x_low, x_high, LEFT, width - RIGHT), Scale(y_low, y_high, height - BOTTOM, TOP)


def _ends(found: Estimate | None) -> tuple[float, float]:
    assert found is not None
    down, up = found.spread()
    return found.value - down, found.value + up


def labels(found: Front, x_of: Scale, y_of: Scale, width: float) -> list[Box | None]:
    """Where the labels of `named` points go: clear of marks, intervals and lines; None where it is too crowded."""
    points, column = found.points, found.axis.column
    places = [(x_of(float(row[column])), y_of(float(row[QUALITY]))) for _, row in points.iterrows()]
    obstacles = [Box(x - 7, y - 7, 14, 14) for x, y in places]
    for _, row in points.iterrows():
        (low, high), (left, right) = _ends(estimate(row, QUALITY)), _ends(estimate(row, column))
        x, y = x_of(float(row[column])), y_of(float(row[QUALITY]))
        obstacles.append(Box(x - 1.5, y_of(high), 3, y_of(low) - y_of(high)))
        obstacles.append(Box(x_of(left), y - 1.5, x_of(right) - x_of(left), 3))
    base = points[points["is_baseline"]]
    if len(base):
        y = y_of(float(base[QUALITY].iloc[0]))
        obstacles.append(Box(x_of.start, y - 1, x_of.end - x_of.start, 2))
    obstacles += segments([(x_of(x), y_of(y)) for x, y in outline(found, (x_of.low, x_of.high), y_of.high)], 3)
    told = named(found)
    places = [(x_of(float(row[column])), y_of(float(row[QUALITY]))) for _, row in told.iterrows()]
    texts = [lines(str(label)) for label in told["label"]]
    sizes = [(LETTER * max(map(len, rows)) + 2, LINE * len(rows)) for rows in texts]
    inside = Box(LEFT, TOP - 8, width - LEFT - 4, y_of.start - TOP + 8)
    return place(places, sizes, obstacles, inside, 9.0)


def grid(x_of: Scale, y_of: Scale, x_title: str) -> Markup:
    """Axes of a chart of FID: levels, ticks and titles."""
    parts = []
    y_ticks = ticks(y_of.low, y_of.high, 5)
    x_ticks = ticks(x_of.low, x_of.high, max(3, int((x_of.end - x_of.start) / 90)))
    for value in y_ticks:
        y = y_of(value)
        parts.append(line("rule", x_of.start, y, x_of.end, y))
        parts.append(
            Markup('<text class="tick end" x="{:.1f}" y="{:.1f}">{}</text>').format(
                x_of.start - 8, y + 4, tick(value, y_ticks)
            )
        )
    for value in x_ticks:
        x = x_of(value)
        parts.append(line("notch", x, y_of.start, x, y_of.start + 5))
        parts.append(
            Markup('<text class="tick mid" x="{:.1f}" y="{:.1f}">{}</text>').format(
                x, y_of.start + 19, tick(value, x_ticks)
            )
        )
    parts.append(line("axis", x_of.start, y_of.start, x_of.end, y_of.start))
    parts.append(Markup('<text class="title" x="{:.1f}" y="14">FID</text>').format(8))
    parts.append(
        Markup('<text class="title end" x="{:.1f}" y="{:.1f}">{}</text>').format(x_of.end, y_of.start + 40, x_title)
    )
    return Markup("").join(parts)


def tick(value: float, every: Sequence[float]) -> str:
    """A tick in text, with as many decimals as any of the others needs."""
    digits = max((len(f"{tick:.6f}".rstrip("0").partition(".")[2]) for tick in every), default=0)
    return number(value, digits)


def line(kind: str, x1: float, y1: float, x2: float, y2: float) -> Markup:
    """A straight line of a class of the page's style."""
    return Markup('<line class="{}" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>').format(kind, x1, y1, x2, y2)


def _stair(found: Front, x_of: Scale, y_of: Scale) -> Markup:
    corners = [(x_of(x), y_of(y)) for x, y in outline(found, (x_of.low, x_of.high), y_of.high)]
    text = " ".join(f"{x:.1f},{y:.1f}" for x, y in corners)
    area = f"{text} {corners[0][0]:.1f},{y_of.end:.1f}"
    return Markup('<polygon class="beaten" points="{}"/><polyline class="stair" points="{}"/>').format(area, text)


def _family_line(rows: pd.DataFrame, slot: int, axis: Axis, x_of: Scale, y_of: Scale) -> Markup:
    """Joins the settings of one method that no other of them dominates: its own curve."""
    ordered = rows[nondominated(rows, axis)].sort_values(axis.column)
    if len(ordered) < 2:
        return Markup("")
    places = zip(ordered[axis.column].astype(float), ordered[QUALITY].astype(float), strict=True)
    text = " ".join(f"{x_of(x):.1f},{y_of(y):.1f}" for x, y in places)
    return Markup('<polyline class="family f{}" points="{}"/>').format(slot, text)


def _point(key: str, row: pd.Series[Any], found: Front, slots: Mapping[str, int], x_of: Scale, y_of: Scale) -> Markup:
    cost, fid = estimate(row, found.axis.column), estimate(row, QUALITY)
    assert cost is not None
    assert fid is not None
    x, y, slot = x_of(cost.value), y_of(fid.value), slots[str(row["family"])]
    (left, right), (low, high) = _ends(cost), _ends(fid)
    tip = "|".join([str(row["label"]), f"{span(cost)} {found.axis.unit}", f"FID {span(fid)}"])
    place = Place(row["place"])
    return Markup('<g class="pt {} f{}" data-key="{}" data-tip="{}" tabindex="0">{}{}{}</g>').format(
        place.name,
        slot,
        key,
        f"{tip}|{place}",
        line("error", x_of(left), y, x_of(right), y),
        line("error", x, y_of(low), x, y_of(high)),
        mark(place, slot, x, y, 5.5 if len(found.points) <= CROWD else 3.6),
    )


def mark(place: Place, slot: int, x: float, y: float, radius: float) -> Markup:
    """A point: filled on the front, hollow where dominated, hollow with a dot in it where that cannot be told."""
    found = shape(slot, x, y, radius)
    if place is Place.unknown:
        found += Markup('<circle class="dot" cx="{:.1f}" cy="{:.1f}" r="{:.1f}"/>').format(x, y, 0.4 * radius)
    return found


def legend(places: Sequence[Place]) -> Markup:
    """What the looks of points mean.

    Args:
        places: that occur.
    """
    looks = [
        Markup('<span class="look"><svg width="16" height="16" viewBox="0 0 16 16" aria-hidden="true">').format()
        + Markup('<g class="pt {} f0">{}</g></svg>{}</span>').format(place.name, mark(place, 0, 8, 8, 5.5), place)
        for place in Place
        if place in places
    ]
    return Markup('<p class="looks">{}</p>').format(Markup(" ").join(looks))


def span(found: Estimate) -> str:
    """A number with its interval, for the pointer."""
    digits = 1 if found.value >= 10 else 2 if found.value >= 1 else 4
    text = number(found.value, digits)
    if found.low is None or found.high is None or found.exact:
        return text
    return f"{text} [{number(found.low, digits)}, {number(found.high, digits)}]"


def _better(found: Front, x_of: Scale, y_of: Scale) -> Markup:
    if found.axis.more_is_better:
        text = Markup('<text class="hint end" x="{:.1f}" y="{:.1f}">better ↘</text>')
        return text.format(x_of.end - 4, y_of.start - 8)
    return Markup('<text class="hint" x="{:.1f}" y="{:.1f}">↙ better</text>').format(x_of.start + 6, y_of.start - 8)
