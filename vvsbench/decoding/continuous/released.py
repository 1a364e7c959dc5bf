"""Continuous speculative decoding as its authors released it, block by block and with all rows in step.

The target judges a block from the tokens that were verified before it: drafts are masked out of its input, so it
predicts all of them in parallel and never sees what it judges. Nothing is rolled back, whatever is rejected; so the
cost does not depend on acceptance. The loop reproduces the released numbers (tests/golden); it promises nothing.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from vvsbench.axes import Guarantee
from vvsbench.decoding.continuous.coupling import Verdict, released
from vvsbench.decoding.continuous.draws import Draws
from vvsbench.decoding.continuous.pair import Job, Loop, Pair
from vvsbench.decoding.continuous.trace import Judged, Round
from vvsbench.decoding.phases import Phase, phase
from vvsbench.decoding.trace import Origin
from vvsbench.models.diffusion import Moments
from vvsbench.models.latents import LatentModel, Wanted


class Released(Pair):
    """The released loop around the released rule.

    Args:
        target, draft, ar_steps, aligned, raster, draws: as of `Pair`.
        length: a block ends with every AR step whose number it divides.
        prefilled: AR steps that the target takes by itself first.
        inner_temperature: of the criterion.
    """

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
        super().__init__(target, draft, ar_steps, aligned, raster, draws)
        self.length, self.prefilled, self.inner_temperature = length, prefilled, inner_temperature

    @property
    def guarantee(self) -> Guarantee:
        """None: see `released`."""
        return Guarantee.none

    def _loop(self, job: Job, rows: int) -> Loop:
        return _Blocks(self, job, rows)


class _Blocks(Loop):
    """One batch, whose rows take equally many steps: no row waits, and none has to be refilled."""

    def __init__(self, decoder: Released, job: Job, rows: int) -> None:
        super().__init__(job, rows)
        self.decoder, self.batch = decoder, rows
        self.drafted: list[tuple[Wanted, Moments]] = []

    def run(self) -> None:
        """See `Loop.run`."""
        for step in range(self.reveal.steps):
            self.step(step)
        self.tokens = self.draft.state.tokens

    def step(self, step: int) -> None:
        """One AR step of the target or of the draft, and a verification where a block ends."""
        steps, total = [step] * self.batch, self.reveal.steps
        if step < self.decoder.prefilled:
            wanted, moments = self.target.step(steps, last_noise=False)
            with phase(Phase.commit):
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
        with phase(Phase.accept):
            q = self._moments_of(wanted)
            images = self.target.keys[wanted.rows]
            uniforms = self.draws.judgement(images, wanted.positions)
            propose = self.draws.proposals(images, wanted.positions)
            verdict = released(q.mean, q, p, uniforms, propose, decoder.inner_temperature)
        with phase(Phase.commit):
            self.target.decide(wanted, verdict.tokens)
            self.draft.state.write(wanted, verdict.tokens)
            origin = torch.where(verdict.kept, Origin.ACCEPTED, Origin.DRAWN).to(torch.int8)
            self.origin[wanted.rows, wanted.positions] = origin
            self._note(wanted, q, p, verdict, size)
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

    def _note(self, wanted: Wanted, q: Moments, p: Moments, verdict: Verdict, size: int) -> None:
        """Log the verification of every row, which has `size` drafts."""
        distance = (q.mean - p.mean).norm(dim=-1)
        found = torch.stack([verdict.kept.double(), distance.double(), verdict.fallback.double()], 1).tolist()
        if not all(math.isfinite(far) for _, far, _ in found):
            self.target.check("target", wanted, p.mean)
            self.draft.check("drafter", wanted, q.mean)
        judged = [Judged(bool(kept), bool(kept), far, bool(lost)) for kept, far, lost in found]
        for row, rounds in enumerate(self.rounds):
            rounds.append(Round(judged[row * size : (row + 1) * size], size))
