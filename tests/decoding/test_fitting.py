"""What is measured of a drafter is what it would do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests import nano
from vvsbench.composition import composed
from vvsbench.decoding import build
from vvsbench.decoding.fitting import Position, fit, sampled_hits, sharpness
from vvsbench.drafting.rates import expected_tokens, fitted_paths
from vvsbench.noise import Purpose, gumbel


@pytest.mark.parametrize("kappa", [0.4, 1.0, 2.5])
def test_the_sharpness_of_a_known_law_is_found(kappa: float) -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(20_000, 12, generator=generator)
    drawn = torch.multinomial((kappa * scores).softmax(-1), 1, generator=generator)[:, 0]
    assert sharpness(scores, drawn) == pytest.approx(kappa, rel=0.05)


def test_tokens_that_the_drafter_excludes_say_nothing_of_the_sharpness() -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(20_000, 12, generator=generator)
    drawn = torch.multinomial(scores.softmax(-1), 1, generator=generator)[:, 0]
    scores[:5_000].scatter_(1, drawn[:5_000, None], float("-inf"))
    assert sharpness(scores, drawn) == pytest.approx(1.0, rel=0.1)


def test_sampled_candidates_hit_as_often_as_the_distributions_overlap() -> None:
    """The first candidate is accepted with the shared mass; with the whole vocabulary as candidates one is, surely."""
    count, vocab = 20_000, 6
    p, q = torch.rand(2, vocab, generator=torch.Generator().manual_seed(3), dtype=torch.float64).softmax(-1)
    p = (3 * p.log()).softmax(-1)
    images = torch.arange(count)
    other = gumbel(0, images, torch.zeros_like(images), vocab, Purpose.ACCEPTANCE)
    at = Position(p.log().expand(count, -1), q.log().expand(count, -1), other, other, images)
    hits = sampled_hits(at, vocab)
    assert float(hits[:, 0].mean()) == pytest.approx(float(torch.minimum(p, q).sum()), abs=0.01)
    torch.testing.assert_close(hits.sum(-1), torch.ones(count, dtype=torch.float64))


def test_a_perfect_drafter_hits_with_its_first_candidate(tmp_path: Path) -> None:
    nano.write(tmp_path)
    source = ["drafter@decoder.drafter=oracle", "decoder.drafter.noise=0"]
    decoder: Any = build(
        composed(["decoder=sd", *nano.overrides(tmp_path), *source]), torch.device("cpu"), torch.float64
    )
    found = fit(decoder, range(nano.CLASSES), images=6)
    assert found.hit_rates["shared_noise"][0][0] == 1
    assert found.hit_rates["sampled"][0][0] == pytest.approx(1, abs=1e-3)
    assert found.hit_rates["top_k"][0][0] < 1
    assert found.overlap == pytest.approx(1, abs=1e-3)
    assert found.sharpness[0] > 5
    noisy: Any = build(
        composed(["decoder=sd", *nano.overrides(tmp_path), *source[:1]]), torch.device("cpu"), torch.float64
    )
    worse = fit(noisy, range(nano.CLASSES), images=6)
    assert worse.overlap < found.overlap
    assert worse.sharpness[0] < found.sharpness[0]


def test_stale_guesses_are_measured_where_they_are_verified(tmp_path: Path) -> None:
    """What their rates say of a tree is what decoding with it gives."""
    nano.write(tmp_path)
    shape = ["decoder.structure.window=4", "decoder.structure.siblings=6"]
    decoder: Any = build(
        composed(["decoder=jacobi", *nano.overrides(tmp_path), *shape]), torch.device("cpu"), torch.float64
    )
    found = fit(decoder, range(nano.CLASSES), images=48)
    assert len(found.hit_rates["shared_noise"]) == len(found.sharpness) == 4  # runs of 0 to 3 first candidates
    _, trace = decoder.generate(decoder.target.conditions([0, 1, 2, 3] * 12), range(48), 0)
    gained = [step.tokens for steps in trace.steps for step in steps[:-1]]  # the last is cut by the image's end
    paths = fitted_paths(decoder_rates(), 10, 3, 3)
    assert expected_tokens(found.hit_rates["shared_noise"], paths) == pytest.approx(sum(gained) / len(gained), rel=0.1)


def decoder_rates() -> list[list[float]]:
    """Those that the window is shaped by where nobody says otherwise."""
    rates: list[list[float]] = composed(["decoder=jacobi"]).decoder.drafter.hit_rates  # type: ignore[attr-defined]
    return rates
