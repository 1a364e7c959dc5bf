"""The page's drawing of a quantity against a setting: a line per family, levels for the cells without the setting."""

from __future__ import annotations

from collections.abc import Mapping

from markupsafe import Markup

from vvsbench.analysis.charts import BOTTOM, LEFT, RIGHT, TOP, line, shape, span, svg, tick
from vvsbench.analysis.curves import Curves, Point
from vvsbench.analysis.estimate import Estimate
from vvsbench.analysis.layout import Scale, padded, ticks


def curves(found: Curves, slots: Mapping[str, int], size: tuple[int, int]) -> Markup:
    """Draw one quantity.

    Args:
        found: what to draw.
        slots: colour and mark of each family.
        size: width and height in pixels.
    """
    width, height = size
    x_of, y_of = scales(found, width, height)
    parts = [_grid(found, x_of, y_of)]
    for _, level in found.levels:
        parts.append(line("base", x_of.start, y_of(level.y.value), x_of.end, y_of(level.y.value)))
    for family, level, label in found.named_levels():
        parts.append(_level(level, label, slots[family], x_of, y_of))
    for family, points in found.families.items():
        text = " ".join(f"{x_of(point.x):.1f},{y_of(point.y.value):.1f}" for point in points)
        parts.append(Markup('<polyline class="family f{}" points="{}"/>').format(slots[family], text))
        parts += [_point(point, slots[family], found, x_of, y_of) for point in points]
    return svg(size, f"{found.title} against {found.x_title}", parts)


def scales(found: Curves, width: float, height: float) -> tuple[Scale, Scale]:
    """Data to pixels, with every interval inside."""
    points = [point for points in found.families.values() for point in points]
    every = [*points, *(level for _, level in found.levels)]
    x_low, x_high = padded([point.x for point in points], 0.05)
    y_low, y_high = padded([end for point in every for end in ends(point.y)])
    return Scale(x_low, x_high, LEFT, width - RIGHT), Scale(y_low, y_high, height - BOTTOM, TOP)


def ends(found: Estimate) -> tuple[float, float]:
    """Of an interval; a number without one is its own."""
    down, up = found.spread()
    return found.value - down, found.value + up


def _grid(found: Curves, x_of: Scale, y_of: Scale) -> Markup:
    parts = []
    y_ticks = ticks(y_of.low, y_of.high, 5)
    for value in y_ticks:
        y = y_of(value)
        parts.append(line("rule", x_of.start, y, x_of.end, y))
        parts.append(_text("tick end", x_of.start - 8, y + 4, tick(value, y_ticks)))
    last = float("-inf")
    for place, text in found.marks:
        x = x_of(place)
        parts.append(line("notch", x, y_of.start, x, y_of.start + 5))
        if x - last >= 8 * len(text):
            parts.append(_text("tick mid", x, y_of.start + 19, text))
            last = x
    parts.append(line("axis", x_of.start, y_of.start, x_of.end, y_of.start))
    parts.append(_text("title", 8, 14, found.title))
    parts.append(_text("title end", x_of.end, y_of.start + 40, found.x_title))
    return Markup("").join(parts)


def _level(level: Point, label: str, slot: int, x_of: Scale, y_of: Scale) -> Markup:
    text = Markup('<text class="name f{} end" data-key="{}" x="{:.1f}" y="{:.1f}">{}</text>')
    return text.format(slot, level.key, x_of.end, y_of(level.y.value) - 5, label)


def _point(point: Point, slot: int, found: Curves, x_of: Scale, y_of: Scale) -> Markup:
    x, y = x_of(point.x), y_of(point.y.value)
    low, high = ends(point.y)
    tip = "|".join([point.label, f"{found.title} {span(point.y)}"])
    return Markup('<g class="pt front f{}" data-key="{}" data-tip="{}" tabindex="0">{}{}</g>').format(
        slot, point.key, tip, line("error", x, y_of(low), x, y_of(high)), shape(slot, x, y)
    )


def _text(kind: str, x: float, y: float, text: str) -> Markup:
    return Markup('<text class="{}" x="{:.1f}" y="{:.1f}">{}</text>').format(kind, x, y, text)
