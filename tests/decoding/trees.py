"""Draft trees made by hand, for tests of acceptance rules alone: no target, no drafter, no loop."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from vvsbench.drafting.tree import TokenTree


def tree_of(tokens: Tensor, parents: list[int], vocab: int, laws: Tensor | None = None) -> TokenTree:
    """A batch of trees of one shape.

    Args:
        tokens: int64 [B, T], the root's first.
        parents: of every node; the root's is 0.
        vocab: V.
        laws: log q float64 [B, 1 + inner nodes, V] at the root and at the inner nodes in their order.
    """
    nodes = len(parents)
    visible = torch.eye(nodes, dtype=torch.bool)[None].clone()
    for node in range(1, nodes):
        visible[0, node] |= visible[0, parents[node]]
    depths = visible.sum(-1) - 1
    inner = sorted(set(parents[1:]) - {0})
    return TokenTree(
        tokens=tokens,
        parents=torch.tensor([parents]),
        depths=depths,
        visible=visible,
        noise=torch.zeros(1, 1, 1).expand(len(tokens), int(depths.max()) + 1, vocab),
        levels=int(depths.max()),
        width=max(parents[1:].count(node) for node in parents),
        expansions=torch.tensor([[inner.index(node) if node in inner else -1 for node in range(nodes)]]),
        log_hits=torch.zeros(tokens.shape, dtype=torch.float64),
        laws=laws,
    )


def ordered_samples(q: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Every ordered sample without replacement from q [V]: tokens int64 [S, width], and their probabilities [S].

    Once the support of q is exhausted the rest follow in the order of their numbers, as top-k of log q + noise gives.
    """
    samples, weights = [], []
    for sample in itertools.permutations(range(len(q)), width):
        left, weight = q.clone(), 1.0
        for token in sample:
            total = float(left.sum())
            if total > 0:
                weight *= float(left[token]) / total
            else:
                rest = [
                    other for other in range(len(q)) if q[other] == 0 and other not in sample[: sample.index(token)]
                ]
                weight *= float(token == rest[0])
            left[token] = 0
        if weight > 0:
            samples.append(sample)
            weights.append(weight)
    return torch.tensor(samples), torch.tensor(weights, dtype=torch.float64)


def star(samples: Tensor, vocab: int, q: Tensor | None) -> TokenTree:
    """Roots whose children are the samples int64 [S, width], tried in that order; drawn from q [V] if it is given."""
    tokens = torch.cat([torch.zeros_like(samples[:, :1]), samples], 1)
    laws = None if q is None else q.log().expand(len(samples), 1, -1)
    return tree_of(tokens, [0] * tokens.shape[1], vocab, laws)
