"""How often a source's candidates hit, and what a static tree is worth by that.

A rate belongs to a rank, and to the *run* of a node: how many first candidates lie directly above it, from the last
candidate of another rank on, or from the root. The network of a drafter hits about as often whatever the run, and has
one list of rates. A stale guess (see `jacobi`) does not: it was made for first candidates, and behind one that they did
not name it is no better than directly behind the root, whose token has just changed as well.

The module imports no torch: settings are checked with it before torch is read.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from typing import Any

RankPath = tuple[int, ...]
"""A node by the ranks of its ancestors and itself: (0, 2) is the third candidate below the first one."""


def by_run(hit_rates: Sequence[Any]) -> list[list[float]]:
    """Rates [run][rank] of a setting that has them so, or has one list for every run."""
    several = any(isinstance(rates, list | tuple) for rates in hit_rates)
    return [list(rates) for rates in hit_rates] if several else [list(hit_rates)]


def run(path: RankPath) -> int:
    """The run of the children of a node."""
    return next((above for above, rank in enumerate(reversed(path)) if rank), len(path))


def expected_tokens(hit_rates: Sequence[Any], paths: Sequence[RankPath]) -> float:
    """Tokens that a verified tree is expected to add: one, and one for each node that is reached.

    Args:
        hit_rates: as of `fitted_paths`.
        paths: of the tree, closed under prefixes, without the root.
    """
    rates = by_run(hit_rates)
    return 1 + sum(math.prod(_rate(rates, path[:level], rank) for level, rank in enumerate(path)) for path in paths)


def fitted_paths(hit_rates: Sequence[Any], nodes: int, depth: int, spine: int = 0) -> list[RankPath]:
    """The rank paths that are most likely to be accepted, by rate and run alone.

    Args:
        hit_rates: probability that the target's token is the source's candidate of each rank, best first, given that
            the path above was accepted. One list, or a list for each run, of which the last serves for all longer ones.
        nodes: nodes of the tree, the root and the spine included.
        depth: deepest level beside the spine.
        spine: so many first candidates below each other are in the tree anyway.

    Returns:
        nodes - 1 paths at most, parents before children.
    """
    rates = by_run(hit_rates)
    paths: set[RankPath] = {(0,) * level for level in range(1, spine + 1)}
    heap: list[tuple[float, RankPath]] = [(-rate, (rank,)) for rank, rate in enumerate(rates[0])]
    heapq.heapify(heap)
    while heap and len(paths) < nodes - 1:
        score, path = heapq.heappop(heap)
        paths.add(path)
        if len(path) < depth:
            for rank, rate in enumerate(_rates(rates, path)):
                heapq.heappush(heap, (score * rate, (*path, rank)))
    return sorted(paths, key=lambda path: (len(path), path))


def _rates(rates: list[list[float]], above: RankPath) -> list[float]:
    """Those of a node's children."""
    return rates[min(run(above), len(rates) - 1)]


def _rate(rates: list[list[float]], above: RankPath, rank: int) -> float:
    """How often a rank hits below a node; never, where it was not measured."""
    own = _rates(rates, above)
    return own[rank] if rank < len(own) else 0.0
