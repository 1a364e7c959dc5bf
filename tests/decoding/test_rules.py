"""The law of the first token that a rule emits, computed exactly, equals the target's; wrong variants of it do not.

No sampling: every ordered sample of candidates is listed with its probability, and the probability that a rule accepts
a candidate is found by bisecting the uniform at which it stops doing so.
"""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from torch import Tensor

from tests.decoding.trees import ordered_samples, star, tree_of
from vvsbench.decoding.acceptance import AcceptanceRule, Sequential
from vvsbench.decoding.acceptance.cool_sd import CoolSD
from vvsbench.decoding.acceptance.gsd import GSD
from vvsbench.decoding.acceptance.sequential import Walk, remainder
from vvsbench.drafting.tree import TokenTree
from vvsbench.sampling import Sampling, draw

NEVER = float("inf")
"""A uniform that accepts nothing."""
WIDTHS = (1, 2, 3, 4)
LAWS = {
    "plain": ([0.4, 0.3, 0.15, 0.1, 0.05], [0.25, 0.1, 0.3, 0.15, 0.2]),
    "close": ([0.4, 0.3, 0.15, 0.1, 0.05], [0.38, 0.32, 0.14, 0.12, 0.04]),
    "equal": ([0.4, 0.3, 0.15, 0.1, 0.05], [0.4, 0.3, 0.15, 0.1, 0.05]),
    "opposite": ([0.9, 0.04, 0.03, 0.02, 0.01], [0.01, 0.02, 0.03, 0.04, 0.9]),
    "p has zeros": ([0.5, 0.0, 0.3, 0.2, 0.0], [0.2, 0.3, 0.1, 0.1, 0.3]),
    "q has zeros": ([0.4, 0.3, 0.15, 0.1, 0.05], [0.0, 0.5, 0.0, 0.5, 0.0]),
    "disjoint": ([0.6, 0.4, 0.0, 0.0, 0.0], [0.0, 0.0, 0.5, 0.3, 0.2]),
    "certain": ([0.0, 1.0, 0.0, 0.0, 0.0], [0.2, 0.2, 0.2, 0.2, 0.2]),
}


def acceptance(rule: Sequential, tree: TokenTree, scores: Tensor, chance: Tensor, child: int) -> Tensor:
    """Probability [S] that a child is accepted, given the other children's uniforms."""
    low, high = torch.zeros(len(scores), dtype=torch.float64), torch.ones(len(scores), dtype=torch.float64)
    for step in range(44):
        middle = high if step == 0 else (low + high) / 2
        node, _ = rule.walk(tree, scores, chance.index_copy(1, torch.tensor([child]), middle[:, None]))
        low, high = torch.where(node == child, middle, low), torch.where(node == child, high, middle)
    return low


def emitted(rule: Sequential, tree: TokenTree, p: Tensor) -> Tensor:
    """The law [S, V] of the token that follows the root, given its children."""
    batch, nodes = tree.tokens.shape
    scores = p.log().expand(batch, nodes, -1)
    chance = torch.full((batch, nodes), NEVER, dtype=torch.float64)
    law, reached = torch.zeros(batch, len(p), dtype=torch.float64), torch.ones(batch, dtype=torch.float64)
    for child in range(1, nodes):
        accepted = acceptance(rule, tree, scores, chance, child)
        law.scatter_add_(1, tree.tokens[:, child, None], (reached * accepted)[:, None])
        reached = reached * (1 - accepted)
    _, rest = rule.walk(tree, scores, chance)
    return law + reached[:, None] * rest


def distance(rule: Sequential, case: str, width: int, sampled: bool = True) -> float:
    """Total variation between what is emitted and p, candidates drawn without replacement from q."""
    p, q = (torch.tensor(law, dtype=torch.float64) for law in LAWS[case])
    samples, weights = ordered_samples(q, width)
    assert float(weights.sum()) == pytest.approx(1.0, abs=1e-12)
    law = (weights[:, None] * emitted(rule, star(samples, len(p), q if sampled else None), p)).sum(0)
    return float((law - p).abs().sum() / 2)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("case", LAWS)
def test_sequential_rule_has_the_law_of_the_target_for_sampled_candidates(case: str, width: int) -> None:
    assert distance(Sequential(), case, width) < 1e-9


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("case", LAWS)
def test_sequential_rule_has_the_law_of_the_target_for_every_fixed_set_of_candidates(case: str, width: int) -> None:
    p, _ = (torch.tensor(law, dtype=torch.float64) for law in LAWS[case])
    samples, _ = ordered_samples(torch.full_like(p, 0.2), width)
    law = emitted(Sequential(), star(samples, len(p), None), p)
    torch.testing.assert_close(law, p.expand_as(law), atol=1e-9, rtol=0)


