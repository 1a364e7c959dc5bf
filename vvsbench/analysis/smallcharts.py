"""The page's small drawings.

Of each decoder how many drafts it kept and how often each depth of the draft held; of each family what its front
reaches from seed to seed.
"""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from vvsbench.analysis.attainment import BEST, WORST, Attainment, Family
from vvsbench.analysis.charts import grid, line, span, svg
from vvsbench.analysis.diagnostics import Depth
from vvsbench.analysis.estimate import Estimate
from vvsbench.analysis.layout import Scale, padded
from vvsbench.analysis.pareto import QUALITY, stair


def histogram(verified: Sequence[float], skipped: Sequence[float], slot: int, size: tuple[int, int]) -> Markup:
    """Shares of steps by how many drafted tokens they kept; steps that skipped verification beside those that did not.

    Args:
        verified: share of the verified steps that accepted 0, 1, ... drafts.
        skipped: share of the skipped steps that committed 0, 1, ... drafts; may be empty.
        slot: colour of the family.
        size: width and height in pixels.
    """
    width, height = size
    top = max([*verified, *skipped, 0.01])
    bins = max(len(verified), len(skipped))
    pitch = (width - 4) / bins
    floor, ceiling = height - 20, 16
    parts = [line("axis", 0, floor, width, floor)]
    bars = 2 if skipped else 1
    bar = min(26.0, pitch * (0.4 if skipped else 0.62))
    for index in range(bins):
        middle = 2 + pitch * (index + 0.5)
        for which, shares in enumerate((verified, skipped)[:bars]):
            share = shares[index] if index < len(shares) else 0.0
            x = middle - bar * bars / 2 + which * bar
            rise = (floor - ceiling) * share / top
            parts.append(_bar("skip" if which else "bar", slot, x, floor, bar, rise))
            if share >= 0.005 and not (bars == 2 and pitch < 34):
                parts.append(_text("share mid", x + bar / 2, floor - rise - 4, f"{100 * share:.0f}"))
        if pitch >= 14 or index % 2 == 0:
            parts.append(_text("tick mid", middle, height - 4, str(index)))
    return svg(size, "share of steps in % by number of drafted tokens kept", parts)


def depths(found: Sequence[Depth], slot: int, size: tuple[int, int]) -> Markup:
    """How often each depth of the draft held once the one before it had, in %, with the steps behind each share.

    Args:
        found: the levels of the draft.
        slot: colour of the family.
        size: width and height in pixels.
    """
    width, height = size
    floor, ceiling = height - 34, 16
    pitch = (width - 4) / len(found)
    roomy = pitch >= 30
    parts = [line("axis", 0, floor, width, floor), line("rule", 0, ceiling, width, ceiling)]
    shown = [depth for depth in found if depth.steps]
    places = [(2 + pitch * (depth.depth - 0.5), floor - (floor - ceiling) * depth.share) for depth in shown]
    text = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    parts.append(Markup('<polyline class="family f{}" points="{}"/>').format(slot, text))
    for depth, (x, y) in zip(shown, places, strict=True):
        about = f"depth {depth.depth}: {depth.accepted} of {depth.steps} steps"
        parts.append(
            Markup('<g class="dot f{}"><title>{}</title><circle cx="{:.1f}" cy="{:.1f}" r="3.5"/></g>').format(
                slot, about, x, y
            )
        )
        if roomy or depth.depth % 2:
            parts.append(_text("share mid", x, y - 7, f"{100 * depth.share:.0f}"))
            parts.append(_text("tick mid", x, height - 18, str(depth.depth)))
            parts.append(_text("share mid", x, height - 4, count(depth.steps)))
    return svg(
        size, "share of steps in % that accept a depth of the draft, of those that accepted the one before", parts
    )


def attained(found: Attainment, family: Family, slot: int, size: tuple[int, int]) -> Markup:
    """What a family's front reaches from seed to seed; the axes are the same for every family.

    A band from the best to the worst surface, the median as a line, and every cell at every seed as a dot.

    Args:
        found: all families.
        family: one of them.
        slot: its colour.
        size: width and height in pixels.
    """
    width, height = size
    column = found.axis.column
    x_low, x_high = padded([float(value) for value in found.points[column]])
    y_low, y_high = padded([float(value) for value in found.points[QUALITY]])
    x_of, y_of = Scale(x_low, x_high, 40, width - 10), Scale(y_low, y_high, height - 46, 26)
    lines = {
        name: [(x_of(x), y_of(y)) for x, y in stair(surface.points, found.axis, (x_low, x_high), y_high)]
        for name, surface in family.surfaces.items()
    }
    band = _path([*lines[BEST], *reversed(lines[WORST])])
    parts = [
        grid(x_of, y_of, found.axis.short),
        Markup('<polygon class="band f{}" points="{}"/>').format(slot, band),
        *(
            Markup('<polyline class="{} f{}" points="{}"/>').format(name, slot, _path(corners))
            for name, corners in lines.items()
        ),
    ]
    own = found.points[(found.points["family"] == family.name) & ~found.points["is_baseline"]]
    for _, row in own.iterrows():
        cost, fid = float(row[column]), float(row[QUALITY])
        about = (
            f"{row['label']}, seed {row['seed']}: {span(Estimate(cost))} {found.axis.unit}, FID {span(Estimate(fid))}"
        )
        parts.append(
            Markup('<g class="dot f{}"><title>{}</title><circle cx="{:.1f}" cy="{:.1f}" r="2.6"/></g>').format(
                slot, about, x_of(cost), y_of(fid)
            )
        )
    return svg(size, f"{family.name}: attainment surfaces of FID against {found.axis.short} over seeds", parts)


def _path(corners: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in corners)


def count(steps: int) -> str:
    """A number of steps in at most four letters."""
    if steps < 10_000:
        return str(steps)
    return f"{steps / 1000:.0f}k" if steps < 1_000_000 else f"{steps / 1e6:.1f}M"


def _bar(kind: str, slot: int, x: float, floor: float, width: float, rise: float) -> Markup:
    return Markup('<rect class="{} f{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"/>').format(
        kind, slot, x + 0.75, floor - rise, max(0.5, width - 1.5), rise
    )


def _text(kind: str, x: float, y: float, text: str) -> Markup:
    return Markup('<text class="{}" x="{:.1f}" y="{:.1f}">{}</text>').format(kind, x, y, text)
