"""What a skip commits: which leaf each selector takes, where each truncation cuts, which features stand in."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.decoding.trees import tree_of
from vvsbench.axes import Selector, Truncation
from vvsbench.decoding.settings import SkipConfig
from vvsbench.decoding.skipping import choose_leaf, first_leaf, last_features, path_length
from vvsbench.drafting.tree import TokenTree

PARENTS = [0, 0, 0, 0, 1, 1, 2, 6, 7]
"""Paths 1-4, 1-5, 2-6-7-8 and 3: 2, 2, 4 and 1 drafts, 3.25 nodes with the root on average."""
LEAVES = [3, 4, 5, 8]
CHANCES = [1.0, 0.5, 0.4, 0.3, 0.9, 0.2, 0.9, 0.8, 0.1]
"""That the target draws a node, given its parent."""


def tree() -> TokenTree:
    one = tree_of(torch.arange(len(PARENTS))[None], PARENTS, len(PARENTS))
    return replace(one, log_hits=torch.tensor([CHANCES], dtype=torch.float64).log())


def chosen(selector: Selector, chances: Tensor, one: TokenTree, codes: Tensor | None = None) -> list[int]:
    return choose_leaf(one, selector, chances, torch.zeros(1, 1) if codes is None else codes).tolist()


def test_the_random_leaf_is_uniform_over_the_leaves() -> None:
    edges = torch.tensor([1e-7, 0.25, 0.2501, 0.5, 0.5001, 0.75, 0.7501, 1.0])
    many = replace(tree(), tokens=tree().tokens.expand(len(edges), -1))
    assert chosen(Selector.random, edges, many) == [3, 3, 4, 4, 5, 5, 8, 8]


def test_the_first_leaf_follows_the_first_candidate_of_each_level() -> None:
    assert chosen(Selector.first, torch.ones(1), tree()) == first_leaf(tree()).tolist() == [4]


def test_the_best_leaf_is_the_likeliest_per_token() -> None:
    # (0.5 * 0.9)^(1/2) = 0.67, (0.5 * 0.2)^(1/2) = 0.32, (0.4 * 0.9 * 0.8 * 0.1)^(1/4) = 0.41, 0.3
    assert chosen(Selector.best, torch.ones(1), tree()) == [4]
    longer = tree()
    longer.log_hits = longer.log_hits.clone()
    longer.log_hits[0, 8] = math.log(0.8)  # 0.69, although the whole path is less likely than 1-4
    assert chosen(Selector.best, torch.ones(1), longer) == [8]


def test_the_central_leaf_is_chosen_by_the_codes() -> None:
    angles = torch.tensor([0, 0, 60, 100], dtype=torch.float64).deg2rad()
    star = tree_of(torch.arange(4)[None], [0, 0, 0, 0], 4)
    assert chosen(Selector.central, torch.ones(1), star, torch.stack([angles.cos(), angles.sin()], 1)) == [2]


@pytest.mark.parametrize(
    ("truncation", "settings", "expected"),
    [
        (Truncation.none, {}, [2, 3, 3, 5]),
        (Truncation.dynamic, {}, [2, 3, 3, 3]),
        (Truncation.fixed, {"length": 1}, [2, 2, 2, 2]),
        (Truncation.fixed, {"length": 3}, [2, 3, 3, 4]),
        (Truncation.hits, {"least_hits": 0.0}, [2, 3, 3, 5]),
        (Truncation.hits, {"least_hits": 0.25}, [2, 3, 2, 4]),
        (Truncation.hits, {"least_hits": 0.35}, [2, 3, 2, 3]),
        (Truncation.hits, {"least_hits": 1.0}, [2, 2, 2, 2]),
    ],
)
def test_where_the_path_is_cut(truncation: Truncation, settings: dict[str, float], expected: list[int]) -> None:
    one = tree()
    many = replace(one, tokens=one.tokens.expand(4, -1), log_hits=one.log_hits.expand(4, -1))
    skip = SkipConfig(truncation=truncation, **settings)
    assert path_length(many, torch.tensor(LEAVES), skip).tolist() == expected


def test_the_mean_that_dynamic_truncation_cuts_at_is_rounded_down() -> None:
    # 2 and 3 nodes: 2.5 on average
    one = tree_of(torch.arange(4)[None], [0, 0, 0, 2], 4)
    assert path_length(one, torch.tensor([3]), SkipConfig()).tolist() == [2]
    # 3 and 3
    one = tree_of(torch.arange(5)[None], [0, 0, 0, 1, 2], 5)
    assert path_length(one, torch.tensor([3]), SkipConfig()).tolist() == [3]


def test_stand_ins_are_the_newest_features_in_their_order() -> None:
    recent = torch.arange(7.0).expand(3, 2, 7)[..., None]
    features = last_features(recent, torch.tensor([1, 3, 2]), 3)
    assert features.shape == (3, 2, 3, 1)
    assert [features[row, 1, :count, 0].tolist() for row, count in enumerate([1, 3, 2])] == [[6], [4, 5, 6], [5, 6]]


@pytest.mark.parametrize("back", [2, torch.tensor([2, 0])])
def test_older_stand_ins_lie_further_back(back: int | Tensor) -> None:
    recent = torch.arange(7.0).expand(2, 1, 7)[..., None]
    features = last_features(recent, torch.tensor([3, 2]), 3, back)
    assert features[0, 0, :, 0].tolist() == [2, 3, 4]
    assert features[1, 0, :2, 0].tolist() == ([3, 4] if isinstance(back, int) else [5, 6])
