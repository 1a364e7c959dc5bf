"""FID, IS, KID, precision and recall from features, by torch-fidelity's formulas and where it can be by its functions.

torch-fidelity takes its settings as keywords, ignores those it does not know, uses the GPU unless told not to, caches
by name and prints. All of that is settled here once (`options`); the rest of the package passes features in and gets
numbers out. Features are kept in the float32 that networks give, and become float64 some rows at a time: all at once,
as torch-fidelity takes them, those of fifty thousand images are several gigabytes. What a mean, a covariance or an
Inception score follows from is a sum over images, so the sums of groups give the score without each group as well.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_fidelity.defaults import DEFAULTS
from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_statistics_to_metric
from torch_fidelity.metric_kid import kernel_mmd, kernel_poly

SEED = 2020
"""Seed of the splits of IS and the subsets of KID; torch-fidelity's default, named so that it cannot drift."""
KERNEL_BATCH = 2048
"""Reference rows per block of the kernel table."""
ROWS = 4096
"""Rows of features that are float64 at a time."""
DISTANCES = 1 << 25
"""Distances at a time: 268 MB."""


@dataclass(frozen=True)
class Gaussian:
    """Mean float64 [D] and covariance float64 [D, D] of a set of features."""

    mu: NDArray[np.float64]
    sigma: NDArray[np.float64]


@dataclass(frozen=True)
class Spread:
    """A mean over splits or subsets and their population standard deviation."""

    mean: float
    deviation: float


