"""Continuous speculative decoding: draft a few AR steps, judge them all at once, keep what comes before a rejection.

Every row has its own length. A round drafts up to `length` AR steps and asks the target for the conditionals of all of
them and of one step more, each given the decided tokens and the drafts of earlier steps. The tokens of one step are
independent of each other given the steps before, so each is judged by itself; the first step in which one is rejected
is completed by the rule's own draws and ends the round, and what was drafted after it is discarded. Where nothing is
rejected, the target's own draw of the step beyond the drafts comes for free.

The decision on a token uses the noise of its own position only. A position that is drafted again after a roll-back
meets the noise that it met before, of which nothing has been used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vvsbench.axes import Guarantee
from vvsbench.decoding.base import Decoder
from vvsbench.decoding.continuous.coupling import Proposals, Verdict
from vvsbench.decoding.continuous.draws import Draws
from vvsbench.decoding.continuous.reveal import reveal
from vvsbench.decoding.continuous.session import Session, paths
from vvsbench.decoding.continuous.trace import ContinuousTrace, Judged, Meters, Round
from vvsbench.decoding.trace import Origin
from vvsbench.models.diffusion import Moments
from vvsbench.models.latents import LatentModel, Wanted
from vvsbench.noise import Purpose

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


class Continuous(Decoder):
    """Continuous speculative decoding with roll-back.

    With the rule `exact` and no tolerance the images have the law of `Masked` with last_noise=True at the same AR and
    head steps. With a tolerance d every token lies within d of a draw from the target's conditional given the tokens
    before it in the image (a distance in the sense of Wasserstein-infinity, per token). `published` promises nothing.

    Args:
        target, draft: with equal head steps.
        ar_steps: S.
        speculation: how a round is made.
        raster: see `Masked`.
        draws: likewise.
    """

    target: LatentModel[Any]

    def __init__(
        self,
        target: LatentModel[Any],
        draft: LatentModel[Any],
        ar_steps: int,
        speculation: Speculation,
        raster: bool,
        draws: type[Draws] = Draws,
    ) -> None:
        self.target, self.draft, self.speculation, self.raster = target, draft, speculation, raster
        self.reveal = reveal(target.spec.tokens, ar_steps, target.guidance)
        self._draws = draws

    @property
    def guarantee(self) -> Guarantee:
        """As its settings say."""
        return self.speculation.guarantee

    @torch.inference_mode()
    def generate(self, conditions: Tensor, images: Sequence[int], seed: int) -> tuple[Tensor, ContinuousTrace]:
        """See `Decoder.generate`."""
        spec, device = self.target.spec, self.target.device
        draws = self._draws(seed, spec.channels)
        path = paths(draws, images, spec.tokens, self.raster, device)
        with Meters().watching(self.target, self.draft) as meters:
            loop = _Loop(self, draws, conditions, images, path)
            loop.prefill()
            while loop.rows:
                loop.round()
        trace = ContinuousTrace(list(images), loop.origin, loop.rounds, meters, spec.flops)
        return loop.tokens.float(), trace


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


class _Loop:
    """One batch.

    Attributes:
        rows: rows of the batch that are not finished, in the order in which the sessions hold them.
        steps: next AR step of each of them.
        tokens, origin, rounds: of the whole batch.
    """

    def __init__(
        self, decoder: Continuous, draws: Draws, conditions: Tensor, images: Sequence[int], path: Tensor
    ) -> None:
        self.how, self.reveal, self.draws = decoder.speculation, decoder.reveal, draws
        purpose = Purpose.HEAD if self.how.aligned else Purpose.DRAFT_HEAD
        self.target = Session(decoder.target, decoder.reveal, draws, conditions, images, path)
        self.draft = Session(decoder.draft, decoder.reveal, draws, conditions, images, path, purpose)
        self.rows = list(range(len(images)))
        self.steps = [0] * len(images)
        self.tokens = torch.zeros_like(self.target.state.tokens)
        self.origin = torch.full(path.shape, Origin.DRAWN, dtype=torch.int8, device=path.device)
        self.rounds: list[list[Round]] = [[] for _ in images]

    def prefill(self) -> None:
        """Let the target decide the first AR steps."""
        for step in range(self.how.prefilled):
            wanted, _ = self.target.step([step] * len(self.rows), last_noise=True)
            self.draft.decide(wanted, self.target.state.tokens[wanted.rows, wanted.positions])
            self.steps = [step + 1] * len(self.rows)
        self._retire()

    def round(self) -> None:
        """Draft, judge, keep."""
        start = list(self.target.state.counts)
        proposed = self._propose()
        sizes = [self.reveal.sizes(step, step + self.how.length + 1) for step in self.steps]
        wanted = self.target.state.wanted(sizes)
        drafts = self.draft.state.tokens[wanted.rows, wanted.positions]
        steps = [self.steps[row] + group for row, group in zip(wanted.row_list, wanted.group_list, strict=True)]
        p, noise = self.target.moments(wanted, steps, drafts)
        own = p.mean + p.std * noise
        judged = torch.tensor(self._is_drafted(wanted), device=own.device).nonzero()[:, 0]
        verdict, found = self._judge(wanted, judged, drafts, proposed.at(wanted), p, own)
        own[judged] = verdict.tokens.to(own.dtype)
        self._keep(wanted, start, own, judged, found)

    def _propose(self) -> _Draft:
        """Draft up to `length` AR steps in every row; the last noise is really added."""
        like = self.draft.state.tokens
        proposed = _Draft(torch.zeros_like(like), torch.ones_like(like), torch.zeros_like(like))
        for ahead in range(self.how.length):
            steps = [step + ahead if step + ahead < self.reveal.steps else None for step in self.steps]
            if all(step is None for step in steps):
                break
            proposed.put(*self.draft.step(steps, last_noise=True))
        return proposed

    def _is_drafted(self, wanted: Wanted) -> list[bool]:
        """Whether each wanted token was drafted, or belongs to the step beyond."""
        return [group < self.how.length for group in wanted.group_list]

    def _judge(
        self, wanted: Wanted, judged: Tensor, drafts: Tensor, q: Moments, p: Moments, own: Tensor
    ) -> tuple[Verdict, Tensor]:
        """The verdict on the drafted tokens, and what is logged of it [m, 4]: kept, raw, distance, fallback."""
        rows, positions = wanted.rows[judged], wanted.positions[judged]
        images = self.target.keys[rows]
        uniforms = self.draws.judgement(images, positions)
        drafts = drafts[judged]
        verdict = self.how.rule(drafts, q.at(judged), p.at(judged), uniforms, self.draws.proposals(images, positions))
        distance = (drafts - own[judged]).norm(dim=-1)
        raw = verdict.kept
        if self.how.tolerance > 0:
            near = distance <= self.how.tolerance
            tokens = torch.where(near[:, None], drafts.to(own.dtype), own[judged])
            verdict = Verdict(near, tokens, verdict.log_ratio, torch.zeros_like(near))
        logged = [verdict.kept.double(), raw.double(), distance.double(), verdict.fallback.double()]
        return verdict, torch.stack(logged, 1)

    def _keep(self, wanted: Wanted, start: list[int], own: Tensor, judged: Tensor, found: Tensor) -> None:
        """Decide the steps up to the first with a rejection; `found` is read here, the round's only synchronisation."""
        drafted = iter(found.tolist())
        counts, used = [], []
        for row, sizes in enumerate(wanted.sizes):
            verdicts = [
                [Judged(bool(k), bool(r), d, bool(f)) for k, r, d, f in _take(drafted, size)]
                for size in sizes[: self.how.length]
            ]
            good = next((n for n, group in enumerate(verdicts) if not all(one.kept for one in group)), len(verdicts))
            done = min(good + 1, len(sizes))
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

    def _write(self, wanted: Wanted, own: Tensor, judged: Tensor, kept: Tensor, used: list[int]) -> None:
        """Note where the tokens that are decided now came from."""
        origin = torch.full((len(own),), Origin.DRAWN, dtype=torch.int8, device=own.device)
        origin[judged] = torch.where(kept, Origin.ACCEPTED, Origin.DRAWN).to(torch.int8)
        decided = [group < used[row] for row, group in zip(wanted.row_list, wanted.group_list, strict=True)]
        index = torch.tensor(decided, device=own.device).nonzero()[:, 0]
        rows = torch.tensor(self.rows, device=own.device)[wanted.rows[index]]
        self.origin[rows, wanted.positions[index]] = origin[index]

    def _retire(self) -> None:
        """Take finished rows out of both batches."""
        going = [place for place, step in enumerate(self.steps) if step < self.reveal.steps]
        if len(going) == len(self.rows):
            return
        index = torch.tensor(self.rows, device=self.tokens.device)
        self.tokens[index] = self.target.state.tokens
        self.rows, self.steps = [self.rows[place] for place in going], [self.steps[place] for place in going]
        if going:
            self.target.select(going)
            self.draft.select(going)


def _take(values: Any, count: int) -> list[Any]:
    return [next(values) for _ in range(count)]
