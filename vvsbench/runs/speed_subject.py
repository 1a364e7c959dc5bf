"""A loaded decoder that is being timed: what it draws in a round, and how long that took."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from vvsbench.config import RunConfig
from vvsbench.decoding.base import Decoder, Trace
from vvsbench.measure.clock import Stopwatch
from vvsbench.measure.networks import networks
from vvsbench.measure.phases import HOST, PhaseClock
from vvsbench.measure.roofline import Rates, Work, work
from vvsbench.measure.statistics import Interval, median
from vvsbench.runs import drawing, speed_record
from vvsbench.runs.prompts import prompts

WARM_UPS = 2
"""Batches before the clock counts: the first pays for what happens once, the second for what that leaves behind."""


@dataclass(frozen=True)
class Repeat:
    """One timed repeat; seconds are per image.

    Attributes:
        first: index of its first image.
        seconds, device_seconds: of decoding tokens.
        paint_seconds: of turning them into pixels.
    """

    first: int
    seconds: float
    device_seconds: float | None
    paint_seconds: float


@dataclass
class Subject:
    """A decoder under the clock. Every round draws the next images, the same ones whatever the decoder.

    Attributes:
        cfg: its settings.
        decoder: loaded.
        load_seconds, first_seconds: see `vvsbench.runs.speed_record.Subject`.
        rows: what the traces told of all images drawn so far.
    """

    cfg: RunConfig
    decoder: Decoder
    load_seconds: float
    first_seconds: float = 0.0
    rows: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def load(cls, cfg: RunConfig) -> Subject:
        """Load a decoder and draw until it is warm.

        Raises:
            CheckpointError: a weights file does not fit.
        """
        session = drawing.open_session(cfg)
        made = cls(cfg, session.decoder, session.load_seconds)
        started = time.perf_counter()
        made.draw(0)
        made.first_seconds = time.perf_counter() - started
        for _ in range(WARM_UPS - 1):
            made.draw(0)
        return made

    @property
    def images(self) -> int:
        """Of a repeat."""
        return self.cfg.speed.images or self.cfg.batch_size

    @property
    def in_flight(self) -> int:
        """Images that share a forward."""
        return min(self.cfg.batch_size, self.images)

    @torch.inference_mode()
    def draw(self, number: int) -> Repeat:
        """Draw the images of a round."""
        chosen, images = self._conditions(number)
        watch, painting = Stopwatch(self.decoder.target.device), Stopwatch(self.decoder.target.device)
        with watch:
            tokens, traces = self._tokens(chosen, images)
        for trace in traces:
            self.rows += trace.rows()
        with painting:
            drawing.painted(self.decoder.target, tokens, images, self.cfg.batch_size)
        device = None if watch.device_seconds is None else watch.device_seconds / self.images
        return Repeat(images.start, watch.seconds / self.images, device, painting.seconds / self.images)

    @torch.inference_mode()
    def phases(self) -> dict[str, float]:
        """Share of the time by phase, over the images of the warm-up; empty if the decoder marks none."""
        device = self.decoder.target.device
        clock, painting = PhaseClock(lambda: _wait(device)), Stopwatch(device)
        chosen, images = self._conditions(0)
        with clock.running():
            tokens, _ = self._tokens(chosen, images)
        if set(clock.seconds) == {HOST}:
            return {}
        with painting:
            drawing.painted(self.decoder.target, tokens, images, self.cfg.batch_size)
        spent = clock.seconds | {speed_record.PIXELS: painting.seconds}
        return {name: seconds / sum(spent.values()) for name, seconds in spent.items()}

    def _conditions(self, number: int) -> tuple[Tensor, range]:
        images = range(number * self.images, (number + 1) * self.images)
        known = prompts(self.cfg)
        return self.decoder.target.conditions([known[image % len(known)] for image in images]), images  # type: ignore[arg-type]

    def _tokens(self, conditions: Tensor, images: range) -> tuple[Tensor, Sequence[Trace]]:
        return self.decoder.generate_all(conditions, images, self.cfg.seed, self.cfg.batch_size)

    @property
    def counts(self) -> dict[str, float]:
        """Means per image of the traces' numbers."""
        names = [name for name, value in self.rows[0].items() if isinstance(value, int | float) and name != "image"]
        means = {name: fmean(row[name] for row in self.rows) for name in names}
        return {name: mean for name, mean in means.items() if mean == mean}  # not those that no image has

    @property
    def work(self) -> Work | None:
        """What an image takes at least; None for a model that tells nothing of itself."""
        known = networks(self.decoder)
        return work(known, self.counts, self.in_flight) if known else None

    @property
    def working_bytes(self) -> float:
        """What it reads again and again."""
        known = networks(self.decoder)
        return known.working_bytes(self.in_flight) if known else 0.0

    def described(self, repeats: Sequence[Repeat], rates: Rates) -> speed_record.Subject:
        """What is recorded of it."""
        took = self.work
        on_device = [repeat.device_seconds for repeat in repeats if repeat.device_seconds is not None]
        return speed_record.Subject(
            label=self.cfg.decoder.label(self.cfg.model),
            seconds_per_image=recorded(median([repeat.seconds for repeat in repeats])),
            device_seconds_per_image=recorded(median(on_device)) if on_device else None,
            load_seconds=self.load_seconds,
            first_seconds=self.first_seconds,
            counts=self.counts,
            floor_seconds=took.floor(rates) if took else None,
            bytes_per_image=took.bytes if took else None,
            flops_per_image=took.flops if took else None,
        )


def recorded(found: Interval) -> speed_record.Interval:
    """An interval as a record keeps it."""
    return speed_record.Interval(value=found.value, low=found.low, high=found.high, n=found.n)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
