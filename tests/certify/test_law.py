"""The tests of laws reject as often as they say, and have the power that they state."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vvsbench.certify import law
from vvsbench.certify.exact import TOY
from vvsbench.certify.toys import SAMPLINGS
from vvsbench.certify.toys import law as law_of

PLAIN = law_of(TOY, SAMPLINGS["plain"])
DRAWS, REPEATS = 10_000, 100


def p_values(true: Tensor, repeats: int = REPEATS) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    samples = (torch.multinomial(true, DRAWS, True, generator=generator) for _ in range(repeats))
    return torch.tensor([law.p_value(sample, PLAIN, TOY.tokens) for sample in samples])


def test_the_law_itself_is_rarely_rejected() -> None:
    found = p_values(PLAIN)
    assert int((found < 0.05).sum()) <= 12, "5 of 100 are expected at most"
    assert int((found < 0.001).sum()) <= 2


def test_a_law_at_the_stated_distance_is_rejected() -> None:
    level = 1e-4
    distance = law.detectable(PLAIN, DRAWS, level)
    common = PLAIN * DRAWS >= law.ENOUGH
    share = distance / float(PLAIN[common].sum())
    generator = torch.Generator().manual_seed(0)
    sign = torch.where(torch.rand(len(PLAIN), generator=generator) < 0.5, 1.0, -1.0)
    wrong = PLAIN * (1 + 2 * share * sign * common)
    wrong /= wrong.sum()
    assert float((wrong - PLAIN).abs().sum() / 2) == pytest.approx(distance, rel=0.1)
    assert int((p_values(wrong) < level).sum()) >= 95, "99 of 100 are expected"


def test_what_the_target_never_draws_is_rejected_at_once() -> None:
    filtered = law_of(TOY, SAMPLINGS["temperature 0.8, top-k 2"])
    impossible = int((filtered == 0).nonzero()[0])
    generator = torch.Generator().manual_seed(0)
    sample = torch.multinomial(filtered, 1000, True, generator=generator)
    assert law.p_value(sample, filtered, TOY.tokens) > 1e-3
    sample[0] = impossible
    assert law.p_value(sample, filtered, TOY.tokens) == 0


def test_a_wrong_pair_of_tokens_is_seen() -> None:
    swapped = PLAIN.view(4, 4, 4, 4).clone()
    swapped[:, :, 1, :], swapped[:, :, 2, :] = PLAIN.view(4, 4, 4, 4)[:, :, 2, :], PLAIN.view(4, 4, 4, 4)[:, :, 1, :]
    assert float(p_values(swapped.flatten(), 5).max()) < 1e-9


def test_holm_is_as_in_a_hand_calculation() -> None:
    assert law.holm([0.01, 0.04, 0.03, 0.005], 0.05) == [False, True, True, False]
    assert law.holm([0.2, 0.9], 0.05) == [True, True]


def test_how_many_images_a_comparison_needs() -> None:
    share = law.differing(400)
    assert (1 - share) ** 400 == pytest.approx(0.01)
