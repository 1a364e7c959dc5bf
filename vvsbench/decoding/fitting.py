"""Measure how well a drafter's candidates hit, which is what trees are shaped by.

`python -m vvsbench.decoding.fitting model=tiny` follows some images token by token and compares, at every position,
what the drafter would propose with what the target draws. It prints `hit_rates` for each kind of candidates: how often
the target's token is the candidate of each rank; a static tree is fitted to them. And it prints `sharpness`: how
strongly, under shared noise, a larger log q + G says that the target will draw that candidate. Both depend on drafter,
target and sampling setting alike and belong into conf/drafter.

What a source without a network proposes depends on the rounds before, so it is measured where it drafts:
`decoder=jacobi` decodes those images, and at each depth of an accepted path its candidates are compared with the
target's token. Its rates are by run (see `vvsbench.drafting.rates`), and so is its sharpness.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Protocol

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from vvsbench import identity
from vvsbench.composition import composed
from vvsbench.decoding import build
from vvsbench.decoding.acceptance import Match
from vvsbench.decoding.speculative import Grid, Speculative
from vvsbench.drafting.protocols import DraftSource
from vvsbench.drafting.tree import TokenTree
from vvsbench.errors import UserError
from vvsbench.models.protocols import Block, TokenModel
from vvsbench.noise import Purpose, gumbel
from vvsbench.runs.prompts import prompts
from vvsbench.sampling import Sampling, draw

IMAGES, BATCH, RANKS, RUNS = 64, 16, 10, 6
FIRST_IMAGE = 2**32
"""Far from the images of any set."""
POSITIONS = 4096
"""So many positions, evenly spread, are enough for the sharpness; each holds a vocabulary of scores."""


class Drafting(Protocol):
    """What is measured: any decoder that drafts."""

    target: TokenModel[Any]
    source: DraftSource[Any]
    sampling: Sampling
    grid: Grid


@dataclass
class Position:
    """One position of a batch of images.

    Attributes:
        target: [B, V] log-probabilities of the sampled distribution, -inf where it has none.
        drafter: the same of the drafter.
        noise: float32 [B, V], the Gumbel noise that the target draws with.
        other: float32 [B, V], Gumbel noise that it does not know.
        drawn: int64 [B], the target's token.
    """

    target: Tensor
    drafter: Tensor
    noise: Tensor
    other: Tensor
    drawn: Tensor

    def take(self, rows: Tensor) -> Position:
        """The positions of some rows, bool [B]."""
        return Position(*(getattr(self, one.name)[rows] for one in fields(self)))


def positions(decoder: Drafting, conditions: Tensor, images: Sequence[int]) -> Iterator[Position]:
    """Follow vanilla AR decoding, the drafter at every token's side; the first token is nobody's to draft."""
    target, source, vocab = decoder.target, decoder.source, decoder.target.spec.vocab
    keys, count = torch.tensor(list(images), device=target.device), len(images)
    state = target.start(conditions, images, room=1)
    token = draw(decoder.sampling.scores(state.first_logits), gumbel(0, keys, torch.zeros_like(keys), vocab))
    draft = source.start(state, token, room=1)
    one = torch.ones_like(token)
    for index in range(1, target.spec.tokens):
        proposed = decoder.sampling.scores(source.root_logits(draft)[:, 0]).log_softmax(-1)
        block = Block(token[:, None], torch.zeros(1, 1, dtype=torch.long, device=target.device))
        logits, features = target.forward(state, block)
        target.commit(state, None, one)
        target.note(state, [index] * count)
        own = decoder.sampling.scores(logits[:, 0]).log_softmax(-1)
        place = keys.new_full((count,), index)
        noise = gumbel(0, keys, place, vocab)
        token = draw(own, noise)
        yield Position(own, proposed, noise, gumbel(0, keys, place, vocab, Purpose.ACCEPTANCE), token)
        source.extend(draft, features, token[:, None], one)
        source.note(draft, [index + 1] * count, exact=True)


def shared_noise_hits(at: Position, ranks: int) -> Tensor:
    """[B, ranks] whether the target's token is the candidate of each rank of log q + G."""
    best = (at.drafter + at.noise).topk(ranks, -1).indices
    return (best == at.drawn[:, None]).double()


