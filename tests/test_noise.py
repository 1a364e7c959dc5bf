"""The random streams have the right law, are pure functions of their key, and do not run into each other."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest

from vvsbench.noise import Purpose, gumbel, normal, uniform

INDEX = torch.arange(200)
SEED, IMAGES, POSITIONS = 7, torch.tensor([0, 1, 49_999]), torch.tensor([0, 255, 1023])
PINNED = {  # uniforms, Gumbel noise of token 2 and normal noise of token 15, worked out with Python's whole numbers
    Purpose.TOKEN: (
        [0.2471314, 0.3015672, 0.5443079],
        [-0.899278, 0.753373, 0.568260],
        [0.123415, -2.451279, -1.355034],
    ),
    Purpose.SKIP_PATH: (
        [0.1302092, 0.9392483, 0.8782540],
        [2.064352, 2.448784, 0.571657],
        [0.007461, 0.367570, 0.177427],
    ),
    Purpose.ACCEPTANCE: (
        [0.2120764, 0.1233345, 0.5798939],
        [-0.897573, 3.229032, -0.454539],
        [1.534505, 0.145378, -0.110027],
    ),
    Purpose.DRAFT: (
        [0.2097631, 0.2184751, 0.7289689],
        [5.743237, -0.089138, 0.145703],
        [2.003993, 0.134873, -1.379701],
    ),
    Purpose.ORACLE: (
        [0.8346518, 0.1960319, 0.9643009],
        [0.662604, 1.261801, 0.014104],
        [-0.529823, 1.279653, 0.313632],
    ),
    Purpose.PATH: ([0.1855621, 0.1694951, 0.3749679], [0.119233, 0.575659, 0.049286], [-0.504144, 0.473419, 0.816286]),
    Purpose.HEAD: (
        [0.2879687, 0.2530892, 0.6202412],
        [0.494181, -1.784953, -1.218130],
        [-1.358666, 1.093296, -0.353301],
    ),
    Purpose.DRAFT_HEAD: (
        [0.3620754, 0.1266702, 0.0227808],
        [-0.806460, 0.405151, -0.062998],
        [-0.570704, 0.111594, 0.004456],
    ),
    Purpose.RESIDUAL: (
        [0.6864290, 0.3195193, 0.6329954],
        [0.576416, -1.084034, -0.125978],
        [-1.110262, -0.415712, 0.256832],
    ),
    Purpose.RETAIN: (
        [0.7447296, 0.6409332, 0.7197922],
        [0.014693, 0.251231, -0.008974],
        [0.742989, 0.759558, -1.397977],
    ),
    Purpose.REDRAFT: (
        [0.4011767, 0.2000259, 0.4461759],
        [0.787589, -1.327866, 0.460390],
        [-1.608976, -0.252904, -0.395944],
    ),
}


@pytest.mark.parametrize("purpose", Purpose)
def test_the_noise_of_a_key_is_the_same_for_ever(purpose: Purpose) -> None:
    """Images of old records are drawn again only if it is."""
    key = SEED, IMAGES, POSITIONS
    found = uniform(*key, purpose), gumbel(*key, 3, purpose)[:, 2], normal(*key, 16, purpose)[:, 15]
    for ours, pinned in zip(found, PINNED[purpose], strict=True):
        torch.testing.assert_close(ours, torch.tensor(pinned), atol=2e-6, rtol=0)


def test_the_noise_of_a_tried_token_is_the_same_for_ever() -> None:
    draws = uniform(SEED, IMAGES, POSITIONS, Purpose.ACCEPTANCE, torch.tensor([0, 5, 16_383]))
    torch.testing.assert_close(draws, torch.tensor([0.1279190, 0.5119361, 0.7589542]), atol=2e-7, rtol=0)


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


def test_streams_of_neighbouring_seeds_and_purposes_are_all_different() -> None:
    """Not those of a seed and a purpose either that add up to the same."""
    draws = [uniform(seed, INDEX, INDEX, purpose) for seed in range(-9, 30) for purpose in Purpose]
    assert len(torch.stack(draws)[:, :3].unique(dim=0)) == len(draws)


def test_uniforms_keyed_by_token() -> None:
    draws = uniform(3, INDEX[:, None], torch.zeros(1, 500).long(), Purpose.ACCEPTANCE, torch.arange(500)[None])
    assert kstest(draws.flatten().numpy(), "uniform").pvalue > 1e-4
