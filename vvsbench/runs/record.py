"""What a cell's record says: a versioned schema, so that a reader of any age knows what it holds."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

Status = Literal["started", "ok", "failed", "out_of_memory", "interrupted"]
Guarantee = Literal["exact", "bounded", "none"]


class Strict(BaseModel):
    """Base of everything on disk: an unknown key is damage or another version, never ignored."""

    model_config = ConfigDict(extra="forbid")


class Summary(Strict):
    """Distribution of one quantity over the images (or batches) of a cell.

    Attributes:
        low: lower end of the 95 % bootstrap interval of the mean.
        high: its upper end.
        n: number of values.
    """

    mean: float
    std: float
    low: float
    high: float
    minimum: float
    maximum: float
    n: int


class Git(Strict):
    """State of the checkout that the package was run from."""

    commit: str
    dirty: bool
    branch: str | None = None


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

    code_digest: str
    weights: dict[str, str]
    git: Git | None
    versions: dict[str, str]
    hardware: dict[str, str | int | float | None]
    host: str
    command: str


class External(Strict):
    """Where an image set comes from that this program did not draw.

    Attributes:
        source: folder or file that it was imported from.
        captions: whether captions were given with it.
        remarks: what of it was left out or had to be converted, a sentence each.
    """

    source: str
    captions: bool
    remarks: list[str] = Field(default_factory=list)


RECORD_SCHEMA: Literal[2] = 2
"""Version 2 knows imported image sets; records of version 1 are read as they are."""


class CellRecord(Strict):
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
    study: str
    label: str
    key: str
    config: dict[str, Any]
    provenance: Provenance
    count: int
    done: int = 0
    guarantee: Guarantee = "none"
    image_digest: str = ""
    files: dict[str, str] = Field(default_factory=dict)
    summaries: dict[str, Summary] = Field(default_factory=dict)
    timing: dict[str, float] = Field(default_factory=dict)
    started: str
    finished: str | None = None
    captions_cut: int = Field(default=0, ge=0)
    external: External | None = None


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

    replicates: list[list[float]]
    share: float


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

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    n: int
    higher_is_better: bool
    interval: str = ""
    jackknife: Jackknife | None = None
    each: str = ""
    draws: list[float] = Field(default_factory=list)
    captions_cut: int = Field(default=0, ge=0)


class QualityRecord(Strict):
    """The metrics of one image set under one protocol.

    Attributes:
        key: over images, protocol and reference; a record with another key is out of date.
        reference_count: reference images compared with; 0 when the protocol compares with none.
        groups: number of the group of every image in every partition of the jackknife, -1 for an image that is in none,
            int16 [partitions * n], see `packed`; empty when no metric needed groups.
        seconds: that it took.
    """

    schema_version: Literal[1, 2, 3] = QUALITY_SCHEMA
    protocol: str
    version: str
    key: str
    image_digest: str
    reference_digest: str
    reference_count: int = 0
    groups: str = ""
    values: list[MetricValue]
    seconds: float
    versions: dict[str, str] = Field(default_factory=dict)


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
        ValueError: it is no such text.
    """
    if not text:
        return np.zeros(0, dtype=_little(kind))
    try:
        return np.frombuffer(zlib.decompress(base64.b64decode(text, validate=True)), dtype=_little(kind))
    except zlib.error as error:
        raise ValueError(f"packed numbers are damaged: {error}") from error


def _little(kind: str) -> np.dtype[Any]:
    return np.dtype(kind).newbyteorder("<")
