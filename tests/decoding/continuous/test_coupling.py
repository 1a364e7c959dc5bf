"""The rules token by token; that `exact` has the target's law and the others have not is certified (tests/certify)."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vvsbench.decoding.continuous import coupling
from vvsbench.decoding.continuous.coupling import Proposals, exact, published, released
from vvsbench.models.diffusion import Moments
from vvsbench.noise import Purpose, normal, uniform

COUNT, CHANNELS = 400, 3


def keyed(channels: int = CHANNELS, first_row: int = 0) -> Proposals:
    """Noise that depends on row and try only."""

    def propose(rows: Tensor, first: int, count: int) -> tuple[Tensor, Tensor]:
        tries = torch.arange(first, first + count)[:, None]
        return tuple(
            make(0, rows + first_row, tries, *size, Purpose.ACCEPTANCE)
            for make, size in ((normal, (channels,)), (uniform, ()))
        )

    return propose


def never(rows: Tensor, first: int, count: int) -> tuple[Tensor, Tensor]:
    """Proposals none of which is kept."""
    return torch.zeros(count, len(rows), CHANNELS), torch.ones(count, len(rows))


def pair(gap: float = 0.7, ratio: float = 1.3, sigma: float = 0.0, dtype: torch.dtype = torch.float64):
    """Drafts, the moments of q and p with log Sigma = 3 sigma, and uniforms."""
    generator = torch.Generator().manual_seed(1)
    base = torch.randn(COUNT, CHANNELS, generator=generator, dtype=dtype)
    zeros, ones = torch.zeros_like(base), torch.ones_like(base)
    q, p = Moments(base, ratio * ones, sigma * ones), Moments(base + gap, ones, zeros)
    drafts = q.mean + q.std * torch.randn(base.shape, generator=generator, dtype=dtype)
    return drafts, q, p, torch.rand(COUNT, generator=generator, dtype=dtype)


def test_a_rejected_draft_of_an_equally_wide_law_is_mirrored() -> None:
    drafts, q, p, uniforms = pair(ratio=1.0)
    verdict = exact(drafts, q, p, uniforms, never)  # asks for nothing
    assert 0 < verdict.kept.sum() < COUNT
    assert torch.equal(verdict.tokens[verdict.kept], drafts[verdict.kept])
    mirror = (q.mean + p.mean) / 2
    moved = ~verdict.kept
    along = (p.mean - q.mean) / (p.mean - q.mean).norm(dim=1, keepdim=True)
    before, after = ((tokens - mirror)[moved] for tokens in (drafts, verdict.tokens))
    torch.testing.assert_close((before * along[moved]).sum(1), -(after * along[moved]).sum(1))
    torch.testing.assert_close(before.norm(dim=1), after.norm(dim=1))


def test_what_is_left_of_p_is_where_p_is_larger() -> None:
    drafts, q, p, uniforms = pair()
    verdict = exact(drafts, q, p, uniforms, keyed())
    moved = ~verdict.kept
    assert 0 < moved.sum() < COUNT
    gain = p.log_density(verdict.tokens) - q.log_density(verdict.tokens)
    assert bool((gain[moved] > 0).all())
    assert not verdict.fallback.any()


def test_published_is_exact_where_sigma_is_1_and_not_elsewhere() -> None:
    drafts, q, p, uniforms = pair()
    ours, theirs = (rule(drafts, q, p, uniforms, keyed()) for rule in (exact, published))
    assert torch.equal(ours.kept, theirs.kept)
    assert torch.equal(ours.tokens, theirs.tokens)
    drafts, q, p, uniforms = pair(sigma=0.3)
    kept = {rule: int(rule(drafts, q, p, uniforms, keyed()).kept.sum()) for rule in (exact, published)}
    assert kept[published] > kept[exact]


@pytest.mark.parametrize("rule", [exact, published])
def test_neither_the_batch_nor_the_number_of_tries_at_a_time_matters(rule, monkeypatch) -> None:
    drafts, q, p, uniforms = pair(gap=0.05, ratio=1.02)  # a rejection takes many tries
    together = rule(drafts, q, p, uniforms, keyed())
    assert (~together.kept).sum() > 0
    monkeypatch.setattr(coupling, "FIRST_CHUNK", 7)
    monkeypatch.setattr(coupling, "ELEMENTS", 100)
    apart = rule(drafts, q, p, uniforms, keyed())
    assert torch.equal(apart.tokens, together.tokens)
    half = slice(COUNT // 2, None)
    rows = torch.arange(COUNT)[half]
    alone = rule(drafts[half], q.at(rows), p.at(rows), uniforms[half], keyed(first_row=COUNT // 2))
    assert torch.equal(alone.tokens, together.tokens[half])


def test_released_tokens_depend_on_what_they_are_judged_with() -> None:
    drafts, q, p, uniforms = pair(gap=0.3, ratio=1.1)
    together = released(drafts, q, p, uniforms, keyed(), inner_temperature=1.0)
    row = int((~together.kept & ~together.fallback).nonzero()[0])
    only = torch.tensor([row])
    alone = released(drafts[only], q.at(only), p.at(only), uniforms[only], keyed(first_row=row), 1.0)
    assert not torch.equal(alone.tokens[0], together.tokens[row])


def test_a_residual_that_does_not_end_is_told(monkeypatch) -> None:
    monkeypatch.setattr(coupling, "GUARD", 1000)
    with pytest.raises(coupling.DidNotEnd, match="found no replacement in 1000 tries"):
        exact(*pair(), never)


def test_an_empty_published_residual_is_counted() -> None:
    drafts, q, p, uniforms = pair(gap=0.0, ratio=1.0, sigma=-2.0)  # Sigma p < q everywhere
    verdict = published(drafts, q, p, uniforms, keyed())
    assert verdict.fallback.any()
    assert torch.equal(verdict.fallback, ~verdict.kept)
    rows = verdict.fallback.nonzero()[:, 0]
    last = keyed()(rows, coupling.PUBLISHED_GUARD - 1, 1)[0][0]
    torch.testing.assert_close(verdict.tokens[rows], p.mean[rows] + p.std[rows] * last.double())


def test_released_leaves_zeros_where_nothing_succeeds() -> None:
    drafts, q, p, uniforms = pair(gap=0.0, ratio=1.0, sigma=1.0)  # the reciprocal of Sigma is small
    verdict = released(drafts, q, p, uniforms, keyed())
    assert verdict.fallback.any()
    assert bool((verdict.tokens[verdict.fallback] == 0).all())


@pytest.mark.parametrize("part", ["drafts", "mean", "std"])
@pytest.mark.parametrize("ratio", [1.0, 1.3])
@pytest.mark.parametrize("rule", [exact, published])
def test_a_draft_that_is_no_number_is_replaced_by_a_draw_from_the_target(rule, ratio: float, part: str) -> None:
    drafts, q, p, uniforms = pair(ratio=ratio)
    (drafts if part == "drafts" else getattr(q, part))[5, 1] = torch.nan
    verdict = rule(drafts, q, p, uniforms, keyed())
    assert not verdict.kept[5]
    assert bool(torch.isfinite(verdict.tokens).all())
    if part != "drafts":
        first = keyed()(torch.tensor([5]), 0, 1)[0][0, 0].double()
        torch.testing.assert_close(verdict.tokens[5], p.mean[5] + p.std[5] * first)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, 0.0, -1.0])
def test_a_target_without_a_gaussian_is_told(value: float) -> None:
    drafts, q, p, uniforms = pair()
    p.std[7, 0] = value
    with pytest.raises(ValueError, match="1 of 400 tokens have no Gaussian"):
        exact(drafts, q, p, uniforms, keyed())


@pytest.mark.parametrize("rule", [exact, published, released])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_64_channels_of_sigma_0_0064_do_not_underflow(rule, dtype: torch.dtype) -> None:
    mean = torch.zeros(20, 64, dtype=dtype)
    narrow = torch.full_like(mean, 0.0064)
    q, p = Moments(mean, narrow, -mean - 1), Moments(mean + 0.0005, narrow * 1.1, mean - 1)
    verdict = rule(mean + narrow, q, p, torch.full((20,), 0.5), keyed(64))
    assert verdict.tokens.dtype == dtype
    assert bool(torch.isfinite(verdict.log_ratio).all())
    assert bool(torch.isfinite(verdict.tokens).all())


@pytest.mark.parametrize("rule", [exact, published, released])
def test_no_tokens_are_no_trouble(rule) -> None:
    drafts, q, p, uniforms = pair()
    none = torch.arange(0)
    verdict = rule(drafts[none], q.at(none), p.at(none), uniforms[none], never)
    assert verdict.tokens.shape == (0, CHANNELS)
