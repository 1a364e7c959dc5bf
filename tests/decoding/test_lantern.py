"""LANTERN's relaxation against a plain reading of the published rule, one candidate after the other, in Python."""

from __future__ import annotations

from itertools import takewhile

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor

from tests.decoding.trees import star, tree_of
from vvsbench.axes import Guarantee, Residual
from vvsbench.decoding.acceptance import GreedyLantern, Lantern, Relaxation, Sequential
from vvsbench.decoding.acceptance.neighbours import nearest
from vvsbench.sampling import Sampling

VOCAB = 6
CODES = torch.randn(VOCAB, 3, generator=torch.Generator().manual_seed(2))
TABLE = nearest(CODES, VOCAB - 1, normalised=False)
BOUNDS = st.sampled_from([0.0, 0.0507, 0.1013, 0.3017, 0.6011, 1.0, 1.507, 2.013, 5.03])
WEIGHTS = st.lists(st.integers(0, 20), min_size=VOCAB, max_size=VOCAB).filter(any)


def law(weights: list[int]) -> Tensor:
    values = torch.tensor(weights, dtype=torch.float64)
    return values / values.sum()


def plain(p: Tensor, q: Tensor | None, siblings: list[int], chance: list[float], rule: Lantern) -> tuple[int, Tensor]:
    """Spec 4.2 with loops: which sibling is accepted (-1: none), and the law that then follows where none is."""
    k, delta, residual = rule.relaxation.k, rule.relaxation.delta, rule.residual
    p = p.log().softmax(-1)
    log_q = None if q is None else q.log()
    for number, x in enumerate(siblings):
        near = [int(code) for code in TABLE[x]]
        limit = delta if delta <= 1 else (delta - 1) * float(p[x])
        borrowed, lenders = 0.0, []
        for code in near[:k]:
            if borrowed + float(p[code]) > limit:
                break
            borrowed += float(p[code])
            lenders.append(code)
        one_hot = torch.zeros(VOCAB, dtype=torch.float64)
        one_hot[x] = 1
        own = one_hot if log_q is None or log_q[x] == float("-inf") else log_q.softmax(-1)
        if chance[number] <= (float(p[x]) + borrowed) / float(own[x]):
            return number, p
        own = own.clone()
        if lenders and residual is Residual.released and q is not None:
            own[near[: k + 1]] = 0
        elif lenders and residual is Residual.released:
            p[near[: k + 1]] = 0
        elif residual is Residual.accepted_set:
            p[lenders] = 0
        left = (p - own).clamp_min(0)
        if left.sum() == 0:
            left = torch.ones(VOCAB, dtype=torch.float64)
        p = left / left.sum()
        if log_q is not None:
            log_q[x] = float("-inf")
    return -1, p


def walked(
    rule: Sequential, p: Tensor, q: Tensor | None, siblings: list[int], chance: list[float]
) -> tuple[int, Tensor]:
    tree = star(torch.tensor([siblings]), VOCAB, q)
    uniforms = torch.tensor([[0.5, *chance]], dtype=torch.float64)
    node, rest = rule.walk(tree, p.log().expand(1, 1 + len(siblings), -1), uniforms)
    return int(node) - 1, rest[0]


@st.composite
def trials(draw: st.DrawFn) -> tuple[Tensor, Tensor | None, list[int], list[float]]:
    p = law(draw(WEIGHTS))
    q = law(draw(WEIGHTS)) if draw(st.booleans()) else None
    siblings = draw(st.permutations(range(VOCAB)))[: draw(st.integers(1, 4))]
    if q is not None:
        siblings = sorted(siblings, key=lambda token: float(q[token]) == 0)  # what has no probability is drawn last
    chance = [draw(st.floats(0.001, 0.999)) for _ in siblings]  # not so near 1 that rounding rejects
    return p, q, list(siblings), chance


@given(trials(), st.integers(1, VOCAB - 1), BOUNDS, st.sampled_from(Residual))
def test_it_decides_as_the_plain_rule_does(trial, k: int, delta: float, residual: Residual) -> None:
    p, q, siblings, chance = trial
    rule = Lantern(Relaxation(TABLE, k, delta), residual)
    expected, rest = plain(p, q, siblings, chance, rule)
    found, left = walked(rule, p, q, siblings, chance)
    assert found == expected
    if expected < 0:
        torch.testing.assert_close(left, rest, atol=1e-9, rtol=0)


@given(trials(), st.integers(1, VOCAB - 1), st.sampled_from(Residual))
def test_without_a_bound_to_borrow_under_it_is_the_sequential_rule(trial, k: int, residual: Residual) -> None:
    p, q, siblings, chance = trial
    if residual is Residual.released:  # it drops those that it borrowed 0 from, so nobody may have 0
        assume(bool((p > 0).all()))
        siblings, chance = siblings[:1], chance[:1]
    found, left = walked(Lantern(Relaxation(TABLE, k, 0.0), residual), p, q, siblings, chance)
    expected, rest = walked(Sequential(), p, q, siblings, chance)
    assert found == expected
    torch.testing.assert_close(left, rest, atol=1e-12, rtol=0)


@given(WEIGHTS, st.integers(0, VOCAB - 1), st.integers(1, VOCAB - 1), BOUNDS)
def test_what_is_borrowed_stays_within_its_bound(weights: list[int], token: int, k: int, delta: float) -> None:
    p = law(weights)
    mass, within = Relaxation(TABLE[:, :k], k, delta).borrow(p[None], torch.tensor([[token]]))
    borrowed = float(mass) - float(p[token])
    assert -1e-12 <= borrowed <= (delta if delta <= 1 else (delta - 1) * float(p[token])) + 1e-12
    assert float(mass) <= 1 + 1e-12
    assert within.int().diff().le(0).all(), "a prefix, nearest first"


