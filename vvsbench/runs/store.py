"""Reading what runs left on disk: studies, their cells, and whether a cell still holds.

This is the only way by which reports and loggers see results. It imports no torch and loads tables and images when they
are asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import ValidationError

from vvsbench import identity
from vvsbench.errors import CheckpointError, UserError
from vvsbench.models import checkpoints
from vvsbench.quality.images import regrouped
from vvsbench.runs import files, shards, tables
from vvsbench.runs.record import CellRecord, Provenance, QualityRecord
from vvsbench.runs.speed_record import SpeedRecord

RECORD = "record.json"
QUALITY = "quality"
SPEED = "speed.json"
SPEED_REPEATS = "speed.parquet"


class RecordError(UserError):
    """A record or a table beside it cannot be read; running the same command again writes it anew."""


class NoSuchCell(UserError):
    """A name means no cell of a study, or several."""


def read_record(folder: Path) -> CellRecord | None:
    """The record of a cell; None if it has none yet.

    Raises:
        RecordError: it is damaged or of another version.
    """
    path = folder / RECORD
    try:
        content = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError as error:
        raise RecordError(f"{path} is damaged (not text); run the same command again to rebuild it.") from error
    try:
        return CellRecord.model_validate_json(content)
    except ValidationError as error:
        what = error.errors()[0]
        where = ".".join(str(part) for part in what["loc"]) or "file"
        raise RecordError(
            f"{path} is damaged ({where}: {what['msg']}); run the same command again to rebuild it from its shards."
        ) from error


def write_record(folder: Path, record: CellRecord) -> None:
    """Replace the record of a cell."""
    files.write(folder / RECORD, (record.model_dump_json(indent=2) + "\n").encode())


def read_quality(folder: Path) -> dict[str, QualityRecord]:
    """The quality records of a cell by protocol.

    Raises:
        RecordError: one of them is damaged.
    """
    found = {}
    for path in sorted((folder / QUALITY).glob("*.json")):
        try:
            found[path.stem] = QualityRecord.model_validate_json(path.read_text(encoding="utf-8"))
        except (ValidationError, UnicodeDecodeError) as error:
            raise RecordError(f"{path} is damaged; run the same command again to measure it anew.") from error
    return found


def read_speed(folder: Path) -> SpeedRecord | None:
    """The speed record of a cell; None if it has none.

    Raises:
        RecordError: it is damaged.
    """
    path = folder / SPEED
    try:
        return SpeedRecord.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        what = error.errors()[0]
        where = ".".join(str(part) for part in what["loc"]) or "file"
        raise RecordError(f"{path} is damaged ({where}: {what['msg']}); delete it or time the cell again.") from error


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
            if checkpoints.digest(checkpoints.locate(name)) != digest:
                return f"{name} has changed"
        except CheckpointError:
            continue
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
        """One row per image."""
        return self._table(tables.TRACE)

    @cached_property
    def repeats(self) -> pd.DataFrame:
        """One row per timed batch."""
        return self._table(tables.REPEATS)

    @cached_property
    def quality(self) -> dict[str, QualityRecord]:
        """Quality records by protocol."""
        return read_quality(self.folder)

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
    def has_images(self) -> bool:
        """Whether all image files are here: records are often copied without them."""
        return all(where.path(self.folder).is_file() for where in self._ranges())

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

    def _table(self, name: str) -> pd.DataFrame:
        path = self.folder / name
        try:
            return pd.read_parquet(path)
        except (OSError, ValueError) as error:
            raise RecordError(f"{path} cannot be read ({error}); run the same command again to rebuild it.") from error


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

    def speeds(self, study: str) -> list[SpeedRecord]:
        """The speed records of a study in the order in which they were started; their cells may have no images.

        Raises:
            RecordError: a record is damaged.
        """
        found = [record for folder in self.timed(study) if (record := read_speed(folder)) is not None]
        return sorted(found, key=lambda record: (record.started, record.label))

    def timed(self, study: str) -> list[Path]:
        """Folders of a study that have a speed record, whether or not it can be read."""
        return sorted(path.parent for path in (self.root / "cells" / study).glob(f"*/{SPEED}"))

    def folders(self, study: str) -> list[Path]:
        """Folders of a study that have a record, whether or not it can be read."""
        return sorted(path.parent for path in (self.root / "cells" / study).glob(f"*/{RECORD}"))

    def cells(self, study: str) -> list[StoredCell]:
        """The cells of a study in the order in which they were started.

        Raises:
            RecordError: a record is damaged.
        """
        folders = self.folders(study)
        cells = [StoredCell(folder, record) for folder in folders if (record := read_record(folder)) is not None]
        return sorted(cells, key=lambda cell: (cell.record.started, cell.folder.name))

    def cell(self, study: str, name: str) -> StoredCell:
        """The one cell of a study that a name means; of several records of one cell the one that is not stale.

        Args:
            study: that has it.
            name: its label, or its key or the beginning of it; empty where the study has one cell only.

        Raises:
            NoSuchCell: no cell or several answer to it.
        """
        cells = self.cells(study)
        called = [cell for cell in cells if name in (cell.record.label, cell.record.key, cell.folder.name)]
        found = called or [cell for cell in cells if cell.record.key.startswith(name)]
        if len(found) > 1 and len(fresh := [cell for cell in found if not cell.stale]) == 1:
            found = fresh
        if len(found) == 1:
            return found[0]
        known = ", ".join(f"{cell.record.label} ({cell.record.key})" for cell in found or cells) or "none"
        asked = f"cell={name}" if name else "cell has no value and"
        raise NoSuchCell(f"{asked} means {len(found)} cells of study {study}; name one by its key: {known}.")
