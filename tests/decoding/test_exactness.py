"""Exact decoders draw the enumerated law of the toy target, and a wrong acceptance rule is caught doing otherwise."""

from __future__ import annotations

import itertools

import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor

from tests.decoding.toys import autoregressive, speculative, toy_target
from vvsbench.axes import Candidates, Guarantee
from vvsbench.decoding.acceptance import AcceptanceRule, Match, Sequential, Verdict
from vvsbench.decoding.base import Decoder
from vvsbench.decoding.schedule import Uniform
from vvsbench.drafting.tree import TokenTree
from vvsbench.models.toy import ToyTarget
from vvsbench.sampling import Sampling

DRAWS, BATCH = 60_000, 3_000
ALPHA = 1e-4
"""False alarms per test; the negative controls reach p-values far below it with the same number of draws."""


def sampled_law(decoder: Decoder, target: ToyTarget, draws: int = DRAWS) -> Tensor:
    """How often each of the V ** N sequences came up."""
    counts = torch.zeros(target.spec.vocab**target.spec.tokens)
    for first in range(0, draws, BATCH):
        images = range(first, first + BATCH)
        tokens, _ = decoder.generate(target.conditions([0] * BATCH), images, seed=5)
        counts += torch.bincount(target.outcome(tokens), minlength=len(counts))
    return counts


def p_value(counts: Tensor, law: Tensor) -> float:
    """Chi-square over all outcomes; those expected fewer than five times are pooled."""
    expected = law * counts.sum()
    if counts[law == 0].any():
        return 0.0
    rare = expected < 5
    observed = torch.cat([counts[~rare], counts[rare].sum()[None]])
    wanted = torch.cat([expected[~rare], expected[rare].sum()[None]])
    keep = wanted > 0
    return float(chisquare(observed[keep].numpy(), wanted[keep].numpy(), sum_check=False).pvalue)


SETTINGS = {"plain": Sampling(), "filtered": Sampling(temperature=0.8, top_k=2)}


@pytest.mark.parametrize("setting", SETTINGS)
def test_vanilla_ar(setting: str) -> None:
    target, sampling = toy_target(), SETTINGS[setting]
    decoder = autoregressive(target, sampling)
    assert decoder.guarantee is Guarantee.exact
    assert p_value(sampled_law(decoder, target), target.law(sampling)) > ALPHA


@pytest.mark.parametrize(
    ("structure", "candidates", "setting"),
    [
        *itertools.product(["chain", "static", "dynamic"], Candidates, ["plain"]),
        ("static", Candidates.top_k, "filtered"),
    ],
)
def test_speculative_decoding(structure: str, candidates: Candidates, setting: str) -> None:
    target, sampling = toy_target(), SETTINGS[setting]
    decoder = speculative(target, structure, candidates, sampling=sampling)
    assert decoder.guarantee is Guarantee.exact
    assert p_value(sampled_law(decoder, target), target.law(sampling)) > ALPHA


@pytest.mark.parametrize("structure", ["chain", "static", "dynamic"])
def test_sequential_rule(structure: str) -> None:
    target = toy_target()
    decoder = speculative(target, structure, Candidates.top_k, rule=Sequential())
    assert decoder.guarantee is Guarantee.exact
    assert p_value(sampled_law(decoder, target), target.law(Sampling())) > ALPHA


def test_sequential_rule_needs_candidates_without_chance() -> None:
    target = toy_target()
    decoder = speculative(target, "chain", Candidates.shared_noise, rule=Sequential())
    assert p_value(sampled_law(decoder, target, DRAWS // 3), target.law(Sampling())) < 1e-9


class EagerMatch(AcceptanceRule):
    """Negative control: takes the first child of the root without asking whether the target drew it."""

    guarantee = Guarantee.exact

    def judge(self, tree: TokenTree, scores: Tensor, chance: Tensor) -> Verdict:
        honest = Match().judge(tree, scores, chance)
        wanted = (scores[:, 1] + tree.noise[:, 1]).argmax(-1)
        forced = honest.accepted == 0
        return Verdict(
            torch.where(forced, 1, honest.node),
            torch.where(forced, 1, honest.accepted),
            torch.where(forced, wanted, honest.bonus),
        )


class FreshBonus(AcceptanceRule):
    """Negative control: after a rejection draws from the whole target again, the rejected drafts included."""

    guarantee = Guarantee.exact

    def __init__(self) -> None:
        self.generator = torch.Generator().manual_seed(0)

    def judge(self, tree: TokenTree, scores: Tensor, chance: Tensor) -> Verdict:
        honest = Match().judge(tree, scores, chance)
        root = scores[:, 0]
        noise = -torch.rand(root.shape, generator=self.generator, dtype=torch.float64).log().neg().log()
        redrawn = (root + noise).argmax(-1)
        return Verdict(honest.node, honest.accepted, torch.where(honest.accepted == 0, redrawn, honest.bonus))


@pytest.mark.parametrize("rule", [EagerMatch(), FreshBonus()], ids=lambda rule: type(rule).__name__)
@pytest.mark.parametrize("candidates", Candidates)
def test_wrong_acceptance_fails(rule: AcceptanceRule, candidates: Candidates) -> None:
    target = toy_target()
    counts = sampled_law(speculative(target, "chain", candidates, rule=rule), target, DRAWS // 3)
    assert p_value(counts, target.law(Sampling())) < 1e-9


def test_skipping_changes_the_law() -> None:
    target = toy_target(tokens=5)
    decoder = speculative(target, schedule=Uniform(interval=2, offset=1, first_tokens=0))
    assert decoder.guarantee is Guarantee.none
    assert p_value(sampled_law(decoder, target, DRAWS // 3), target.law(Sampling())) < 1e-9
