"""One cell from settings to records: find what is missing, draw it, tabulate it, score it, and say how it ended.

The record is written first (started) and last (how it ended), so a folder always tells its own state. Whatever kills
the process, the same command goes on at the first shard that is missing or damaged.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vvsbench import identity
from vvsbench.config import RunConfig
from vvsbench.errors import UserError
from vvsbench.runs import files, provenance, shards, store, tables
from vvsbench.runs.claim import claimed, give_back, reserved
from vvsbench.runs.console import Console, duration
from vvsbench.runs.failures import NotWritableError, OutOfMemoryError, understood
from vvsbench.runs.record import CellRecord, Status
from vvsbench.runs.recorded import printable
from vvsbench.runs.scoring import score
from vvsbench.runs.shards import Shard, ShardRange
from vvsbench.validation import remarks

log = logging.getLogger(__name__)

NOTHING_TO_DO = "done already, nothing to do (rerun=done draws it again)"


@dataclass
class Cell:
    """A cell that is being worked on.

    Attributes:
        cfg: its settings.
        settings: the same as plain containers.
        folder: that holds it.
        console: says what happens.
    """

    cfg: RunConfig
    settings: Mapping[str, Any]
    folder: Path
    console: Console

    def run(self) -> bool:
        """Do whatever is not done yet.

        Returns:
            Whether the cell is done; else other processes work on the rest of it.

        Raises:
            UserError: it could not be finished; the record says why.
        """
        started = time.perf_counter()
        try:
            with claimed(self.folder, self.console.say):
                self._conclude(0, started)
        except NotWritableError:
            if not self._finished():
                raise
            self._conclude(0, started)  # which has nothing left to write
        return True

    def _finished(self) -> bool:
        """Whether the cell, in a folder that cannot be written to, is done and whole."""
        record = self._readable_record()
        return record is not None and record.status == "ok" and not self._missing() and self._tables_intact(record)

    def _conclude(self, before: int, started: float) -> None:
        """Nobody else works on the cell: draw what is missing or damaged, tabulate, score, and say what was done.

        Args:
            before: images that this process has drawn already.
            started: when it began.
        """
        record = self._readable_record()
        missing = self._missing()
        worked = bool(missing) or record is None or record.status != "ok" or not self._tables_intact(record)
        if worked:
            record = self._work(record, missing)
        assert record is not None
        over = time.perf_counter()
        scored = score(self.cfg, self.folder, record, self.console)
        drawn = before + _images(missing)
        worked_for = f"in {duration(over - started)}"
        what = [f"drew {drawn} of {record.count} images {worked_for}"] if drawn else []
        what += [f"wrote its tables {worked_for}"] if worked and not drawn else []
        what += [f"scored in {duration(time.perf_counter() - over)}"] if scored else []
        quality = store.read_quality(self.folder).get(self.cfg.metrics.name)
        self.console.finished(record, ", ".join(what) or NOTHING_TO_DO, quality)

    def _readable_record(self) -> CellRecord | None:
        try:
            return store.read_record(self.folder)
        except store.RecordError as error:
            self.console.warn(str(error).split(";")[0] + "; it is rebuilt from the shards.")
            return None

    def _missing(self) -> list[ShardRange]:
        missing = []
        for where in shards.ranges(self.cfg.count, self.cfg.shard_size):
            try:
                if shards.read(self.folder, where) is None:
                    missing.append(where)
            except shards.DamagedShard as damage:
                self.console.warn(f"{damage}; its images are drawn again.")
                missing.append(where)
        return missing

    def _tables_intact(self, record: CellRecord) -> bool:
        for name, digest in record.files.items():
            path = self.folder / name
            if not path.is_file() or files.digest(path.read_bytes()) != digest:
                self.console.warn(f"{path} is missing or damaged; it is rebuilt from the shards.")
                return False
        return set(record.files) == {tables.TRACE, tables.REPEATS}

    def _work(self, before: CellRecord | None, missing: list[ShardRange]) -> CellRecord:
        with reserved(self.folder), self._failing():
            store.write_record(self.folder, self._started(before, missing))
            if missing or before is None:
                self._draw(missing)
            with self._noted() as record:
                self._tabulate(record)
        return self._end("ok", None)

    def _started(self, before: CellRecord | None, missing: Sequence[ShardRange]) -> CellRecord:
        """The record of a cell that is being worked on."""
        return CellRecord(
            status="started",
            study=self.cfg.study.name,
            label=self.cfg.decoder.label(self.cfg.model),
            key=identity.cell_key(self.settings),
            config=dict(self.settings),
            provenance=before.provenance if before and not missing else provenance.collect(self.settings),
            count=self.cfg.count,
            done=self.cfg.count - _images(missing),
            started=before.started if before else provenance.now(),
            guarantee=before.guarantee if before else "none",
            image_digest=before.image_digest if before else "",
            captions_cut=before.captions_cut if before else 0,
            timing=dict(before.timing) if before else {},
        )

    @contextlib.contextmanager
    def _noted(self) -> Iterator[CellRecord]:
        """The record as it is on the disk, to be changed; it is written back afterwards."""
        record = self._readable_record() or self._started(None, self._absent())
        yield record
        store.write_record(self.folder, record)

    def _absent(self) -> list[ShardRange]:
        """Image files that are not there; those that are may be damaged."""
        every = shards.ranges(self.cfg.count, self.cfg.shard_size)
        return [where for where in every if not where.path(self.folder).exists()]

    def _draw(self, missing: Iterable[ShardRange]) -> int:
        """Draw image files one by one.

        Returns:
            How many images that were.
        """
        from vvsbench.runs import drawing

        label = self.cfg.decoder.label(self.cfg.model)
        for remark in remarks(self.cfg):
            self.console.warn(remark)
        with self.console.working(f"{label}: loading the model"):
            session = drawing.open_session(self.cfg)
        with self._noted() as record:
            record.guarantee = session.guarantee  # type: ignore[assignment]
            record.timing["load_seconds"] = session.load_seconds
            record.captions_cut = session.captions_cut
        if session.captions_cut:
            self.console.warn(
                f"{session.captions_cut} of {self.cfg.count} captions are longer than the text encoder reads; they are "
                "drawn from their beginning, cut in front of the end token."
            )
        drawn, last = 0, time.perf_counter()

        def write(where: ShardRange, shard: Shard, times: list[dict[str, Any]]) -> None:
            nonlocal drawn, last
            shards.write(self.folder, where, shard, times)
            now, images = time.perf_counter(), where.end - where.first
            with self._noted() as record:
                record.done += images
                record.timing["first_image_seconds"] = session.first_image_seconds
                record.timing["total_seconds"] = record.timing.get("total_seconds", 0.0) + now - last
            drawn, last = drawn + images, now
            wrote(where.path(self.folder).name)

        with self.console.drawing(label, record.count, record.done) as (advance, wrote):
            drawing.draw(self.cfg, session, missing, write, advance)
        return drawn

    def _tabulate(self, record: CellRecord) -> None:
        """Tables, summaries and the image set's digest, all from the shards."""
        rows, times, digests = [], [], []
        for where in shards.ranges(self.cfg.count, self.cfg.shard_size):
            shard = shards.read(self.folder, where)
            assert shard is not None
            rows += shard.rows
            times += shards.read_times(self.folder, where)
            digests.append(shard.digest)
        trace, repeats = tables.trace_frame(rows), tables.repeats_frame(times)
        for name, frame in ((tables.TRACE, trace), (tables.REPEATS, repeats)):
            content = tables.to_parquet(frame)
            files.write(self.folder / name, content)
            record.files[name] = files.digest(content)
        digest = files.digest("\n".join(digests).encode())
        if record.image_digest not in ("", digest):
            self.console.warn(
                f"{record.label}: the images are not those that this cell had before, though code, weights and "
                "settings are the same; this device or its libraries compute other numbers than they did."
            )
        record.image_digest = digest
        record.summaries = tables.summaries(trace, repeats)

    @contextlib.contextmanager
    def _failing(self) -> Iterator[None]:
        """Put down how it ended, if it did not end well."""
        try:
            yield
        except KeyboardInterrupt:
            self._end("interrupted", "stopped by the user")
            raise
        except Exception as error:
            reason = understood(error, f"batch_size={self.cfg.batch_size}, dtype={self.cfg.dtype}", "batch_size")
            status: Status = "out_of_memory" if isinstance(reason, OutOfMemoryError) else "failed"
            self._end(status, str(reason) or type(reason).__name__)
            if reason is error:
                raise
            raise reason from error

    def _end(self, status: Status, error: str | None) -> CellRecord:
        """Write how it ended, last of all; the first reason for which it failed stays."""
        give_back(self.folder)
        try:
            with self._noted() as record:
                record.done = self.cfg.count - _images(self._absent())
                if status == "ok" or record.status in ("started", "interrupted"):
                    record.status, record.error, record.finished = status, printable(error), provenance.now()
        except UserError:
            if status == "ok":
                raise
            log.warning("the record of %s could not be written", self.folder)
        return record


def cleared(folder: Path, console: Console) -> None:
    """Delete the images of a done cell, so that it is drawn again (`rerun=done`); nothing is done to any other.

    What it was scored as stays, and holds if the images come out the same.

    Args:
        folder: of the cell.
        console: says what happens.
    """
    with claimed(folder, console.say):
        record = store.read_record(folder)
        if record is None or record.status != "ok":
            return
        files_of = shards.ranges(record.count, int(record.config["shard_size"]))
        record.status, record.error, record.done = "interrupted", "to be drawn again (rerun=done)", 0
        record.timing.pop("total_seconds", None)
        store.write_record(folder, record)
        for where in files_of:
            where.path(folder).unlink(missing_ok=True)
            where.times_path(folder).unlink(missing_ok=True)


def _images(ranges: Sequence[ShardRange]) -> int:
    """How many images some files hold."""
    return sum(where.end - where.first for where in ranges)