def top_k_hits(at: Position, ranks: int) -> Tensor:
    """[B, ranks] the target's probability of each of the drafter's likeliest tokens."""
    return at.target.gather(-1, at.drafter.topk(ranks, -1).indices).exp().double()


def sampled_hits(at: Position, ranks: int) -> Tensor:
    """[B, ranks] the probability that the exact rule for sampled candidates stops at each.

    Candidate j is drawn from q without those before it; it is accepted with probability min(1, p / q) of what is left
    of p, and what a rejection leaves is the part of p above q.
    """
    order = (at.drafter + at.other).topk(ranks, -1).indices
    p, q = at.target.exp().double(), at.drafter.exp().double()
    reached, hits = p.new_ones(len(p)), []
    for rank in range(ranks):
        token = order[:, rank : rank + 1]
        chance = q.gather(-1, token)
        accepted = (p.gather(-1, token) / chance.clamp_min(1e-300)).clamp_max(1)[:, 0] * (chance[:, 0] > 0)
        hits.append(reached * accepted)
        reached = reached * (1 - accepted)
        p = (p - q).clamp_min(0)
        p = p / p.sum(-1, keepdim=True).clamp_min(1e-300)
        q = q.scatter(-1, token, 0)
        q = q / q.sum(-1, keepdim=True).clamp_min(1e-300)
    return torch.stack(hits, -1)


KINDS = {"shared_noise": shared_noise_hits, "top_k": top_k_hits, "sampled": sampled_hits}


def sharpness(scores: Tensor, drawn: Tensor) -> float:
    """The kappa under which softmax(kappa * scores) gives the tokens that the target drew the highest likelihood.

    Args:
        scores: [M, V], the drafter's log q + G.
        drawn: int64 [M]; tokens that the drafter excludes tell nothing of kappa and are left out.
    """
    own = scores.gather(-1, drawn[:, None])[:, 0]
    told = own.isfinite()
    scores, own = scores[told].double(), own[told].double()

    def loss(kappa: float) -> float:
        return float((torch.logsumexp(kappa * scores, -1) - kappa * own).mean())

    return float(minimize_scalar(loss, bounds=(0.01, 20.0), method="bounded", options={"xatol": 1e-4}).x)


class Watched:
    """A source whose proposals are compared with the target's tokens where they are verified.

    Args:
        source: one that knows all levels of a tree at once.
        sampling: of the target.
        tokens: of an image.
        take: is given runs, and the positions of the accepted paths and behind them that have these runs.
    """

    def __init__(
        self, source: DraftSource[Any], sampling: Sampling, tokens: int, take: Callable[[int, Position], None]
    ) -> None:
        self.source, self.sampling, self.tokens, self.take = source, sampling, tokens, take

    def __getattr__(self, name: str) -> Any:
        return getattr(self.source, name)

    def observe(self, state: Any, rows: Tensor, tree: TokenTree, logits: Tensor, counted: Tensor | None) -> None:
        """See `DraftSource.observe`."""
        scores = self.sampling.scores(logits)
        verdict = Match().judge(tree, scores, torch.zeros_like(tree.tokens, dtype=scores.dtype))
        path, levels = tree.path_to(verdict.node), int(tree.depths.max()) + 1
        proposed = self.source.ahead(state, levels)
        assert proposed is not None
        laws = self.sampling.scores(proposed[rows]).log_softmax(-1)
        run = torch.zeros_like(verdict.node)
        for depth in range(levels):
            own = scores[torch.arange(len(run)), path[:, depth]].log_softmax(-1)
            noise = tree.noise[:, depth]
            at = Position(own, laws[:, depth], noise, noise.roll(1, -1), draw(own, noise))
            reached = (verdict.accepted >= depth) & (state.known[rows] + depth < self.tokens)
            for value in run[reached].unique().tolist():
                self.take(value, at.take(reached & (run == value)))
            run = torch.where(draw(at.drafter, noise) == at.drawn, run + 1, 0)
        self.source.observe(state, rows, tree, logits, counted)


