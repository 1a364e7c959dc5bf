"""The similarity of a tree's paths, against values worked out by hand and a plain reading of the spec."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.decoding.trees import tree_of
from vvsbench.decoding.similarity import central_leaf, mean_similarity, sorted_paths
from vvsbench.drafting.tree import TokenTree

ANGLES = [0, 30, 90, 180]
"""Of the codes of tokens 0 to 3, in degrees; their lengths differ and must not matter."""
CODES = torch.tensor(ANGLES, dtype=torch.float64).deg2rad()
CODES = torch.stack([CODES.cos(), CODES.sin()], 1) * torch.tensor([[1.0], [2.0], [0.5], [3.0]])
COS30 = 0.75**0.5


def tree(parents: list[int], tokens: list[int], vocab: int = 4) -> TokenTree:
    return tree_of(torch.tensor([tokens]), parents, vocab)


def plain_paths(one: TokenTree, row: int) -> list[list[int]]:
    """The spec's list: root paths without the root, sorted by node number with the missing last."""
    parents = one.parents[row % len(one.parents)].tolist()
    paths = []
    for leaf in set(range(1, len(parents))) - set(parents[1:]):
        path = [leaf]
        while parents[path[0]]:
            path.insert(0, parents[path[0]])
        paths.append(path)
    return sorted(paths)


def plain(one: TokenTree, codes: Tensor, decay: float, stride: int, row: int = 0) -> float:
    paths = plain_paths(one, row)
    deepest = max(map(len, paths))
    weights = [decay**depth / sum(decay**k for k in range(deepest)) for depth in range(deepest)]
    pairs = list(combinations(paths[::stride], 2))
    total = 0.0
    for first, second in pairs:
        for weight, one_node, other in zip(weights, first, second, strict=False):
            one_code, other_code = codes[one.tokens[row, one_node]], codes[one.tokens[row, other]]
            total += weight * float(F.cosine_similarity(one_code, other_code, dim=0))
    return total / len(pairs) if pairs else 0.0


def test_two_leaves_are_as_alike_as_their_codes() -> None:
    value = mean_similarity(tree([0, 0, 0], [3, 0, 1]), CODES, 0.9, 1)
    torch.testing.assert_close(value, torch.tensor([COS30], dtype=torch.float64))


def test_deeper_tokens_weigh_less_and_a_missing_one_counts_as_zero() -> None:
    forked = tree([0, 0, 0, 1, 2], [0, 0, 1, 2, 3])
    torch.testing.assert_close(
        mean_similarity(forked, CODES, 0.9, 1), torch.tensor([(COS30 + 0.9 * 0) / 1.9], dtype=torch.float64)
    )
    ragged = tree([0, 0, 0, 1], [0, 0, 1, 0])
    torch.testing.assert_close(mean_similarity(ragged, CODES, 0.9, 1), torch.tensor([COS30 / 1.9], dtype=torch.float64))


def test_a_ragged_tree_of_equal_paths_scores_043() -> None:
    """Half of the paths end at depth 1, the others at 5; all tokens look the same (spec 1.10)."""
    half = 20
    parents, longest = [0] * (1 + 2 * half), list(range(half + 1, 2 * half + 1))
    for _ in range(4):
        parents += longest
        longest = list(range(len(parents) - half, len(parents)))
    codes = torch.tensor([[1.0, 2.0]]) * torch.arange(1, len(parents) + 1)[:, None]
    value = float(mean_similarity(tree(parents, list(range(len(parents))), len(parents)), codes, 0.9, 1))
    first = 1 / sum(0.9**depth for depth in range(5))
    long_pairs = half * (half - 1) / (2 * half * (2 * half - 1))
    assert value == pytest.approx(first + (1 - first) * long_pairs, abs=1e-6)
    assert round(value, 2) == 0.43


def test_fewer_than_two_paths_are_not_alike() -> None:
    assert float(mean_similarity(tree([0, 0, 1], [0, 1, 2]), CODES, 0.9, 1)) == 0
    assert float(mean_similarity(tree([0, 0, 0], [0, 1, 1]), CODES, 0.9, 2)) == 0


def test_the_stride_takes_paths_in_their_sorted_order() -> None:
    # leaves 2, 3 and 4 end the paths (1, 4), (2) and (3): by leaf number the first and the third would be other ones
    one = tree([0, 0, 0, 0, 1], [0, 0, 3, 0, 2])
    nodes, real = sorted_paths(one)
    assert nodes[0][real[0]].tolist() == [[1, 4], [2, 0], [3, 0]]
    assert not real[0, 3:].any()
    assert float(mean_similarity(one, CODES, 0.9, 2)) == pytest.approx(1 / 1.9)
    assert float(mean_similarity(one, CODES, 0.9, 1)) == pytest.approx((-1 + 1 - 1) / 1.9 / 3)


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_random_trees_of_one_batch(stride: int) -> None:
    generator = torch.Generator().manual_seed(stride)
    codes = torch.randn(8, 3, generator=generator, dtype=torch.float64)
    trees = []
    for _ in range(30):
        parents = [0] + [int(torch.randint(node, (1,), generator=generator)) for node in range(1, 12)]
        trees.append(tree(parents, torch.randint(8, (12,), generator=generator).tolist(), 8))
    alone = torch.cat([mean_similarity(one, codes, 0.9, stride) for one in trees])
    expected = [plain(one, codes, 0.9, stride) for one in trees]
    torch.testing.assert_close(alone, torch.tensor(expected, dtype=torch.float64))
    together = mean_similarity(joined(trees), codes, 0.9, stride)
    torch.testing.assert_close(together, alone)


def joined(trees: list[TokenTree]) -> TokenTree:
    """Trees of as many nodes as one batch."""
    tokens, parents, depths = (
        torch.cat([getattr(one, name) for one in trees]) for name in ("tokens", "parents", "depths")
    )
    visible = torch.cat([one.visible for one in trees])
    levels = int(depths.max())
    noise = torch.zeros(len(trees), levels + 1, 1)
    return TokenTree(tokens, parents, depths, visible, noise, levels, tokens.shape[1], parents - 1)


def test_the_central_leaf_is_most_like_the_others() -> None:
    star = tree([0, 0, 0, 0], [3, 0, 1, 2])
    assert central_leaf(star, CODES, 0.9).tolist() == [2]
    # a long path is more like itself than a short one is; that must not count
    ragged = tree([0, 0, 0, 0, 3], [3, 0, 1, 2, 3])
    assert central_leaf(ragged, CODES, 0.9).tolist() == [2]
