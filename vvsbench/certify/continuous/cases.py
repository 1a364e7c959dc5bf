"""Pairs of a draft and a target whose token has a law in closed form: single Gaussians, chains, and two modes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from scipy.stats import norm
from torch import Tensor

from vvsbench.certify.continuous.laws import Law, gaussian
from vvsbench.models.diffusion import Moments
from vvsbench.models.gaussian import ChainHead
from vvsbench.models.stages import Call

NARROW = 0.0064
"""Standard deviation of the last transition of MAR's head."""


class ModesHead(ChainHead):
    """Two modes: the noise that the chain starts from says which, and each has a level and a width of its own.

    Args:
        gains, stds: as of `ChainHead`.
        threshold: of the first channel's noise; above it the token is of the second mode.
        levels, widths: of both modes, a number per channel.
    """

    def __init__(
        self,
        gains: Sequence[float],
        stds: Sequence[float],
        threshold: float,
        levels: Sequence[Sequence[float]],
        widths: Sequence[Sequence[float]],
    ) -> None:
        super().__init__(gains, stds)
        self.threshold, self.levels, self.widths = threshold, torch.tensor(levels), torch.tensor(widths)

    def denoise(self, z: Tensor, noise: Tensor, scale: Tensor | None = None, call: Call | None = None) -> Moments:
        """See `ChainHead.denoise`; z adds to the level and multiplies the width."""
        mode = (noise[self.steps, :, 0] > self.threshold).long()
        level, width = z[0].chunk(2, -1)
        chosen = torch.cat([level + self.levels.to(z)[mode], width * self.widths.to(z)[mode]], -1)[None]
        return super().denoise(chosen, torch.cat([noise[:-1], torch.zeros_like(noise[-1:])]), scale, call)

    @property
    def law(self) -> Law:
        """Of a token with level 0 and width 1."""
        second = float(norm.sf(self.threshold))
        variances = (self.widths.double() * self.spread(0.0)) ** 2
        return Law(torch.tensor([1 - second, second]).double(), self.levels.double(), torch.diag_embed(variances))


@dataclass(frozen=True)
class Side:
    """A draft or a target of one token.

    Attributes:
        head: its chain.
        level, width: what the head is given, a number per channel.
    """

    head: ChainHead
    level: tuple[float, ...]
    width: tuple[float, ...]

    def denoise(self, noise: Tensor) -> Moments:
        """All but the last step.

        Args:
            noise: [S + 1, M, C], by step.
        """
        z = torch.tensor([*self.level, *self.width], dtype=noise.dtype).expand(1, noise.shape[1], -1)
        return self.head.denoise(z, noise)

    @property
    def law(self) -> Law:
        """Of the token."""
        level, width = torch.tensor(self.level).double(), torch.tensor(self.width).double()
        if isinstance(self.head, ModesHead):
            own = self.head.law
            scale = torch.diag(width)
            return Law(own.weights, own.means + level, scale @ own.covariances @ scale)
        return gaussian(level, torch.diag((width * self.head.deviation) ** 2))


@dataclass(frozen=True)
class Case:
    """A draft and a target.

    Attributes:
        name: in words.
        draft, target: with the same number of steps and channels.
        overlap: probability that the exact rule keeps a draft, where it has a closed form.
    """

    name: str
    draft: Side
    target: Side
    overlap: float | None = None

    @property
    def channels(self) -> int:
        """C."""
        return len(self.target.level)

    @property
    def law(self) -> Law:
        """Of the target's token."""
        return self.target.law


_ONE_STEP = ChainHead([0.0], [1.0])


def _single(name: str, gap: Sequence[float], draft: Sequence[float], target: Sequence[float]) -> Case:
    """One Gaussian each: the draft's mean is 0."""
    sides = (Side(_ONE_STEP, (0.0,) * len(gap), tuple(draft)), Side(_ONE_STEP, tuple(gap), tuple(target)))
    return Case(name, *sides, _overlap(*(torch.tensor(part).double() for part in (gap, draft, target))))


def _overlap(gap: Tensor, draft: Tensor, target: Tensor) -> float | None:
    """Integral of the smaller of two densities: known for equal widths, and in one dimension."""
    if torch.equal(draft, target):
        return float(2 * norm.sf(float((gap / draft).norm()) / 2))
    if len(gap) > 1:
        return None
    low, high = float(-9 * draft), float(9 * draft)
    points = torch.linspace(low, high, 400_001, dtype=torch.float64)
    densities = [
        torch.exp(-(((points - mean) / std) ** 2) / 2) / (std * (2 * torch.pi) ** 0.5)
        for mean, std in ((0.0, draft), (gap, target))
    ]
    return float(torch.trapezoid(torch.minimum(*densities), points))


_WIDTHS = tuple(1.0 + 0.25 * (channel % 5 - 2) for channel in range(16))
SINGLE = (
    _single("identical", [0.0], [1.0], [1.0]),
    _single("equal widths", [1.0], [1.0], [1.0]),
    _single("equal widths, sigma 0.0064", [0.0086], [NARROW], [NARROW]),
    _single("wider draft", [0.5], [2.0], [1.0]),
    _single("wider target", [0.5], [1.0], [2.0]),
    _single("near-identical", [0.001], [1.0], [1.001]),
    _single("disjoint", [100.0], [1.0], [1.1]),
    _single("16 channels, equal widths", [0.25] * 16, [1.0] * 16, [1.0] * 16),
    _single(
        "16 channels, sigma about 0.0064",
        [0.1 * NARROW] * 16,
        [NARROW] * 16,
        [NARROW * (1 + 0.1 * (width - 1)) for width in _WIDTHS],
    ),
)
"""One Gaussian each."""

_GAINS, _STDS = (0.9,) * 10, (0.4,) * 10


def _chain(name: str, gap: float, ratio: float) -> Case:
    """Ten steps in one dimension; the draft's standard deviations are `ratio` times the target's."""
    draft = ChainHead(_GAINS, [ratio * std for std in _STDS])
    return Case(name, Side(draft, (gap,), (1.0,)), Side(ChainHead(_GAINS, _STDS), (0.0,), (1.0,)))


MEAN_GAP = _chain("chain, mean gap, Sigma 1", 0.5, 1.0)
WIDER = _chain("chain, variance gap, Sigma 2.36", 0.3, 1.1)
LIKE_ABOVE = _chain("chain, near-identical, Sigma 1.30", 0.0, 1.03)
LIKE_BELOW = _chain("chain, near-identical, Sigma 0.76", 0.0, 0.97)


def _modes(threshold: float, levels: Sequence[Sequence[float]], widths: Sequence[Sequence[float]]) -> Side:
    """Three steps in two dimensions."""
    return Side(ModesHead([0.8, 0.9, 0.7], [0.5, 0.4, 0.6], threshold, levels, widths), (0.0, 0.0), (1.0, 1.0))


MODES = Case(
    "two modes in 2 channels, Sigma varies",
    _modes(0.3, [[-1.9, 0.1], [2.0, 0.8]], [[0.8, 1.0], [0.7, 0.5]]),
    _modes(0.0, [[-2.0, 0.0], [2.0, 1.0]], [[0.6, 1.1], [0.9, 0.5]]),
)
CASES = (*SINGLE, MEAN_GAP, WIDER, LIKE_ABOVE, LIKE_BELOW, MODES)
"""All of one token."""
