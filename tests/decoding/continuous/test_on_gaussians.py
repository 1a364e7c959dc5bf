"""The decoders on jointly Gaussian tokens, where the least that goes wrong shows in the covariance.

The larger samples, and more decoders, are drawn by `make certify`.
"""

from __future__ import annotations

import pytest
import torch

from vvsbench.certify.continuous import decoders
from vvsbench.certify.continuous.decoders import CHANNELS, TOKENS, as_released, law_of, sample, speculative
from vvsbench.certify.continuous.laws import fit
from vvsbench.decoding.continuous.coupling import published
from vvsbench.decoding.masked import Masked
from vvsbench.models.gaussian import ChainHead, GaussianToy

IMAGES = 3_000


def like_target(shift: float = 0.0, **changes: object) -> GaussianToy:
    own = decoders.target(**changes)
    return GaussianToy(own.mean + shift, own.covariance, own.head, CHANNELS, own.causal, own.dtype)


def test_exact_keeps_the_joint_law() -> None:
    found = sample(speculative(decoders.target(), decoders.draft(), length=3), IMAGES)
    assert 0.4 < found.kept < 0.9
    assert fit(found.tokens, law_of(decoders.target(dtype=torch.float64))).p_value > 1e-3


@pytest.mark.parametrize("name", ["published", "released", "tolerance"])
def test_the_other_modes_do_not(name: str) -> None:
    target, draft = decoders.target(), decoders.draft()
    decoder = {
        "published": lambda: speculative(target, draft, length=3, rule=published),
        "released": lambda: as_released(target, draft, length=3),
        "tolerance": lambda: speculative(target, draft, length=3, tolerance=0.5),
    }[name]()
    assert fit(sample(decoder, IMAGES).tokens, law_of(decoders.target(dtype=torch.float64))).p_value < 1e-9


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("length", "prefilled"), [(1, 0), (3, 0), (4, 1)])
def test_draft_equal_to_target_is_kept_and_gives_its_images(causal: bool, length: int, prefilled: int) -> None:
    target = like_target(causal=causal, dtype=torch.float64)
    decoder = speculative(target, like_target(causal=causal, dtype=torch.float64), length, prefilled=prefilled)
    found = sample(decoder, 14)
    assert found.kept == 1.0
    own = sample(Masked(target, TOKENS, raster=True, last_noise=True, whole=True), 14)
    torch.testing.assert_close(found.tokens, own.tokens, atol=1e-6, rtol=0)
    for batch in (1, 7):
        torch.testing.assert_close(sample(decoder, 14, batch).tokens, found.tokens, atol=1e-6, rtol=0)


def test_a_hopeless_draft_is_never_kept_and_the_target_is_sampled_all_the_same() -> None:
    decoder = speculative(decoders.target(), like_target(shift=100.0), length=3)
    found = sample(decoder, IMAGES)
    assert found.kept == 0.0
    assert fit(found.tokens, law_of(decoders.target(dtype=torch.float64))).p_value > 1e-3
    _, trace = decoder.generate(torch.zeros(3, dtype=torch.long), range(3), 0)
    assert [len(rounds) for rounds in trace.rounds] == [TOKENS] * 3


def test_the_toy_has_the_conditionals_of_two_correlated_numbers() -> None:
    covariance = torch.tensor([[1.0, 0.8], [0.8, 4.0]]).double()
    toy = GaussianToy(torch.tensor([1.0, -1.0]).double(), covariance, ChainHead([0.0], [1.0]))
    tokens = torch.tensor([[[3.0], [9.0]]]).double()
    z = toy.vectors(tokens, torch.tensor([1]), torch.tensor([[True, False]]))
    assert z.flatten().tolist() == pytest.approx([-1 + 0.8 * 2, (4 - 0.64) ** 0.5])
