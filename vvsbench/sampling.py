"""The sampling setting: the one place where guided logits become the distribution that every rule sees.

Order as in LlamaGen's generate: temperature, top-k (ties at the k-th logit are kept), top-p. Works on float32 or
float64.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vvsbench.selection import EXCLUDED, keep_largest

MINIMAL_TEMPERATURE = 1e-5


@dataclass(frozen=True)
class Sampling:
    """Temperature, top-k and top-p.

    Attributes:
        temperature: clamped from below at 1e-5, which makes sampling greedy.
        top_k: keep the k largest logits and their ties; 0 for all.
        top_p: keep the smallest set of tokens whose probability exceeds p; 1 for all.
        top_p_first: filter by top-p before top-k, as LANTERN and VVS do; LlamaGen filters after it.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    top_p_first: bool = False

    @property
    def greedy(self) -> bool:
        """Whether the likeliest token is taken, always."""
        return self.temperature <= MINIMAL_TEMPERATURE

    def scores(self, logits: Tensor) -> Tensor:
        """Unnormalised log-probabilities of the sampled distribution, -inf where it has none.

        Args:
            logits: guided logits [..., V].
        """
        if self.temperature != 1.0:
            logits = logits / max(self.temperature, MINIMAL_TEMPERATURE)
        return self._best(self._likely(logits)) if self.top_p_first else self._likely(self._best(logits))

    def _best(self, logits: Tensor) -> Tensor:
        """Keep the k largest logits and their ties."""
        if not 0 < self.top_k < logits.shape[-1]:
            return logits
        return keep_largest(logits, self.top_k)

    def _likely(self, logits: Tensor) -> Tensor:
        """Keep the smallest set of tokens that exceeds top_p."""
        return logits if self.top_p >= 1.0 else _nucleus(logits, self.top_p)

    def probabilities(self, logits: Tensor) -> Tensor:
        """The sampled distribution [..., V] of guided logits [..., V]."""
        return self.scores(logits).softmax(-1)


def _nucleus(logits: Tensor, top_p: float) -> Tensor:
    """Drop the tokens that come after the first ones whose probabilities add up to more than top_p."""
    ordered, order = logits.sort(dim=-1, descending=True)
    cumulative = ordered.softmax(-1).cumsum(-1)
    drop = (cumulative > top_p).roll(1, -1)
    drop[..., 0] = False
    return logits.masked_fill(torch.zeros_like(drop).scatter(-1, order, drop), EXCLUDED)


def draw(scores: Tensor, noise: Tensor) -> Tensor:
    """Gumbel-max: the token int64 [...] that has the law of softmax(scores [..., V]) under Gumbel noise [..., V]."""
    return (scores + noise).argmax(-1)
