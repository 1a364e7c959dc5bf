"""What a record may say: bounds on every number and text, since a record may come from anybody, or from a bad disk.

Readers take a setting for what its class says it is, so the groups that they look into are checked against those very
classes. Settings that this version does not know, and those of decoders and models of other packages, are left alone.
"""

from __future__ import annotations

import re
from datetime import datetime
from functools import cache
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator

MOST_IMAGES = 10_000_000
"""Images that a cell may have."""
MOST_SHARDS = 100_000
"""Files that it may have: their numbers have five digits."""
LARGEST = 1e30
"""Numbers that are no mistake are smaller; sums of their squares are still numbers."""

Images = Annotated[int, Field(ge=1, le=MOST_IMAGES)]
Count = Annotated[int, Field(ge=0, le=10**15)]
Real = Annotated[float, Field(ge=-LARGEST, le=LARGEST)]
Amount = Annotated[float, Field(ge=0, le=LARGEST)]
Positive = Annotated[float, Field(gt=0, le=LARGEST)]
Name = Annotated[str, Field(min_length=1, max_length=300)]
Text = Annotated[str, Field(max_length=10_000)]
Key = Annotated[str, Field(pattern=r"^[\w.-]{1,64}$")]
Digest = Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")]


def _time(text: str) -> str:
    datetime.fromisoformat(text)
    return text


Time = Annotated[str, Field(max_length=40), AfterValidator(_time)]

HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""What a terminal obeys, what turns a line around, and halves of letters; tabs and line feeds are text."""


def printable(value: Any) -> Any:
    """The same with nothing in its texts but what can be printed and written; whatever else is there becomes U+FFFD."""
    if isinstance(value, str):
        return HIDDEN.sub("\N{REPLACEMENT CHARACTER}", value)
    if isinstance(value, dict):
        return {printable(key): printable(one) for key, one in value.items()}
    if isinstance(value, list):
        return [printable(one) for one in value]
    return value


class Described(BaseModel):
    """Base of settings that are looked into; what else they have is left alone."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)


class Option(Described):
    """A group of which one option was chosen."""

    name: Name


class RecordedStructure(Option):
    """Of a tree of drafts."""

    candidates: Name = "top_k"
    depth: Count | None = None
    nodes: Count | None = None
    paths: list[Any] | None = None


class RecordedDecoder(Option):
    """How tokens were drawn."""

    structure: RecordedStructure | None = None
    schedule: Option | None = None
    acceptance: Option | None = None
    skip: dict[str, Any] | None = None
    mode: Name | None = None
    tolerance: Amount | None = None


class RecordedModel(Option):
    """The target."""

    grid: Images | None = None
    channels: Count | None = None
    vocab: Count | None = None
    encoder_depth: Count | None = None
    decoder_depth: Count | None = None
    head_depth: Count | None = None


class RecordedSettings(Described):
    """Of a set that somebody else's code made: nothing but what shards are read with."""

    study: dict[str, Any]
    model: RecordedModel
    decoder: RecordedDecoder
    count: Images
    shard_size: Images

    @field_validator("study")
    @classmethod
    def _study(cls, value: dict[str, Any]) -> dict[str, Any]:
        return fitting("study", value)


class OwnSettings(RecordedSettings):
    """Of a cell of this program."""

    sampling: dict[str, Any]
    prompts: dict[str, Any]
    metrics: dict[str, Any] = Field(default_factory=dict)
    search: dict[str, Any] = Field(default_factory=dict)
    batch_size: Images
    seed: Count
    dtype: Name
    device: Name
    engine: Name = "eager"
    output_root: Text = "outputs"

    @field_validator("sampling", "prompts", "metrics", "search")
    @classmethod
    def _group(cls, value: dict[str, Any], info: Any) -> dict[str, Any]:
        return fitting(info.field_name, value)


def fitting(group: str, value: dict[str, Any]) -> dict[str, Any]:
    """The settings of a group, if they are of the types that its class has.

    Raises:
        ValueError: they are not.
    """
    try:
        _classes()[group].validate_python(value)
    except ValidationError as error:
        what = error.errors()[0]
        raise ValueError(f"{'.'.join(map(str, what['loc']))}: {what['msg']}") from error
    return value


@cache
def _classes() -> dict[str, TypeAdapter[Any]]:
    from vvsbench.config import PromptsConfig, SamplingConfig, StudyConfig
    from vvsbench.quality.config import MetricsConfig
    from vvsbench.search.settings import SearchConfig

    kinds = {
        "study": StudyConfig,
        "sampling": SamplingConfig,
        "prompts": PromptsConfig,
        "metrics": MetricsConfig,
        "search": SearchConfig,
    }
    return {group: TypeAdapter(kind) for group, kind in kinds.items()}