@dataclass
class Tally:
    """What was seen of one run.

    Attributes:
        hits: by kind of candidates, float64 [ranks].
        count: positions.
        shared: mass that p and q share, added up.
        scores, drawn: some of the drafter's log q + G [., V], and the target's tokens.
    """

    hits: dict[str, Tensor]
    count: int = 0
    shared: float = 0.0
    scores: list[Tensor] = field(default_factory=list)
    drawn: list[Tensor] = field(default_factory=list)

    def add(self, at: Position, stride: int) -> None:
        """Take in the positions, every so many of them also for the sharpness."""
        for name, hits in KINDS.items():
            self.hits[name] += hits(at, len(self.hits[name])).sum(0).cpu()
        self.shared += float(torch.minimum(at.target.exp(), at.drafter.exp()).sum())
        kept = slice(-self.count % stride, None, stride)
        self.scores.append((at.drafter + at.noise)[kept].float().cpu())
        self.drawn.append(at.drawn[kept].cpu())
        self.count += len(at.drawn)


@dataclass
class Fit:
    """What a drafter's settings should say.

    Attributes:
        hit_rates: by kind of candidates, then by run, best rank first.
        sharpness: by run.
        overlap: mass that p and q share, on average.
    """

    hit_rates: dict[str, list[list[float]]]
    sharpness: list[float]
    overlap: float


@torch.inference_mode()
def fit(decoder: Drafting, chosen: Sequence[Any], images: int = IMAGES, ranks: int = RANKS) -> Fit:
    """Measure a drafter.

    Args:
        decoder: lends its target, drafter and sampling setting.
        chosen: prompts of the images, taken in turn.
        images: how many to follow.
        ranks: candidates that are looked at.
    """
    ranks = min(ranks, decoder.target.spec.vocab)
    stride = -(-images * (decoder.target.spec.tokens - 1) // POSITIONS)
    tallies: dict[int, Tally] = {}

    def take(run: int, at: Position) -> None:
        empty = {name: torch.zeros(ranks, dtype=torch.float64) for name in KINDS}
        tallies.setdefault(min(run, RUNS - 1), Tally(empty)).add(at, stride)

    for first in range(0, images, BATCH):
        numbers = range(first, min(first + BATCH, images))
        conditions = decoder.target.conditions([chosen[7 * number % len(chosen)] for number in numbers])
        followed = [FIRST_IMAGE + number for number in numbers]
        if decoder.source.network is None:
            source: Any = Watched(decoder.source, decoder.sampling, decoder.target.spec.tokens, take)
            Speculative(decoder.target, source, decoder.grid, decoder.sampling).generate(conditions, followed, 0)
        else:
            for at in positions(decoder, conditions, followed):
                take(0, at)
    seen = [tally for _, tally in sorted(tallies.items()) if tally.count]
    return Fit(
        {name: [[round(float(hit) / tally.count, 4) for hit in tally.hits[name]] for tally in seen] for name in KINDS},
        [round(sharpness(torch.cat(tally.scores), torch.cat(tally.drawn)), 3) for tally in seen],
        round(sum(tally.shared for tally in seen) / sum(tally.count for tally in seen), 4),
    )


USAGE = """\
usage: python -m vvsbench.decoding.fitting [KEY=VALUE ...]

Measures the drafter of decoder=sd, or of another decoder=NAME, under these settings, which are those of `vvsbench run`,
and prints what belongs into its file in conf/drafter. Of decoder=jacobi everything is by run.
"""


def main(overrides: Sequence[str]) -> int:
    """Print the fit of the drafter of `sd`, or of another decoder, under the given overrides."""
    if {"-h", "--help"} & set(overrides):
        print(USAGE)
        return 0
    try:
        chosen = any(override.startswith("decoder=") for override in overrides)
        cfg = composed([*([] if chosen else ["decoder=sd"]), *overrides])
        decoder: Any = build(cfg, torch.device(identity.device(cfg.device)), torch.float32)
    except UserError as error:
        print(f"vvsbench: {error}", file=sys.stderr)
        return error.exit_code
    found = fit(decoder, prompts(cfg))
    for candidates, rates in found.hit_rates.items():
        print(f"hit_rates, candidates={candidates}: {rates if len(rates) > 1 else rates[0]}")
    print(f"sharpness: {found.sharpness if len(found.sharpness) > 1 else found.sharpness[0]}")
    print(f"overlap of the two distributions: {found.overlap}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
