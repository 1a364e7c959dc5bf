"""What a dynamic tree holds where the drafter can draw fewer tokens than it has room for."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vvsbench.axes import Candidates
from vvsbench.drafting.growing import DynamicTree, Growth
from vvsbench.sampling import Sampling

VOCAB = 5


class Everywhere:
    """Drafts by one law, whatever came before."""

    logits = torch.tensor([3.0, 1.0, 0.5, 0.0, -1.0])

    def root_logits(self, state: Any, plan: Any = None) -> Tensor:
        return self.logits.view(1, 1, -1)

    def expand(self, state: Any, tokens: Tensor, parents: Tensor) -> Tensor:
        return self.logits.expand(1, tokens.shape[1], -1)

    def ahead(self, state: Any, levels: int) -> None:
        return None


def test_a_dynamic_tree_holds_every_token_once_before_any_comes_again() -> None:
    levels, possible = 2, 2
    growth = Growth(Everywhere(), None, Sampling(top_k=possible), Candidates.top_k, torch.zeros(1, levels + 1, VOCAB))
    tree = DynamicTree(levels, top_k=3, nodes=1 + possible + possible**2).grow(growth, torch.tensor([4]))
    known = set(zip(tree.parents[0, 1:].tolist(), tree.tokens[0, 1:].tolist(), strict=True))
    assert len(known) == possible + possible**2
    assert tree.log_reach.isfinite().all()