@given(trials(), st.integers(1, VOCAB - 1), BOUNDS, st.sampled_from(Residual))
def test_what_is_left_is_a_distribution_without_the_rejected(trial, k: int, delta: float, residual: Residual) -> None:
    p, q, siblings, chance = trial
    found, left = walked(Lantern(Relaxation(TABLE, k, delta), residual), p, q, siblings, chance)
    assert float(left.sum()) == pytest.approx(1.0)
    assert bool((left >= 0).all())
    if found < 0 and (q is not None or residual is not Residual.released):
        assert float(left[siblings].sum()) < 1e-12


@given(trials(), st.integers(1, VOCAB - 1), BOUNDS)
def test_a_rejection_leaves_something_outside_the_accepted_set(trial, k: int, delta: float) -> None:
    p, q, siblings, _ = trial
    rule = Lantern(Relaxation(TABLE, k, delta), Residual.accepted_set)
    found, left = walked(rule, p, q, siblings[:1], [0.999])
    _, within = rule.relaxation.borrow(p[None], torch.tensor([siblings[:1]]))
    lenders = TABLE[siblings[0], :k][within[0]].long()
    assert found == 0 or float(left[lenders].sum()) == 0


def test_the_released_residual_of_fixed_candidates_drops_what_it_never_borrowed() -> None:
    """Executed with the authors' function: a token of probability 0.9 vanishes."""
    p = torch.tensor([0.05, 0.0, 0.0, 0.0, 0.05, 0.9], dtype=torch.float64)
    table = torch.zeros(6, 4, dtype=torch.int32)
    table[3] = torch.tensor([2, 4, 1, 5])
    for residual, rest in [
        (Residual.released, [1, 0, 0, 0, 0, 0]),
        (Residual.accepted_set, [0.05 / 0.95, 0, 0, 0, 0, 0.9 / 0.95]),
        (Residual.strict, p.tolist()),
    ]:
        rule = Lantern(Relaxation(table, 3, 0.1), residual)
        found, left = walked(rule, p, None, [3], [0.06])
        assert found == -1
        torch.testing.assert_close(left, torch.tensor(rest, dtype=torch.float64))
        assert walked(rule, p, None, [3], [0.05])[0] == 0


def test_the_released_residual_of_sampled_candidates_keeps_the_neighbours() -> None:
    p = torch.tensor([0.1, 0.3, 0.2, 0.4], dtype=torch.float64)
    q = torch.tensor([0.7, 0.1, 0.1, 0.1], dtype=torch.float64)
    table = torch.tensor([[1, 2, 3]] * 4, dtype=torch.int32)
    tree = star(torch.tensor([[0]]), 4, q)
    scores, chance = p.log().expand(1, 2, -1), torch.tensor([[0.5, 0.99]], dtype=torch.float64)
    for residual, expected in [
        (Residual.released, [0.0, 0.3, 0.2, 0.3]),
        (Residual.accepted_set, [0.0, 0.0, 0.1, 0.3]),
        (Residual.strict, [0.0, 0.2, 0.1, 0.3]),
    ]:
        _, rest = Lantern(Relaxation(table, 1, 0.3), residual).walk(tree, scores, chance)
        left = torch.tensor(expected, dtype=torch.float64)
        torch.testing.assert_close(rest[0], left / left.sum())


@given(st.integers(0, 10_000), st.integers(1, VOCAB - 1), BOUNDS)
def test_greedy_keeps_the_first_longest_path_of_those_that_pass(seed: int, k: int, delta: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    parents = [0, 0, 0, 0, 1, 1, 2, 3, 4, 6, 7, 7]
    logits = 1.5 * torch.randn(1, len(parents), VOCAB, generator=generator, dtype=torch.float64)
    tokens = torch.cat([torch.randperm(VOCAB, generator=generator) for _ in parents]).view(len(parents), VOCAB)
    below = [parents[:node].count(parent) for node, parent in enumerate(parents)]
    tokens = torch.stack([tokens[parent, rank] for parent, rank in zip(parents, below, strict=True)])[None]
    tree = tree_of(tokens, parents, VOCAB)
    rule = GreedyLantern(Relaxation(TABLE, k, delta))
    assert rule.judged(Sampling(temperature=0.0, top_k=3)) == Sampling()
    verdict = rule.judge(tree, logits, torch.zeros(1, len(parents)))

    def passes(node: int) -> bool:
        p, x = logits[0, parents[node]].softmax(-1), int(tokens[0, node])
        raised = p.clone()
        raised[x] = rule.relaxation.borrow(p[None], torch.tensor([[x]]))[0]
        return int(raised.argmax()) == x

    best: list[int] = []
    for leaf in sorted(set(range(len(parents))) - set(parents)):
        path = tree.visible[0, leaf].nonzero()[:, 0].tolist()
        kept = [0, *takewhile(passes, path[1:])]
        best = kept if len(kept) > len(best) else best
    assert tree.path_to(verdict.node)[0, : len(best)].tolist() == best
    assert verdict.accepted.tolist() == [len(best) - 1]
    assert verdict.bonus.tolist() == [int(logits[0, best[-1]].argmax())]


def test_it_promises_nothing() -> None:
    assert Lantern.guarantee is GreedyLantern.guarantee is Guarantee.none
