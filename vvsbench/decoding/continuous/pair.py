"""What every decoder with a target and a draft of continuous tokens does alike; loops differ in what a step is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from vvsbench.decoding.base import Decoder, Finished, ignored
from vvsbench.decoding.continuous.draws import Draws
from vvsbench.decoding.continuous.reveal import reveal
from vvsbench.decoding.continuous.session import Session, paths
from vvsbench.decoding.continuous.trace import ContinuousTrace, Meters, Round
from vvsbench.decoding.finite import latents
from vvsbench.decoding.phases import Phase
from vvsbench.decoding.trace import Origin
from vvsbench.models.latents import LatentModel
from vvsbench.noise import Purpose


class Pair(Decoder):
    """A target and the draft that saves it work.

    Args:
        target, draft: with equal head steps.
        ar_steps: S.
        aligned: give target and draft the same noise.
        raster: see `Masked`.
        draws: likewise.
    """

    target: LatentModel[Any]

    def __init__(
        self,
        target: LatentModel[Any],
        draft: LatentModel[Any],
        ar_steps: int,
        aligned: bool,
        raster: bool,
        draws: type[Draws] = Draws,
    ) -> None:
        self.target, self.draft, self.aligned, self.raster = target, draft, aligned, raster
        self.reveal = reveal(target.spec.tokens, ar_steps, target.guidance)
        self._draws = draws

    def generate(self, conditions: Tensor, images: Sequence[int], seed: int) -> tuple[Tensor, ContinuousTrace]:
        """See `Decoder.generate`."""
        return self._generate(conditions, images, seed, len(images))

    @torch.inference_mode()
    def _generate(
        self, conditions: Tensor, images: Sequence[int], seed: int, rows: int, finished: Finished = ignored
    ) -> tuple[Tensor, ContinuousTrace]:
        """Generate images with at most `rows` of them in flight."""
        with Meters().watching(self.target, self.draft) as meters:
            job = Job(self, conditions, images, seed, finished)
            loop = self._loop(job, rows)
            loop.run()
        tokens = loop.tokens.float()
        outputs = latents(self.target, "target", tokens, job.path)
        trace = ContinuousTrace(list(images), loop.origin, loop.rounds, meters, self.target.spec.flops, outputs)
        return tokens, trace

    @abstractmethod
    def _loop(self, job: Job, rows: int) -> Loop:
        """The loop that does a job with so many rows."""


class Job:
    """Images to be drawn.

    Attributes:
        pair: that draws them.
        draws: the random numbers.
        conditions: class ids [B].
        images: their indices.
        path: int64 [B, N].
        finished: is told how many images have been finished, where they finish apart.
    """

    def __init__(self, pair: Pair, conditions: Tensor, images: Sequence[int], seed: int, finished: Finished) -> None:
        spec, self.finished = pair.target.spec, finished
        self.pair, self.conditions, self.images = pair, conditions, images
        self.draws = pair._draws(seed, spec.channels)
        self.path = paths(self.draws, images, spec.tokens, pair.raster, pair.target.device)

    def session(self, model: LatentModel[Any], purpose: Purpose, phase: Phase, rows: int) -> Session:
        """A model at work on the first so many of the images."""
        first = self.conditions[:rows], self.images[:rows], self.path[:rows]
        return Session(model, self.pair.reveal, self.draws, *first, purpose, (phase, phase))


class Loop(ABC):
    """A job being done.

    Attributes:
        target, draft: at work on the images in flight.
        tokens, origin, rounds: of all images.
    """

    def __init__(self, job: Job, rows: int) -> None:
        self.job, self.draws, self.reveal = job, job.draws, job.pair.reveal
        purpose = Purpose.HEAD if job.pair.aligned else Purpose.DRAFT_HEAD
        self.target = job.session(job.pair.target, Purpose.HEAD, Phase.verify, rows)
        self.draft = job.session(job.pair.draft, purpose, Phase.draft, rows)
        self.tokens = self.target.state.tokens.new_zeros(*job.path.shape, job.pair.target.spec.channels)
        self.origin = torch.full(job.path.shape, Origin.DRAWN, dtype=torch.int8, device=job.path.device)
        self.rounds: list[list[Round]] = [[] for _ in job.images]

    @abstractmethod
    def run(self) -> None:
        """Decide every token."""
