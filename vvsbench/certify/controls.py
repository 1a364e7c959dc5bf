"""Negative controls: decoders that are wrong on purpose, each by a mistake that was made before.

They prove that the tests have power: every one must be caught. Each names the exact decoder that it spoils.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from vvsbench.axes import Candidates, Guarantee, Recheck
from vvsbench.certify import law
from vvsbench.certify.drawing import sample
from vvsbench.certify.exact import LARGE_BATCH, LONG, TOY
from vvsbench.certify.toys import SAMPLINGS, Toy, source, structure
from vvsbench.certify.toys import law as law_of
from vvsbench.decoding.acceptance import AcceptanceRule, Match, Sequential, Verdict
from vvsbench.decoding.acceptance.sequential import Walk, remainder
from vvsbench.decoding.batch import Batch
from vvsbench.decoding.schedule import Always, Schedule, Uniform
from vvsbench.decoding.settings import SkipConfig
from vvsbench.decoding.speculative import Grid, Speculative
from vvsbench.drafting.tree import TokenTree
from vvsbench.sampling import Sampling, draw

CAUGHT = 1e-9
"""A control is caught when its p-value lies below this."""
FILTERED = "temperature 0.8, top-k 2"


class RawBonus(Sequential):
    """After a fully accepted path the bonus is drawn from the target without temperature and top-k."""

    def __init__(self, sampling: Sampling) -> None:
        self.sampling = sampling

    def judged(self, sampling: Sampling) -> Sampling:
        """Raw logits."""
        return Sampling()

    def judge(self, tree: TokenTree, scores: Tensor, chance: Tensor) -> Verdict:
        """See `AcceptanceRule.judge`."""
        verdict = super().judge(tree, self.sampling.scores(scores), chance)
        raw = draw(_at(scores, verdict.node), _at(tree.noise, verdict.accepted))
        return replace(verdict, bonus=torch.where(verdict.accepted == tree.levels, raw, verdict.bonus))


class RejectedStays(Walk):
    """What a rejection leaves still holds the rejected token."""

    def weigh(self, rest: Tensor, q: Tensor, token: Tensor, sampled: bool, depth: int) -> tuple[Tensor, Tensor]:
        """See `Walk.weigh`."""
        mass, left = super().weigh(rest, q, token, sampled, depth)
        left = left.scatter(1, token, mass)
        return mass, left / left.sum(1, keepdim=True)


class StaleDraft(Walk):
    """The first sibling is weighed by what it was drawn from, and so are all others."""

    def drawn(self, log_q: Tensor, token: Tensor) -> Tensor:
        """See `Walk.drawn`."""
        return log_q


class SiblingsStay(Walk):
    """A candidate is weighed by what it was drawn from; what its rejection leaves is made with siblings still in it."""

    def walk(self, tree: TokenTree, scores: Tensor, chance: Tensor) -> tuple[Tensor, Tensor]:
        """See `Walk.walk`."""
        self.whole: Tensor | None = None
        return super().walk(tree, scores, chance)

    def proposal(self, log_q: Tensor | None, token: Tensor, rest: Tensor) -> Tensor:
        """See `Walk.proposal`; remembers the law of the first sibling."""
        assert log_q is not None
        if not torch.isinf(log_q).any():
            self.whole = log_q.to(rest.dtype).softmax(-1)
        return super().proposal(log_q, token, rest)

    def weigh(self, rest: Tensor, q: Tensor, token: Tensor, sampled: bool, depth: int) -> tuple[Tensor, Tensor]:
        """See `Walk.weigh`."""
        assert self.whole is not None
        return rest.gather(1, token), remainder(rest, self.whole, otherwise=rest)


class EagerMatch(Match):
    """Takes the first child of the root without asking whether the target drew it."""

    def judge(self, tree: TokenTree, scores: Tensor, chance: Tensor) -> Verdict:
        """See `AcceptanceRule.judge`."""
        honest = super().judge(tree, scores, chance)
        forced = honest.accepted == 0
        wanted = draw(scores[:, 1], tree.noise[:, 1])
        return Verdict(
            torch.where(forced, 1, honest.node),
            torch.where(forced, 1, honest.accepted),
            torch.where(forced, wanted, honest.bonus),
        )


class FreshBonus(Match):
    """After a rejection draws from the target anew, with noise of its own: the rejected drafts get a second chance."""

    def __init__(self) -> None:
        self.generator = torch.Generator().manual_seed(0)

    def judge(self, tree: TokenTree, scores: Tensor, chance: Tensor) -> Verdict:
        """See `AcceptanceRule.judge`."""
        honest = super().judge(tree, scores, chance)
        uniforms = torch.rand(scores[:, 0].shape, generator=self.generator, dtype=scores.dtype)
        redrawn = draw(scores[:, 0], -(-uniforms.log()).log())
        return replace(honest, bonus=torch.where(honest.accepted == 0, redrawn, honest.bonus))


class OtherRound(Sequential):
    """Weighs the drafts of a window by what the target says now, not by what it said when they were drawn."""

    def judge(self, tree: TokenTree, scores: Tensor, chance: Tensor) -> Verdict:
        """See `AcceptanceRule.judge`."""
        nodes = tree.first_of_depths[0][:, : tree.levels].expand(len(scores), -1)
        now = scores.gather(1, nodes[..., None].expand(-1, -1, scores.shape[-1])).log_softmax(-1)
        return super().judge(replace(tree, laws=now), scores, chance)


class PastTheEnd(Speculative):
    """Once the window reaches past the end of the image, what it holds is taken as it stands."""

    def _judged(
        self, batch: Batch, tree: TokenTree, logits: Tensor, rows: Any, row_list: list[int], seed: int
    ) -> Verdict:
        honest = super()._judged(batch, tree, logits, rows, row_list, seed)
        known = batch.known_count if rows is None else batch.known_count[rows]
        deepest = tree.depths.amax(1)
        ends = known + deepest >= self.target.spec.tokens
        leaf = tree.first_of_depths[0].gather(1, deepest[:, None])[:, 0]
        return replace(
            honest,
            node=torch.where(ends, leaf, honest.node),
            accepted=torch.where(ends, deepest, honest.accepted),
        )


class Forgetful(Speculative):
    """Looks again at what was skipped, as one that takes it back does, and keeps it."""

    def _rechecked(self, batch: Batch, rows: Tensor | None, logits: Tensor, chain: Any, seed: int) -> Any:
        return replace(chain, agreed=super()._rechecked(batch, rows, logits, chain, seed).agreed)


def _at(values: Tensor, place: Tensor) -> Tensor:
    """Row place[b] of values [B, T, V]: [B, V]."""
    return values.gather(1, place[:, None, None].expand(-1, 1, values.shape[-1]))[:, 0]


@dataclass(frozen=True)
class Spoilt:
    """A control.

    Attributes:
        name: in words.
        what: which decoder it spoils, and how.
        rule: makes the acceptance rule.
        structure, candidates, sampling, source: see `vvsbench.certify.exact`.
        schedule, skip: what is skipped.
        toy: what it is tested on.
        loop: the speculative loop.
    """

    name: str
    what: str
    rule: Callable[[], AcceptanceRule]
    structure: str
    candidates: Candidates
    sampling: str = "plain"
    source: str = "good"
    schedule: Schedule = field(default_factory=Always)
    skip: SkipConfig = field(default_factory=SkipConfig)
    toy: Toy = TOY
    loop: type[Speculative] = Speculative

    def build(self) -> Speculative:
        """The decoder."""
        tree = structure(self.structure, self.toy.vocab)
        grid = Grid(tree, self.candidates, self.rule(), self.schedule, self.skip)
        return self.loop(self.toy.target, source(self.toy, self.source), grid, SAMPLINGS[self.sampling])


DEPENDENT = Toy(vocab=3, tokens=6, seed=2, spread=2.5)
"""Tokens depend strongly on those before, so that the law of a draft changes from step to step."""
_EVERY_OTHER = Uniform(interval=2, first_tokens=0)
CONTROLS: Sequence[Spoilt] = (
    Spoilt(
        "raw bonus",
        "sequential rule, bonus token drawn without temperature and top-k",
        lambda: RawBonus(SAMPLINGS[FILTERED]),
        "chain",
        Candidates.top_k,
        FILTERED,
    ),
    Spoilt(
        "rejected token stays",
        "sequential rule, residual that keeps the rejected token",
        RejectedStays,
        "fitted",
        Candidates.top_k,
    ),
    Spoilt(
        "stale q",
        "sequential rule, every sampled sibling weighed by the law of the first",
        StaleDraft,
        "published",
        Candidates.sampled,
        source="hopeless",
    ),
    Spoilt(
        "siblings not removed",
        "sequential rule, residual taken against a law that still holds the siblings drawn before",
        SiblingsStay,
        "published",
        Candidates.sampled,
        source="hopeless",
    ),
    Spoilt(
        "candidates know the noise",
        "sequential rule on shared-noise candidates",
        Sequential,
        "chain",
        Candidates.shared_noise,
    ),
    Spoilt(
        "stale draft law",
        "sequential rule on retained drafts, each weighed by the first law it was drawn from (SCD as released)",
        Sequential,
        "window",
        Candidates.retained,
        source="jacobi, stale draft law",
        toy=DEPENDENT,
    ),
    Spoilt(
        "eager match",
        "first candidate accepted whether the target drew it or not",
        EagerMatch,
        "chain",
        Candidates.top_k,
    ),
    Spoilt(
        "fresh bonus",
        "match, token after a rejection drawn anew, the rejected one included",
        FreshBonus,
        "chain",
        Candidates.shared_noise,
    ),
    Spoilt(
        "law of another round",
        "sequential rule, drafts of a Jacobi window weighed by a later law than they were drawn from",
        OtherRound,
        "window",
        Candidates.sampled,
        source="jacobi",
    ),
    Spoilt(
        "fresh bonus behind stale guesses",
        "match on stale guesses, token after a rejection drawn anew from all of p",
        FreshBonus,
        "chain",
        Candidates.shared_noise,
        source="jacobi",
    ),
    Spoilt(
        "past the end",
        "match on a Jacobi window, which is taken as it stands once it reaches past the end of the image",
        Match,
        "window",
        Candidates.shared_noise,
        source="jacobi",
        loop=PastTheEnd,
    ),
    Spoilt(
        "roll-back forgotten",
        "skipped tokens looked at again and kept where the target drew another",
        Match,
        "fitted",
        Candidates.shared_noise,
        schedule=_EVERY_OTHER,
        skip=SkipConfig(recheck=Recheck.rollback),
        toy=LONG,
        loop=Forgetful,
    ),
    Spoilt(
        "skips without roll-back",
        "every other step skipped, nothing taken back",
        Match,
        "fitted",
        Candidates.shared_noise,
        schedule=_EVERY_OTHER,
        toy=LONG,
    ),
)


@dataclass
class Control:
    """A control and whether it was caught.

    Attributes:
        name, what: see `Spoilt`.
        promises: what it says of itself.
        p_value: of its samples against the law of the target.
        caught: whether the p-value lies below `CAUGHT`.
    """

    name: str
    what: str
    promises: str
    p_value: float
    caught: bool


def certificates(draws: int) -> list[Control]:
    """Test every control with so many images."""
    found = []
    for spoilt in CONTROLS:
        decoder = spoilt.build()
        outcomes = sample(decoder, draws, LARGE_BATCH).outcomes
        p_value = law.p_value(outcomes, law_of(spoilt.toy, decoder.sampling), spoilt.toy.tokens)
        promises = Guarantee(decoder.guarantee).value
        found.append(Control(spoilt.name, spoilt.what, promises, p_value, p_value < CAUGHT))
    return found
