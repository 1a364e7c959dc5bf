"""Vanilla autoregressive decoding, one target forward per token: the baseline of every claim, so it must be fast."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from vvsbench.axes import Guarantee
from vvsbench.decoding.base import Decoder
from vvsbench.decoding.trace import CallCounter, DecodeTrace, Origin, StepKind, StepLog
from vvsbench.models.protocols import Block, TokenModel
from vvsbench.noise import gumbel
from vvsbench.sampling import Sampling, draw

NOISE_AHEAD = 4
"""Positions for which noise is made at a time: few launches, little memory."""


class Autoregressive(Decoder):
    """Draws one token per target forward; no host synchronisation between the first token and the last."""

    target: TokenModel[Any]

    def __init__(self, target: TokenModel[Any], sampling: Sampling) -> None:
        self.target, self.sampling = target, sampling

    @property
    def guarantee(self) -> Guarantee:
        """Exact by definition."""
        return Guarantee.exact

    @torch.inference_mode()
    def generate(self, conditions: Tensor, images: Sequence[int], seed: int) -> tuple[Tensor, DecodeTrace]:
        """See `Decoder.generate`."""
        target, device = self.target, self.target.device
        batch, length, vocab = len(images), target.spec.tokens, target.spec.vocab
        keys = torch.tensor(list(images), device=device)[:, None]
        tokens = torch.empty(batch, length, dtype=torch.long, device=device)
        ones = torch.ones(batch, dtype=torch.long, device=device)
        offset = torch.zeros(1, 1, dtype=torch.long, device=device)
        with CallCounter().watching(target.network) as calls:
            state = target.start(conditions, images, room=1)
            logits = state.first_logits
            for index in range(length):
                if index % NOISE_AHEAD == 0:
                    ahead = torch.arange(index, min(index + NOISE_AHEAD, length), device=device)
                    noise = gumbel(seed, keys, ahead, vocab)
                tokens[:, index] = draw(self.sampling.scores(logits), noise[:, index % NOISE_AHEAD])
                if index + 1 < length:
                    block = Block(tokens[:, index : index + 1], offset)
                    logits = target.forward(state, block)[0][:, 0]
                    target.commit(state, None, ones, [index + 1] * batch)
        origin = torch.full((batch, length), Origin.DRAWN, dtype=torch.int8, device=device)
        steps = [[StepLog(StepKind.VERIFIED, 1, 0)] * (length - 1) for _ in images]
        return tokens, DecodeTrace(list(images), origin, steps, calls, CallCounter())
