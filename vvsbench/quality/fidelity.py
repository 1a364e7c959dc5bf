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
from numpy.typing import NDArray
from torch import Tensor
from torch_fidelity.defaults import DEFAULTS
from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_isc import KEY_METRIC_ISC_MEAN, KEY_METRIC_ISC_STD, isc_features_to_metric
from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, KEY_METRIC_KID_STD, kernel_mmd, kid_features_to_metric
from torch_fidelity.metric_prc import KEY_METRIC_PRECISION, KEY_METRIC_RECALL, prc_features_to_metric

SEED = 2020
"""Seed of the splits of IS and the subsets of KID; torch-fidelity's default, named so that it cannot drift."""


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


def kid(generated: Tensor, reference: Tensor, subsets: int, subset_size: int) -> Spread:
    """Kernel inception distance with the polynomial kernel, over random subsets of features [N, D] and [M, D]."""
    chosen = options(kid_subsets=subsets, kid_subset_size=subset_size)
    value = kid_features_to_metric(generated, reference, **chosen)
    return Spread(value[KEY_METRIC_KID_MEAN], value[KEY_METRIC_KID_STD])


def kernel_distance(generated: Tensor, reference: Tensor) -> float:
    """Unbiased squared maximum mean discrepancy of two equally large sets [N, D]: KID over one subset, the set."""
    return float(kernel_mmd(generated.numpy(), reference.numpy(), **options()))


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
