"""What cells cost: the axes of fronts. One of them a study chooses (`study.cost`), seconds always come beside it."""

from __future__ import annotations

from dataclasses import dataclass

from vvsbench.config import Cost


@dataclass(frozen=True)
class Axis:
    """A cost axis.

    Attributes:
        column: of the frame; but for seconds, of the trace too.
        title: with the unit.
        short: the same in a few words.
        unit: behind a number.
        heading: of a chart.
        more_is_better: whether a larger number is cheaper.
        least: cost of the reference point that areas are measured against; None for the baseline's own.
        reference: that cost in words.
        ratio: column of the frame that says how many times cheaper than the baseline a cell is.
        less: what a cheaper cell needs, behind that ratio.
        more: what a dearer one needs.
    """

    column: str
    title: str
    short: str
    unit: str
    heading: str
    more_is_better: bool
    least: float | None
    reference: str
    ratio: str
    less: str
    more: str

    @property
    def place(self) -> str:
        """Column of the frame that says where a cell lies, see `vvsbench.analysis.dominance`."""
        return f"place_{self.column}"

    @property
    def dominated_by(self) -> str:
        """Column of the frame with the labels of the cells that dominate it, a list."""
        return f"dominated_by_{self.column}"


FORWARDS = Axis(
    column="step_compression",
    title="step compression (image tokens per target forward)",
    short="tokens per target forward",
    unit="tokens per forward",
    heading="In target forwards: the same on any machine",
    more_is_better=True,
    least=1.0,
    reference="one token per forward",
    ratio="forwards_ratio",
    less="fewer target forwards",
    more="more target forwards",
)
EQUIVALENTS = Axis(
    column="cost",
    title="cost per image, in target calls",
    short="cost in target calls",
    unit="target calls",
    heading="In computation: the same on any machine",
    more_is_better=False,
    least=None,
    reference="the baseline’s own cost",
    ratio="cost_ratio",
    less="less computation",
    more="more computation",
)
SECONDS = Axis(
    column="seconds_per_image",
    title="seconds per image",
    short="seconds per image",
    unit="s per image",
    heading="In time: on this machine",
    more_is_better=False,
    least=None,
    reference="the baseline’s own time",
    ratio="speed_up",
    less="less time",
    more="more time",
)
CHOSEN = {Cost.forwards: FORWARDS, Cost.equivalents: EQUIVALENTS}
"""The axis of a study, by its setting."""
