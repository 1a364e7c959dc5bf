"""A batch of draft trees: what a structure grows, the target verifies and a skip follows."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from vvsbench.fusing import fusible


@dataclass(frozen=True)
class Expansions:
    """The nodes of a tree that its drafter runs, where they are the same at every step; in the order of running.

    Attributes:
        depths: int64 [1, E], levels below the root's children.
        visible: bool [1, E, E], ancestors-or-self among them.
    """

    depths: Tensor
    visible: Tensor


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
        paths: int64 [1, T, levels + 1], what `path_to` says of every node, where it is the same at every step.
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
    paths: Tensor | None = None

    @property
    def leaves(self) -> Tensor:
        """Bool [B or 1, T], nodes without children."""
        return _leaves(self.depths, self.parents)

    @property
    def first_of_depths(self) -> tuple[Tensor, Tensor]:
        """The first node at each depth int64 [B or 1, levels + 1], and bool whether there is one."""
        return _first_of_depths(self.depths, self.levels)

    @property
    def log_reach(self) -> Tensor:
        """Float [B, T], estimated log-probability that the target draws the whole path to each node."""
        assert self.log_hits is not None, "the tree was grown without scores"
        nodes = self.visible.expand(len(self.tokens), -1, -1).to(self.log_hits.dtype)
        return (nodes @ self.log_hits[..., None])[..., 0]

    def path_to(self, nodes: Tensor) -> Tensor:
        """The root path of one node per row.

        Args:
            nodes: int64 [B].

        Returns:
            int64 [B, levels + 1], the node at each depth; past the end of the path the node itself.
        """
        if self.paths is not None:
            return self.paths[0].index_select(0, nodes)
        return root_paths(self.parents, self.depths, nodes, self.levels)

    def first(self, nodes: int) -> TokenTree:
        """The trees without what comes after so many nodes, which no node before that may hang from."""
        if nodes == self.tokens.shape[1]:
            return self
        return replace(
            self,
            tokens=self.tokens[:, :nodes],
            parents=self.parents[:, :nodes],
            depths=self.depths[:, :nodes],
            visible=self.visible[:, :nodes, :nodes].contiguous(),  # as the whole one is: no second compilation
            expansions=self.expansions[:, :nodes],
            log_hits=None if self.log_hits is None else self.log_hits[:, :nodes],
        )

    def take(self, rows: Tensor) -> TokenTree:
        """The trees of some rows [R] of the batch."""
        shared = len(self.tokens) > 1
        picked: dict[str, Any] = {
            field.name: value[rows]
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), Tensor) and not (shared and len(value) == 1)
        }
        return replace(self, **picked)


@fusible
def _leaves(depths: Tensor, parents: Tensor) -> Tensor:
    """See `TokenTree.leaves`."""
    return torch.zeros_like(depths).scatter_add(1, parents, (depths > 0).long()) == 0


@fusible
def _first_of_depths(depths: Tensor, levels: int) -> tuple[Tensor, Tensor]:
    """See `TokenTree.first_of_depths`."""
    there = depths[:, None] == torch.arange(levels + 1, device=depths.device)[:, None]
    return there.long().argmax(-1), there.any(-1)


@fusible
def root_paths(parents: Tensor, depths: Tensor, nodes: Tensor, levels: int) -> Tensor:
    """See `TokenTree.path_to`."""
    steps = [nodes]
    parents = parents.expand(len(nodes), -1)
    for _ in range(levels):
        steps.append(parents.gather(1, steps[-1][:, None])[:, 0])
    upwards = torch.stack(steps, 1)
    depth = depths.expand(len(nodes), -1).gather(1, nodes[:, None])
    wanted = torch.arange(levels + 1, device=nodes.device)
    return upwards.gather(1, (depth - wanted).clamp_min(0))


@fusible
def ancestors(parents: Tensor, levels: int) -> Tensor:
    """Bool [B, T, T], ancestors-or-self of every node, from parent numbers [B, T]."""
    batch, nodes = parents.shape
    current = torch.arange(nodes, device=parents.device).expand(batch, -1)
    visible = torch.zeros(batch, nodes, nodes, dtype=torch.bool, device=parents.device)
    for _ in range(levels + 1):
        visible = visible.scatter(2, current[..., None], True)
        current = parents.gather(1, current)
    return visible
