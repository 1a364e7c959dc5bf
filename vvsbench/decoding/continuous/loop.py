"""Continuous speculative decoding: draft a few AR steps, judge them all at once, keep what comes before a rejection.

Every row has its own length. A round drafts up to `length` AR steps and asks the target for the conditionals of all of
them and of one step more, each given the decided tokens and the drafts of earlier steps. The tokens of one step are
independent of each other given the steps before, so each is judged by itself; the first step in which one is rejected
is completed by the rule's own draws and ends the round, and what was drafted after it is discarded. Where nothing is
rejected, the target's own draw of the step beyond the drafts comes for free.

The decision on a token uses the noise of its own position only. A position that is drafted again after a roll-back
meets the noise that it met before, of which nothing has been used.

Rows finish at different times. While there are images left the next one begins in the row of one that is finished, so
rows stay as many as they are, and the steps that the target takes alone at first are part of the others' rounds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vvsbench.axes import Guarantee
from vvsbench.decoding.base import Finished, ignored
from vvsbench.decoding.continuous.coupling import NoGaussian, Proposals, Verdict, compared
from vvsbench.decoding.continuous.draws import Draws
from vvsbench.decoding.continuous.pair import Job, Loop, Pair
from vvsbench.decoding.continuous.trace import ContinuousTrace, Judged, Round
from vvsbench.decoding.phases import Phase, phase
from vvsbench.decoding.trace import Origin
from vvsbench.models.diffusion import Moments
from vvsbench.models.latents import LatentModel, Wanted

Rule = Callable[[Tensor, Moments, Moments, Tensor, Proposals], Verdict]
"""Judges drafts [M, C] (see `coupling`)."""


@dataclass(frozen=True)
class Speculation:
    """How a round is made.

    Attributes:
        rule: `exact` or `published`.
        length: AR steps drafted.
        prefilled: AR steps that the target takes by itself before the first round.
        aligned: give target and draft the same noise.
        tolerance: with a distance above 0, in latent units, the rule is replaced: a draft stands if it is no further
            than this from the target's own draw under the same noise, which takes its place otherwise.
        guarantee: what all this promises.
    """

    rule: Rule
    length: int
    prefilled: int
    aligned: bool
    tolerance: float
    guarantee: Guarantee


class Continuous(Pair):
    """Continuous speculative decoding with roll-back.

    With the rule `exact` and no tolerance the images have the law of `Masked` with last_noise=True at the same AR and
    head steps. With a tolerance d every token lies within d of a draw from the target's conditional given the tokens
    before it in the image (a distance in the sense of Wasserstein-infinity, per token). `published` promises nothing.

    Args:
        target, draft, ar_steps, raster, draws: as of `Pair`.
        speculation: how a round is made.
    """

    def __init__(
        self,
        target: LatentModel[Any],
        draft: LatentModel[Any],
        ar_steps: int,
        speculation: Speculation,
        raster: bool,
        draws: type[Draws] = Draws,
    ) -> None:
        super().__init__(target, draft, ar_steps, speculation.aligned, raster, draws)
        self.speculation = speculation

    @property
    def guarantee(self) -> Guarantee:
        """As its settings say."""
        return self.speculation.guarantee

    def generate_all(
        self, conditions: Tensor, images: Sequence[int], seed: int, rows: int, finished: Finished = ignored
    ) -> tuple[Tensor, Sequence[ContinuousTrace]]:
        """See `Decoder.generate_all`: rows that finish are refilled."""
        tokens, trace = self._generate(conditions, images, seed, rows, finished)
        return tokens, [trace]

    def _loop(self, job: Job, rows: int) -> Loop:
        return _Rounds(self.speculation, job, rows)


@dataclass
class _Draft:
    """What the draft proposes in a round, by position of each row: [B, N, C] each."""

    mean: Tensor
    std: Tensor
    log_std_sum: Tensor

    def put(self, wanted: Wanted, moments: Moments) -> None:
        """Note the moments of some tokens."""
        where = wanted.rows, wanted.positions
        self.mean[where], self.std[where] = moments.mean, moments.std
        self.log_std_sum[where] = moments.log_std_sum

    def at(self, wanted: Wanted) -> Moments:
        """The moments of some tokens."""
        where = wanted.rows, wanted.positions
        return Moments(self.mean[where], self.std[where], self.log_std_sum[where])


class _Rounds(Loop):
    """Rounds of drafting, judging and keeping.

    Attributes:
        rows: number of the image in each row, of those that are not finished.
        steps: next AR step of each row.
        begun: images that are, or were, in a row.
    """

    def __init__(self, how: Speculation, job: Job, rows: int) -> None:
        super().__init__(job, rows)
        self.how = how
        self.rows = list(range(min(rows, len(job.images))))
        self.steps = [0] * len(self.rows)
        self.begun = len(self.rows)

    def run(self) -> None:
        """See `Loop.run`."""
        while self.rows:
            self.round()

    def round(self) -> None:
        """Draft, judge, keep."""
        start = list(self.target.state.counts)
        ahead = [self.how.length if step >= self.how.prefilled else 0 for step in self.steps]
        proposed = self._propose(ahead)
        sizes = [self.reveal.sizes(step, step + most + 1) for step, most in zip(self.steps, ahead, strict=True)]
        wanted = self.target.state.wanted(sizes)
        drafts = self.draft.state.tokens[wanted.rows, wanted.positions]
        asked = list(zip(wanted.row_list, wanted.group_list, strict=True))
        p, noise = self.target.moments(wanted, [self.steps[row] + group for row, group in asked], drafts)
        with phase(Phase.accept):
            own = p.mean + p.std * noise
            drafted = [number for number, (row, group) in enumerate(asked) if group < ahead[row]]
            judged = torch.tensor(drafted, dtype=torch.long, device=own.device)
            try:
                verdict, found = self._judge(wanted, judged, drafts, proposed.at(wanted), p, own)
            except NoGaussian:
                self._check(wanted, drafts, own)
                raise
            own[judged] = verdict.tokens.to(own.dtype)
        with phase(Phase.commit):
            self._keep(wanted, start, ahead, own, judged, found, drafts)

    def _propose(self, most: list[int]) -> _Draft:
        """Draft up to so many AR steps in every row; the last noise is really added."""
        like = self.draft.state.tokens
        proposed = _Draft(torch.zeros_like(like), torch.ones_like(like), torch.zeros_like(like))
        for ahead in range(self.how.length):
            steps = [
                step + ahead if ahead < limit and step + ahead < self.reveal.steps else None
                for step, limit in zip(self.steps, most, strict=True)
            ]
            if all(step is None for step in steps):
                break
            proposed.put(*self.draft.step(steps, last_noise=True))
        return proposed

    def _judge(
        self, wanted: Wanted, judged: Tensor, drafts: Tensor, q: Moments, p: Moments, own: Tensor
    ) -> tuple[Verdict, Tensor]:
        """The verdict on the drafted tokens, and what is logged of it [m, 4]: kept, raw, distance, fallback."""
        rows, positions = wanted.rows[judged], wanted.positions[judged]
        images = self.target.keys[rows]
        uniforms = self.draws.judgement(images, positions)
        drafts, q, p = drafts[judged], q.at(judged), p.at(judged)
        distance = (drafts - own[judged]).norm(dim=-1)
        if self.how.tolerance > 0:  # the target's own draw replaces what is not kept, and the rule's is not looked for
            raw, log_ratio = compared(drafts, q, p, uniforms)
            near = distance <= self.how.tolerance
            tokens = torch.where(near[:, None], drafts.to(own.dtype), own[judged])
            verdict = Verdict(near, tokens, log_ratio, torch.zeros_like(near))
        else:
            verdict = self.how.rule(drafts, q, p, uniforms, self.draws.proposals(images, positions))
            raw = verdict.kept
        logged = [verdict.kept.double(), raw.double(), distance.double(), verdict.fallback.double()]
        return verdict, torch.stack(logged, 1)

    def _keep(
        self,
        wanted: Wanted,
        start: list[int],
        ahead: list[int],
        own: Tensor,
        judged: Tensor,
        found: Tensor,
        drafts: Tensor,
    ) -> None:
        """Decide the steps up to the first with a rejection; `found` is read here, once for all rows."""
        numbers = found.tolist()
        if not all(math.isfinite(distance) for _, _, distance, _ in numbers):
            self._check(wanted, drafts, own)
        drafted = iter(numbers)
        counts, used = [], []
        for row, sizes in enumerate(wanted.sizes):
            verdicts = [
                [Judged(bool(k), bool(r), d, bool(f)) for k, r, d, f in _take(drafted, size)]
                for size in sizes[: ahead[row]]
            ]
            good = next((n for n, group in enumerate(verdicts) if not all(one.kept for one in group)), len(verdicts))
            done = min(good + 1, len(sizes))
            if verdicts:
                number = sum(sizes[: min(done, len(verdicts))])
                self.rounds[self.rows[row]].append(Round([one for group in verdicts for one in group], number))
            counts.append(start[row] + sum(sizes[:done]))
            used.append(done)
        self._write(wanted, own, judged, found[:, 0] > 0, used)
        self.steps = [step + done for step, done in zip(self.steps, used, strict=True)]
        for session in (self.target, self.draft):
            session.state.write(wanted, own)
            session.model.keep(session.state, counts)
        self._retire()

    def _check(self, wanted: Wanted, drafts: Tensor, own: Tensor) -> None:
        """Find out whose tokens are not finite: drafts see what is decided, and the target's see the drafts."""
        self.target.check("target", wanted, torch.zeros_like(own))
        self.draft.check("drafter", wanted, drafts)
        self.target.check("target", wanted, own)

    def _write(self, wanted: Wanted, own: Tensor, judged: Tensor, kept: Tensor, used: list[int]) -> None:
        """Note where the tokens that are decided now came from."""
        origin = torch.full((len(own),), Origin.DRAWN, dtype=torch.int8, device=own.device)
        origin[judged] = torch.where(kept, Origin.ACCEPTED, Origin.DRAWN).to(torch.int8)
        asked = enumerate(zip(wanted.row_list, wanted.group_list, strict=True))
        decided = [number for number, (row, group) in asked if group < used[row]]
        index = torch.tensor(decided, dtype=torch.long, device=own.device)
        rows = torch.tensor(self.rows, device=own.device)[wanted.rows[index]]
        self.origin[rows, wanted.positions[index]] = origin[index]

    def _retire(self) -> None:
        """Take finished images out, and begin the next ones in their rows."""
        done = [row for row, step in enumerate(self.steps) if step >= self.reveal.steps]
        if not done:
            return
        index = torch.tensor(done, device=self.tokens.device)
        self.tokens[[self.rows[row] for row in done]] = self.target.state.tokens[index]
        self.job.finished(len(done))
        following = range(self.begun, min(self.begun + len(done), len(self.job.images)))
        if following:
            self._begin(done[: len(following)], following)
        if len(following) == len(done):
            return
        going = [row for row, step in enumerate(self.steps) if step < self.reveal.steps]
        self.rows, self.steps = [self.rows[row] for row in going], [self.steps[row] for row in going]
        if going:
            self.target.select(going)
            self.draft.select(going)

    def _begin(self, rows: list[int], following: range) -> None:
        """Begin the images that follow, in rows that are free."""
        here, job = slice(following.start, following.stop), self.job
        for session in (self.target, self.draft):
            session.admit(rows, job.conditions[here], job.images[here], job.path[here])
        for row, number in zip(rows, following, strict=True):
            self.rows[row], self.steps[row] = number, 0
        self.begun = following.stop


def _take(values: Any, count: int) -> list[Any]:
    return [next(values) for _ in range(count)]
