"""Draft trees: their nodes, and the two ways of growing them.

A structure says which nodes a tree has; the candidates say which tokens a node proposes. A static tree has the same
rank paths at every step, so all its index arithmetic is done once; a dynamic tree (EAGLE-2, arXiv 2406.16858) keeps the
nodes with the highest cumulative log-probability. Both are tensor code for a whole batch with no loop over nodes.
"""

from __future__ import annotations

import heapq
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vvsbench.axes import Candidates
from vvsbench.drafting.protocols import DraftSource
from vvsbench.sampling import Sampling


@dataclass
class TokenTree:
    """A batch of draft trees; node 0 is the root, parents come before children, siblings have different tokens.

    Attributes:
        tokens: int64 [B, T].
        parents: int64 [B or 1, T]; the root's is 0.
        depths: int64 [B or 1, T]; the root's is 0.
        visible: bool [B or 1, T, T], ancestors-or-self.
        noise: float [B, levels + 1, V], Gumbel noise of the token after a node of each depth.
        levels: depth of the deepest node that the structure allows.
        width: the most children that a node can have.
        expansions: int64 [B or 1, T], number of each node in the order in which the drafter ran them; -1 for the root,
            and for nodes that it did not run, which have no children.
        log_hits: float [B, T], an estimate of the log-probability that the target draws a node's token, given that it
            drew the parent's; 0 for the root. None where nobody asked for it.
        laws: float [B, 1 + E, V], the drafter's log-probabilities at the root and at each node that it ran, where
            candidates are sampled from them; else None.
    """

    tokens: Tensor
    parents: Tensor
    depths: Tensor
    visible: Tensor
    noise: Tensor
    levels: int
    width: int
    expansions: Tensor
    log_hits: Tensor | None = None
    laws: Tensor | None = None

    @property
    def leaves(self) -> Tensor:
        """Bool [B or 1, T], nodes without children."""
        below_root = (self.depths > 0).long()
        children = torch.zeros_like(self.depths).scatter_add(1, self.parents, below_root)
        return children == 0

    def path_to(self, nodes: Tensor) -> Tensor:
        """The root path of one node per row.

        Args:
            nodes: int64 [B].

        Returns:
            int64 [B, levels + 1], the node at each depth; past the end of the path the node itself.
        """
        steps = [nodes]
        parents = self.parents.expand(len(nodes), -1)
        for _ in range(self.levels):
            steps.append(parents.gather(1, steps[-1][:, None])[:, 0])
        upwards = torch.stack(steps, 1)
        depth = self.depths.expand(len(nodes), -1).gather(1, nodes[:, None])
        wanted = torch.arange(self.levels + 1, device=nodes.device)
        return upwards.gather(1, (depth - wanted).clamp_min(0))

    def take(self, rows: Tensor) -> TokenTree:
        """The trees of some rows [R] of the batch."""
        batch = len(self.tokens)

        def pick(x: Tensor) -> Tensor:
            return x[rows] if x.shape[0] == batch and batch > 1 else x

        tokens, noise = self.tokens[rows], self.noise[rows]
        parents, depths, visible = pick(self.parents), pick(self.depths), pick(self.visible)
        expansions = pick(self.expansions)
        return TokenTree(tokens, parents, depths, visible, noise, self.levels, self.width, expansions)


@dataclass
class Growth:
    """One tree being grown: what a structure may ask for while it grows.

    Attributes:
        source, state: who drafts, and its memory of the batch.
        sampling: turns guided logits into the drafter's distribution, as it does for the target.
        candidates: which tokens are proposed.
        noise: float [B, levels + 1, V].
    """

    source: DraftSource[Any]
    state: Any
    sampling: Sampling
    candidates: Candidates
    noise: Tensor

    def root(self) -> Tensor:
        """Log-scores [B, 1, V] of the root's children."""
        return self.sampling.scores(self.source.root_logits(self.state))

    def expand(self, tokens: Tensor, parents: Tensor) -> Tensor:
        """Log-scores [B, W, V] of the children of nodes [B, W] (see `DraftSource.expand`)."""
        return self.sampling.scores(self.source.expand(self.state, tokens, parents))

    def propose(self, scores: Tensor, level: int, count: int) -> Tensor:
        """Tokens int64 [B, W, count] proposed below nodes at depth `level` with log-scores [B, W, V], best first."""
        if self.candidates is Candidates.shared_noise:
            scores = scores + self.noise[:, level, None]
        return scores.topk(count, -1).indices