class SiblingsStay(Sequential):
    """Negative control: q is the drafter's law for every sibling, with those drawn before still in it."""

    def drawn(self, log_q: Tensor, token: Tensor) -> Tensor:
        return log_q


class NotRenormalised(Sequential):
    """Negative control: the siblings drawn before are out of q, but the others have no more for it."""

    def proposal(self, log_q: Tensor | None, token: Tensor, rest: Tensor) -> Tensor:
        q = super().proposal(log_q, token, rest)
        return q if log_q is None else torch.where(log_q.gather(1, token) > -NEVER, log_q.exp(), q)


class StaleTarget(Sequential):
    """Negative control: a rejection leaves p as it was."""

    def weigh(self, rest: Tensor, q: Tensor, token: Tensor, sampled: bool, depth: int) -> tuple[Tensor, Tensor]:
        return super().weigh(rest, q, token, sampled, depth)[0], rest


class StaleDraft(Sequential):
    """Negative control: a rejection takes the drafter's first law out of p, whichever sibling was rejected."""

    def __init__(self, first: list[float]) -> None:
        self.first = torch.tensor(first, dtype=torch.float64)

    def weigh(self, rest: Tensor, q: Tensor, token: Tensor, sampled: bool, depth: int) -> tuple[Tensor, Tensor]:
        mass, _ = super().weigh(rest, q, token, sampled, depth)
        return mass, remainder(rest, self.first, otherwise=rest)


class RejectedStays(Sequential):
    """Negative control: what a rejection leaves keeps the rejected token."""

    def weigh(self, rest: Tensor, q: Tensor, token: Tensor, sampled: bool, depth: int) -> tuple[Tensor, Tensor]:
        mass, _ = super().weigh(rest, q, token, sampled, depth)
        left = (rest - q).clamp_min(0).scatter(1, token, mass)
        return mass, left / left.sum(1, keepdim=True)


WRONG = [SiblingsStay(), NotRenormalised(), StaleTarget(), StaleDraft(LAWS["plain"][1]), RejectedStays()]


@pytest.mark.parametrize("rule", WRONG, ids=lambda rule: type(rule).__name__)
def test_wrong_variants_are_seen(rule: Sequential) -> None:
    assert distance(rule, "plain", 3) > 1e-3


def test_a_tree_that_does_not_say_what_it_was_sampled_from_loses_acceptance_but_not_the_law() -> None:
    assert distance(Sequential(), "plain", 3, sampled=False) < 1e-9
    p, q = (torch.tensor(law, dtype=torch.float64) for law in LAWS["plain"])
    samples, _ = ordered_samples(q, 1)
    scores, chance = p.log().expand(len(samples), 2, -1), torch.ones(len(samples), 2, dtype=torch.float64)
    with_law, without = (acceptance(Sequential(), star(samples, 5, law), scores, chance, 1) for law in (q, None))
    torch.testing.assert_close(with_law, (p / q).clamp_max(1)[samples[:, 0]], atol=1e-9, rtol=0)
    torch.testing.assert_close(without, p[samples[:, 0]], atol=1e-9, rtol=0)


def test_what_follows_once_the_support_is_exhausted_counts_as_certain() -> None:
    p, q = (torch.tensor(law, dtype=torch.float64) for law in LAWS["q has zeros"])
    samples, _ = ordered_samples(q, 3)
    tree, scores = star(samples, 5, q), p.log().expand(len(samples), 4, -1)
    chance = torch.full((len(samples), 4), NEVER, dtype=torch.float64)
    _, rest = Sequential().walk(star(samples[:, :2], 5, q), scores[:, :3], chance[:, :3])
    accepted = acceptance(Sequential(), tree, scores, chance, 3)
    torch.testing.assert_close(accepted, rest.gather(1, samples[:, 2:])[:, 0], atol=1e-9, rtol=0)
    assert float(accepted.min()) > 0.01


def test_a_tree_that_leaves_out_a_draw_between_siblings_must_not_say_what_it_was_sampled_from() -> None:
    p, q = (torch.tensor(law, dtype=torch.float64) for law in LAWS["plain"])
    samples, weights = ordered_samples(q, 3)
    for law, exact in ((q, False), (None, True)):
        found = (weights[:, None] * emitted(Sequential(), star(samples[:, [0, 2]], 5, law), p)).sum(0)
        assert (float((found - p).abs().sum() / 2) < 1e-9) is exact


def test_siblings_must_be_tried_in_the_order_in_which_they_were_drawn() -> None:
    p, q = (torch.tensor(law, dtype=torch.float64) for law in LAWS["plain"])
    samples, weights = ordered_samples(q, 2)
    law = (weights[:, None] * emitted(Sequential(), star(samples.flip(1), 5, q), p)).sum(0)
    assert float((law - p).abs().sum() / 2) > 1e-3


