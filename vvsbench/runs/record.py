"""What a cell's record says: a versioned schema, so that a reader of any age knows what it holds."""

from __future__ import annotations

from typing import Any, Literal

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
    """

    schema_version: Literal[1] = 1
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


class MetricValue(Strict):
    """One metric of an image set.

    Attributes:
        name: "fid", "is", "kid", "precision", "recall", "clip" or "accuracy".
        interval: how low and high were found.
    """

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    n: int
    higher_is_better: bool
    interval: str = ""


class QualityRecord(Strict):
    """The metrics of one image set under one protocol.

    Attributes:
        key: over images, protocol and reference; a record with another key is out of date.
        reference_count: reference images compared with; 0 when the protocol compares with none.
        seconds: that it took.
    """

    schema_version: Literal[1] = 1
    protocol: str
    version: str
    key: str
    image_digest: str
    reference_digest: str
    reference_count: int = 0
    values: list[MetricValue]
    seconds: float
    versions: dict[str, str] = Field(default_factory=dict)
