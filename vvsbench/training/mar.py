"""Train the masked model and its draft: hide a random part of the tokens and denoise what is hidden.

All images of a step hide equally many tokens, so that none is padded. How many follows the schedule at which sampling
reveals them: a share cos(pi u / 2) with u uniform. (MAR draws the share from a normal distribution cut at 0.7.)
"""

from __future__ import annotations

import math
from dataclasses import asdict

import torch
from torch import Tensor

from vvsbench.models.latents import NO_CLASS
from vvsbench.models.mar import MARNetwork, MARSizes
from vvsbench.training.latents import LatentTask
from vvsbench.training.settings import MARSettings


class MARTask(LatentTask[MARNetwork]):
    """The masked model and its training state."""

    settings: MARSettings

    @property
    def no_class(self) -> int:
        """See `LatentTask.no_class`."""
        return NO_CLASS

    def built(self) -> MARNetwork:
        settings = self.settings
        sizes = MARSizes(
            grid=self.data.grid,
            channels=self.data.channels,
            classes=self.data.pictures.NUM_CLASSES,
            buffer=settings.buffer,
            encoder_dim=settings.dim,
            encoder_depth=settings.encoder_layers,
            encoder_heads=settings.heads,
            decoder_dim=settings.dim,
            decoder_depth=settings.decoder_layers,
            decoder_heads=settings.heads,
            head_depth=settings.head_depth,
            head_width=settings.head_width,
        )
        self.config = asdict(sizes)
        return MARNetwork(sizes)

    def conditioned(self, network: MARNetwork, labels: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        batch, length, _ = tokens.shape
        hidden = max(1, math.ceil(length * math.cos(math.pi / 2 * float(torch.rand(())))))
        order = torch.rand(batch, length, device=tokens.device).argsort(1)
        seen, wanted = order[:, hidden:], order[:, :hidden, None]
        z = network(tokens, seen, None, labels)
        chosen = (values.gather(1, wanted.expand(-1, -1, values.shape[-1])).flatten(0, 1) for values in (z, tokens))
        vectors, clean = chosen
        return vectors, clean