DRAWS, ALPHA = 200_000, 1e-4
SAMPLING = Sampling(temperature=0.7, top_k=3)


class RawBonus(Sequential):
    """Negative control: the bonus after a fully accepted path comes from the unfiltered target (old EAGLE code)."""

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits

    def judge(self, tree: TokenTree, scores: Tensor, chance: Tensor):
        verdict = super().judge(tree, scores, chance)
        full = verdict.accepted == tree.levels
        noise = tree.noise.gather(1, verdict.accepted[:, None, None].expand(-1, 1, 4))[:, 0]
        raw = draw(self.logits[torch.arange(len(scores)), verdict.node], noise)
        verdict.bonus = torch.where(full, raw, verdict.bonus)
        return verdict


def gumbel(generator: torch.Generator, *shape: int) -> Tensor:
    return -torch.rand(shape, generator=generator, dtype=torch.float64).log().neg().log()


def three_tokens(make_rule, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """How often each three tokens after the root came up, and how often they should.

    Two levels of sampled candidates, the second below the first candidate only; both laws depend on the token before.
    What the tree does not reach is drawn from the target itself.
    """
    vocab = 4
    generator = torch.Generator().manual_seed(11)
    target = 1.5 * torch.randn(1 + vocab + vocab**2, vocab, generator=generator, dtype=torch.float64)
    drafter = target[: 1 + vocab] + torch.randn(1 + vocab, vocab, generator=generator, dtype=torch.float64)
    log_q = SAMPLING.scores(drafter).log_softmax(-1)
    first = (log_q[0] + gumbel(generator, DRAWS, vocab)).topk(2, -1).indices
    below = log_q[1 + first[:, 0]]
    second = (below + gumbel(generator, DRAWS, vocab)).topk(2, -1).indices
    tokens = torch.cat([torch.zeros(DRAWS, 1, dtype=torch.long), first, second], 1)
    laws = torch.stack([log_q[0].expand(DRAWS, -1), below], 1).to(dtype)
    tree = tree_of(tokens, [0, 0, 0, 1, 1], vocab, laws)
    tree.noise = gumbel(generator, DRAWS, 3, vocab)
    after_two = 1 + vocab + vocab * first[:, :1] + second
    prefix = torch.cat([torch.zeros_like(first[:, :1]), 1 + first, after_two], 1)
    logits = target[prefix]
    rule: AcceptanceRule = make_rule(logits)
    chance = torch.rand(DRAWS, 5, generator=generator, dtype=torch.float64)
    verdict = rule.judge(tree, rule.judged(SAMPLING).scores(logits).to(dtype), chance)

    path = tree.path_to(verdict.node)
    out = torch.cat([tokens.gather(1, path)[:, 1:], torch.zeros(DRAWS, 1, dtype=torch.long)], 1)
    out = out.scatter(1, verdict.accepted[:, None], verdict.bonus[:, None])
    for place in (1, 2):
        before = 1 + out[:, 0] if place == 1 else 1 + vocab + vocab * out[:, 0] + out[:, 1]
        own = draw(SAMPLING.scores(target[before]), gumbel(generator, DRAWS, vocab))
        out[:, place] = torch.where(verdict.accepted < place, own, out[:, place])
    p = SAMPLING.probabilities(target)
    two = p[0][:, None] * p[1 : 1 + vocab]
    law = (two.reshape(-1, 1) * p[1 + vocab :]).flatten()
    counts = torch.bincount(out[:, 0] * vocab**2 + out[:, 1] * vocab + out[:, 2], minlength=vocab**3)
    return counts, law * DRAWS


def p_value(counts: Tensor, expected: Tensor) -> float:
    if counts[expected == 0].any():
        return 0.0
    kept = expected > 0
    return float(chisquare(counts[kept].numpy(), expected[kept].numpy(), sum_check=False).pvalue)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_whole_paths_and_their_bonus_have_the_law_of_the_filtered_target(dtype: torch.dtype) -> None:
    counts, expected = three_tokens(lambda logits: Sequential(), dtype)
    assert p_value(counts, expected) > ALPHA


@pytest.mark.parametrize("make", [RawBonus, lambda _: SiblingsStay(), lambda _: StaleTarget()])
def test_wrong_variants_are_seen_along_whole_paths(make) -> None:
    assert p_value(*three_tokens(make)) < 1e-9


@pytest.mark.parametrize("case", LAWS)
def test_cool_sd_is_exact_as_long_as_no_weight_exceeds_1(case: str) -> None:
    for delta in (0.3, 1.0):
        assert distance(CoolSD(delta, nu=0.7, mu=0.0), case, 2) < 1e-9


def test_cool_sd_emits_what_the_paper_says_and_is_relaxed_above_1() -> None:
    p, q = (torch.tensor(law, dtype=torch.float64) for law in LAWS["plain"])
    rule = CoolSD(delta=2.0, nu=0.7, mu=0.0)
    samples, weights = ordered_samples(q, 1)
    law = (weights[:, None] * emitted(rule, star(samples, len(p), q), p)).sum(0)
    accepted = torch.minimum(q, 2 * p)
    left = (p - accepted).clamp_min(0)
    torch.testing.assert_close(law, accepted + (1 - accepted.sum()) * left / left.sum(), atol=1e-9, rtol=0)
    assert distance(rule, "plain", 1) > 1e-3


def test_cool_sd_cools_down_along_the_path() -> None:
    rule = CoolSD(delta=1.1, nu=0.7, mu=-0.95)
    weights = [rule.weight(depth) for depth in range(5)]
    assert weights == sorted(weights, reverse=True)
    assert sum(weights) / 5 == pytest.approx(1.1, rel=0.01)
    p, q = torch.tensor([[0.5, 0.5]]), torch.tensor([[0.2, 0.8]])
    for depth in (0, 4):
        mass, _ = rule.weigh(p, q, torch.tensor([[1]]), True, depth)
        assert float(mass) == pytest.approx(0.5 * weights[depth])


CODES = torch.eye(5, dtype=torch.float64)


@pytest.mark.parametrize("case", LAWS)
def test_gsd_with_groups_of_one_is_the_exact_rule(case: str) -> None:
    for rule in (GSD(CODES, 1, 1.0, 2.0), GSD(CODES, 4, 1.0, 0.5), GSD(CODES, 4, 0.0, 2.0)):
        assert distance(rule, case, 2) < 1e-9


def test_gsd_judges_by_the_groups_mass() -> None:
    p = torch.tensor([[0.4, 0.3, 0.15, 0.1, 0.05]], dtype=torch.float64)
    q = torch.tensor([[0.1, 0.1, 0.5, 0.2, 0.1]], dtype=torch.float64)
    alike = torch.ones(5, 2, dtype=torch.float64) / 2**0.5
    token = torch.tensor([[2]])

    def probability(rule: GSD) -> float:
        mass, left = rule.weigh(p, q, token, True, 0)
        torch.testing.assert_close(left, (p - q).clamp_min(0) / (p - q).clamp_min(0).sum())
        return float(mass / q[0, 2])

    # by rank, two below it (0.05, 0.1), itself and one above (0.3); then the filters
    assert probability(GSD(alike, 4, 1.0, 0.5)) == pytest.approx((0.05 + 0.1 + 0.15 + 0.3) / (0.1 + 0.2 + 0.5 + 0.1))
    assert probability(GSD(alike, 4, 0.12, 0.5)) == pytest.approx((0.05 + 0.1 + 0.15) / (0.1 + 0.2 + 0.5))
    far = alike.clone()
    far[3] = torch.tensor([2**-0.5, -(2**-0.5)])
    assert probability(GSD(far, 4, 0.12, 0.5)) == pytest.approx((0.05 + 0.15) / (0.1 + 0.5))
    assert distance(GSD(alike, 4, 1.0, 0.5), "plain", 1) > 1e-3


@given(st.integers(0, 10**6), st.lists(st.integers(0, 4), min_size=1, max_size=8))
@settings(max_examples=60)
def test_judging_all_nodes_at_once_is_walking(seed: int, below: list[int]) -> None:
    """Candidates that do not depend on chance: the same node, depth and bonus, whatever the tree."""
    generator, vocab = torch.Generator().manual_seed(seed), 9
    parents = [0, *(min(node, parent) for node, parent in enumerate(below))]
    names = torch.rand(2, len(parents), vocab, generator=generator).argsort(-1)
    ranks = [sum(other == own for other in parents[1:node]) for node, own in enumerate(parents)]
    tokens = torch.stack([names[:, parents[node], ranks[node]] for node in range(len(parents))], 1)
    tree = tree_of(tokens, parents, vocab)
    tree.noise = torch.randn(2, tree.levels + 1, vocab, generator=generator, dtype=torch.float64)
    scores = 2 * torch.randn(2, len(parents), vocab, generator=generator, dtype=torch.float64)
    chance = torch.rand(tokens.shape, generator=generator, dtype=torch.float64)
    walked, judged = (rule.judge(tree, scores, chance) for rule in (Walk(), Sequential()))
    for name in ("node", "accepted", "bonus"):
        assert torch.equal(getattr(walked, name), getattr(judged, name))
