"""Figures for papers and slides: PDF and SVG by matplotlib, from the same frame as the page.

Files are the same bytes for the same records: no dates, fixed identifiers.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from vvsbench.analysis import pictures
from vvsbench.analysis.attainment import BEST, MEDIAN, WORST, Attainment
from vvsbench.analysis.charts import CROWD, named
from vvsbench.analysis.curves import Curves
from vvsbench.analysis.diagnostics import Diagnosis
from vvsbench.analysis.dominance import Place
from vvsbench.analysis.estimate import estimate
from vvsbench.analysis.hypervolume import nondominated
from vvsbench.analysis.layout import Box, Scale, lines, padded, place, segments
from vvsbench.analysis.pareto import QUALITY, Front, outline, stair
from vvsbench.runs.store import StoredCell

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#3a4149", "#0067a8", "#00805c", "#c24a00", "#a8487e", "#946200", "#3e86b5", "#6b6b6b")
"""Of the families, in order; the darker half of Okabe and Ito's palette, so that letters in them can be read."""
MARKS = ("o", "s", "D", "^", "P", "h")
STYLE: Any = {
    "text.parse_math": False,  # a dollar in somebody's label is a dollar
    "font.family": "sans-serif",
    "font.sans-serif": ["Helvetica Neue", "Helvetica", "Arial", "Liberation Sans", "DejaVu Sans"],
    "font.size": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#8b949c",
    "axes.linewidth": 0.7,
    "axes.labelcolor": "#3a4149",
    "axes.titlesize": 8.5,
    "axes.titlelocation": "left",
    "xtick.color": "#5c6670",
    "ytick.color": "#5c6670",
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "grid.color": "#e6e9ec",
    "grid.linewidth": 0.7,
    "pdf.fonttype": 42,
    "svg.fonttype": "none",
    "svg.hashsalt": "vvsbench",
    "savefig.bbox": "tight",
    "savefig.pad_inches": 0.04,
}


