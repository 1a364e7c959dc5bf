"""One cell drawn by several processes at once (`shards=8`), on one machine or on many that share a disk.

Nothing is dealt out beforehand. Every process takes the next image file that is not there and that nobody else draws,
until there is none; so a slow or dead one holds up nothing but the file that it was at, and any number may come later.
Who then finds every file there, and nobody else at work, concludes the cell just as a process does that drew it alone.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass

from vvsbench import locks
from vvsbench.runs import shards, store
from vvsbench.runs.cell import Cell
from vvsbench.runs.claim import concluding, joined, reserved, unclaimed
from vvsbench.runs.console import duration
from vvsbench.runs.record import CellRecord

RECORD_LOCK = ".record.lock"


@dataclass
class SharedCell(Cell):
    """A cell that is being worked on together with whoever runs the same command."""

    def run(self) -> bool:
        started = time.perf_counter()
        drawn = self._share() if self._absent() else 0
        if self._absent():
            return self._leave(drawn, "other processes draw the rest", started)
        with concluding(self.folder) as alone:
            if not alone:
                return self._leave(drawn, "another process finishes the cell", started)
            self._conclude(drawn, started)
        return True

    def _share(self) -> int:
        """Draw until every image file is there or being drawn.

        Returns:
            How many images this process drew.
        """
        every = shards.ranges(self.cfg.count, self.cfg.shard_size)
        with (
            joined(self.folder, self.console.say, self._begin),
            contextlib.closing(unclaimed(self.folder, every)) as mine,
            self._failing(),
        ):
            first = next(mine, None)
            if first is None:
                return 0
            with reserved(self.folder):
                return self._draw(itertools.chain([first], mine))

    def _begin(self) -> None:
        store.write_record(self.folder, self._started(self._readable_record(), self._absent()))

    def _leave(self, drawn: int, why: str, started: float) -> bool:
        record = self._readable_record()
        if record is not None:
            took = f"drew {drawn} of {record.count} images in {duration(time.perf_counter() - started)}"
            self.console.finished(record, f"{took}; {why}")
        return False

    @contextlib.contextmanager
    def _noted(self) -> Iterator[CellRecord]:
        with locks.alone(self.folder / RECORD_LOCK), super()._noted() as record:
            yield record
