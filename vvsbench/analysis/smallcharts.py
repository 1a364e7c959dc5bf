"""The page's small drawings, one per decoder: histograms of drafts kept and how often each depth of the draft held."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from vvsbench.analysis.charts import line, svg
from vvsbench.analysis.diagnostics import Depth


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
