"""The quick core of the certificates: `ar` has the enumerated law, and decoders that promise exactness say so.

tests/certify tests the combinations, and the wrong decoders that must be caught.
"""

from __future__ import annotations

import pytest

from tests.decoding.toys import autoregressive, speculative, toy_target
from vvsbench.axes import Candidates, Guarantee
from vvsbench.certify import law
from vvsbench.certify.drawing import sample
from vvsbench.decoding.acceptance import Sequential
from vvsbench.decoding.schedule import Uniform
from vvsbench.sampling import Sampling

DRAWS, BATCH = 60_000, 5_000
ALPHA = 1e-4
"""False alarms per test."""


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(temperature=0.8, top_k=2)], ids=["plain", "filtered"])
def test_vanilla_ar(sampling: Sampling) -> None:
    target = toy_target()
    outcomes = sample(autoregressive(target, sampling), DRAWS, BATCH).outcomes
    assert law.p_value(outcomes, target.law(sampling), target.spec.tokens) > ALPHA


@pytest.mark.parametrize("candidates", [Candidates.top_k, Candidates.sampled])
def test_sequential_rule(candidates: Candidates) -> None:
    target = toy_target()
    outcomes = sample(speculative(target, candidates=candidates, rule=Sequential()), DRAWS, BATCH).outcomes
    assert law.p_value(outcomes, target.law(Sampling()), target.spec.tokens) > ALPHA


def test_a_sibling_that_comes_again_is_not_weighed_again() -> None:
    """Where the drafter can draw fewer tokens than a tree has room for, its best comes again (see `Growth`)."""
    target = toy_target()
    filtered = Sampling(top_p=0.6)
    decoder = speculative(target, candidates=Candidates.top_k, rule=Sequential(), sampling=filtered)
    outcomes = sample(decoder, DRAWS, BATCH).outcomes
    assert law.p_value(outcomes, target.law(filtered), target.spec.tokens) > ALPHA


def test_what_is_promised() -> None:
    target, skipping = toy_target(), Uniform(interval=2, first_tokens=0)
    assert autoregressive(target).guarantee is Guarantee.exact
    assert speculative(target).guarantee is Guarantee.exact
    assert speculative(target, candidates=Candidates.top_k, rule=Sequential()).guarantee is Guarantee.exact
    assert speculative(target, schedule=skipping).guarantee is Guarantee.none
