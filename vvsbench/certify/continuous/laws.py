"""Does a sample of continuous tokens have the law it should have? Mixtures of Gaussians, and two tests against them.

Kolmogorov and Smirnov's test looks at projections of the sample onto a few directions: the axes, their diagonal, and
some at random. A sample can pass it on every axis and still have its tokens correlated wrongly, so means and all
second moments are compared as well, each in units of its standard error.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from scipy.stats import kstwobign, norm
from torch import Tensor

AXES, RANDOM = 4, 3
"""Directions that are looked at: this many axes at most, and this many at random."""
STATISTICS = 2
"""The projections, and the moments: each has half of a test's level."""


@dataclass(frozen=True)
class Law:
    """A mixture of Gaussians in D dimensions.

    Attributes:
        weights: float64 [K], of the components.
        means: float64 [K, D].
        covariances: float64 [K, D, D].
    """

    weights: Tensor
    means: Tensor
    covariances: Tensor

    @cached_property
    def mean(self) -> Tensor:
        """Float64 [D]."""
        return self.weights @ self.means

    @cached_property
    def covariance(self) -> Tensor:
        """Float64 [D, D]."""
        apart = self.means - self.mean
        within = torch.einsum("k,kij->ij", self.weights, self.covariances)
        return within + torch.einsum("k,ki,kj->ij", self.weights, apart, apart)

    def below(self, direction: Tensor, values: Tensor) -> Tensor:
        """Probability that the projection onto a direction [D] is at most values [n]."""
        centres, spreads = self.means @ direction, (self.covariances @ direction @ direction).sqrt()
        parts = torch.special.ndtr((values[:, None] - centres) / spreads)
        return parts @ self.weights


def gaussian(mean: Tensor, covariance: Tensor) -> Law:
    """One component: mean [D], covariance [D, D]."""
    return Law(torch.ones(1, dtype=torch.float64), mean.double()[None], covariance.double()[None])


@dataclass(frozen=True)
class Fit:
    """A sample against a law.

    Attributes:
        draws: size of the sample.
        ks: the largest Kolmogorov-Smirnov statistic of any direction.
        directions: how many were looked at.
        moment: the largest deviation of a mean or second moment, in standard errors.
        moments: how many were looked at.
        covariance: the largest deviation of an entry of the covariance, in units of both standard deviations; for one
            on the diagonal that is the relative error of the variance, for others of the correlation.
    """

    draws: int
    ks: float
    directions: int
    moment: float
    moments: int
    covariance: float

    @property
    def p_value(self) -> float:
        """Of both statistics, corrected for their number and for what each of them looks at."""
        projections = self.directions * kstwobign.sf(self.ks * self.draws**0.5)
        moments = self.moments * 2 * norm.sf(self.moment)
        return float(min(1.0, STATISTICS * min(projections, moments)))

    def ks_critical(self, level: float) -> float:
        """From which `ks` on a test of this level fails."""
        return float(kstwobign.isf(level / STATISTICS / self.directions) / self.draws**0.5)

    def moment_critical(self, level: float) -> float:
        """From which `moment` on a test of this level fails."""
        return float(norm.isf(level / STATISTICS / self.moments / 2))


def fit(sample: Tensor, law: Law) -> Fit:
    """Compare a sample [n, D] with a law; what is not a number fails every test."""
    sample = sample.double()
    count, size = sample.shape
    if not torch.isfinite(sample).all():
        return Fit(count, ks=1.0, directions=1, moment=count**0.5, moments=1, covariance=1.0)
    looked_at = directions(size)
    ks = max(_ks(sample @ direction, law, direction) for direction in looked_at)
    moments, covariance = _moments(sample - law.mean, law)
    return Fit(count, ks, len(looked_at), float(moments.max()), len(moments), covariance)


def directions(size: int) -> list[Tensor]:
    """What a sample in D dimensions is projected onto, each float64 [D]."""
    axes = list(torch.eye(size, dtype=torch.float64)[:AXES])
    if size == 1:
        return axes
    random = torch.randn(RANDOM, size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    diagonal = torch.full((size,), size**-0.5, dtype=torch.float64)
    return [*axes, diagonal, *(random / random.norm(dim=1, keepdim=True))]


def _ks(values: Tensor, law: Law, direction: Tensor) -> float:
    values = values.sort().values
    below = law.below(direction, values)
    steps = torch.arange(len(values) + 1, dtype=torch.float64) / len(values)
    return float(torch.maximum((steps[1:] - below).max(), (below - steps[:-1]).max()))


def _moments(apart: Tensor, law: Law) -> tuple[Tensor, float]:
    """Of deviations [n, D] from the law's mean: errors of all moments in standard errors, and of the covariance."""
    count, size = apart.shape
    second = apart.T @ apart / count
    spread = (apart.square().T @ apart.square() / count - second.square()).sqrt()
    deviation = (second - law.covariance).abs()
    row, column = torch.triu_indices(size, size)
    errors = torch.cat([apart.mean(0).abs() / apart.std(0), (deviation / spread)[row, column]]) * count**0.5
    scale = law.covariance.diagonal().sqrt()
    return errors, float((deviation / torch.outer(scale, scale)).max())