@contextmanager
def _drawing(width: float, height: float, rows: int = 1, columns: int = 1) -> Iterator[tuple[Figure, list[Axes]]]:
    """A figure in inches with its axes, free of the user's own matplotlib settings and of pyplot's state."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        yield figure, list(figure.subplots(rows, columns, squeeze=False).flat)


def _save(figure: Figure, folder: Path, name: str) -> list[Path]:
    paths = [folder / f"{name}.pdf", folder / f"{name}.svg"]
    figure.savefig(paths[0], metadata={"CreationDate": None, "ModDate": None, "Producer": None, "Creator": "vvsbench"})
    figure.savefig(paths[1], metadata={"Date": None, "Creator": "vvsbench"})
    return paths


def fronts(found: Sequence[Front], slots: Mapping[str, int], folder: Path, name: str) -> list[Path]:
    """Both fronts side by side.

    Args:
        found: the fronts of one comparison.
        slots: colour and mark of each family.
        folder: that the files go to.
        name: of the files, without suffix.
    """
    with _drawing(3.6 * len(found), 3.0, 1, len(found)) as (figure, axes):
        for front, axis in zip(found, axes, strict=True):
            _front(front, slots, axis)
        _legend(figure, [place for place in Place if any(place in set(front.points["place"]) for front in found)])
        figure.draw_without_rendering()  # settles the layout that labels are placed in
        for front, axis in zip(found, axes, strict=True):
            _name_points(front, slots, axis)
        return _save(figure, folder, name)


def _legend(figure: Figure, places: Sequence[Place]) -> None:
    """What the looks of marks mean, below the panels."""
    from matplotlib.lines import Line2D

    grey: Any = {"color": COLOURS[0], "marker": "o", "linestyle": "none", "markeredgewidth": 1.1}
    dot = Line2D([], [], markersize=2, **grey)
    looks: dict[Place, Any] = {
        Place.front: Line2D([], [], markersize=5, **grey),
        Place.dominated: Line2D([], [], markersize=5, markerfacecolor="white", **grey),
        Place.unknown: (Line2D([], [], markersize=5, markerfacecolor="white", **grey), dot),
    }
    figure.legend(
        [looks[place] for place in places],
        [place.value for place in places],
        loc="outside lower left",
        ncols=len(places),
        frameon=False,
        fontsize=7.5,
        handletextpad=0.1,
        columnspacing=1.2,
    )


def _front(front: Front, slots: Mapping[str, int], axis: Axes) -> None:
    column = front.axis.column
    for name, limits in ((column, axis.set_xlim), (QUALITY, axis.set_ylim)):
        ends = [value for _, row in front.points.iterrows() for value in _ends(row, name)]
        limits(*padded(ends))
    top = axis.get_ylim()[1]
    xs, ys = zip(*outline(front, axis.get_xlim(), top), strict=True)
    axis.fill([*xs, xs[0]], [*ys, top], color="#f1f3f5", zorder=0)
    axis.plot(xs, ys, color="#8b949c", linewidth=0.8, zorder=1)
    axis.grid(axis="y", zorder=0)
    axis.set_axisbelow(True)
    for family, rows in front.points.groupby("family", sort=False):
        slot = slots[str(family)]
        colour = COLOURS[slot % len(COLOURS)]
        ordered = rows[nondominated(rows, front.axis)].sort_values(column)
        axis.plot(ordered[column], ordered[QUALITY], color=colour, alpha=0.45, linewidth=1, zorder=2)
        for _, row in rows.iterrows():
            _mark(row, column, colour, MARKS[slot % len(MARKS)], axis, crowd=len(front.points) > CROWD)
    axis.set_xlabel(front.axis.title, loc="right")
    axis.set_title("FID", color="#3a4149")


def _mark(row: pd.Series[Any], column: str, colour: str, mark: str, axis: Axes, crowd: bool) -> None:
    """A cell with its intervals; in a crowd a small one, and only of those on the front they are not faint."""
    x, y, place = float(row[column]), float(row[QUALITY]), Place(row["place"])
    (left, right), (low, high) = _ends(row, column), _ends(row, QUALITY)
    faint = crowd and place is not Place.front
    bars: Any = {"color": colour, "linewidth": 0.9, "zorder": 3, "alpha": 0.2 if faint else 1}
    axis.plot([left, right], [y, y], **bars)
    axis.plot([x, x], [low, high], **bars)
    style: Any = {"marker": mark, "markersize": 3.2 if crowd else 5, "color": colour, "markeredgewidth": 1.1}
    axis.plot([x], [y], markerfacecolor=colour if place is Place.front else "white", zorder=4, **style)
    if place is Place.unknown:
        dot = style | {"marker": "o", "markersize": 0.4 * style["markersize"], "markeredgewidth": 0}
        axis.plot([x], [y], markerfacecolor=colour, zorder=5, **dot)


def _ends(row: pd.Series[Any], name: str) -> tuple[float, float]:
    found = estimate(row, name)
    assert found is not None
    down, up = found.spread()
    return found.value - down, found.value + up


def _name_points(front: Front, slots: Mapping[str, int], axis: Axes) -> None:
    """Labels beside points, placed in points of print and drawn in the colour of their family."""
    area = axis.get_window_extent()
    unit = 72 / axis.figure.dpi
    x_of = Scale(*axis.get_xlim(), area.x0 * unit, area.x1 * unit)
    y_of = Scale(*axis.get_ylim(), -area.y0 * unit, -area.y1 * unit)
    obstacles = []
    for _, row in front.points.iterrows():
        x, y = x_of(float(row[front.axis.column])), y_of(float(row[QUALITY]))
        low, high = (y_of(value) for value in _ends(row, QUALITY))
        left, right = (x_of(value) for value in _ends(row, front.axis.column))
        obstacles += [Box(x - 4, y - 4, 8, 8), Box(x - 1, high, 2, low - high), Box(left, y - 1, right - left, 2)]
    corners = outline(front, axis.get_xlim(), axis.get_ylim()[1])
    obstacles += segments([(x_of(x), y_of(y)) for x, y in corners], 2)
    told = named(front)
    places = [(x_of(float(row[front.axis.column])), y_of(float(row[QUALITY]))) for _, row in told.iterrows()]
    texts = [lines(str(label)) for label in told["label"]]
    sizes = [(4.6 * max(map(len, rows)), 10.0 * len(rows)) for rows in texts]
    inside = Box(x_of.start, y_of.end, x_of.end - x_of.start, y_of.start - y_of.end)
    boxes = place(places, sizes, obstacles, inside, 5.0)
    for (_, row), rows, (x, y), box in zip(told.iterrows(), texts, places, boxes, strict=True):
        if box is None:
            continue
        axis.annotate(
            "\n".join(rows),
            (float(row[front.axis.column]), float(row[QUALITY])),
            (box.x - x, y - box.y - box.height / 2),
            textcoords="offset points",
            va="center",
            color=COLOURS[slots[str(row["family"])] % len(COLOURS)],
            zorder=5,
        )


def attainment(found: Attainment, slots: Mapping[str, int], folder: Path, name: str) -> list[Path]:
    """What fronts reach from seed to seed: a panel per family, all with the same axes.

    Args:
        found: the families.
        slots: colour and mark of each.
        folder: that the files go to.
        name: of the files, without suffix.
    """
    column = found.axis.column
    costs, fids = (padded([float(value) for value in found.points[name]]) for name in (column, QUALITY))
    columns = min(3, len(found.families))
    rows = -(-len(found.families) // columns)
    with _drawing(2.4 * columns, 2.1 * rows, rows, columns) as (figure, axes):
        for axis in axes[len(found.families) :]:
            axis.set_axis_off()
        for family, axis in zip(found.families, axes, strict=False):
            colour = COLOURS[slots[family.name] % len(COLOURS)]
            stairs = {
                name: stair(surface.points, found.axis, costs, fids[1]) for name, surface in family.surfaces.items()
            }
            axis.fill(*zip(*stairs[BEST], *reversed(stairs[WORST]), strict=True), color=colour, alpha=0.18, linewidth=0)
            if MEDIAN in stairs:
                axis.plot(*zip(*stairs[MEDIAN], strict=True), color=colour, linewidth=1.1)
            own = found.points[(found.points["family"] == family.name) & ~found.points["is_baseline"]]
            axis.scatter(own[column], own[QUALITY], color=colour, s=5, linewidths=0, zorder=3)
            axis.set_xlim(*costs)
            axis.set_ylim(*fids)
            axis.set_title(family.name, color=colour, fontweight="bold")
        figure.supxlabel(found.axis.title, fontsize=8.5, color="#3a4149")
        figure.supylabel("FID", fontsize=8.5, color="#3a4149")
        return _save(figure, folder, name)


@dataclass(frozen=True)
class Panel:
    """A decoder that drafts, for figures with a panel each.

    Attributes:
        slot: of its family.
        found: what its steps did.
    """

    label: str
    slot: int
    found: Diagnosis

    @property
    def colour(self) -> str:
        """Of its family."""
        return COLOURS[self.slot % len(COLOURS)]


@contextmanager
def _panels(panels: Sequence[Panel], across: int, size: tuple[float, float]) -> Iterator[tuple[Figure, list[Axes]]]:
    """A figure with an axis for each panel under its label; the places left over stay empty."""
    columns = min(across, len(panels))
    rows = -(-len(panels) // columns)
    with _drawing(size[0] * columns, size[1] * rows, rows, columns) as (figure, axes):
        for axis in axes[len(panels) :]:
            axis.set_axis_off()
        for panel, axis in zip(panels, axes, strict=False):
            wrapped = textwrap.fill(panel.label, max(12, int(13 * size[0])), max_lines=2)
            axis.set_title(wrapped, color=panel.colour, fontweight="bold", fontsize=8 if size[0] > 1.5 else 6.5)
            axis.tick_params(length=0)
        yield figure, axes


def lengths(panels: Sequence[Panel], folder: Path, name: str) -> list[Path]:
    """Histograms of drafted tokens kept per step, one panel per decoder.

    Args:
        panels: the decoders that draft.
        folder: that the files go to.
        name: of the files, without suffix.
    """
    with _panels(panels, 3, (2.4, 1.6)) as (figure, axes):
        for panel, axis in zip(panels, axes, strict=False):
            verified, skipped = 100 * panel.found.accepted, 100 * panel.found.kept
            width = 0.4 if len(skipped) else 0.7
            shift = width / 2 if len(skipped) else 0
            axis.bar(np.arange(len(verified)) - shift, verified, width * 0.94, color=panel.colour)
            if len(skipped):
                places = np.arange(len(skipped)) + shift
                axis.bar(places, skipped, width * 0.94, color="white", edgecolor=panel.colour, linewidth=0.9)
            _whole_ticks(axis, 0, max(len(verified), len(skipped)))
        skips = any(len(panel.found.kept) for panel in panels)
        note = " (hollow: steps that skipped verification)" if skips else ""
        figure.supxlabel(f"drafted tokens kept in a step{note}", fontsize=8.5, color="#3a4149")
        figure.supylabel("% of steps", fontsize=8.5, color="#3a4149")
        return _save(figure, folder, name)


def depths(panels: Sequence[Panel], folder: Path, name: str) -> list[Path]:
    """How often each depth of the draft held once the one before it had, one panel per decoder.

    Args:
        panels: the decoders that draft.
        folder: that the files go to.
        name: of the files, without suffix.
    """
    with _panels(panels, 4, (1.8, 1.5)) as (figure, axes):
        for panel, axis in zip(panels, axes, strict=False):
            shown = [depth for depth in panel.found.depths if depth.steps]
            xs, ys = [depth.depth for depth in shown], [100 * depth.share for depth in shown]
            axis.plot(xs, ys, color=panel.colour, linewidth=1, marker="o", markersize=3)
            axis.set_ylim(0, 105)
            _whole_ticks(axis, 1, len(panel.found.depths) + 1)
            if shown:
                behind = f"n = {shown[0].steps} … {shown[-1].steps}"
                axis.text(0.03, 0.05, behind, transform=axis.transAxes, fontsize=6.5, color="#5c6670")
        figure.supxlabel("depth of the draft (n: steps behind the first and the last)", fontsize=8.5, color="#3a4149")
        figure.supylabel("% accepted after the depth before", fontsize=8.5, color="#3a4149")
        return _save(figure, folder, name)


def _whole_ticks(axis: Axes, first: int, end: int) -> None:
    """Ticks at whole numbers, at most a dozen."""
    axis.set_xticks(range(first, end, -(-(end - first) // 12) or 1))


def positions(panels: Sequence[Panel], folder: Path, name: str) -> list[Path]:
    """Share of the images in which the token at each place was drafted and kept, one map per decoder.

    Args:
        panels: the decoders that draft.
        folder: that the files go to.
        name: of the files, without suffix.

    Returns:
        No files if no decoder has a map.
    """
    panels = [panel for panel in panels if panel.found.places is not None]
    if not panels:
        return []
    top = pictures.ceiling([panel.found.places for panel in panels if panel.found.places is not None])
    with _panels(panels, 6, (1.25, 1.4)) as (figure, axes):
        for panel, axis in zip(panels, axes, strict=False):
            assert panel.found.places is not None
            shown = axis.imshow(100 * panel.found.places, cmap="cividis", vmin=0, vmax=100 * top)
            axis.set_xticks([])
            axis.set_yticks([])
            axis.spines[:].set_visible(False)
        bar = figure.colorbar(shown, ax=axes, shrink=0.8, aspect=14)
        bar.set_label("% drafted, accepted or skipped", fontsize=7.5, color="#3a4149")
        bar.outline.set_visible(False)
        return _save(figure, folder, name)


def curves(found: Sequence[Curves], slots: Mapping[str, int], folder: Path, name: str) -> list[Path]:
    """Quantities against the setting that a study varies, side by side.

    Args:
        found: what to draw.
        slots: colour and mark of each family.
        folder: that the files go to.
        name: of the files, without suffix.
    """
    with _drawing(3.6 * len(found), 2.8, 1, len(found)) as (figure, axes):
        for one, axis in zip(found, axes, strict=True):
            _levels(one, slots, axis)
            for family, points in one.families.items():
                slot = slots[family]
                values = [point.y.value for point in points]
                bars = np.array([point.y.spread() for point in points]).T
                style: Any = {"color": COLOURS[slot % len(COLOURS)], "marker": MARKS[slot % len(MARKS)]}
                xs = [point.x for point in points]
                axis.errorbar(xs, values, bars, linewidth=1, elinewidth=0.9, markersize=4.5, label=family, **style)
            axis.set_xticks([place for place, _ in one.marks], [text for _, text in one.marks])
            axis.set_xlabel(one.x_title, loc="right")
            axis.set_title(one.title, color="#3a4149")
            axis.grid(axis="y")
            axis.set_axisbelow(True)
        axes[0].legend(frameon=False, fontsize=7.5)
        return _save(figure, folder, name)


def _levels(found: Curves, slots: Mapping[str, int], axis: Axes) -> None:
    """The cells without the setting, as levels."""
    for family, level in found.levels:
        axis.axhline(level.y.value, color=COLOURS[slots[family] % len(COLOURS)], linewidth=0.9, linestyle=":")
    for family, level, label in found.named_levels():
        axis.annotate(
            label,
            (1, level.y.value),
            (-2, 2),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            ha="right",
            color=COLOURS[slots[family] % len(COLOURS)],
        )


def samples(rows: Sequence[tuple[StoredCell, str]], chosen: pictures.Chosen, folder: Path, name: str) -> list[Path]:
    """The same images under every decoder, one row each.

    Args:
        rows: cells with their labels.
        chosen: which images.
        folder: that the files go to.
        name: of the files, without suffix.
    """
    with _drawing(7.2, 0.64 * len(rows), len(rows), 1) as (figure, axes):
        for (cell, label), axis in zip(rows, axes, strict=True):
            images = pictures.pick(cell, chosen.indices)
            scale = max(1, 96 // images[0].shape[-1])
            axis.imshow(pictures.sheet(images, scale, gap=6), interpolation="nearest")
            axis.set_xticks([])
            axis.set_yticks([])
            axis.spines[:].set_visible(False)
            axis.set_ylabel(label, rotation=0, ha="right", va="center")
        return _save(figure, folder, name)
