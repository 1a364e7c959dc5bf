"""Static trees are shaped by how often candidates hit, and are worth what that says."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vvsbench.drafting.growing import orphans
from vvsbench.drafting.rates import expected_tokens, fitted_paths, run

FLAT = [0.5, 0.2, 0.1]
RUNS = [[0.5, 0.2], [0.8, 0.1]]
rate = st.floats(0.01, 0.99)
setting = st.lists(st.lists(rate, min_size=1, max_size=4), min_size=1, max_size=3)


@pytest.mark.parametrize(
    ("path", "expected"), [((), 0), ((0,), 1), ((0, 0), 2), ((1,), 0), ((0, 1), 0), ((0, 1, 0), 1)]
)
def test_a_run_begins_behind_the_last_candidate_of_another_rank(path: tuple[int, ...], expected: int) -> None:
    assert run(path) == expected


def test_expected_tokens_add_up_the_chances_of_the_nodes() -> None:
    assert expected_tokens(FLAT, [(0,), (1,), (0, 0)]) == pytest.approx(1 + 0.5 + 0.2 + 0.25)
    assert expected_tokens(RUNS, [(0,), (1,), (0, 0), (1, 0), (1, 0, 0)]) == pytest.approx(
        1 + 0.5 + 0.2 + 0.5 * 0.8 + 0.2 * 0.5 + 0.2 * 0.5 * 0.8
    )
    assert expected_tokens(FLAT, [(3,)]) == 1  # a rank that was not measured


@given(hit_rates=setting, nodes=st.integers(2, 12), depth=st.integers(1, 4), spine=st.integers(0, 4))
def test_no_tree_of_the_same_size_is_expected_to_add_more(
    hit_rates: list[list[float]], nodes: int, depth: int, spine: int
) -> None:
    paths = fitted_paths(hit_rates, nodes, depth, spine)
    assert not orphans(paths)
    assert {(0,) * level for level in range(1, spine + 1)} <= set(paths)
    ranks = range(max(map(len, hit_rates)))
    everything = [path for level in range(1, depth + 1) for path in product(ranks, repeat=level)]

    def worth(path: tuple[int, ...]) -> float:
        above = [path[:level] for level in range(1, len(path) + 1)]
        return expected_tokens(hit_rates, above) - expected_tokens(hit_rates, above[:-1])

    spared = max((worth(path) for path in everything if path not in paths), default=0.0)
    beside = [worth(path) for path in paths if path != (0,) * len(path)]
    assert len(paths) <= max(nodes - 1, spine)
    assert len(paths) < nodes - 1 or all(chance >= spared - 1e-9 for chance in beside)
