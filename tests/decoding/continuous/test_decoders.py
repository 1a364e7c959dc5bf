"""The continuous decoders on small random networks: what they count, and what must not change their images."""

from __future__ import annotations

import math

import pytest
import torch

from vvsbench.axes import Guarantee
from vvsbench.decoding.continuous.coupling import exact, published
from vvsbench.decoding.continuous.draws import Draws
from vvsbench.decoding.continuous.loop import Continuous, Speculation
from vvsbench.decoding.continuous.released import Released
from vvsbench.decoding.continuous.reveal import reveal
from vvsbench.decoding.continuous.session import paths
from vvsbench.decoding.masked import Masked
from vvsbench.errors import NotFiniteError
from vvsbench.models.causal import Causal, CausalNetwork, CausalSizes
from vvsbench.models.latents import LatentGuidance, LatentModel
from vvsbench.models.mar import MAR, MARNetwork, MARSizes

GRID, CHANNELS, CLASSES, STEPS = 4, 2, 5, 4
TOKENS = GRID * GRID
LABELS = torch.tensor([0, 3, 1])


def model(kind: str, seed: int, width: int, scale: float = 1.5) -> MAR | Causal:
    """A small network in float64, so that rounding plays no part."""
    torch.manual_seed(seed)
    guidance = LatentGuidance(scale, linear=True)
    if kind == "mar":
        network = MARNetwork(MARSizes(GRID, CHANNELS, CLASSES, 2, width, 1, 2, width, 1, 2, 1, 16)).double().eval()
        return MAR(network, None, guidance, head_steps=STEPS)
    causal = CausalNetwork(CausalSizes(GRID, CHANNELS, CLASSES, width, 1, 2, 1, 16)).double().eval()
    return Causal(causal, None, guidance, head_steps=STEPS)


def csd(target: LatentModel, draft: LatentModel, rule=exact, length=3, prefilled=0, tolerance=0.0, ar_steps=TOKENS):  # type: ignore[no-untyped-def,type-arg]
    how = Speculation(rule, length, prefilled, True, tolerance, Guarantee.exact)
    return Continuous(target, draft, ar_steps, how, raster=target.causal)


def masked(target: LatentModel, ar_steps: int = TOKENS, last_noise: bool = True) -> Masked:  # type: ignore[type-arg]
    return Masked(target, ar_steps, target.causal, last_noise, whole=True)


@pytest.mark.parametrize("kind", ["mar", "causal"])
def test_draft_equal_to_target_is_always_kept(kind: str) -> None:
    target, draft = model(kind, 0, 32), model(kind, 0, 32)
    tokens, trace = csd(target, draft, length=3, prefilled=2).generate(LABELS, [4, 5, 6], 1)
    own, _ = masked(target).generate(LABELS, [4, 5, 6], 1)
    torch.testing.assert_close(tokens, own, atol=1e-6, rtol=0)
    for row in trace.rows():
        assert row["kept"] == row["kept_relaxed"] == 1.0
        assert row["target_forwards"] == 2 + math.ceil((TOKENS - 2) / 4)
        assert row["distance"] < 1e-6


@pytest.mark.parametrize("kind", ["mar", "causal"])
def test_hopeless_draft_leaves_the_target_its_own_pace(kind: str) -> None:
    target, draft = model(kind, 0, 32), model(kind, 1, 16)
    with torch.no_grad():
        draft.network.diffloss.net.final_layer.linear.bias[:CHANNELS] += 1.0
    _, trace = csd(target, draft, length=3).generate(LABELS, [4, 5, 6], 1)
    for row in trace.rows():
        assert row["kept"] == 0.0
        assert row["target_forwards"] == TOKENS
        assert row["rolled_back"] >= TOKENS - 4
        assert row["step_compression"] == 1.0


@pytest.mark.parametrize("rule", [exact, published])
@pytest.mark.parametrize("kind", ["mar", "causal"])
def test_images_do_not_depend_on_the_batch(kind: str, rule: object) -> None:
    target, draft = model(kind, 0, 32), model(kind, 1, 16)
    decoder = csd(target, draft, rule, length=3, prefilled=1, tolerance=1.0 if rule is exact else 0.0)
    together, trace = decoder.generate(LABELS, [4, 5, 6], 1)
    rows = trace.rows()
    for number, image in enumerate([4, 5, 6]):
        alone, single = decoder.generate(LABELS[number : number + 1], [image], 1)
        torch.testing.assert_close(alone[0], together[number], atol=1e-6, rtol=0)
        for key in ("target_forwards", "draft_forwards", "accepted", "drafted", "origin"):
            assert single.rows()[0][key] == rows[number][key], key


