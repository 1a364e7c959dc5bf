"""The denoising chain of MAR's head: a cosine schedule of 1000 steps, respaced to a few, with a learned variance.

MAR (arXiv 2406.11838) samples a token by ancestral steps x <- mean + temperature * sigma * noise. The mean of the
published code goes through the predicted x_0, which divides by sqrt(alpha-bar), 5e-5 in the first step, and then takes
most of that away again; here the two factors are multiplied out (mean = x / sqrt(alpha) - beta / sqrt(alpha (1 -
alpha-bar)) eps), which is the same number with less rounding.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor

TRAINING_STEPS = 1000
_OFFSET = 0.008
_LARGEST_BETA = 0.999


def _cosine_betas() -> Tensor:
    """Betas [1000] of the cosine schedule (arXiv 2102.09672, eq. 17), float64."""
    at = torch.arange(TRAINING_STEPS + 1, dtype=torch.float64) / TRAINING_STEPS
    level = torch.cos((at + _OFFSET) / (1 + _OFFSET) * math.pi / 2) ** 2
    return (1 - level[1:] / level[:-1]).clamp_max(_LARGEST_BETA)


def respaced(steps: int) -> list[int]:
    """The original steps that a chain of `steps` keeps: the first, the last, and evenly between them.

    Raises:
        ValueError: fewer than two steps or more than 1000.
    """
    if not 2 <= steps <= TRAINING_STEPS:
        raise ValueError(f"{steps} head steps: choose from 2 to {TRAINING_STEPS}.")
    stride = (TRAINING_STEPS - 1) / (steps - 1)
    return [round(stride * step) for step in range(steps)]


@dataclass(frozen=True)
class Transition:
    """One step of a chain as plain numbers: what a loop over its steps needs without reading a table.

    Attributes:
        on_x, on_eps: mean = on_x * x - on_eps * eps.
        level, slope: log sigma = level + slope * logits.
    """

    on_x: float
    on_eps: float
    level: float
    slope: float


class Diffusion:
    """Coefficients of a chain of S steps, float64 [S] each, index 0 being the last step taken.

    Attributes:
        steps: S.
        transitions: the same as plain numbers.
        timesteps: int64 [S], the original index of each step, which is what the network is told.
        alpha_bars: share of the signal that is left after each step.
        on_x, on_eps: mean of a step = on_x * x - on_eps * eps.
        log_high, log_low: of beta and of the clipped posterior variance, between which the learned variance lies.
    """

    def __init__(self, steps: int = TRAINING_STEPS) -> None:
        self.steps = steps
        kept = torch.tensor(respaced(steps))
        self.timesteps = kept
        self.alpha_bars = (1 - _cosine_betas()).cumprod(0)[kept]
        before = torch.cat([torch.ones(1, dtype=torch.float64), self.alpha_bars[:-1]])
        alphas = self.alpha_bars / before
        betas = 1 - alphas
        posterior = betas * (1 - before) / (1 - self.alpha_bars)
        self.on_x = alphas.rsqrt()
        self.on_eps = betas * (alphas * (1 - self.alpha_bars)).rsqrt()
        self.log_high = betas.log()
        self.log_low = torch.cat([posterior[1:2], posterior[1:]]).log()
        level, slope = (self.log_low + self.log_high) / 4, (self.log_high - self.log_low) / 4
        numbers = torch.stack([self.on_x, self.on_eps, level, slope], 1).tolist()
        self.transitions = tuple(Transition(*row) for row in numbers)

    def log_std(self, logits: Tensor, step: Tensor) -> Tensor:
        """Log of sigma [M, C] after `step` [M], of the network's logits, whose range [-1, 1] spans low to high."""
        low, high = (self._at(table, step, logits) for table in (self.log_low, self.log_high))
        return 0.5 * (low + (logits + 1) / 2 * (high - low))

    def mean(self, x: Tensor, eps: Tensor, step: Tensor) -> Tensor:
        """Mean of the transition out of x [M, C] in steps [M], given the predicted noise eps [M, C]."""
        return self._at(self.on_x, step, x) * x - self._at(self.on_eps, step, x) * eps

    def noised(self, clean: Tensor, noise: Tensor, step: Tensor) -> Tensor:
        """Tokens [M, C] after `step` [M] steps of the forward process."""
        level = self.alpha_bars.to(step.device)[step][:, None]
        return level.sqrt().to(clean.dtype) * clean + (1 - level).sqrt().to(clean.dtype) * noise

    def loss(self, clean: Tensor, noise: Tensor, step: Tensor, predicted: Tensor) -> Tensor:
        """Training loss of each row: squared error of the noise, and the variational bound for the variance alone.

        Args:
            clean, noise: tokens and the noise added to them, [M, C].
            step: int64 [M].
            predicted: the network's output at `noised(clean, noise, step)`, [M, 2 C].

        Returns:
            [M] in nats per dimension for the second part (arXiv 2102.09672, section 3.1: the mean is held fixed in it).
        """
        eps, logits = predicted.chunk(2, -1)
        x = self.noised(clean, noise, step)
        true_mean = self.mean(x, noise, step)
        true_log_std = 0.5 * self._at(self.log_low, step, x)
        log_std = self.log_std(logits, step)
        gap = (true_mean - self.mean(x, eps.detach(), step)) ** 2
        ratio = torch.exp(2 * (true_log_std - log_std))
        divergence = log_std - true_log_std + 0.5 * (ratio + gap * torch.exp(-2 * log_std) - 1)
        return ((eps - noise) ** 2).mean(-1) + divergence.mean(-1)

    @staticmethod
    def _at(table: Tensor, step: Tensor, like: Tensor) -> Tensor:
        """Entries [M, 1] of a table, for a step per row."""
        return table.to(step.device)[step][:, None].to(like.dtype)


@dataclass
class Moments:
    """What the head steps before the last one have made of the noise of M tokens.

    Attributes:
        mean: [M, C], of the last transition.
        std: [M, C], of the last transition, temperature included, above 0.
        log_std_sum: [M, C], sum of log std over the earlier transitions, without temperature; 0 where there are none.
    """

    mean: Tensor
    std: Tensor
    log_std_sum: Tensor

    def at(self, rows: Tensor) -> Moments:
        """Those of some rows, int64 [m]."""
        return Moments(*(getattr(self, field.name)[rows] for field in fields(self)))

    def double(self) -> Moments:
        """In float64."""
        return Moments(*(getattr(self, field.name).double() for field in fields(self)))

    def log_density(self, tokens: Tensor, temperature: float = 1.0) -> Tensor:
        """Of tokens [..., M, C] under the last transition, but for a constant: [..., M].

        Args:
            tokens: where.
            temperature: widens the Gaussian without lowering it, as the released code does.
        """
        white = (tokens - self.mean) / (self.std * temperature)
        return -(white.square() / 2 + self.std.log()).sum(-1)