class Structure(ABC):
    """Which nodes a tree has.

    Attributes:
        levels: depth of the deepest node.
        nodes: nodes of the tree, the root included.
        expanded: nodes that the drafter runs.
    """

    levels: int
    nodes: int
    expanded: int

    @abstractmethod
    def grow(self, growth: Growth, roots: Tensor) -> TokenTree:
        """Grow the trees of a batch from its root tokens int64 [B]."""


def fitted_paths(hit_rates: Sequence[float], nodes: int, depth: int) -> list[tuple[int, ...]]:
    """The rank paths that are most likely to be accepted, if ranks hit independently of each other.

    Args:
        hit_rates: probability that the target's token is the drafter's candidate of each rank, by rank.
        nodes: nodes of the tree, the root included.
        depth: deepest level.

    Returns:
        nodes - 1 paths, parents before children; (0, 2) is the third candidate below the first one.
    """
    heap: list[tuple[float, tuple[int, ...]]] = [(-rate, (rank,)) for rank, rate in enumerate(hit_rates)]
    heapq.heapify(heap)
    paths: list[tuple[int, ...]] = []
    while heap and len(paths) < nodes - 1:
        score, path = heapq.heappop(heap)
        paths.append(path)
        if len(path) < depth:
            for rank, rate in enumerate(hit_rates):
                heapq.heappush(heap, (score * rate, (*path, rank)))
    return sorted(paths, key=lambda path: (len(path), path))


class StaticTree(Structure):
    """The same rank paths at every step (EAGLE-1, Medusa).

    Args:
        paths: rank paths, closed under prefixes; see `fitted_paths`.
        device: where the index tensors live.
    """

    def __init__(self, paths: Sequence[tuple[int, ...]], device: torch.device) -> None:
        ordered = sorted(set(paths), key=lambda path: (len(path), path))
        number = {(): 0} | {path: index for index, path in enumerate(ordered, 1)}
        absent = [path for path in ordered if path[:-1] not in number]
        if absent or not ordered:
            raise ValueError(f"rank paths must be closed under prefixes; no parent for {absent or 'an empty tree'}")
        self.levels, self.nodes = len(ordered[-1]), len(ordered) + 1
        self.width = 1 + max(path[-1] for path in ordered)
        parents = [0, *(number[path[:-1]] for path in ordered)]
        inner = sorted({number[path[:-1]] for path in ordered} - {0})
        self.expanded = len(inner)
        order = {node: index for index, node in enumerate(inner)} | {0: -1}
        self._parents = torch.tensor([parents], device=device)
        self._expansions = torch.tensor([[order.get(node, -1) for node in range(self.nodes)]], device=device)
        self._depths = torch.tensor([[0, *map(len, ordered)]], device=device)
        self._visible = _ancestors(self._parents, self.levels)
        self._levels = []
        for depth in range(self.levels):
            level = [path for path in ordered if len(path) == depth + 1]
            frontier = sorted({number[path[:-1]] for path in level})
            self._levels.append(
                (
                    torch.tensor(frontier, device=device),
                    torch.tensor([order[parents[node]] for node in frontier], device=device),
                    torch.tensor([frontier.index(number[path[:-1]]) for path in level], device=device),
                    torch.tensor([path[-1] for path in level], device=device),
                    1 + max(path[-1] for path in level),
                )
            )

    def grow(self, growth: Growth, roots: Tensor) -> TokenTree:
        """See `Structure.grow`."""
        tokens = roots[:, None]
        for depth, (frontier, parents, parent_in_frontier, ranks, count) in enumerate(self._levels):
            above = parents.expand(len(roots), -1)
            scores = growth.root() if depth == 0 else growth.expand(tokens[:, frontier], above)
            proposed = growth.propose(scores, depth, count)
            tokens = torch.cat([tokens, proposed[:, parent_in_frontier, ranks]], 1)
        return TokenTree(
            tokens,
            self._parents,
            self._depths,
            self._visible,
            growth.noise,
            self.levels,
            self.width,
            self._expansions,
        )