@pytest.mark.parametrize("ar_steps", [TOKENS, 6])
def test_prefill_and_length_do_not_change_an_accepted_image(ar_steps: int) -> None:
    target, draft = model("mar", 0, 32), model("mar", 0, 32)
    own, _ = masked(target, ar_steps).generate(LABELS, [4, 5, 6], 1)
    for length, prefilled in ((1, 0), (2, 3), (5, 1)):
        tokens, _ = csd(target, draft, length=length, prefilled=prefilled, ar_steps=ar_steps).generate(
            LABELS, [4, 5, 6], 1
        )
        torch.testing.assert_close(tokens, own, atol=1e-6, rtol=0)


def test_tolerance_bounds_the_distance_and_saves_calls() -> None:
    target, draft = model("mar", 0, 32), model("mar", 1, 16)
    strict = csd(target, draft).generate(LABELS, [4, 5, 6], 1)[1].rows()
    loose = csd(target, draft, tolerance=1e9).generate(LABELS, [4, 5, 6], 1)[1].rows()
    for one, other in zip(strict, loose, strict=True):
        assert other["kept_relaxed"] == 1.0
        assert other["kept"] < 0.5
        assert other["target_forwards"] == TOKENS // 4 < one["target_forwards"]


def test_released_never_rolls_back_and_costs_the_same_whatever_it_keeps() -> None:
    target, near, far = model("mar", 0, 32), model("mar", 0, 32), model("mar", 1, 16)
    costs = []
    for draft in (near, far):
        decoder = Released(target, draft, TOKENS, 4, 3, 42.0, aligned=True, raster=False)
        tokens, trace = decoder.generate(LABELS, [4, 5, 6], 1)
        row = trace.rows()[0]
        assert row["rolled_back"] == 0
        assert torch.isfinite(tokens).all()
        costs.append((row["target_forwards"], row["draft_forwards"], row["verified_steps"]))
    assert costs[0] == costs[1] == (3 + 4, TOKENS - 3, 4)


def test_alignment_brings_drafts_nearer() -> None:
    target, draft = model("mar", 0, 32), model("mar", 1, 16)
    distances = []
    for aligned in (True, False):
        decoder = Released(target, draft, TOKENS, 4, 1, 42.0, aligned=aligned, raster=False)
        distances.append(sum(row["distance"] for row in decoder.generate(LABELS, [4, 5, 6], 1)[1].rows()))
    assert distances[0] < 0.7 * distances[1]


def test_cost_counts_heads_and_transformers_of_both_models() -> None:
    target = model("mar", 0, 32)
    _, trace = masked(target, 4).generate(LABELS, [4, 5, 6], 1)
    row = trace.rows()[0]
    sizes, counts = target.network.sizes, reveal(TOKENS, 4, target.guidance).counts
    transformer = sum(2 * sizes.flops(count) for count in counts[:-1])
    heads = 2 * TOKENS * STEPS * target.head.network.flops
    assert row["cost"] == pytest.approx((transformer + heads) / target.spec.flops)
    assert row["target_head_evaluations"] == TOKENS * STEPS
    assert row["target_positions"] == sum(count + TOKENS + 2 * 2 for count in counts[:-1])


@pytest.mark.parametrize(("tokens", "steps"), [(256, 256), (256, 64), (256, 8), (64, 64), (64, 5), (16, 1)])
def test_reveal_decides_every_token_once(tokens: int, steps: int) -> None:
    plan = reveal(tokens, steps, LatentGuidance(3.0, linear=True))
    sizes = plan.sizes(0, steps)
    assert sum(sizes) == tokens
    assert min(sizes) >= 1
    assert plan.scales == tuple(sorted(plan.scales))


def test_reveal_of_256_tokens_in_64_steps() -> None:
    sizes = reveal(256, 64, LatentGuidance()).sizes(0, 64)
    assert sizes[:5] == [1, 1, 1, 1, 1]
    assert sizes[-5:] == [6, 7, 6, 6, 6]
    assert max(reveal(256, 8, LatentGuidance()).sizes(0, 8)) == 49


