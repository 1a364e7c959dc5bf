"""Skip in some rows of the image only: an error in the first rows is carried into all that follow."""

from __future__ import annotations

from dataclasses import dataclass

from vvsbench.decoding.schedule.base import Moment, not_negative
from vvsbench.decoding.schedule.uniform import Uniform


@dataclass
class Rows(Uniform):
    """One step in every `interval` is skipped, from a row of the token grid on.

    Attributes:
        first_row: rows above it are always verified.
        last_row: the last one in which steps are skipped; -1 for the image's last.
    """

    name: str = "rows"
    first_row: int = 4
    last_row: int = -1

    def skips(self, moment: Moment) -> bool:
        """See `Schedule.skips`."""
        inside = moment.row >= self.first_row and (self.last_row < 0 or moment.row <= self.last_row)
        return inside and super().skips(moment)

    @property
    def label(self) -> list[str]:
        """The rows and the interval."""
        end = "" if self.last_row < 0 else str(self.last_row)
        return [f"rows {self.first_row}-{end}", *super().label]

    def problems(self) -> list[str]:
        """See `Schedule.problems`."""
        found = [*super().problems(), *not_negative("first_row", self.first_row)]
        if 0 <= self.last_row < self.first_row:
            found.append(f"last_row={self.last_row} lies above first_row={self.first_row}; -1 is the image's last")
        return found
