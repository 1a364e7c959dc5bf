"""Drafts of the target's own that are drawn anew, or kept from one step to the next, leave the law what it is."""

from __future__ import annotations

import pytest
import torch

from vvsbench.axes import Candidates, Guarantee
from vvsbench.certify import law
from vvsbench.certify.drawing import sample
from vvsbench.certify.toys import ReleasedDrafts, Toy
from vvsbench.certify.toys import law as law_of
from vvsbench.decoding.acceptance import Sequential
from vvsbench.decoding.schedule import Always
from vvsbench.decoding.speculative import Grid, Speculative
from vvsbench.drafting.jacobi import JacobiSource, _coupled
from vvsbench.drafting.structures import WindowConfig
from vvsbench.sampling import Sampling

CPU = torch.device("cpu")
TOY = Toy(vocab=3, tokens=5, seed=2, spread=2.5)
"""Tokens depend strongly on those before, so that a draft's law changes from step to step."""
SIBLINGS = [[1], [0, 1]]


def decoder(
    candidates: Candidates, siblings: list[list[int]], source: type[JacobiSource] = JacobiSource
) -> Speculative:
    window = WindowConfig(window=4, siblings=0, paths=siblings).build([0.5, 0.2], CPU)
    grid = Grid(window, candidates, Sequential(), Always())
    return Speculative(TOY.target, source(TOY.target), grid, Sampling())


def p_value(made: Speculative, draws: int = 20_000) -> float:
    return law.p_value(sample(made, draws, 5_000).outcomes, law_of(TOY, Sampling()), TOY.tokens)


@pytest.mark.parametrize("candidates", [Candidates.sampled, Candidates.redrawn, Candidates.retained])
@pytest.mark.parametrize("siblings", [[], SIBLINGS], ids=["chain", "siblings"])
def test_the_law_is_the_targets(candidates: Candidates, siblings: list[list[int]]) -> None:
    made = decoder(candidates, siblings)
    assert made.guarantee is Guarantee.exact
    assert p_value(made) > 1e-3


def test_a_kept_draft_that_is_weighed_by_its_first_law_is_caught() -> None:
    assert p_value(decoder(Candidates.retained, [], ReleasedDrafts)) < 1e-9


def test_coupled_draws_have_the_new_law_and_stay_as_often_as_can_be() -> None:
    generator = torch.Generator().manual_seed(0)
    count, q, p = 40_000, torch.tensor([0.5, 0.3, 0.2, 0.0]), torch.tensor([0.2, 0.3, 0.1, 0.4])
    old = torch.multinomial(q, count, replacement=True, generator=generator)[:, None]
    chance = torch.rand(count, 1, generator=generator)
    noise = -(-torch.rand(count, 1, 4, generator=generator).clamp_min(1e-30).log()).log()
    there = torch.ones(count, 1, dtype=torch.bool)
    laws = (q.expand(count, 1, -1), p.expand(count, 1, -1))
    drawn = _coupled(old, *laws, there, chance, noise)
    shares = torch.bincount(drawn[:, 0], minlength=4) / count
    assert torch.allclose(shares, p, atol=0.01)
    assert abs(float((drawn == old).float().mean()) - float(torch.minimum(p, q).sum())) < 0.01
    fresh = _coupled(old, *laws, ~there, chance, noise)
    assert torch.allclose(torch.bincount(fresh[:, 0], minlength=4) / count, p, atol=0.01)
    assert abs(float((fresh == old).float().mean()) - float((p * q).sum())) < 0.01  # nothing of the old one is left


def test_images_do_not_depend_on_the_batch_or_on_who_had_the_row_before() -> None:
    made = decoder(Candidates.retained, SIBLINGS)
    images = list(range(30))
    whole, _ = made.generate_all(TOY.target.conditions([0] * 30), images, 0, 30)
    for rows in (1, 7):
        assert torch.equal(made.generate_all(TOY.target.conditions([0] * 30), images, 0, rows)[0], whole)
