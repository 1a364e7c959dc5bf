"""A continuous target whose whole distribution is known: jointly Gaussian tokens, drawn by linear denoising chains.

What exactness of continuous decoders is tested on. Everything a real target has is here in small: conditionals given
any set of visible tokens, groups that see the drafts of earlier ones, a head whose steps share noise between draft and
target and whose widths depend on what is visible. The conditionals are those of one joint law, so that tokens have
this law whatever the order and the number of tokens that are decided alone; a token that is decided without seeing
another one has the right law of its own and the wrong correlation.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import cast

import torch
from torch import Tensor

from vvsbench.models.diffusion import Moments
from vvsbench.models.diffusion_head import DiffusionHead
from vvsbench.models.latents import LatentGuidance, LatentSpec, LatentState, Wanted
from vvsbench.models.stages import Call, Stage


class ChainHead:
    """A head of linear steps: y <- gain y + std noise, from standard normal noise; the token is level + width y.

    Args:
        gains, stds: of the steps; the first is the last one taken.
    """

    temperature = flops = 1.0
    network = None
    """A head without weights."""

    def __init__(self, gains: Sequence[float], stds: Sequence[float]) -> None:
        self.gains, self.stds = tuple(gains), tuple(stds)
        self.counted = Stage(self._chain, rows=(1, 1))

    @property
    def steps(self) -> int:
        """S."""
        return len(self.gains)

    @cached_property
    def deviation(self) -> float:
        """Standard deviation of y after the last step."""
        return self.spread(1.0)

    def spread(self, start: float) -> float:
        """The same, if the noise that the chain starts from has a standard deviation of its own."""
        variance = start**2
        for gain, std in zip(reversed(self.gains), reversed(self.stds), strict=True):
            variance = gain**2 * variance + std**2
        return float(variance**0.5)

    def denoise(self, z: Tensor, noise: Tensor, scale: Tensor | None = None, call: Call | None = None) -> Moments:
        """See `DiffusionHead.denoise`; z [1, M, 2 C] holds the level and the width of each channel."""
        return Moments(*self.counted(call, z, noise))

    def _chain(self, z: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        level, width = z[0].chunk(2, -1)
        noise = noise.to(z.dtype)
        x = noise[self.steps]
        total = torch.zeros_like(x)
        for step in reversed(range(1, self.steps)):
            x = self.gains[step] * x + self.stds[step] * noise[step]
            total = total + (width * self.stds[step]).log()
        return level + width * self.gains[0] * x, width * self.stds[0], total


class GaussianToy:
    """A `LatentModel` whose tokens are jointly Gaussian; the channels of a token are independent and alike.

    Args:
        mean: float64 [N].
        covariance: float64 [N, N].
        head: of any linear steps; its width makes the law come out.
        channels: C.
        causal: whether it poses as a causal model.
        dtype: of tokens.
    """

    guidance = LatentGuidance()
    device = torch.device("cpu")

    def __init__(
        self,
        mean: Tensor,
        covariance: Tensor,
        head: ChainHead,
        channels: int = 1,
        causal: bool = False,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        self.mean, self.covariance, self.causal, self.dtype = mean, covariance, causal, dtype
        self.head = cast(DiffusionHead, head)  # it has all that a decoder asks of one
        self.deviation = head.deviation
        self.counted = Stage(self._given, rows=(0, 0, 0), out=1)
        tokens = len(mean)
        self.spec = LatentSpec("gaussian", tokens, max(1, round(tokens**0.5)), channels, 1, tokens, 1.0)
        self.weights, self.offsets, self.widths = (table.to(dtype) for table in self._conditionals())

    def _conditionals(self) -> tuple[Tensor, Tensor, Tensor]:
        """For every set of visible tokens (bit j for token j): weights [2^N, N, N], offsets and widths [2^N, N]."""
        count = len(self.mean)
        weights = torch.zeros(1 << count, count, count, dtype=torch.float64)
        widths = torch.zeros(1 << count, count, dtype=torch.float64)
        for bits in range(1 << count):
            seen = torch.tensor([token for token in range(count) if bits >> token & 1], dtype=torch.long)
            among = self.covariance[seen][:, seen]
            weights[bits][:, seen] = torch.linalg.solve(among, self.covariance[seen]).T
            explained = (weights[bits] @ self.covariance * weights[bits]).sum(-1)
            widths[bits] = (self.covariance.diagonal() - explained).clamp_min(0).sqrt() / self.deviation
        return weights, self.mean - weights @ self.mean, widths

    def vectors(self, tokens: Tensor, positions: Tensor, visible: Tensor) -> Tensor:
        """Conditioning vectors [1, M, 2 C] of the tokens at positions [M].

        Args:
            tokens: [M, N, C], of which each sees some.
            positions: int64 [M].
            visible: bool [M, N].
        """
        bits = (visible.long() << torch.arange(visible.shape[1])).sum(-1)
        level = self.offsets[bits, positions, None] + (self.weights[bits, positions, :, None] * tokens).sum(1)
        width = self.widths[bits, positions, None].expand_as(level)
        return torch.cat([level, width], -1)[None]

    def _given(self, tokens: Tensor, positions: Tensor, visible: Tensor) -> tuple[Tensor]:
        return (self.vectors(tokens, positions, visible),)

    def conditions(self, prompts: Sequence[int] | Sequence[str]) -> Tensor:
        """The toy has one condition."""
        return torch.zeros(len(prompts), dtype=torch.long)

    def start(self, conditions: Tensor, images: Sequence[int], path: Tensor) -> LatentState:
        """See `LatentModel.start`."""
        tokens = torch.zeros(len(images), self.spec.tokens, self.spec.channels, dtype=self.dtype)
        return LatentState(list(images), conditions, path, tokens, [0] * len(images))

    def predict(self, state: LatentState, wanted: Wanted, drafts: Tensor | None = None) -> Tensor:
        """See `LatentModel.predict`."""
        tokens = state.tokens
        if drafts is not None:
            tokens = tokens.clone()
            tokens[wanted.rows, wanted.positions] = drafts.to(tokens.dtype)
        firsts = [
            [state.counts[row] + sum(sizes[:group]) for group in range(len(sizes))]
            for row, sizes in enumerate(wanted.sizes)
        ]
        asked = zip(wanted.row_list, wanted.group_list, strict=True)
        first = torch.tensor([firsts[row][group] for row, group in asked])
        visible = state.path.argsort(1)[wanted.rows] < first[:, None]
        call = Call(tuple(state.images[row] for row, sizes in enumerate(wanted.sizes) for _ in sizes), 1, 1.0)
        (z,) = self.counted(call, tokens[wanted.rows], wanted.positions, visible)
        return z

    def keep(self, state: LatentState, counts: Sequence[int]) -> None:
        """See `LatentModel.keep`."""
        state.counts = list(counts)

    def admit(
        self, state: LatentState, rows: list[int], conditions: Tensor, images: Sequence[int], path: Tensor
    ) -> None:
        """See `LatentModel.admit`."""
        state.admit(rows, conditions, images, path)

    def select(self, state: LatentState, rows: list[int]) -> None:
        """See `LatentModel.select`."""
        state.select(rows)

    def to_images(self, tokens: Tensor) -> Tensor:
        """Grey squares uint8 [B, 3, g, g]."""
        levels = tokens.mean(-1).mul(64).add(128).clamp(0, 255).to(torch.uint8)
        return levels[:, : self.spec.grid**2].view(-1, 1, self.spec.grid, self.spec.grid).expand(-1, 3, -1, -1)