def options(**chosen: Any) -> dict[str, Any]:
    """Complete keywords for torch-fidelity: unknown names are refused; no GPU, no cache, no printing unless asked.

    Args:
        chosen: settings that differ from torch-fidelity's defaults.

    Raises:
        TypeError: a name that torch-fidelity would have ignored in silence.
    """
    for name in chosen.keys() - DEFAULTS.keys():
        near = difflib.get_close_matches(name, DEFAULTS, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise TypeError(f"torch-fidelity has no option {name!r} and would ignore it{hint}")
    return {**DEFAULTS, "verbose": False, "cuda": False, "cache": False, "rng_seed": SEED, **chosen}


@dataclass(frozen=True)
class Sums:
    """What mean and covariance of some images follow from; of the same centre they can be added and taken off.

    Attributes:
        centre: float64 [D], near the mean, so that nothing is lost in the products.
        count: of images.
        total: float64 [D], sum of the features less the centre.
        products: float64 [D, D], sum of their products.
    """

    centre: Tensor
    count: int
    total: Tensor
    products: Tensor

    @classmethod
    def of(cls, features: Tensor, centre: Tensor) -> Sums:
        """Of features [N, D]."""
        total, products = torch.zeros_like(centre), centre.new_zeros(len(centre), len(centre))
        for rows in _blocks(features):
            away = rows - centre
            total += away.sum(0)
            products.addmm_(away.T, away)
        return cls(centre, len(features), total, products)

    def __add__(self, other: Sums) -> Sums:
        return Sums(self.centre, self.count + other.count, self.total + other.total, self.products + other.products)

    def __sub__(self, other: Sums) -> Sums:
        return Sums(self.centre, self.count - other.count, self.total - other.total, self.products - other.products)

    @property
    def gaussian(self) -> Gaussian:
        """Mean and covariance of at least two images."""
        away = self.total / self.count
        sigma = (self.products - self.count * torch.outer(away, away)) / (self.count - 1)
        return Gaussian((self.centre + away).numpy(), sigma.numpy())


def mean(features: Tensor) -> Tensor:
    """Mean float64 [D] of features [N, D]."""
    return sum((rows.sum(0) for rows in _blocks(features)), torch.zeros((), dtype=torch.float64)) / len(features)


def gaussian(features: Tensor) -> Gaussian:
    """Mean and covariance of features [N, D], N at least 2."""
    return Sums.of(features, mean(features)).gaussian


def _blocks(features: Tensor) -> Iterator[Tensor]:
    """The rows of features [N, D], some at a time, in float64."""
    for first in range(0, len(features), ROWS):
        yield features[first : first + ROWS].double()


def fid(generated: Gaussian, reference: Gaussian) -> float:
    """Frechet inception distance; rounding below zero is cut off."""
    value = fid_statistics_to_metric(
        {"mu": generated.mu, "sigma": generated.sigma}, {"mu": reference.mu, "sigma": reference.sigma}, False
    )
    return max(0.0, float(value[KEY_METRIC_FID]))


@dataclass(frozen=True)
class Sureness:
    """What the Inception score of some images follows from; it can be added and taken off.

    Attributes:
        count: of images.
        classes: float64 [C], sum of the class probabilities.
        negentropy: sum over images of sum p log p.
    """

    count: int
    classes: Tensor
    negentropy: float

    @classmethod
    def of(cls, logits: Tensor) -> Sureness:
        """Of logits [N, C]."""
        classes, negentropy = torch.zeros(logits.shape[1], dtype=torch.float64), 0.0
        for rows in _blocks(logits):
            logs = rows.log_softmax(1)
            classes += logs.exp().sum(0)
            negentropy += float((logs.exp() * logs).sum())
        return cls(len(logits), classes, negentropy)

    def __add__(self, other: Sureness) -> Sureness:
        return Sureness(self.count + other.count, self.classes + other.classes, self.negentropy + other.negentropy)

    def __sub__(self, other: Sureness) -> Sureness:
        return Sureness(self.count - other.count, self.classes - other.classes, self.negentropy - other.negentropy)

    @property
    def score(self) -> float:
        """The Inception score: exp of the mean divergence of the images' classes from those of the set."""
        together = self.classes.clamp_min(0) / self.count
        return math.exp(self.negentropy / self.count - float(torch.xlogy(together, together).sum()))


def inception_score(logits: Tensor, splits: int) -> Spread:
    """Inception score of logits [N, C], images shuffled and cut into `splits` parts that are scored apart."""
    count, order = len(logits), np.random.RandomState(SEED).permutation(len(logits))
    cuts = [order[part * count // splits : (part + 1) * count // splits] for part in range(splits)]
    scores = [Sureness.of(logits[torch.from_numpy(rows)]).score for rows in cuts]
    return Spread(float(np.mean(scores)), float(np.std(scores)))


def kid(generated: Tensor, reference: Tensor, subsets: int, subset_size: int) -> NDArray[np.float64]:
    """Kernel inception distance with the polynomial kernel over random subsets of features [N, D] and [M, D].

    The subsets are those that torch-fidelity draws; it only hands out their mean and spread, while a paired comparison
    needs every one of them.

    Returns:
        float64 [subsets]; KID is their mean.
    """
    chosen, random = options(), np.random.RandomState(SEED)
    ours, theirs = generated.numpy(), reference.numpy()

    def drawn() -> float:
        mine = ours[random.choice(len(ours), subset_size, replace=False)]
        real = theirs[random.choice(len(theirs), subset_size, replace=False)]
        return float(kernel_mmd(mine.astype(np.float64), real.astype(np.float64), **chosen))

    return np.array([drawn() for _ in range(subsets)])


@dataclass(frozen=True)
class KernelTable:
    """KID's kernel over a whole set, from which the distance of any part of the set follows without new products.

    Attributes:
        within: float64 [N, N], kernel of the generated features with each other, zero on the diagonal.
        across: float64 [N], mean kernel of each generated feature with the reference.
    """

    within: NDArray[np.float64]
    across: NDArray[np.float64]

    def distance(self, chosen: NDArray[np.int64]) -> float:
        """Unbiased squared maximum mean discrepancy of the chosen rows, but for the reference's own constant term."""
        count = len(chosen)
        within = self.within[np.ix_(chosen, chosen)].sum() / (count * (count - 1))
        return float(within - 2 * self.across[chosen].mean())


def kernel_table(generated: Tensor, reference: Tensor) -> KernelTable:
    """Kernel table of features [N, D] against a reference [M, D]; takes N * N numbers of memory."""
    chosen, rows = options(), generated.double().numpy()
    within = kernel_poly(rows, rows, **chosen)
    np.fill_diagonal(within, 0)
    parts = reference.split(KERNEL_BATCH)  # type: ignore[no-untyped-call]
    sums = [kernel_poly(rows, part.double().numpy(), **chosen).sum(axis=1) for part in parts]
    return KernelTable(within, np.sum(sums, axis=0) / len(reference))


@dataclass(frozen=True)
class ManifoldTable:
    """Distances of a whole set, from which the recall of any part of it follows without new products.

    Attributes:
        within: float64 [N, N], distances of the generated features from each other.
        across: float64 [M, N], distances of the reference from the generated features.
        neighbours: k of the k-nearest-neighbour balls.
    """

    within: Tensor
    across: Tensor
    neighbours: int

    def recall(self, chosen: NDArray[np.int64]) -> float:
        """Share of the reference inside the manifold of the chosen rows, see `inside`."""
        rows = torch.from_numpy(chosen)
        radii = self.within[rows][:, rows].kthvalue(self.neighbours + 1).values
        return float((self.across[:, rows] <= radii).any(dim=1).double().mean())


def manifold_table(generated: Tensor, reference: Tensor, neighbours: int) -> ManifoldTable:
    """Distance table of features [N, D] and [M, D]; takes N * (N + M) numbers of memory."""
    ours = generated.double()
    return ManifoldTable(torch.cdist(ours, ours), torch.cdist(reference.double(), ours), neighbours)


def inside(points: Tensor, manifold: Tensor, neighbours: int) -> NDArray[np.bool_]:
    """Which points lie in a manifold: in the ball of any of its points, which reaches that one's k-th neighbour.

    Precision is the share of the images inside the reference's manifold, recall that of the reference in the images'.

    Args:
        points: [N, D].
        manifold: [M, D], M greater than `neighbours`.
        neighbours: k.

    Returns:
        bool [N].

    Source:
        T. Kynkaanniemi and others, Improved precision and recall metric for assessing generative models, 2019 (arXiv
        1904.06991).
    """
    radii = torch.cat([part.kthvalue(neighbours + 1).values for part in _distances(manifold, manifold)])
    found: NDArray[np.bool_] = torch.cat([(part <= radii).any(1) for part in _distances(points, manifold)]).numpy()
    return found


def _distances(points: Tensor, others: Tensor) -> Iterator[Tensor]:
    """Distances float64 [n, M] of points [N, D] from others [M, D], some points at a time."""
    step = max(1, DISTANCES // len(others))
    for first in range(0, len(points), step):
        rows = points[first : first + step].double()
        yield torch.cat([torch.cdist(rows, part) for part in _blocks(others)], 1)
