"""Vanilla autoregressive decoding, one target forward per token: the baseline of every claim, so it must be fast."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from vvsbench.axes import Guarantee
from vvsbench.decoding.base import Decoder
from vvsbench.decoding.engine import Charge, Eager, Engine
from vvsbench.decoding.finite import Outputs, target_logits
from vvsbench.decoding.phases import Phase, phase
from vvsbench.decoding.trace import CallCounter, DecodeTrace, Origin, StepKind, StepLog
from vvsbench.models.protocols import Block, TokenModel
from vvsbench.noise import gumbel_of, kept
from vvsbench.sampling import Sampling, draw

NOISE_AHEAD = 4
"""Positions for which noise is made at a time where that of whole images is too large."""


class Autoregressive(Decoder):
    """Draws one token per target forward; no host synchronisation between the first token and the last.

    Args:
        target: the model whose distribution is wanted.
        sampling: how guided logits become a distribution.
        engine: how steps run; eagerly by default.
    """

    target: TokenModel[Any]

    def __init__(self, target: TokenModel[Any], sampling: Sampling, engine: Engine | None = None) -> None:
        self.target, self.sampling, self.engine = target, sampling, engine or Eager()
        self._idle: dict[tuple[int, int], _Flight] = {}
        """What is kept for the next images of a static engine, by rows and seed."""

    @property
    def guarantee(self) -> Guarantee:
        """Exact by definition."""
        return Guarantee.exact

    @torch.inference_mode()
    def generate(self, conditions: Tensor, images: Sequence[int], seed: int) -> tuple[Tensor, DecodeTrace]:
        """See `Decoder.generate`."""
        batch, length = len(images), self.target.spec.tokens
        with CallCounter().watching(self.target.network) as calls:
            flight = self._begin(conditions, images, seed)
            charge = Charge(calls, list(images))
            for index in range(length):
                if index % flight.noise.shape[1] == 0:
                    flight.engine.run("noise", None, flight.make_noise)
                if index == 0:
                    flight.engine.run("first", None, lambda: self._draw(flight))
                    continue
                self.target.note(flight.state, [index - 1] * batch)
                flight.engine.run("step", self.target.shape(flight.state), lambda: self._step(flight), [charge])
            tokens, outputs = flight.tokens.clone(), Outputs(*target_logits(self.target), flight.peaks.clone())
        origin = torch.full((batch, length), Origin.DRAWN, dtype=torch.int8, device=tokens.device)
        steps = [[StepLog(StepKind.VERIFIED, 1, 0)] * (length - 1) for _ in images]
        forced = self.target.spec.forced
        return tokens, DecodeTrace(list(images), origin, steps, calls, CallCounter(), outputs, forced)

    def _begin(self, conditions: Tensor, images: Sequence[int], seed: int) -> _Flight:
        """Prefill."""
        with phase(Phase.prefill):
            state = self.target.start(conditions, images, room=1)
        fresh = _Flight(self.engine, state, images, seed, self.target)
        if not self.engine.static:
            return fresh
        key = (len(images), seed)
        if key not in self._idle:
            self.target.fix(state)
            fresh.engine = self.engine.apart()
            self._idle[key] = fresh
            return fresh
        flight = self._idle[key]
        self.target.place(flight.state, list(range(len(images))), state)
        flight.restart(fresh)
        return flight

    def _step(self, flight: _Flight) -> None:
        """The target reads the last token, and the next one is drawn."""
        last = flight.tokens.index_select(1, flight.index - 1)
        with phase(Phase.verify):
            logits, _ = self.target.forward(flight.state, Block(last, flight.offset))
        self.target.commit(flight.state, None, flight.ones)
        flight.logits.copy_(logits[:, 0])
        self._draw(flight)

    def _draw(self, flight: _Flight) -> None:
        """Draw the token at the current position."""
        with phase(Phase.sampling):
            noise = flight.noise.index_select(1, self._slot(flight))[:, 0]
            token = draw(self.sampling.scores(flight.logits), noise)
            flight.tokens.index_copy_(1, flight.index, token[:, None])
            flight.peaks.index_copy_(1, flight.index, flight.logits.amax(-1, keepdim=True))
            flight.index.add_(1)

    def _slot(self, flight: _Flight) -> Tensor:
        """Where the noise of the current position is, int64 [1]."""
        ahead = flight.noise.shape[1]
        return flight.index if ahead == self.target.spec.tokens else flight.index % ahead


class _Flight:
    """The images in flight, all of them equally far.

    Attributes:
        index: int64 [1], the position that is drawn next.
        logits: float [B, V], for that position.
        peaks: float [B, N], the largest logit at every position.
        noise: float [B, K, V], of all positions, or of the next few.
    """

    def __init__(self, engine: Engine, state: Any, images: Sequence[int], seed: int, target: TokenModel[Any]) -> None:
        device, batch = target.device, len(images)
        self.engine, self.state, self.seed = engine, state, seed
        self.keys = torch.tensor(list(images), device=device)[:, None]
        self.tokens = torch.zeros(batch, target.spec.tokens, dtype=torch.long, device=device)
        self.logits = state.first_logits
        self.peaks = self.logits.new_zeros(batch, target.spec.tokens)
        length, vocab = target.spec.tokens, target.spec.vocab
        ahead = length if kept(batch, length, vocab) else min(NOISE_AHEAD, length)
        self.noise = torch.zeros(batch, ahead, vocab, device=device)
        self.index = torch.zeros(1, dtype=torch.long, device=device)
        self.ones = torch.ones(batch, dtype=torch.long, device=device)
        self.offset = torch.zeros(1, 1, dtype=torch.long, device=device)

    def restart(self, fresh: _Flight) -> None:
        """Begin the images of another flight."""
        self.keys.copy_(fresh.keys)
        self.logits.copy_(fresh.logits)
        self.index.zero_()

    def make_noise(self) -> None:
        """Noise for the next positions."""
        self.noise.copy_(gumbel_of(self.seed, self.keys[:, 0], self.index, *self.noise.shape[1:]))
