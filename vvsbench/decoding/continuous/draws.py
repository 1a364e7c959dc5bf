"""Everything random about an image of continuous tokens, as a function of what it is for.

The noise of a head step is keyed by (seed, image, position, head step): nothing has to be kept for a position that is
drafted again after a roll-back to meet the same noise, and draft and target share it by asking for the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vvsbench.decoding.continuous.coupling import Proposals
from vvsbench.noise import Purpose, normal, uniform

STRIDE = 2048
"""Positions have so many head steps, at most 1000 of them in use."""
TRIES = 1 << 25
"""Positions have so many tries of a residual, more than its guard allows."""


@dataclass(frozen=True)
class Draws:
    """The random numbers of one batch.

    Attributes:
        seed: of the set.
        channels: of a token, C.
    """

    seed: int
    channels: int

    def path(self, images: Tensor, tokens: int) -> Tensor:
        """An order of the positions for each image [B], int64 [B, N]: every one is equally likely."""
        return uniform(self.seed, images[:, None], torch.arange(tokens, device=images.device), Purpose.PATH).argsort(-1)

    def head(self, images: Tensor, positions: Tensor, steps: int, purpose: Purpose = Purpose.HEAD) -> Tensor:
        """Noise [steps + 1, M, C] of a chain for tokens at positions [M] of images [M]; the last is its start.

        All of it is drawn at once: a draw is two dozen small operations, whatever it is for.
        """
        keys = positions * STRIDE + torch.arange(steps + 1, device=positions.device)[:, None]
        return normal(self.seed, images, keys, self.channels, purpose)

    def judgement(self, images: Tensor, positions: Tensor) -> Tensor:
        """The uniform [M] that each drafted token is judged by."""
        return uniform(self.seed, images, positions, Purpose.ACCEPTANCE)

    def proposals(self, images: Tensor, positions: Tensor) -> Proposals:
        """Noise for what takes the place of rejected tokens, keyed by image, position and try."""

        def propose(rows: Tensor, first: int, count: int) -> tuple[Tensor, Tensor]:
            tries = torch.arange(first, first + count, device=rows.device)[:, None]
            keys = positions[rows] * TRIES + tries
            normals = normal(self.seed, images[rows], keys, self.channels, Purpose.RESIDUAL)
            return normals, uniform(self.seed, images[rows], keys, Purpose.RESIDUAL)

        return propose
