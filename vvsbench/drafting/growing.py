"""How a tree is grown: the candidates that a node proposes, and the structures that choose which nodes a tree has.

A static tree has the same rank paths at every step, so all its index arithmetic is done once; a dynamic tree (EAGLE-2,
arXiv 2406.16858) keeps the nodes that are likeliest to be accepted. Both are tensor code for a whole batch with no loop
over nodes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from vvsbench.axes import Candidates
from vvsbench.drafting.protocols import DraftSource, Redraft, RetainingSource
from vvsbench.drafting.rates import RankPath
from vvsbench.drafting.tree import Expansions, TokenTree, ancestors, root_paths
from vvsbench.fusing import fusible
from vvsbench.sampling import Sampling
from vvsbench.selection import largest

FIRST = 1e9
"""Noise with which a token comes before all others."""


AGAIN = -1e4
"""Log-hit of a candidate that comes again: below that of every other, and finite, since log-hits are added up."""


@dataclass
class Growth:
    """One tree being grown: what a structure may ask for while it grows.

    Attributes:
        source, state: who drafts, and its memory of the batch.
        sampling: turns guided logits into the drafter's distribution, as it does for the target.
        candidates: which tokens are proposed.
        noise: float [B, levels + 1, V], the noise that the target draws with.
        own_noise: float [B, levels, V], noise that only the drafter knows; for candidates that are draws.
        redraft: what retained candidates are drawn anew by, see `Redraft`.
        sharpness: of the estimate of hits under shared noise: the target's token is candidate i with probability
            softmax(sharpness (log q + G))_i. Fitted; it is the larger, the more drafter and target agree. One number,
            or float [levels], one for the candidates below nodes of each depth.
        scored: whether log_hits are wanted.
    """

    source: DraftSource[Any]
    state: Any
    sampling: Sampling
    candidates: Candidates
    noise: Tensor
    own_noise: Tensor | None = None
    redraft: Redraft | None = None
    sharpness: float | Tensor = 1.0
    scored: bool = True
    _laws: list[Tensor] = field(default_factory=list)
    _peaks: list[Tensor] = field(default_factory=list)

    def root(self, plan: Expansions | None = None) -> Tensor:
        """Log-scores [B, 1, V] of the root's children (see `DraftSource.root_logits`)."""
        return self._remembered(self.sampling.scores(self.source.root_logits(self.state, plan)))

    def expand(self, tokens: Tensor, parents: Tensor) -> Tensor:
        """Log-scores [B, W, V] of the children of nodes [B, W] (see `DraftSource.expand`)."""
        return self._remembered(self.sampling.scores(self.source.expand(self.state, tokens, parents)))

    def ahead(self, levels: int) -> Tensor | None:
        """Log-scores [B, levels, V] of each level's nodes (see `DraftSource.ahead`)."""
        logits = self.source.ahead(self.state, levels)
        if logits is None:
            return None
        scores = self._remembered(self.sampling.scores(logits))
        if self.redraft is not None:
            assert self.own_noise is not None
            assert isinstance(self.source, RetainingSource)
            first, self._laws[-1] = self.source.retain(self.state, scores, self.redraft)
            # the retained draft comes first; the others are what is drawn beside it, without replacement
            self.own_noise = self.own_noise.scatter(-1, first[..., None], FIRST)
        return scores

    def _remembered(self, scores: Tensor) -> Tensor:
        if self.candidates.drawn:
            scores = scores.log_softmax(-1)
            self._laws.append(scores)
        return scores

    @property
    def laws(self) -> Tensor | None:
        """See `TokenTree.laws`."""
        return torch.cat(self._laws, 1) if self._laws else None

    def propose(self, scores: Tensor, levels: slice, count: int) -> tuple[Tensor, Tensor | None]:
        """Candidates below nodes, best first.

        Args:
            scores: log-scores [B, W, V].
            levels: depths of the nodes: one for all of them, or one for each.
            count: candidates per node.

        Returns:
            Tokens int64 [B, W, count], and their log-probabilities to be the target's own [B, W, count] or None.
        """
        if self.candidates is Candidates.shared_noise:
            keys = scores + self.noise[:, levels]
            best, tokens, again = self._largest(keys, count)
            if not self.scored:
                return tokens, None
            kappa = self.sharpness if isinstance(self.sharpness, float) else self.sharpness[levels, None]
            return tokens, torch.where(again, AGAIN, kappa * best - (kappa * keys).logsumexp(-1, keepdim=True))
        keys = scores
        if self.candidates.drawn:
            assert self.own_noise is not None
            keys = scores + self.own_noise[:, levels]
        _, tokens, again = self._largest(keys, count)
        return tokens, torch.where(again, AGAIN, _log_likelihoods(scores, tokens)) if self.scored else None

    def _largest(self, keys: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """The largest keys [B, W, count], their tokens, and which come again; the largest of all are kept for `peak`.

        Where fewer tokens are possible at all the best comes again: a skipped step commits what it likes of a tree, so
        a tree must not hold what cannot be drawn.
        """
        best, tokens = largest(keys, count)
        self._peaks.append(best[..., 0])
        again = best.isneginf()
        return best, torch.where(again, tokens[..., :1], tokens), again

    @property
    def peak(self) -> Tensor:
        """One number per tree, float [B]: not finite where the drafter's logits were not."""
        return torch.cat(self._peaks, 1).sum(1) if self._peaks else self.noise.new_zeros(len(self.noise))


class Structure(ABC):
    """Which nodes a tree has.

    Attributes:
        levels: depth of the deepest node.
        nodes: nodes of the tree, the root included.
        expanded: nodes that the drafter runs.
        scored: whether growing needs log_hits.
    """

    levels: int
    nodes: int
    expanded: int
    scored: bool = False

    @abstractmethod
    def grow(self, growth: Growth, roots: Tensor) -> TokenTree:
        """Grow the trees of a batch from its root tokens int64 [B]."""

    def within(self, levels: int) -> int:
        """How many of the first nodes hold all that lie at most so deep; all, where that differs from tree to tree."""
        return self.nodes


def orphans(paths: Sequence[RankPath]) -> list[RankPath]:
    """Rank paths whose parent is not among them."""
    known = {(), *paths}
    return [path for path in paths if path[:-1] not in known]


@dataclass(frozen=True)
class _Level:
    """Index tensors of one level of a static tree.

    Attributes:
        frontier: places among the nodes of the level above of those that have children on this one.
        parents: for each, the expansion number of its own parent.
        parent, rank: of each new node, its parent's place in the frontier and its rank below it.
        count: candidates that a node must propose.
    """

    frontier: Tensor
    parents: Tensor
    parent: Tensor
    rank: Tensor
    count: int


class StaticTree(Structure):
    """The same rank paths at every step (EAGLE-1, Medusa).

    Args:
        paths: rank paths, closed under prefixes; see `fitted_paths`.
        device: where the index tensors live.
    """

    def __init__(self, paths: Sequence[RankPath], device: torch.device) -> None:
        ordered = sorted(set(paths), key=lambda path: (len(path), path))
        number = {(): 0} | {path: index for index, path in enumerate(ordered, 1)}
        if not ordered or orphans(ordered):
            raise ValueError(
                f"rank paths must be closed under prefixes; no parent for {orphans(ordered) or 'any node'}"
            )
        self.levels, self.nodes = len(ordered[-1]), len(ordered) + 1
        self.width = 1 + max(path[-1] for path in ordered)
        parents = [0, *(number[path[:-1]] for path in ordered)]
        inner = sorted({number[path[:-1]] for path in ordered} - {0})
        self.expanded = len(inner)
        order = {node: index for index, node in enumerate(inner)} | {0: -1}
        self._parents = torch.tensor([parents], device=device)
        self._expansions = torch.tensor([[order.get(node, -1) for node in range(self.nodes)]], device=device)
        self._depths = torch.tensor([[0, *map(len, ordered)]], device=device)
        self._visible = ancestors(self._parents, self.levels)
        every = torch.arange(self.nodes, device=device)
        self._paths = root_paths(self._parents, self._depths, every, self.levels)[None]
        run = torch.tensor(inner, dtype=torch.long, device=device)
        self._plan = Expansions(self._depths[:, run] - 1, self._visible[:, run][:, :, run])
        self._within = [1 + sum(len(path) <= depth for path in ordered) for depth in range(self.levels + 1)]
        """Nodes down to each depth."""
        self._levels = []
        for depth in range(self.levels):
            level = [path for path in ordered if len(path) == depth + 1]
            frontier = sorted({number[path[:-1]] for path in level})
            index = (
                torch.tensor(frontier, device=device) - (0 if depth == 0 else self._within[depth - 1]),
                torch.tensor([order[parents[node]] for node in frontier], device=device),
                torch.tensor([frontier.index(number[path[:-1]]) for path in level], device=device),
                torch.tensor([path[-1] for path in level], device=device),
            )
            self._levels.append(_Level(*index, 1 + max(path[-1] for path in level)))
        self._forked = max((len(path) for path in ordered if path[-1] > 0), default=0)
        """The deepest level with a candidate beside the first."""
        self._proposals = torch.tensor([self._proposal(len(path) - 1, path[-1]) for path in ordered], device=device)
        self._level_expansions = torch.where(self._expansions < 0, -1, self._depths - 1)

    def _proposal(self, level: int, rank: int) -> int:
        """Where a candidate stands among those of all levels (see `_at_once`)."""
        forked = min(level, self._forked)
        return forked * self.width + level - forked + rank

    def within(self, levels: int) -> int:
        """See `Structure.within`."""
        return self._within[min(levels, self.levels)]

    def grow(self, growth: Growth, roots: Tensor) -> TokenTree:
        """See `Structure.grow`."""
        scores = growth.ahead(self.levels)
        if scores is None:
            (tokens, log_hits), expansions = self._by_levels(growth, roots), self._expansions
        else:
            (tokens, log_hits), expansions = self._at_once(growth, scores), self._level_expansions
        return TokenTree(
            torch.cat([roots[:, None], *tokens], 1),
            self._parents,
            self._depths,
            self._visible,
            growth.noise,
            self.levels,
            self.width,
            expansions,
            torch.cat([growth.noise.new_zeros(len(roots), 1), *log_hits], 1) if growth.scored else None,
            growth.laws,
            self._paths,
        )

    def _by_levels(self, growth: Growth, roots: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Tokens and log-hits of each level's nodes, one level after the other."""
        tokens, log_hits = [roots[:, None]], []
        for depth, level in enumerate(self._levels):
            scores = self._below(growth, tokens, level) if depth else growth.root(self._plan)
            proposed, hits = growth.propose(scores, slice(depth, depth + 1), level.count)
            tokens.append(proposed[:, level.parent, level.rank])
            if hits is not None:
                log_hits.append(hits[:, level.parent, level.rank])
        return tokens[1:], log_hits

    def _below(self, growth: Growth, tokens: list[Tensor], level: _Level) -> Tensor:
        """Log-scores [B, W, V] of a level's nodes, given the tokens of all levels above it."""
        above = tokens[-1].index_select(1, level.frontier)
        return growth.expand(above, level.parents.expand(len(above), -1))

    def _at_once(self, growth: Growth, scores: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """The same for all levels together, from their log-scores [B, levels, V]."""
        tokens, log_hits = [], []
        for levels, count in ((slice(0, self._forked), self.width), (slice(self._forked, self.levels), 1)):
            if levels.start < levels.stop:
                proposed, hits = growth.propose(scores[:, levels], levels, count)
                tokens.append(proposed.flatten(1))
                if hits is not None:
                    log_hits.append(hits.flatten(1))
        place = self._proposals
        return [torch.cat(tokens, 1)[:, place]], [torch.cat(log_hits, 1)[:, place]] if log_hits else []


class DynamicTree(Structure):
    """EAGLE-2: a beam of top-k nodes per level, then the nodes whose whole path is likeliest.

    A child's key is made no larger than its parent's, and among equals the earlier node wins: so the chosen set is
    closed under ancestors even where scores tie.

    Args:
        levels: depth of the deepest node; the published drafters run with 5 ("depth 4" beyond the first).
        top_k: nodes of the beam, and children of each.
        nodes: nodes that are kept, the root included.
    """

    scored = True

    def __init__(self, levels: int, top_k: int, nodes: int) -> None:
        self.levels, self.top_k, self.expanded = levels, top_k, (levels - 1) * top_k
        self.nodes = min(nodes, 1 + top_k + (levels - 1) * top_k * top_k)

    def grow(self, growth: Growth, roots: Tensor) -> TokenTree:
        """See `Structure.grow`."""
        batch, k = len(roots), self.top_k
        beam = torch.zeros(batch, 1, dtype=torch.long, device=roots.device)
        total = growth.noise.new_zeros(batch, 1)
        scores = growth.root()
        pool = _Pool([], [], [], [], [])
        for depth in range(self.levels):
            proposed, hits = growth.propose(scores, slice(depth, depth + 1), k)
            assert hits is not None
            totals, parents = _extended(total, hits, beam)
            pool.add(proposed, hits, totals, parents)
            if depth + 1 == self.levels:
                break
            total, chosen = largest(totals, k)
            created = 0 if depth == 0 else k + (depth - 1) * k * k
            tokens, beam, above = _beam(pool.tokens[-1], chosen, created, (depth - 1) * k, depth == 0)
            pool.beams.append(beam)
            scores = growth.expand(tokens, above)
        return self._keep(growth, roots, pool)

    def _keep(self, growth: Growth, roots: Tensor, pool: _Pool) -> TokenTree:
        """Keep the best nodes of the pool, in the order of their creation."""
        tokens, hits, totals, parents = (
            torch.cat(columns, 1) for columns in (pool.tokens, pool.hits, pool.totals, pool.parents)
        )
        order = totals.sort(dim=1, descending=True, stable=True).indices[:, : self.nodes - 1]
        kept = order.sort(1).values
        run = torch.cat(pool.beams, 1) if pool.beams else parents[:, :0]
        own, expansions = _renumbered(kept, parents, run)
        visible = ancestors(own, self.levels)
        chosen = torch.cat([roots[:, None], tokens.gather(1, kept)], 1)
        log_hits = torch.nn.functional.pad(hits.gather(1, kept), (1, 0))
        return TokenTree(
            chosen, own, visible.sum(-1) - 1, visible, growth.noise, self.levels, self.top_k, expansions, log_hits
        )


@fusible
def _log_likelihoods(scores: Tensor, tokens: Tensor) -> Tensor:
    """Log-probabilities [B, W, K] of tokens [B, W, K] under log-scores [B, W, V]."""
    return scores.log_softmax(-1).gather(-1, tokens)


@fusible
def _extended(total: Tensor, hits: Tensor, beam: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities of the paths to all children [B, W k], and their parents' pool numbers + 1."""
    return (total[..., None] + hits.clamp_max(0)).flatten(1), beam[..., None].expand_as(hits).flatten(1)


@fusible
def _beam(tokens: Tensor, chosen: Tensor, created: int, ran: int, first: bool) -> tuple[Tensor, Tensor, Tensor]:
    """The nodes of the next beam: tokens, pool numbers + 1, and the places of their parents among all that ran.

    Args:
        tokens: int64 [B, W k], of the newest level.
        chosen: int64 [B, k], which of them.
        created: nodes of the pool above that level.
        ran: nodes that the drafter ran above the last beam.
        first: whether the level hangs below the root, which the drafter does not run.
    """
    above = torch.full_like(chosen, -1) if first else ran + chosen // chosen.shape[1]
    return tokens.gather(1, chosen), chosen + created + 1, above


@fusible
def _renumbered(kept: Tensor, parents: Tensor, run: Tensor) -> tuple[Tensor, Tensor]:
    """Parents and expansions [B, T] (see `TokenTree`) of the root and the kept nodes of a pool.

    Args:
        kept: int64 [B, T - 1], their places in the pool, in order.
        parents: int64 [B, M], pool numbers + 1 of the parents, 0 for the root.
        run: int64 [B, E], pool numbers + 1 of the nodes that the drafter ran, in order.
    """
    number = torch.zeros(len(kept), parents.shape[1] + 1, dtype=torch.long, device=kept.device)
    fresh = torch.arange(1, kept.shape[1] + 1, device=kept.device).expand_as(kept)
    order = torch.arange(run.shape[1], device=kept.device).expand_as(run)
    own = number.scatter(1, kept + 1, fresh).gather(1, parents.gather(1, kept))
    expansions = torch.full_like(number, -1).scatter(1, run, order).gather(1, kept + 1)
    pad = torch.nn.functional.pad
    return pad(own, (1, 0)), pad(expansions, (1, 0), value=-1)


@dataclass
class _Pool:
    """Every node that a dynamic tree has drafted, level by level.

    Attributes:
        tokens, hits, totals: [B, M] each, token, log-hit and log-probability of the whole path.
        parents: [B, M], pool numbers + 1 of the parents, 0 for the root.
        beams: [B, k], pool numbers + 1 of the nodes that the drafter ran, in order.
    """

    tokens: list[Tensor]
    hits: list[Tensor]
    totals: list[Tensor]
    parents: list[Tensor]
    beams: list[Tensor]

    def add(self, proposed: Tensor, hits: Tensor, totals: Tensor, parents: Tensor) -> None:
        """Add the children [B, W, k] of a beam, their totals and parents [B, W k]."""
        self.tokens.append(proposed.flatten(1))
        self.hits.append(hits.flatten(1))
        self.totals.append(totals)
        self.parents.append(parents)
