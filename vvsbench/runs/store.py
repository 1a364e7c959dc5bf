"""Reading what runs left on disk: studies, their cells, and whether a cell still holds.

This is the only way by which reports and loggers see results. It imports no torch and loads tables and images when they
are asked for.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pyarrow import ArrowException, parquet
from pydantic import BaseModel, ValidationError

from vvsbench import identity
from vvsbench.errors import CheckpointError, UserError
from vvsbench.models import checkpoints
from vvsbench.quality.images import regrouped
from vvsbench.runs import files, shards, tables
from vvsbench.runs.record import CellRecord, Provenance, QualityRecord
from vvsbench.runs.recorded import printable
from vvsbench.runs.speed_record import SpeedRecord

RECORD = "record.json"
QUALITY = "quality"
SPEED = "speed.json"
SPEED_REPEATS = "speed.parquet"
MOST_BYTES = 2**28
"""Size of a record, or of what a table has besides its lines, that is no mistake."""
MOST_BYTES_OF_AN_IMAGE = 2**20
"""The same of a line of a trace."""
SHOWN = 300
"""Letters of somebody else's reason that a message has."""
REBUILD = "run the same command again to rebuild it"

Model = TypeVar("Model", bound=BaseModel)


class RecordError(UserError):
    """A record or a table beside it cannot be read; running the same command again writes it anew."""


class NoSuchCell(UserError):
    """A name means no cell of a study, or several."""


def read_record(folder: Path) -> CellRecord | None:
    """The record of a cell; None if it has none yet.

    Raises:
        RecordError: it is damaged, of another version, or says what no record can say.
    """
    return _read(folder / RECORD, CellRecord, "run the same command again to rebuild it from its shards")


