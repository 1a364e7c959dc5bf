"""What the target has seen when it judges: the drafts before a token, and none from it on."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from vvsbench.certify.continuous.decoders import TOKENS, as_released, speculative
from vvsbench.models.causal import Causal, CausalNetwork, CausalSizes
from vvsbench.models.gaussian import ChainHead, GaussianToy
from vvsbench.models.latents import LatentGuidance, LatentModel, LatentState, Wanted
from vvsbench.models.mar import MAR, MARNetwork, MARSizes

GRID, CHANNELS, STEPS = 2, 2, 3
LENGTH = 3


def pair(kind: str) -> tuple[LatentModel[Any], LatentModel[Any]]:
    """A target and a draft in float64, of random weights where they are networks."""
    if kind == "toy":  # all tokens alike correlated: were they a Markov chain, only the last one seen would matter
        return gaussians(0.8), gaussians(0.6)
    torch.manual_seed(0)

    def network(width: int) -> LatentModel[Any]:
        if kind == "causal":
            causal = CausalNetwork(CausalSizes(GRID, CHANNELS, 3, width, 2, 2, 1, 8)).double().eval()
            return Causal(causal, None, LatentGuidance(1.5), head_steps=STEPS)
        mar = MARNetwork(MARSizes(GRID, CHANNELS, 3, 2, width, 2, 2, width, 2, 2, 1, 8)).double().eval()
        return MAR(mar, None, LatentGuidance(1.5), head_steps=STEPS)

    return network(16), network(8)


def gaussians(correlation: float) -> GaussianToy:
    """Tokens each two of which have this correlation."""
    covariance = torch.full((TOKENS, TOKENS), correlation, dtype=torch.float64).fill_diagonal_(1.0)
    head = ChainHead((0.8, 0.8, 0.8), (0.5, 0.4, 0.3))
    return GaussianToy(torch.arange(TOKENS).double(), covariance, head, CHANNELS, dtype=torch.float64)


def moved(decode: Callable[[], object], target: LatentModel[Any], draft: LatentModel[Any]) -> Tensor:
    """Of the target's first judgement: bool [T, T], whether its conditional of token j moves with draft token i.

    Whatever the target could know of the draft is moved: the tokens it is handed, and those that it holds.
    """
    judged: list[Tensor] = []
    honest, states = target.predict, []
    begin = draft.start

    def start(*given: Any) -> LatentState:
        states.append(begin(*given))
        return states[-1]

    def predict(state: LatentState, wanted: Wanted, drafts: Tensor | None = None) -> Tensor:
        kept = copy.deepcopy(state)
        z = honest(state, wanted, drafts)
        if not judged and len(wanted.positions) > 1:
            proposed = states[0].tokens[wanted.rows, wanted.positions] if drafts is None else drafts
            for token in range(LENGTH):
                shaken, held = proposed.clone(), copy.deepcopy(kept)
                shaken[token] += 1.0
                if drafts is None:
                    held.write(wanted, shaken)
                again = honest(held, wanted, None if drafts is None else shaken)
                judged.append((again != z).any(-1).any(0)[:LENGTH])
        return z

    target.predict, draft.start = predict, start
    decode()
    return torch.stack(judged)


@pytest.mark.parametrize("kind", ["toy", "mar", "causal"])
def test_a_draft_moves_the_conditionals_behind_it_and_no_others(kind: str) -> None:
    target, draft = pair(kind)
    decoder = speculative(target, draft, LENGTH)
    found = moved(lambda: decoder.generate(torch.zeros(1, dtype=torch.long), [0], 0), target, draft)
    assert torch.equal(found, torch.ones(LENGTH, LENGTH, dtype=torch.bool).triu(1))


@pytest.mark.parametrize("kind", ["toy", "mar"])
def test_in_the_released_loop_it_moves_nothing(kind: str) -> None:
    target, draft = pair(kind)
    decoder = as_released(target, draft, LENGTH)
    found = moved(lambda: decoder.generate(torch.zeros(1, dtype=torch.long), [0], 0), target, draft)
    assert decoder.reveal.steps == TOKENS
    assert not found.any()
