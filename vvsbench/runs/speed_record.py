"""What a cell's speed record says (speed.json): a versioned schema beside that of its images, which it does without."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from vvsbench.runs.record import Kept, Provenance, Strict, Table
from vvsbench.runs.recorded import Amount, Count, Key, Name, OwnSettings, Positive, Text, Time

SpeedStatus = Literal["started", "ok", "failed", "out_of_memory", "crashed", "interrupted"]
Ending = Literal["narrow", "rounds", "seconds"]
"""Why there were no more repeats (see `vvsbench.measure.repeats.Ending`)."""
PIXELS = "pixels"
"""Turning tokens into pixels, among the phases that a decoder marks (`vvsbench.decoding.phases.Phase`)."""


class Interval(Strict):
    """A median with its 95 % bootstrap interval; n is the number of values behind it."""

    value: Positive
    low: Positive
    high: Positive
    n: Count


class Subject(Strict):
    """One decoder that was timed.

    Attributes:
        label: short name.
        seconds_per_image: of decoding tokens, by the wall clock.
        device_seconds_per_image: the same between two events on the device; None on a CPU.
        load_seconds: until the weights are where they are needed.
        first_seconds: the first batch, which pays for compiling, capturing and everything else that happens once.
        counts: means per image of the trace's numbers.
        floor_seconds: least time per image (see `Floor`); None for a model that tells nothing of itself.
        bytes_per_image, flops_per_image: what that floor is made of.
    """

    label: Name
    seconds_per_image: Interval
    device_seconds_per_image: Interval | None = None
    load_seconds: Amount
    first_seconds: Amount
    counts: dict[Name, Amount]
    floor_seconds: Amount | None = None
    bytes_per_image: Amount | None = None
    flops_per_image: Amount | None = None

    @field_validator("counts")
    @classmethod
    def _forwards(cls, value: dict[str, float]) -> dict[str, float]:
        if sum(value[name] for name in ("target_forwards", "prefill_forwards") if name in value) <= 0:
            raise ValueError("no target forward")
        return value

    @property
    def forwards(self) -> float:
        """Target forwards per image, prefill included."""
        return self.counts.get("target_forwards", 0.0) + self.counts.get("prefill_forwards", 0.0)

    @property
    def floor_share(self) -> float | None:
        """How much of the time the floor explains; 1 is as fast as the machine can."""
        return None if self.floor_seconds is None else self.floor_seconds / self.seconds_per_image.value


class Moment(Strict):
    """The machine at one moment; None for what it does not tell.

    Attributes:
        load_average: processes that wanted a core, over the last minute.
        sm_mhz, memory_mhz: clocks of the GPU.
        celsius: of the GPU.
        power_limit_watts: of the GPU.
        slowed_by: what holds the GPU's clocks down.
        strangers: process ids of others that compute on the GPU.
    """

    load_average: float | None = None
    sm_mhz: int | None = None
    memory_mhz: int | None = None
    celsius: int | None = None
    power_limit_watts: float | None = None
    slowed_by: list[str] | None = None
    strangers: list[int] | None = None


class Memory(Strict):
    """Bytes at their highest while the cell was loaded, warmed up and drew a batch, before any baseline was built.

    Attributes:
        allocated, reserved: by torch on the GPU; None on a CPU.
        process: resident, of the process.
    """

    allocated: int | None
    reserved: int | None
    process: int


class Measured(Strict):
    """What was measured.

    Attributes:
        device: the GPU's name, or the processor's.
        cores: that this process may use.
        threads: CPU threads of torch.
        own: the cell's decoder.
        baseline: what it was timed in turn with; None without one, and for the baseline itself.
        speed_up: over the baseline, from the ratios within rounds.
        paint_seconds_per_image: turning tokens into pixels, timed apart.
        bytes_per_second, flops_per_second: of a copy and of a matrix product, for the floors; the better of one before
            and one after the repeats.
        memory: peaks.
        joules_per_image: of the GPU; None where it has no counter.
        phases: share of the time by phase, of a pass of its own; empty where a decoder marks none.
        ending: why there were no more repeats.
        before, after: the machine around the repeats.
        slowed_by: what held the GPU's clocks down after some repeat.
        seconds: that all of it took.
    """

    device: Text
    cores: Count
    threads: Count
    own: Subject
    baseline: Subject | None = None
    speed_up: Interval | None = None
    paint_seconds_per_image: Interval
    bytes_per_second: Amount | None = None
    flops_per_second: Amount | None = None
    memory: Memory
    joules_per_image: Amount | None = None
    phases: dict[Name, Amount] = Field(default_factory=dict)
    ending: Ending
    before: Moment
    after: Moment
    slowed_by: list[Text] = Field(default_factory=list)
    seconds: Amount

    @property
    def compression(self) -> float | None:
        """How many times fewer target forwards than the baseline."""
        return self.baseline.forwards / self.own.forwards if self.baseline else None

    @property
    def round_cost(self) -> float | None:
        """Seconds of the cell per target forward over those of the baseline: what one round costs in AR steps."""
        if self.compression is None or self.speed_up is None:
            return None
        return self.compression / self.speed_up.value


class SpeedRecord(Kept):
    """How fast a cell is, or why that is not known.

    Attributes:
        label: short name for tables.
        key: of the cell (`vvsbench.identity.cell_key`).
        speed_key: over that, how it was measured, the baseline, the machine and torch; another one is out of date.
        config: resolved settings.
        provenance: where the numbers come from.
        measured: None unless the status is ok.
        files: name to sha256 of the table beside the record.
    """

    schema_version: Literal[1] = 1
    status: SpeedStatus
    error: str | None = None
    study: Annotated[str, Field(max_length=300)]
    label: Name
    key: Key
    speed_key: Text
    config: dict[str, Any]
    provenance: Provenance
    measured: Measured | None = None
    files: dict[Table, Text] = Field(default_factory=dict)
    started: Time
    finished: Time | None = None

    @field_validator("config")
    @classmethod
    def _settings(cls, value: dict[str, Any]) -> dict[str, Any]:
        OwnSettings.model_validate(value)
        return value
