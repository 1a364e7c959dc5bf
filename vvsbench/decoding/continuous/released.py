"""Continuous speculative decoding as its authors released it, block by block and with all rows in step.

The target judges a block from the tokens that were verified before it: drafts are masked out of its input, so it
predicts all of them in parallel and never sees what it judges. Nothing is rolled back, whatever is rejected; so the
cost does not depend on acceptance. The loop reproduces the released numbers (tests/golden); it promises nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from vvsbench.axes import Guarantee
from vvsbench.decoding.base import Decoder
from vvsbench.decoding.continuous.coupling import Verdict, released
from vvsbench.decoding.continuous.draws import Draws
from vvsbench.decoding.continuous.reveal import reveal
from vvsbench.decoding.continuous.session import Session, paths
from vvsbench.decoding.continuous.trace import ContinuousTrace, Judged, Meters, Round
from vvsbench.decoding.trace import Origin
from vvsbench.models.diffusion import Moments
from vvsbench.models.latents import LatentModel, Wanted
from vvsbench.noise import Purpose


class Released(Decoder):
    """The released loop around the released rule.

    Args:
        target, draft: with equal head steps.
        ar_steps: S.
        length: a block ends with every AR step whose number it divides.
        prefilled: AR steps that the target takes by itself first.
        inner_temperature: of the criterion.
        aligned: give target and draft the same noise.
        raster: see `Masked`.
        draws: likewise.
    """

    target: LatentModel[Any]

    def __init__(
        self,
        target: LatentModel[Any],
        draft: LatentModel[Any],
        ar_steps: int,
        length: int,
        prefilled: int,
        inner_temperature: float,
        aligned: bool,
        raster: bool,
        draws: type[Draws] = Draws,
    ) -> None:
        self.target, self.draft, self.length, self.prefilled = target, draft, length, prefilled
        self.inner_temperature, self.aligned, self.raster = inner_temperature, aligned, raster
        self.reveal = reveal(target.spec.tokens, ar_steps, target.guidance)
        self._draws = draws

    @property
    def guarantee(self) -> Guarantee:
        """None: see `released`."""
        return Guarantee.none

    @torch.inference_mode()
    def generate(self, conditions: Tensor, images: Sequence[int], seed: int) -> tuple[Tensor, ContinuousTrace]:
        """See `Decoder.generate`."""
        spec, device = self.target.spec, self.target.device
        draws = self._draws(seed, spec.channels)
        path = paths(draws, images, spec.tokens, self.raster, device)
        with Meters().watching(self.target, self.draft) as meters:
            loop = _Loop(self, draws, conditions, images, path)
            for step in range(self.reveal.steps):
                loop.step(step)
        trace = ContinuousTrace(list(images), loop.origin, loop.rounds, meters, spec.flops)
        return loop.draft.state.tokens.float(), trace


class _Loop:
    """One batch of the released loop."""

    def __init__(
        self, decoder: Released, draws: Draws, conditions: Tensor, images: Sequence[int], path: Tensor
    ) -> None:
        self.decoder, self.draws, self.batch = decoder, draws, len(images)
        purpose = Purpose.HEAD if decoder.aligned else Purpose.DRAFT_HEAD
        self.target = Session(decoder.target, decoder.reveal, draws, conditions, images, path)
        self.draft = Session(decoder.draft, decoder.reveal, draws, conditions, images, path, purpose)
        self.origin = torch.full(path.shape, Origin.DRAWN, dtype=torch.int8, device=path.device)
        self.rounds: list[list[Round]] = [[] for _ in images]
        self.drafted: list[tuple[Wanted, Moments]] = []

    def step(self, step: int) -> None:
        """One AR step of the target or of the draft, and a verification where a block ends."""
        steps, total = [step] * self.batch, self.decoder.reveal.steps
        if step < self.decoder.prefilled:
            wanted, moments = self.target.step(steps, last_noise=False)
            self.draft.decide(wanted, moments.mean)
            return
        self.drafted.append(self.draft.step(steps, last_noise=False))
        if step % self.decoder.length == 0 or step == total - 1:
            self.verify(step)

    def verify(self, step: int) -> None:
        """Judge every token since the last verification, guided as the present step is."""
        decoder = self.decoder
        size = decoder.reveal.counts[step + 1] - self.target.state.counts[0]
        wanted = self.target.state.wanted([[size]] * self.batch)
        p, noise = self.target.moments(wanted, [step] * len(wanted.positions))
        q = self._moments_of(wanted)
        images = self.target.keys[wanted.rows]
        uniforms = self.draws.judgement(images, wanted.positions)
        propose = self.draws.proposals(images, wanted.positions)
        verdict = released(q.mean, q, p, uniforms, propose, decoder.inner_temperature)
        self.target.decide(wanted, verdict.tokens)
        self.draft.state.write(wanted, verdict.tokens)
        self.origin[wanted.rows, wanted.positions] = torch.where(verdict.kept, Origin.ACCEPTED, Origin.DRAWN).to(
            torch.int8
        )
        self._note(verdict, (q.mean - p.mean).norm(dim=-1), size)
        self.drafted.clear()

    def _moments_of(self, wanted: Wanted) -> Moments:
        """The drafts' moments [M, C], from the steps that drew them, in the order of `wanted`."""
        shape = self.draft.state.tokens.shape
        parts = []
        for name in ("mean", "std", "log_std_sum"):
            values = [getattr(moments, name) for _, moments in self.drafted]
            grid = values[0].new_zeros(shape)
            for (drawn, _), value in zip(self.drafted, values, strict=True):
                grid[drawn.rows, drawn.positions] = value
            parts.append(grid[wanted.rows, wanted.positions])
        return Moments(*parts)

    def _note(self, verdict: Verdict, distance: Tensor, size: int) -> None:
        """Log the verification of every row, which has `size` drafts."""
        found = torch.stack([verdict.kept.double(), distance.double(), verdict.fallback.double()], 1).tolist()
        judged = [Judged(bool(kept), bool(kept), far, bool(lost)) for kept, far, lost in found]
        for row, rounds in enumerate(self.rounds):
            rounds.append(Round(judged[row * size : (row + 1) * size], size))
