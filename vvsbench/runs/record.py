"""What a cell's record says: a versioned schema, so that a reader of any age knows what it holds."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from vvsbench.runs.recorded import (
    MOST_IMAGES,
    MOST_SHARDS,
    Amount,
    Count,
    Images,
    Key,
    Name,
    OwnSettings,
    Real,
    RecordedSettings,
    Text,
    Time,
    printable,
)

Status = Literal["started", "ok", "failed", "out_of_memory", "interrupted"]
Guarantee = Literal["exact", "bounded", "none"]


class Strict(BaseModel):
    """Base of everything on disk: an unknown key is damage or another version, never ignored."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Kept(Strict):
    """Base of a file: whatever its texts hold can be printed (see `vvsbench.runs.recorded.printable`)."""

    @model_validator(mode="before")
    @classmethod
    def _printable(cls, content: Any) -> Any:
        return printable(content)


class Summary(Strict):
    """Distribution of one quantity over the images (or batches) of a cell.

    Attributes:
        low: lower end of the 95 % bootstrap interval of the mean.
        high: its upper end.
        n: number of values.
    """

    mean: Real
    std: Amount
    low: Real
    high: Real
    minimum: Real
    maximum: Real
    n: Images


class Git(Strict):
    """State of the checkout that the package was run from."""

    commit: Annotated[str, Field(pattern=r"^[0-9a-f]{7,64}$")]
    dirty: bool
    branch: Text | None = None


class Provenance(Strict):
    """Where a record comes from.

    Attributes:
        code_digest: of the modules that draw tokens and images.
        weights: name in the settings to sha256.
        git: None when the package does not lie in a checkout.
        versions: of Python and the libraries that the numbers depend on.
        hardware: cpu, cores, memory_gib, gpu and driver.
        host: operating system and architecture.
        command: as typed.
    """

    code_digest: Text
    weights: dict[Text, Text]
    git: Git | None
    versions: dict[Name, Text]
    hardware: dict[Name, Text | int | float | None]
    host: Text
    command: Annotated[str, Field(max_length=100_000)]


class External(Strict):
    """Where an image set comes from that this program did not draw.

    Attributes:
        source: folder or file that it was imported from.
        captions: whether captions were given with it.
        remarks: what of it was left out or had to be converted, a sentence each.
    """

    source: Text
    captions: bool
    remarks: list[Text] = Field(default_factory=list)


Table = Annotated[str, Field(pattern=r"^[a-z]+\.parquet$")]
"""A table beside a record; nothing that a record names lies anywhere else."""

RECORD_SCHEMA: Literal[2] = 2
"""Version 2 knows imported image sets; records of version 1 are read as they are."""


class CellRecord(Kept):
    """One cell of a study: its state, settings, origin and summaries.

    Attributes:
        label: short name for tables, e.g. "vvs i=3".
        key: see `vvsbench.identity.cell_key`.
        config: resolved settings.
        count: images asked for.
        done: images on disk.
        image_digest: sha256 over the shards' digests, empty until all are there.
        files: name to sha256 of the tables beside the record.
        timing: seconds: load_seconds, first_image_seconds (warm-up batch), total_seconds.
        captions_cut: captions that were longer than the target's text encoder reads.
        external: of an imported image set, which has no guarantee, counts or times; None for what this program drew.
    """

    schema_version: Literal[1, 2] = RECORD_SCHEMA
    status: Status
    error: str | None = None
    study: Annotated[str, Field(max_length=300)]
    label: Name
    key: Key
    config: dict[str, Any]
    provenance: Provenance
    count: Images
    done: Count = 0
    guarantee: Guarantee = "none"
    image_digest: Text = ""
    files: dict[Table, Text] = Field(default_factory=dict)
    summaries: dict[Name, Summary] = Field(default_factory=dict)
    timing: dict[Name, Amount] = Field(default_factory=dict)
    started: Time
    finished: Time | None = None
    captions_cut: Count = 0
    external: External | None = None

    @model_validator(mode="after")
    def _whole(self) -> CellRecord:
        """Numbers that belong together, and the settings that readers look into."""
        if self.done > self.count:
            raise ValueError(f"done: {self.done} images of {self.count}")
        kind = RecordedSettings if self.external else OwnSettings
        size = kind.model_validate(self.config).shard_size
        if self.count > size * MOST_SHARDS:
            raise ValueError(f"count: {self.count} images in files of {size} are more than {MOST_SHARDS} files")
        return self


