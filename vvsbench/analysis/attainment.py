"""What fronts reach from seed to seed: the empirical attainment surfaces of each family.

One seed is one draw. With k seeds a family has k fronts; a point of cost and FID is attained with a seed when some cell
of the family is at least as good on both. The *best* surface is what at least one seed attains, the *worst* what every
one does, and the *median* what most do: more than half. With two seeds most of them are both, so there is no median.

A cell that was drawn with one seed only says nothing of this and is left out; of the others those seeds count that all
of them have, so that every family is seen under the same ones. The baseline is in every family, as in
`vvsbench.analysis.hypervolume`, and areas are measured as they are there. Settings other than the seed never meet.

Source:
    V. Grunert da Fonseca, C. M. Fonseca and A. O. Hall, Inferential performance assessment of stochastic optimisers and
    the attainment function, EMO 2001.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import moocore
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vvsbench.analysis.costs import Axis
from vvsbench.analysis.frame import StudyFrame
from vvsbench.analysis.hypervolume import FID, area, reference_point
from vvsbench.analysis.settings import differences, flat
from vvsbench.analysis.troubles import scored_alike

BEST, MEDIAN, WORST = "best", "median", "worst"


@dataclass(frozen=True)
class Surface:
    """What a number of seeds attain.

    Attributes:
        seeds: at least so many attain it.
        points: corners in cost and FID, from cheap to dear, float64 [corners, 2].
        volume: area between them and the reference point.
    """

    seeds: int
    points: NDArray[np.float64]
    volume: float


@dataclass(frozen=True)
class Family:
    """A family over seeds.

    Attributes:
        cells: that count, without the baseline.
        surfaces: by `BEST`, `MEDIAN` and `WORST`, of two seeds without `MEDIAN`.
        volumes: area of the front of each seed.
        ahead: seeds with which its area is the largest of all families.
    """

    name: str
    cells: int
    surfaces: Mapping[str, Surface]
    volumes: Mapping[int, float]
    ahead: int


@dataclass(frozen=True)
class Attainment:
    """The families of those comparisons that differ in nothing but their seed.

    Attributes:
        setting: what tells them from other such groups, empty if there is one only.
        axis: the cost.
        seeds: that count, in order; fewer than two where no two are shared, and then there is no family.
        drawn: seeds with which some cell of each family was drawn, the baseline's included.
        reference: cost and FID of the reference point; None without families.
        families: from the largest median area (the worst, of two seeds) to the smallest.
        points: the rows behind the surfaces.
        once: labels of cells that were drawn with one seed only.
        uneven: whether some cell has a seed that does not count.
    """

    setting: str
    axis: Axis
    seeds: Sequence[int]
    drawn: Mapping[str, Sequence[int]]
    reference: tuple[float, float] | None = None
    families: Sequence[Family] = ()
    points: pd.DataFrame = field(default_factory=pd.DataFrame)
    once: Sequence[str] = ()
    uneven: bool = False


def attainments(study: StudyFrame) -> list[Attainment]:
    """What fronts reach from seed to seed, for every setting of a study but its seed.

    Args:
        study: under one protocol.

    Returns:
        One for every group of comparisons with cells that have both cost and FID.
    """
    rows, column = study.usable, study.axis.column
    if FID not in rows or column not in rows:
        return []
    rows = rows[rows[FID].notna() & rows[column].notna()]
    groups = [group for _, group in rows.groupby("setting_but_seed", sort=False)]
    settings = [flat(json.loads(str(group["setting_but_seed"].iloc[0]))) for group in groups]
    named = [differences(one, settings) for one in settings]
    found = [_attained(study, name, group) for name, group in zip(named, groups, strict=True)]
    return [one for one in found if one is not None]


def _attained(study: StudyFrame, setting: str, rows: pd.DataFrame) -> Attainment | None:
    decoders = {
        str(key): json.dumps(study.cells[str(key)].record.config["decoder"], sort_keys=True) for key in rows.index
    }
    rows = rows.assign(decoder_settings=[decoders[str(key)] for key in rows.index])
    drawn = {str(name): sorted(set(members["seed"])) for name, members in rows.groupby("family", sort=False)}
    seeds = rows.groupby("decoder_settings", sort=False)["seed"].agg(set)
    often = seeds[seeds.map(len) > 1]
    once = [str(label) for label in rows.loc[~rows["decoder_settings"].isin(often.index), "label"]]
    shared = sorted(set.intersection(*often)) if len(often) else sorted(set(rows["seed"]))[:1]
    uneven = any(set(shared) != found for found in often)
    points = rows[rows["decoder_settings"].isin(often.index) & rows["seed"].isin(shared)]
    none = Attainment(setting, study.axis, shared, drawn, once=once, uneven=uneven)
    if len(shared) < 2 or points["family"].nunique() < 2 or not scored_alike(points):
        return none if rows["family"].nunique() > 1 else None
    values = points[[study.axis.column, FID]].to_numpy(dtype=np.float64)
    anchors = points["is_baseline"].to_numpy(dtype=bool)
    reference = reference_point(values, anchors, study.axis)
    if reference is None:
        return none
    families = _families(points, anchors, shared, reference, study.axis)
    return Attainment(setting, study.axis, shared, drawn, reference, families, points, once, uneven)


def _families(
    points: pd.DataFrame, anchors: NDArray[np.bool_], seeds: Sequence[int], reference: tuple[float, float], axis: Axis
) -> list[Family]:
    names = [str(name) for name in dict.fromkeys(points.loc[~anchors, "family"])]
    members = {name: points[(points["family"] == name).to_numpy() | anchors] for name in names}
    volumes = {name: {seed: _volume(rows, seed, reference, axis) for seed in seeds} for name, rows in members.items()}
    largest = {seed: max(found[seed] for found in volumes.values()) for seed in seeds}
    found = [
        Family(
            name,
            points.loc[(points["family"] == name).to_numpy() & ~anchors, "decoder_settings"].nunique(),
            surfaces(rows[[axis.column, FID]].to_numpy(dtype=np.float64), list(rows["seed"]), reference, axis),
            volumes[name],
            sum(volumes[name][seed] == largest[seed] for seed in seeds),
        )
        for name, rows in members.items()
    ]
    return sorted(found, key=lambda family: -family.surfaces.get(MEDIAN, family.surfaces[WORST]).volume)


def _volume(rows: pd.DataFrame, seed: int, reference: tuple[float, float], axis: Axis) -> float:
    return area(rows.loc[rows["seed"] == seed, [axis.column, FID]].to_numpy(dtype=np.float64), reference, axis)


def surfaces(
    points: NDArray[np.float64], seeds: Sequence[int], reference: tuple[float, float], axis: Axis
) -> dict[str, Surface]:
    """The attainment surfaces of some points.

    Args:
        points: cost and FID, float64 [points, 2].
        seeds: of each point.
        reference: that areas are measured against.
        axis: the cost.
    """
    sign = np.array([-1.0 if axis.more_is_better else 1.0, 1.0])
    order = np.argsort(np.asarray(seeds), kind="stable")  # moocore wants the points of a set together
    numbers = np.unique(np.asarray(seeds)[order], return_inverse=True)[1] + 1
    attained = moocore.eaf(points[order] * sign, numbers)
    count = int(numbers.max())
    levels = {BEST: 1, MEDIAN: count // 2 + 1, WORST: count}
    if count == 2:
        del levels[MEDIAN]
    found = {}
    for name, level in levels.items():
        corners = attained[np.isclose(attained[:, 2], 100 * level / count), :2]
        corners = corners[np.argsort(corners[:, 0], kind="stable")] * sign
        found[name] = Surface(level, corners, area(corners, reference, axis))
    return found
