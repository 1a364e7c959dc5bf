"""FID, IS, KID, precision and recall from features, by torch-fidelity's own functions.

torch-fidelity takes its settings as keywords, ignores those it does not know, uses the GPU unless told not to, caches
by name and prints. All of that is settled here once (`options`); the rest of the package passes features in and gets
numbers out. Features arrive in double precision: its FID would otherwise average float32 in float32.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_fidelity.defaults import DEFAULTS
from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_isc import KEY_METRIC_ISC_MEAN, KEY_METRIC_ISC_STD, isc_features_to_metric
from torch_fidelity.metric_kid import kernel_mmd, kernel_poly
from torch_fidelity.metric_prc import (
    KEY_METRIC_PRECISION,
    KEY_METRIC_RECALL,
    calc_cdist_part,
    prc_features_to_metric,
)

SEED = 2020
"""Seed of the splits of IS and the subsets of KID; torch-fidelity's default, named so that it cannot drift."""
KERNEL_BATCH = 2048
"""Reference rows per block of the kernel table."""


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


def gaussian(features: Tensor) -> Gaussian:
    """Mean and covariance of features float64 [N, D], N at least 2."""
    statistics = fid_features_to_statistics(features.double())
    return Gaussian(statistics["mu"], statistics["sigma"])


def fid(generated: Gaussian, reference: Gaussian) -> float:
    """Frechet inception distance; rounding below zero is cut off."""
    value = fid_statistics_to_metric(
        {"mu": generated.mu, "sigma": generated.sigma}, {"mu": reference.mu, "sigma": reference.sigma}, False
    )
    return max(0.0, float(value[KEY_METRIC_FID]))


def inception_score(logits: Tensor, splits: int) -> Spread:
    """Inception score of logits [N, C], images shuffled and cut into `splits` parts that are scored apart."""
    value = isc_features_to_metric(logits, splits=splits, shuffle=True, rng_seed=SEED)
    return Spread(value[KEY_METRIC_ISC_MEAN], value[KEY_METRIC_ISC_STD])


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
        return float(kernel_mmd(mine, real, **chosen))

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
    chosen, rows = options(), generated.numpy()
    within = kernel_poly(rows, rows, **chosen)
    np.fill_diagonal(within, 0)
    parts = reference.split(KERNEL_BATCH)  # type: ignore[no-untyped-call]
    sums = [kernel_poly(rows, part.numpy(), **chosen).sum(axis=1) for part in parts]
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
        """Share of the reference inside the manifold of the chosen rows, as `precision_recall` has it."""
        rows = torch.from_numpy(chosen)
        radii = self.within[rows][:, rows].kthvalue(self.neighbours + 1).values
        return float((self.across[:, rows] <= radii).any(dim=1).double().mean())


def manifold_table(generated: Tensor, reference: Tensor, neighbours: int) -> ManifoldTable:
    """Distance table of features [N, D] and [M, D]; takes N * (N + M) numbers of memory."""
    return ManifoldTable(torch.cdist(generated, generated), torch.cdist(reference, generated), neighbours)


def precision_recall(generated: Tensor, reference: Tensor, neighbours: int) -> tuple[float, float]:
    """Improved precision (generated inside the reference's manifold) and recall (the other way round).

    Args:
        generated: [N, D], N greater than `neighbours`.
        reference: [M, D], M greater than `neighbours`.
        neighbours: k of the k-nearest-neighbour balls.
    """
    chosen = options(prc_neighborhood=neighbours, save_cpu_ram=True)
    value = prc_features_to_metric(generated, reference, **chosen)
    return value[KEY_METRIC_PRECISION], value[KEY_METRIC_RECALL]


def inside(generated: Tensor, reference: Tensor, neighbours: int) -> NDArray[np.bool_]:
    """Which of the images lie inside the reference's manifold; precision is their share.

    Args:
        generated: [N, D].
        reference: [M, D], M greater than `neighbours`.
        neighbours: k of the k-nearest-neighbour balls.

    Returns:
        bool [N].
    """
    step = options()["prc_batch_size"]
    real, ours = (rows.split(step) for rows in (reference, generated))  # type: ignore[no-untyped-call]
    radii = torch.cat([calc_cdist_part(part, reference).kthvalue(neighbours + 1).values for part in real])
    member: NDArray[np.bool_] = torch.cat(
        [(calc_cdist_part(part, reference) <= radii).any(dim=1) for part in ours]
    ).numpy()
    return member