QUALITY_SCHEMA: Literal[3] = 3
"""Version 2 keeps what paired intervals are made from, version 3 counts captions that were cut, and scores them with
their end token; records of earlier versions are read, and measured again by a run."""


class Jackknife(Strict):
    """A metric of the same images without one group of them, group by group.

    Two sets that were dealt alike (`QualityRecord.groups`) differ by these numbers group by group, which is what the
    interval of the difference of their metrics is made from.

    Attributes:
        replicates: a list per partition of the images, in it a value per group left out.
        share: of the images that a partition holds; the variance of the replicates is scaled by it.
    """

    replicates: list[list[Real]]
    share: Annotated[float, Field(gt=0, le=1)]

    @field_validator("replicates")
    @classmethod
    def _even(cls, value: list[list[float]]) -> list[list[float]]:
        if len({len(row) for row in value}) > 1:
            raise ValueError("partitions of different numbers of groups")
        return value


class MetricValue(Strict):
    """One metric of an image set.

    Attributes:
        name: "fid", "sfid", "is", "kid", "precision", "recall", "clip", "hps", "accuracy" or "hue".
        interval: how low and high were found.
        jackknife: of metrics that belong to the whole set.
        each: of means over images the single terms, float32, see `packed`; CLIP scores, or 0 and 1 of a share.
        draws: of a mean over random subsets (KID) the single terms; the subsets are the same in every set of a count.
        captions_cut: captions that were longer than the metric's network reads.
    """

    name: Name
    value: Real
    low: Real | None = None
    high: Real | None = None
    n: Annotated[int, Field(ge=0, le=MOST_IMAGES)]
    higher_is_better: bool
    interval: Text = ""
    jackknife: Jackknife | None = None
    each: str = ""
    draws: list[Real] = Field(default_factory=list)
    captions_cut: Count = 0

    @field_validator("each")
    @classmethod
    def _numbers(cls, value: str) -> str:
        if not np.isfinite(unpacked(value, "float32")).all():
            raise ValueError("terms that are not finite")
        return value


class QualityRecord(Kept):
    """The metrics of one image set under one protocol.

    Attributes:
        key: over images, protocol and reference; a record with another key is out of date.
        reference_count: reference images compared with; 0 when the protocol compares with none.
        groups: number of the group of every image in every partition of the jackknife, -1 for an image that is in none,
            int16 [partitions * n], see `packed`; empty when no metric needed groups.
        seconds: that it took.
    """

    schema_version: Literal[1, 2, 3] = QUALITY_SCHEMA
    protocol: Key
    version: Text
    key: Text
    image_digest: Text
    reference_digest: Text
    reference_count: Count = 0
    groups: str = ""
    values: list[MetricValue]
    seconds: Amount
    versions: dict[Name, Text] = Field(default_factory=dict)

    @field_validator("groups")
    @classmethod
    def _numbers(cls, value: str) -> str:
        unpacked(value, "int16")
        return value


MOST_PACKED = 8 * MOST_IMAGES
"""Bytes that packed numbers may need."""


def packed(values: NDArray[Any] | Sequence[float], kind: str) -> str:
    """Numbers as a short text: little-endian, compressed, base64.

    Args:
        values: any shape; it is flattened.
        kind: numpy's name of the type they are kept in, "float32" or "int16".
    """
    return base64.b64encode(zlib.compress(np.asarray(values, dtype=_little(kind)).tobytes(), 9)).decode()


def unpacked(text: str, kind: str) -> NDArray[Any]:
    """The numbers in a text of `packed`, flat; none in an empty one.

    Raises:
        ValueError: it is no such text, or holds more numbers than there can be.
    """
    if not text:
        return np.zeros(0, dtype=_little(kind))
    try:
        opened = zlib.decompressobj()
        content = opened.decompress(base64.b64decode(text, validate=True), MOST_PACKED)
        if not opened.eof:
            raise ValueError("packed numbers are cut off, or too many")
        return np.frombuffer(content, dtype=_little(kind))
    except zlib.error as error:
        raise ValueError(f"packed numbers are damaged: {error}") from error


def _little(kind: str) -> np.dtype[Any]:
    return np.dtype(kind).newbyteorder("<")
