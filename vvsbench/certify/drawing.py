"""Samples of a decoder, as many as a test needs, in batches of a given size."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vvsbench.certify.toys import SEED
from vvsbench.decoding.autoregressive import Autoregressive
from vvsbench.decoding.speculative import Speculative
from vvsbench.decoding.trace import StepKind
from vvsbench.models.toy import ToyTarget


@dataclass(frozen=True)
class Sample:
    """What a decoder drew for the images 0, 1, ...

    Attributes:
        outcomes: int64 [n], see `ToyTarget.outcome`.
        tokens_per_forward: image tokens per target forward, prefill included, mean over the images.
    """

    outcomes: Tensor
    tokens_per_forward: float


def sample(decoder: Autoregressive | Speculative, images: int, batch: int) -> Sample:
    """Draw.

    Args:
        decoder: of a toy.
        images: how many.
        batch: how many at a time; the last batch may be smaller.
    """
    target = decoder.target
    assert isinstance(target, ToyTarget)
    outcomes, rates = [], 0.0
    for first in range(0, images, batch):
        numbers = range(first, min(first + batch, images))
        tokens, trace = decoder.generate(target.conditions([0] * len(numbers)), numbers, SEED)
        outcomes.append(target.outcome(tokens))
        for steps in trace.steps:
            rates += target.spec.tokens / (1 + sum(step.kind is StepKind.VERIFIED for step in steps))
    return Sample(torch.cat(outcomes), rates / images)