def _read(path: Path, kind: type[Model], remedy: str) -> Model | None:
    """A file of a cell by its schema; None where there is none.

    Args:
        path: of the file.
        kind: its schema.
        remedy: what to do about a damaged one.

    Raises:
        RecordError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise RecordError(f"{path} is damaged (larger than any record); {remedy}.")
        return kind.model_validate_json(content)
    except FileNotFoundError as error:
        if path.is_symlink():
            raise RecordError(f"{path} is a symbolic link to nothing; {remedy}.") from error
        return None
    except OSError as error:
        raise RecordError(f"{path} cannot be read ({error.strerror}).") from error
    except ValidationError as error:
        what = error.errors()[0]
        where = ".".join(str(part) for part in what["loc"]) or "file"
        reason = printable(f"{where}: {what['msg']}")[:SHOWN]
        raise RecordError(f"{path} is damaged ({reason}); {remedy}.") from error


def write_record(folder: Path, record: CellRecord) -> None:
    """Replace the record of a cell."""
    files.write(folder / RECORD, (record.model_dump_json(indent=2) + "\n").encode())


def read_quality(folder: Path) -> dict[str, QualityRecord]:
    """The quality records of a cell by protocol.

    Raises:
        RecordError: one of them is damaged.
    """
    read = {path.stem: _quality(path) for path in sorted((folder / QUALITY).glob("*.json"))}
    return {name: record for name, record in read.items() if record is not None}


def _quality(path: Path) -> QualityRecord | None:
    found = _read(path, QualityRecord, "run the same command again to measure it anew")
    if found is not None and found.protocol != path.stem:
        raise RecordError(f"{path} is of protocol {found.protocol}; run the same command again to measure it anew.")
    return found


def read_speed(folder: Path) -> SpeedRecord | None:
    """The speed record of a cell; None if it has none.

    Raises:
        RecordError: it is damaged.
    """
    return _read(folder / SPEED, SpeedRecord, "delete it or time the cell again")


def changed_since(origin: Provenance, config: Mapping[str, Any]) -> str:
    """What is another now than when a record was made; empty when nothing is.

    Args:
        origin: of the record.
        config: its settings.
    """
    if origin.code_digest != identity.code_digest(config):
        return "the code that draws tokens has changed"
    for name, digest in origin.weights.items():
        try:
            path = checkpoints.locate(name)
        except CheckpointError:
            continue
        if checkpoints.trusted(path) and checkpoints.digest(path) != digest:
            return f"{name} has changed"
    return ""


@dataclass(frozen=True)
class StoredCell:
    """One cell on disk.

    Attributes:
        folder: that holds it.
        record: its record.
    """

    folder: Path
    record: CellRecord

    @cached_property
    def stale(self) -> bool:
        """Whether code or weights are others now than when the cell was drawn.

        Weights that are not on this machine cannot have changed as far as it can tell.
        """
        return bool(self.stale_because)

    @cached_property
    def stale_because(self) -> str:
        """What changed since; empty when nothing did."""
        if self.record.external:
            return ""
        return changed_since(self.record.provenance, self.record.config)

    @cached_property
    def trace(self) -> pd.DataFrame:
        """One row per image.

        Raises:
            RecordError: it is missing, damaged or of other images.
        """
        found = self._table(tables.TRACE, self.record.count)
        if "image" not in found or not np.array_equal(found["image"], np.arange(self.record.count)):
            raise RecordError(f"{self.folder / tables.TRACE} is of other images than its record; {REBUILD}.")
        if wrong := [] if self.record.external else tables.unsound(found):
            raise RecordError(f"{self.folder / tables.TRACE} is damaged ({', '.join(wrong)}); {REBUILD}.")
        return found

    @cached_property
    def repeats(self) -> pd.DataFrame:
        """One row per timed batch.

        Raises:
            RecordError: it is missing or damaged.
        """
        found = self._table(tables.REPEATS, self.record.count)
        try:
            found = found.astype(tables.REPEATED)
            sound = bool((found["seconds"] > 0).all() and (found["images"] > 0).all())
        except (KeyError, ValueError, TypeError):
            sound = False
        if not sound or not np.isfinite(found["seconds"]).all():
            raise RecordError(f"{self.folder / tables.REPEATS} is damaged; {REBUILD}.")
        return found

    def check(self) -> None:
        """See that everything of a finished cell but its pictures can be read.

        Raises:
            RecordError: it cannot.
        """
        if self.record.status != "ok":
            return
        assert len(self.trace) == self.record.count
        if self.record.external is None:
            assert self.repeats is not None

    @cached_property
    def quality(self) -> dict[str, QualityRecord]:
        """Quality records by protocol, of those that can be read (see `unscored`)."""
        return {name: found for name, found in self._scores.items() if isinstance(found, QualityRecord)}

    @property
    def unscored(self) -> list[str]:
        """Why quality records cannot be read, a line each."""
        return [str(found) for found in self._scores.values() if isinstance(found, RecordError)]

    @cached_property
    def _scores(self) -> dict[str, QualityRecord | RecordError]:
        read: dict[str, QualityRecord | RecordError] = {}
        for path in sorted((self.folder / QUALITY).glob("*.json")):
            try:
                found = _quality(path)
            except RecordError as error:
                read[path.stem] = error
            else:
                read |= {path.stem: found} if found else {}
        return read

    @cached_property
    def images(self) -> NDArray[np.uint8]:
        """All images at once, uint8 [count, 3, H, W], in order; `StoredImages` reads them a few at a time."""
        return np.concatenate([shard.images for shard in self.shards()])

    @cached_property
    def tokens(self) -> shards.Tokens:
        """All tokens, [count, N] or [count, N, C], in order (see `vvsbench.runs.shards.Shard`)."""
        return np.concatenate([shard.tokens for shard in self.shards()])

    @property
    def drafts(self) -> bool:
        """Whether its decoder drafts at all."""
        return bool(self.trace["draft_forwards"].sum())

    @cached_property
    def has_files(self) -> bool:
        """Whether all image files are here, whole or not: records are often copied without them."""
        return all(where.path(self.folder).is_file() for where in self._ranges())

    @property
    def has_images(self) -> bool:
        """Whether all images are here and whole; the first time every file is read."""
        return self.has_files and not self.damage

    @cached_property
    def damage(self) -> str:
        """Why the images that are here cannot be used; empty when they can, or are not here."""
        if not self.has_files:
            return ""
        digests, shapes = [], set()
        try:
            for shard in self.shards():
                digests.append(shard.digest)
                shapes.add((shard.images.shape[1:], shard.tokens.shape[1:]))
        except RecordError as error:
            return str(error)
        if len(shapes) > 1:
            return f"{self.folder} holds images of several sizes; run the same command again to draw them anew."
        if self.record.image_digest != files.digest("\n".join(digests).encode()):
            return f"{self.folder} holds other images than its record says; run the same command again to mend it."
        return ""

    def _ranges(self) -> list[shards.ShardRange]:
        return shards.ranges(self.record.count, int(self.record.config["shard_size"]))

    def shards(self) -> Iterator[shards.Shard]:
        """The image files, checked one by one.

        Raises:
            RecordError: one is missing or damaged.
        """
        for where in self._ranges():
            try:
                shard = shards.read(self.folder, where)
            except shards.DamagedShard as error:
                raise RecordError(f"{error}; run the same command again to draw it anew.") from error
            if shard is None:
                raise RecordError(f"{where.path(self.folder)} is missing; run the same command again to draw it.")
            yield shard

    def _table(self, name: str, most: int) -> pd.DataFrame:
        """A table of at most so many lines."""
        path = self.folder / name
        try:
            content = path.read_bytes()
            about = parquet.ParquetFile(io.BytesIO(content)).metadata
            size = sum(about.row_group(number).total_byte_size for number in range(about.num_row_groups))
            if about.num_rows > most or size > MOST_BYTES + most * MOST_BYTES_OF_AN_IMAGE:
                raise ValueError("more of it than there are images")
            return pd.read_parquet(io.BytesIO(content))
        except (OSError, ValueError, TypeError, LookupError, ArrowException) as error:
            reason = printable(str(error).split("\n")[0])[:SHOWN]
            raise RecordError(f"{path} cannot be read ({reason}); {REBUILD}.") from error


@dataclass(frozen=True)
class Unreadable:
    """What is left of a cell whose record cannot be read, or not be told from another's.

    Attributes:
        folder: that holds it.
        why: and what to do.
    """

    folder: Path
    why: str


@dataclass(frozen=True)
class Cells:
    """The cells of a study.

    Attributes:
        sound: those with a record, in the order in which they were started.
        unreadable: the others.
    """

    sound: Sequence[StoredCell]
    unreadable: Sequence[Unreadable]


@dataclass(frozen=True)
class Timings:
    """The speed records of a study.

    Attributes:
        sound: in the order in which they were started; their cells may have no images.
        unreadable: the others.
    """

    sound: Sequence[SpeedRecord]
    unreadable: Sequence[Unreadable]


class StoredImages:
    """The images of a cell as `vvsbench.quality.images.Images`: never more than two image files are held.

    Raises:
        RecordError: the first image file is missing or damaged.
    """

    def __init__(self, cell: StoredCell) -> None:
        self.cell = cell
        _, height, width = next(cell.shards()).images.shape[1:]
        self.shape = (cell.record.count, height, width, 3)

    def parts(self, size: int) -> Iterator[NDArray[np.uint8]]:
        """See `Images.parts`.

        Raises:
            RecordError: an image file is missing or damaged.
        """
        return regrouped((shard.images for shard in self.cell.shards()), size)


class Store:
    """All results below an output root.

    Args:
        root: the output root, by default of a run "outputs".
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    def studies(self) -> list[str]:
        """Names of the studies that have cells."""
        kept = [path for name in (RECORD, SPEED) for path in (self.root / "cells").glob(f"*/*/{name}")]
        return sorted({path.parent.parent.name for path in kept})

    def speeds(self, study: str) -> Timings:
        """The speed records of a study; one that cannot be read leaves the others as they are."""
        sound, unreadable = [], []
        for folder in self.timed(study):
            try:
                record = read_speed(folder)
            except RecordError as error:
                unreadable.append(Unreadable(folder, str(error)))
            else:
                sound += [record] if record else []
        return Timings(sorted(sound, key=lambda record: (record.started, record.label)), unreadable)

    def timed(self, study: str) -> list[Path]:
        """Folders of a study that have a speed record, whether or not it can be read."""
        return sorted(path.parent for path in (self.root / "cells" / study).glob(f"*/{SPEED}"))

    def folders(self, study: str) -> list[Path]:
        """Folders of a study that have a record, whether or not it can be read."""
        every = sorted((self.root / "cells" / study).glob("*/"))
        return [folder for folder in every if (folder / RECORD).exists() or (folder / RECORD).is_symlink()]

    def read(self, study: str) -> Cells:
        """The cells of a study; one that cannot be read leaves the others as they are."""
        sound: list[StoredCell] = []
        unreadable: list[Unreadable] = []
        for folder in self.folders(study):
            try:
                record = read_record(folder)
            except RecordError as error:
                unreadable.append(Unreadable(folder, str(error)))
                continue
            twins = [cell.folder.name for cell in sound if record and cell.record.key == record.key]
            if twins:
                why = f"{folder / RECORD} is of the same cell as {twins[0]}; delete the copy."
                unreadable.append(Unreadable(folder, why))
            elif record:
                sound.append(StoredCell(folder, record))
        return Cells(sorted(sound, key=lambda cell: (cell.record.started, cell.folder.name)), unreadable)

    def cells(self, study: str) -> list[StoredCell]:
        """Those cells of a study that can be read, in the order in which they were started."""
        return list(self.read(study).sound)

    def cell(self, study: str, name: str) -> StoredCell:
        """The one cell of a study that a name means; of several records of one cell the one that is not stale.

        Args:
            study: that has it.
            name: its label, or its key or the beginning of it; empty where the study has one cell only.

        Raises:
            NoSuchCell: no cell or several answer to it.
            RecordError: its record is damaged.
        """
        known = self.read(study)
        cells = list(known.sound)
        for other in known.unreadable:
            if name == other.folder.name or (len(name) > 3 and other.folder.name.rsplit("-", 1)[-1].startswith(name)):
                raise RecordError(other.why)
        called = [cell for cell in cells if name in (cell.record.label, cell.record.key, cell.folder.name)]
        found = called or [cell for cell in cells if cell.record.key.startswith(name)]
        if len(found) > 1 and len(fresh := [cell for cell in found if not cell.stale]) == 1:
            found = fresh
        if len(found) == 1:
            return found[0]
        choices = ", ".join(f"{cell.record.label} ({cell.record.key})" for cell in found or cells) or "none"
        asked = f"cell={name}" if name else "cell has no value and"
        raise NoSuchCell(f"{asked} means {len(found)} cells of study {study}; name one by its key: {choices}.")
