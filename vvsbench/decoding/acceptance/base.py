"""What an acceptance rule is asked, and what it answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor

from vvsbench.axes import Guarantee
from vvsbench.drafting.tree import TokenTree
from vvsbench.sampling import Sampling


@dataclass
class Verdict:
    """What a rule decided for a batch.

    Attributes:
        node: int64 [B], the deepest accepted node; 0 where only the root stands.
        accepted: int64 [B], its depth.
        bonus: int64 [B], the token after it, which becomes the next root.
    """

    node: Tensor
    accepted: Tensor
    bonus: Tensor


class AcceptanceRule(ABC):
    """Decides from the target's scores at every node of a tree.

    Attributes:
        guarantee: what the rule promises when every step is verified.
        chancy: whether it decides by uniforms of its own, beside the noise.
    """

    guarantee: Guarantee
    chancy: bool = True

    def judged(self, sampling: Sampling) -> Sampling:
        """The setting that turns the target's guided logits into the scores that `judge` is given.

        Args:
            sampling: of the cell.
        """
        return sampling

    @abstractmethod
    def judge(self, tree: TokenTree, scores: Tensor, chance: Tensor) -> Verdict:
        """Judge a batch of trees.

        Args:
            tree: with its tokens [B, T] and the noise of the positions it covers.
            scores: the target's log-scores [B, T, V] for the token after each node.
            chance: uniforms [B, T], one for each node, unrelated to the noise; [B, 0] where the rule is not `chancy`.
        """