@pytest.mark.parametrize("steps", [0, 17])
def test_reveal_refuses_what_cannot_be(steps: int) -> None:
    with pytest.raises(ValueError, match="AR steps"):
        reveal(16, steps, LatentGuidance())


def test_noise_is_keyed_by_image_position_and_step() -> None:
    draws = Draws(3, CHANNELS)
    images, positions = torch.tensor([0, 0, 1]), torch.tensor([0, 1, 0])
    noise = draws.head(images, positions, 25)
    assert noise.shape == (26, 3, CHANNELS)
    assert len(noise.unique()) == noise.numel()
    assert torch.equal(draws.head(images[1:2], positions[1:2], 30)[25, 0], noise[25, 1])
    assert not torch.equal(Draws(4, CHANNELS).head(images, positions, 25), noise)
    paths = draws.path(torch.arange(4), 64)
    assert torch.equal(paths.sort(-1).values, torch.arange(64).expand(4, -1))
    assert len({tuple(path) for path in paths.tolist()}) == 4


def test_tokens_are_not_rounded_to_what_the_weights_are_kept_in() -> None:
    target = model("mar", 0, 32)
    half = MAR(target.network.bfloat16(), None, target.guidance, head_steps=STEPS)
    tokens, _ = masked(half).generate(LABELS, [4, 5, 6], 1)
    assert tokens.dtype == torch.float32
    assert not torch.equal(tokens, tokens.bfloat16().float())


@pytest.mark.parametrize("kind", ["mar", "causal"])
def test_refilled_rows_draw_the_same_images(kind: str) -> None:
    target, draft = model(kind, 0, 32), model(kind, 1, 16)
    decoder = csd(target, draft, length=3, prefilled=2, tolerance=2e4)  # keeps some drafts of these wild heads
    labels, told = LABELS.repeat(2)[:5], []
    expected, whole = decoder.generate(labels, range(5), 1)
    tokens, traces = decoder.generate_all(labels, range(5), 1, 2, told.append)
    torch.testing.assert_close(tokens, expected, atol=1e-6, rtol=0)
    assert (len(traces), sum(told)) == (1, 5)
    for row, other in zip(traces[0].rows(), whole.rows(), strict=True):
        for key in ("image", "target_forwards", "draft_forwards", "accepted", "origin"):
            assert row[key] == other[key], key
    assert len({row["target_forwards"] for row in whole.rows()}) > 1, "rows that finish together test little"


def spoil(decoder: Masked | Continuous | Released, role: str) -> None:
    """Make NaN of the last token in every call of a model, after the first two tokens of each image."""
    model_ = decoder.target if role == "target" else decoder.draft  # type: ignore[union-attr]
    denoise, calls = model_.head.denoise, []

    def spoilt(z, noise, scale=None, call=None):  # type: ignore[no-untyped-def]
        moments = denoise(z, noise, scale, call)
        calls.append(len(moments.mean))
        if sum(calls) > 2 * len(LABELS):
            moments.mean[-1] = math.nan
        return moments

    model_.head.denoise = spoilt


LOOPS = ("exact", "published", "tolerant", "released")


@pytest.mark.parametrize(
    ("name", "role"), [("masked", "target"), *((name, role) for name in LOOPS for role in ("target", "drafter"))]
)
def test_tokens_that_are_not_finite_fail_the_images(name: str, role: str) -> None:
    target, draft = model("mar", 0, 32), model("mar", 1, 16)
    decoder = {
        "masked": lambda: masked(target),
        "exact": lambda: csd(target, draft),
        "published": lambda: csd(target, draft, published),
        "tolerant": lambda: csd(target, draft, tolerance=1.0),
        "released": lambda: Released(target, draft, TOKENS, 2, 1, 42.0, aligned=True, raster=False),
    }[name]()
    spoil(decoder, role)
    with pytest.raises(NotFiniteError, match=rf"the tokens of the {role} \(latent\) are not finite \(nan\)") as caught:
        decoder.generate(LABELS, [4, 5, 6], 1)[1].rows()
    assert caught.value.image == 6
    assert caught.value.dtype == "float64"
    third = paths(Draws(1, CHANNELS), [6], TOKENS, False, LABELS.device)[0, 2]
    assert caught.value.place == f"token {third}" if name == "masked" else caught.value.place.startswith("token ")
