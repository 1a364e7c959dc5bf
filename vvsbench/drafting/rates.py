"""How often a source's candidates hit, by depth and by rank, and what a static tree is worth by that.

The module imports no torch: settings are checked with it before torch is read.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from typing import Any

RankPath = tuple[int, ...]
"""A node by the ranks of its ancestors and itself: (0, 2) is the third candidate below the first one."""


def by_depth(hit_rates: Sequence[Any]) -> list[list[float]]:
    """Rates [depth][rank] of a setting that has them so, or one list for every depth."""
    deep = any(isinstance(rates, Sequence) for rates in hit_rates)
    return [list(rates) for rates in hit_rates] if deep else [list(hit_rates)]


def expected_tokens(hit_rates: Sequence[Any], paths: Sequence[RankPath]) -> float:
    """Tokens that a verified tree is expected to add, if ranks hit independently of each other along a path.

    Args:
        hit_rates: as of `fitted_paths`.
        paths: of the tree, closed under prefixes, without the root.
    """
    rates = by_depth(hit_rates)
    return 1 + sum(math.prod(_rate(rates, level, rank) for level, rank in enumerate(path)) for path in paths)


def fitted_paths(hit_rates: Sequence[Any], nodes: int, depth: int, spine: int = 0) -> list[RankPath]:
    """The rank paths that are most likely to be accepted, if ranks hit independently of each other along a path.

    Args:
        hit_rates: probability that the target's token is the source's candidate of each rank, best first, given that
            the path above was accepted. One list, or a list for each depth, of which the last serves for all deeper.
        nodes: nodes of the tree, the root and the spine included.
        depth: deepest level beside the spine.
        spine: so many first candidates below each other are in the tree anyway.

    Returns:
        nodes - 1 paths at most, parents before children.
    """
    rates = by_depth(hit_rates)
    paths: set[RankPath] = {(0,) * level for level in range(1, spine + 1)}
    heap: list[tuple[float, RankPath]] = [(-rate, (rank,)) for rank, rate in enumerate(rates[0])]
    heapq.heapify(heap)
    while heap and len(paths) < nodes - 1:
        score, path = heapq.heappop(heap)
        paths.add(path)
        if len(path) < depth:
            for rank, rate in enumerate(rates[min(len(path), len(rates) - 1)]):
                heapq.heappush(heap, (score * rate, (*path, rank)))
    return sorted(paths, key=lambda path: (len(path), path))


def _rate(rates: list[list[float]], level: int, rank: int) -> float:
    """How often a rank hits on a level; never, where it was not measured."""
    own = rates[min(level, len(rates) - 1)]
    return own[rank] if rank < len(own) else 0.0
