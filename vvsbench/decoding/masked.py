"""The target by itself, at any number of AR steps and head steps: the baseline of every continuous method.

A masked model can decide many tokens at once and take fewer head steps, and both are cheaper without any draft; an
accelerated method is worth something only where it lies outside the front of these settings.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from vvsbench.axes import Guarantee
from vvsbench.decoding.base import Decoder
from vvsbench.decoding.continuous.draws import Draws
from vvsbench.decoding.continuous.reveal import reveal
from vvsbench.decoding.continuous.session import Session, paths
from vvsbench.decoding.continuous.trace import ContinuousTrace, Meters
from vvsbench.decoding.finite import latents
from vvsbench.decoding.trace import Origin
from vvsbench.models.latents import LatentModel


class Masked(Decoder):
    """Decides the tokens of an AR step together, each given those of the steps before.

    Args:
        target: with its head steps and guidance.
        ar_steps: S.
        raster: decide positions row by row instead of in a random order of each image's own.
        last_noise: add the noise of the last head step, which MAR's sampler leaves out (sigma is 0.006 there); `csd`
            with mode=exact keeps the law with it.
        whole: whether `ar_steps` and the target's head steps are those that define its distribution.
        draws: makes the random numbers of a batch from (seed, channels).
    """

    target: LatentModel[Any]

    def __init__(
        self,
        target: LatentModel[Any],
        ar_steps: int,
        raster: bool,
        last_noise: bool,
        whole: bool,
        draws: type[Draws] = Draws,
    ) -> None:
        self.target, self.raster, self.last_noise, self.whole = target, raster, last_noise, whole
        self.reveal = reveal(target.spec.tokens, ar_steps, target.guidance)
        self._draws = draws

    @property
    def guarantee(self) -> Guarantee:
        """Exact where every token has its own AR step and every head step is taken; nothing elsewhere."""
        return Guarantee.exact if self.whole else Guarantee.none

    @torch.inference_mode()
    def generate(self, conditions: Tensor, images: Sequence[int], seed: int) -> tuple[Tensor, ContinuousTrace]:
        """See `Decoder.generate`."""
        spec, device = self.target.spec, self.target.device
        draws = self._draws(seed, spec.channels)
        path = paths(draws, images, spec.tokens, self.raster, device)
        with Meters().watching(self.target) as meters:
            session = Session(self.target, self.reveal, draws, conditions, images, path)
            for step in range(self.reveal.steps):
                session.step([step] * len(images), self.last_noise)
        origin = torch.full((len(images), spec.tokens), Origin.DRAWN, dtype=torch.int8, device=device)
        tokens = session.state.tokens.float()
        outputs = latents(self.target, "target", tokens, path)
        return tokens, ContinuousTrace(list(images), origin, [[] for _ in images], meters, spec.flops, outputs)
