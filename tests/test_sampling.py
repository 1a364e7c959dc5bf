"""The distribution that every rule sees, against the same thing worked out token by token."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vvsbench.sampling import Sampling, draw

VOCAB = 6
SHAPE = (2, 3, VOCAB)


def nucleus(logits: list[float], top_p: float) -> list[float]:
    """The likeliest tokens until they hold more than top_p."""
    weights = [math.exp(logit) for logit in logits]
    kept, held = set[int](), 0.0
    for token in sorted(range(VOCAB), key=lambda token: -logits[token]):
        if held > top_p:
            break
        kept.add(token)
        held += weights[token] / sum(weights)
    return [logit if token in kept else -math.inf for token, logit in enumerate(logits)]


def best(logits: list[float], top_k: int) -> list[float]:
    """The top_k largest and their ties."""
    last = sorted(logits, reverse=True)[top_k - 1]
    return [logit if logit >= last else -math.inf for logit in logits]


def plain(logits: list[float], sampling: Sampling) -> list[float]:
    """Probabilities of one row."""
    row = [logit / sampling.temperature for logit in logits]
    steps = [lambda row: best(row, sampling.top_k), lambda row: nucleus(row, sampling.top_p)]
    for step in reversed(steps) if sampling.top_p_first else steps:
        row = step(row)
    weights = [math.exp(logit) for logit in row]
    return [weight / sum(weights) for weight in weights]


@given(
    st.lists(st.integers(-40, 40), min_size=6 * VOCAB, max_size=6 * VOCAB, unique=True),
    st.sampled_from([0.5, 1.0, 2.0, 3.0]),
    st.integers(1, VOCAB),
    st.sampled_from([0.13, 0.37, 0.61, 0.89, 1.0]),
    st.booleans(),
)
def test_probabilities_are_those_worked_out_by_hand(
    numbers: list[int], temperature: float, top_k: int, top_p: float, top_p_first: bool
) -> None:
    """Unequal logits: which of two equal ones top-p drops is nobody's business."""
    logits = torch.tensor(numbers, dtype=torch.float64).view(SHAPE) / 10
    sampling = Sampling(temperature, top_k, top_p, top_p_first)
    found = sampling.probabilities(logits)
    expected = [[plain(row, sampling) for row in rows] for rows in logits.tolist()]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))


def test_top_p_first_sees_what_top_k_would_have_dropped() -> None:
    logits = torch.tensor([4, 3, 2, 1.0]).log()  # 0.4, 0.3, 0.2, 0.1
    kept = {first: Sampling(1.0, 2, 0.5, first).probabilities(logits).gt(0).sum() for first in (True, False)}
    assert kept == {True: 2, False: 1}  # of the two best alone the first holds 4/7


def test_a_token_that_reaches_top_p_just_so_does_not_exceed_it() -> None:
    logits = torch.tensor([0.0, -math.log(2), -math.log(4), -math.log(4)], dtype=torch.float64)
    assert logits.softmax(-1).tolist() == [0.5, 0.25, 0.125, 0.125]
    assert Sampling(top_p=0.5).probabilities(logits).gt(0).tolist() == [True, True, False, False]


@pytest.mark.parametrize("top_k", [0, 4, 9])
def test_a_top_k_that_takes_all_changes_nothing(top_k: int) -> None:
    logits = torch.tensor([[3.0, 1.0, 2.0, 2.0]])
    assert Sampling(top_k=top_k).scores(logits) is logits


def test_ties_with_the_last_of_top_k_stay() -> None:
    assert Sampling(top_k=2).probabilities(torch.tensor([3.0, 1.0, 2.0, 2.0])).gt(0).tolist() == [
        True,
        False,
        True,
        True,
    ]


def test_temperature_is_clamped_and_then_greedy() -> None:
    logits = torch.tensor([1.0, 1.1, 0.0])
    assert Sampling(temperature=0.0).greedy
    assert Sampling(temperature=1e-5).greedy
    assert not Sampling(temperature=2e-5).greedy
    torch.testing.assert_close(Sampling(temperature=0.0).scores(logits), logits / 1e-5)


def test_the_drawn_token_is_the_largest_sum_of_score_and_noise() -> None:
    scores = torch.tensor([[[0.0, 1.0, 0.5], [0.0, -math.inf, 0.1]]])
    noise = torch.tensor([[[2.0, 0.0, 0.0], [0.0, 9.0, -1.0]]])
    assert draw(scores, noise).tolist() == [[0, 0]]
    assert draw(scores, torch.zeros_like(noise)).tolist() == [[1, 2]]
