"""MAR and its causal sibling as decoders use them: every conditioning vector sees what it was asked to see."""

from __future__ import annotations

import random

import pytest
import torch
from torch import Tensor

from vvsbench.models.causal import Causal, CausalNetwork, CausalSizes
from vvsbench.models.latents import NO_CLASS, LatentGuidance
from vvsbench.models.mar import MAR, MARNetwork, MARSizes

GRID, CHANNELS, CLASSES = 4, 3, 5
TOKENS = GRID * GRID


def mar(scale: float) -> MAR:
    torch.manual_seed(0)
    network = MARNetwork(MARSizes(GRID, CHANNELS, CLASSES, 2, 32, 2, 2, 24, 2, 2, 2, 16)).double().eval()
    return MAR(network, None, LatentGuidance(scale), head_steps=5)


def causal(scale: float) -> Causal:
    torch.manual_seed(0)
    network = CausalNetwork(CausalSizes(GRID, CHANNELS, CLASSES, 32, 2, 2, 2, 16)).double().eval()
    return Causal(network, None, LatentGuidance(scale), head_steps=5)


def truth_of_causal(model: Causal, classes: Tensor, tokens: Tensor) -> Tensor:
    null = torch.full_like(classes, CLASSES)
    both = torch.cat([classes, null][: model.guidance.branches])
    return model.network.features(both, tokens.repeat(model.guidance.branches, 1, 1)).unflatten(0, (-1, len(classes)))


def truth_of_mar(model: MAR, label: int, tokens: Tensor, seen: list[int]) -> Tensor:
    """Conditioning vectors [G, N, D] of one image of which these positions are visible."""
    classes = torch.tensor([label, NO_CLASS][: model.guidance.branches])
    visible = torch.tensor([seen], dtype=torch.long).expand(len(classes), -1)
    return model.network(tokens.expand(len(classes), -1, -1), visible, None, classes)


@torch.inference_mode()
@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_causal_cache_and_roll_back(scale: float) -> None:
    model, choose = causal(scale), random.Random(1)
    tokens, classes = torch.randn(3, TOKENS, CHANNELS).double(), torch.tensor([0, 1, 2])
    truth = truth_of_causal(model, classes, tokens)
    state = model.start(classes, [7, 8, 9], torch.arange(TOKENS).expand(3, -1))
    rounds = 0
    while min(state.counts) < TOKENS:
        sizes = [[1] * choose.randint(0, min(4, TOKENS - count)) for count in state.counts]
        if not any(sizes):
            continue
        wanted = state.wanted(sizes)
        drafts = tokens[wanted.rows, wanted.positions]
        z = model.predict(state, wanted, drafts)
        torch.testing.assert_close(z, truth[:, wanted.rows, wanted.positions], rtol=0, atol=1e-12)
        kept = [choose.randint(0, len(row)) for row in sizes]
        state.write(wanted, drafts)
        model.keep(state, [count + number for count, number in zip(state.counts, kept, strict=True)])
        rounds += 1
    assert rounds > 5


@torch.inference_mode()
def test_causal_rows_that_leave() -> None:
    model, tokens = causal(2.0), torch.randn(3, TOKENS, CHANNELS).double()
    classes = torch.tensor([0, 1, 2])
    state = model.start(classes, [7, 8, 9], torch.arange(TOKENS).expand(3, -1))
    for sizes in ([[1, 1], [1], [1, 1, 1]],):
        wanted = state.wanted(sizes)
        model.predict(state, wanted, tokens[wanted.rows, wanted.positions])
        state.write(wanted, tokens[wanted.rows, wanted.positions])
        model.keep(state, [2, 1, 3])
    model.select(state, [0, 2])
    wanted = state.wanted([[1], [1, 1]])
    left = tokens[[0, 2]]
    z = model.predict(state, wanted, left[wanted.rows, wanted.positions])
    truth = truth_of_causal(model, classes[[0, 2]], left)
    torch.testing.assert_close(z, truth[:, wanted.rows, wanted.positions], rtol=0, atol=1e-12)
    assert state.images == [7, 9]


def test_causal_decides_one_token_at_a_time() -> None:
    model = causal(1.0)
    state = model.start(torch.tensor([0]), [0], torch.arange(TOKENS)[None])
    with pytest.raises(ValueError, match="one token per AR step"):
        model.predict(state, state.wanted([[2]]))


@torch.inference_mode()
@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_mar_groups_see_the_drafts_before_them(scale: float) -> None:
    model = mar(scale)
    tokens, drafted = torch.randn(2, 2, TOKENS, CHANNELS).double()
    path = torch.stack([torch.randperm(TOKENS) for _ in range(2)])
    state = model.start(torch.tensor([3, 4]), [0, 1], path)
    state.tokens[:] = tokens
    model.keep(state, [5, 0])
    wanted = state.wanted([[2, 1], [1, 3, 2]])
    z = model.predict(state, wanted, drafted[wanted.rows, wanted.positions])
    assert wanted.positions.tolist() == path[0, 5:8].tolist() + path[1, :6].tolist()
    for row, label, first, ends in ((0, 3, 5, [5, 7, 8]), (1, 4, 0, [0, 1, 4, 6])):
        mixed = tokens[row].clone()
        mixed[path[row, first:]] = drafted[row, path[row, first:]]
        for start, end in zip(ends, ends[1:], strict=False):
            truth = truth_of_mar(model, label, mixed, path[row, :start].tolist())
            here = [i for i, r in enumerate(wanted.row_list) if r == row][start - first : end - first]
            torch.testing.assert_close(z[:, here], truth[:, path[row, start:end]], rtol=0, atol=1e-12)


@torch.inference_mode()
def test_mar_changes_later_tokens_only() -> None:
    model = mar(2.0)
    path = torch.randperm(TOKENS)[None]
    state = model.start(torch.tensor([3]), [0], path)
    model.keep(state, [4])
    wanted = state.wanted([[1, 1, 1, 1]])
    drafts = torch.randn(4, CHANNELS).double()
    before = model.predict(state, wanted, drafts)
    drafts[1] += 1.0
    moved = (model.predict(state, wanted, drafts) - before).abs().amax((0, 2)) > 1e-6
    assert moved.tolist() == [False, False, True, True]
    alone = state.wanted([[4]])
    before = model.predict(state, alone, drafts)
    drafts[0] += 1.0
    assert torch.equal(model.predict(state, alone, drafts), before)
