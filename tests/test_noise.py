"""The random streams have the right law, are pure functions of their key, and do not run into each other."""

from __future__ import annotations

import math

import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest

from vvsbench.noise import Purpose, gumbel, uniform

INDEX = torch.arange(200)


def test_uniform_law() -> None:
    draws = uniform(3, INDEX[:, None], torch.arange(500), Purpose.SKIP_PATH).flatten()
    assert draws.min() > 0
    assert draws.max() <= 1
    assert kstest(draws.numpy(), "uniform").pvalue > 1e-4


def test_gumbel_law() -> None:
    draws = gumbel(3, INDEX, torch.zeros_like(INDEX), 1000).flatten()
    assert kstest(draws.numpy(), "gumbel_r").pvalue > 1e-4
    assert math.isclose(float(draws.double().mean()), 0.5772, abs_tol=0.01)


def test_argmax_of_noise_is_uniform_over_images_positions_and_seeds() -> None:
    for keys in [(0, INDEX[:, None], INDEX), (7, INDEX[:, None] * 1_000_003, INDEX)]:
        winners = gumbel(*keys, vocab=16).argmax(-1).flatten()
        counts = torch.bincount(winners, minlength=16).double()
        expected = counts.sum() / 16
        assert float(((counts - expected) ** 2 / expected).sum()) < 50


@given(
    seed=st.integers(0, 2**62),
    image=st.integers(0, 2**40),
    position=st.integers(0, 4096),
    vocab=st.integers(1, 64),
)
def test_a_draw_is_a_function_of_its_key(seed: int, image: int, position: int, vocab: int) -> None:
    alone = gumbel(seed, torch.tensor(image), torch.tensor(position), vocab)
    images = torch.tensor([[image + 1], [image]])
    positions = torch.tensor([position + 2, position, position + 1])
    among = gumbel(seed, images, positions, vocab)
    torch.testing.assert_close(among[1, 1], alone)


def test_streams_are_unrelated() -> None:
    base = gumbel(0, INDEX, INDEX, 512)
    others = [gumbel(1, INDEX, INDEX, 512), gumbel(0, INDEX + 1, INDEX, 512), gumbel(0, INDEX, INDEX + 1, 512)]
    for other in [*others, base.roll(1, -1), base.roll(1, 0)]:
        correlation = torch.corrcoef(torch.stack([base.flatten(), other.flatten()]))[0, 1]
        assert abs(float(correlation)) < 0.02
    draws = torch.stack([uniform(0, INDEX, INDEX, purpose) for purpose in Purpose])
    assert len(draws.unique()) == draws.numel()


def test_uniforms_keyed_by_token() -> None:
    draws = uniform(3, INDEX[:, None], torch.zeros(1, 500).long(), Purpose.ACCEPTANCE, torch.arange(500)[None])
    assert kstest(draws.flatten().numpy(), "uniform").pvalue > 1e-4