class DynamicTree(Structure):
    """EAGLE-2: a beam of top-k nodes per level, then the nodes with the highest cumulative log-probability.

    A child's key is made no larger than its parent's, and among equals the earlier node wins: so the chosen set is
    closed under ancestors even where scores tie.

    Args:
        levels: depth of the deepest node; the published drafters run with 5 ("depth 4" beyond the first).
        top_k: nodes of the beam, and children of each.
        nodes: nodes that are kept, the root included.
    """

    def __init__(self, levels: int, top_k: int, nodes: int) -> None:
        self.levels, self.top_k, self.expanded = levels, top_k, (levels - 1) * top_k
        self.nodes = min(nodes, 1 + top_k + (levels - 1) * top_k * top_k)

    def grow(self, growth: Growth, roots: Tensor) -> TokenTree:
        """See `Structure.grow`."""
        batch, k = len(roots), self.top_k
        beam = torch.zeros(batch, 1, dtype=torch.long, device=roots.device)
        total = growth.noise.new_zeros(batch, 1)
        log_probs = growth.root()
        pool_tokens, pool_totals, pool_parents, beams = [], [], [], []
        for depth in range(self.levels):
            log_probs = log_probs.log_softmax(-1)
            proposed = growth.propose(log_probs, depth, k)
            totals = (total[..., None] + log_probs.gather(-1, proposed).clamp_max(0)).flatten(1)
            created = 0 if depth == 0 else 1 + k + (depth - 1) * k * k
            pool_tokens.append(proposed.flatten(1))
            pool_totals.append(totals)
            pool_parents.append(beam.repeat_interleave(k, 1))
            if depth + 1 == self.levels:
                break
            total, chosen = totals.topk(k, 1)
            beam = chosen + (1 if depth == 0 else created)
            beams.append(beam)
            run = torch.arange(k, device=roots.device) + (depth - 1) * k
            above = torch.full_like(chosen, -1) if depth == 0 else run[chosen // k]
            log_probs = growth.expand(pool_tokens[-1].gather(1, chosen), above)
        tokens, totals, parents = (torch.cat(columns, 1) for columns in (pool_tokens, pool_totals, pool_parents))
        run = torch.cat(beams, 1) if beams else beam[:, :0]
        return self._keep(growth, roots, tokens, totals, parents, run)

    def _keep(
        self, growth: Growth, roots: Tensor, tokens: Tensor, totals: Tensor, parents: Tensor, run: Tensor
    ) -> TokenTree:
        """Keep the best nodes of the pool [B, M], in the order of their creation; parents are pool indices + 1.

        `run` [B, E] are the pool indices + 1 of the nodes that the drafter ran, in order.
        """
        order = totals.sort(dim=1, descending=True, stable=True).indices[:, : self.nodes - 1]
        kept = order.sort(1).values
        number = torch.zeros(len(roots), tokens.shape[1] + 1, dtype=torch.long, device=roots.device)
        fresh = torch.arange(1, self.nodes, device=roots.device).expand_as(kept)
        number.scatter_(1, kept + 1, fresh)
        own = number.gather(1, parents.gather(1, kept))
        chosen_parents = torch.cat([torch.zeros_like(own[:, :1]), own], 1)
        visible = _ancestors(chosen_parents, self.levels)
        depths = visible.sum(-1) - 1
        order_run = torch.arange(run.shape[1], device=roots.device).expand_as(run)
        expansions = torch.full_like(number, -1).scatter(1, run, order_run)
        expansions = torch.cat([torch.full_like(own[:, :1], -1), expansions.gather(1, kept + 1)], 1)
        chosen = torch.cat([roots[:, None], tokens.gather(1, kept)], 1)
        return TokenTree(chosen, chosen_parents, depths, visible, growth.noise, self.levels, self.top_k, expansions)


def _ancestors(parents: Tensor, levels: int) -> Tensor:
    """Bool [B, T, T], ancestors-or-self of every node, from parent numbers [B, T]."""
    batch, nodes = parents.shape
    current = torch.arange(nodes, device=parents.device).expand(batch, -1)
    visible = torch.zeros(batch, nodes, nodes, dtype=torch.bool, device=parents.device)
    for _ in range(levels + 1):
        visible.scatter_(2, current[..., None], True)
        current = parents.gather(1, current)
    return visible
