"""A number with its interval, and how it is written: as many digits as the interval allows, and no more."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pandas as pd

MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True)
class Estimate:
    """A number and its 95 % interval; without one, low and high are None."""

    value: float
    low: float | None = None
    high: float | None = None

    @property
    def exact(self) -> bool:
        """Whether the interval is a point: a count that is the same for every image."""
        return self.low is not None and self.low == self.high

    @property
    def sure(self) -> bool:
        """Whether an interval around a change leaves out "no change"."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)

    def spread(self) -> tuple[float, float]:
        """How far the interval reaches down and up; zero without one."""
        low = self.value if self.low is None else self.low
        high = self.value if self.high is None else self.high
        return max(0.0, self.value - low), max(0.0, high - self.value)


def estimate(row: pd.Series[Any], name: str) -> Estimate | None:
    """Read a quantity of a frame's row; None if the cell does not have it."""
    value = row.get(name)
    if value is None or not math.isfinite(float(value)):
        return None
    low, high = row.get(f"{name}_low"), row.get(f"{name}_high")
    if low is None or high is None or not math.isfinite(float(low)) or not math.isfinite(float(high)):
        return Estimate(float(value))
    return Estimate(float(value), float(low), float(high))


def inverted(change: Estimate) -> Estimate:
    """The change with its sign turned."""
    low = None if change.high is None else -change.high
    high = None if change.low is None else -change.low
    return Estimate(-change.value, low, high)


def number(value: float, digits: int, sign: bool = False) -> str:
    """A number in text, with a true minus sign and no negative zero."""
    rounded = round(value, digits) + 0.0
    text = f"{abs(rounded):,.{digits}f}".replace(",", "\N{THIN SPACE}")
    if rounded < 0:
        return MINUS + text
    return f"+{text}" if sign else text


def interval(found: Estimate, digits: int, sign: bool = False) -> str:
    """The interval in text, empty when there is none or it is a point."""
    if found.low is None or found.high is None or found.exact:
        return ""
    return f"[{number(found.low, digits, sign)}, {number(found.high, digits, sign)}]"
