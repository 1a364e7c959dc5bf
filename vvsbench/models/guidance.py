"""Classifier-free guidance of discrete targets: how the logits of two branches become one."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Guidance:
    """Classifier-free guidance: l_null + scale (l_cond - l_null).

    Attributes:
        scale: at 1 or below the null branch is not run.
        interval: guide the first token and decode steps up to this one only; -1 for all (LlamaGen's cfg_interval).
    """

    scale: float = 1.0
    interval: int = -1

    @property
    def branches(self) -> int:
        """Sequences per image."""
        return 2 if self.scale > 1 else 1

    def combine(self, logits: Tensor, index: Tensor) -> Tensor:
        """Guided logits [R, T, V] of logits [R, G, T, V] that predict image tokens `index` [R, T] or [1, T]."""
        conditional = logits[:, 0]
        if logits.shape[1] == 1:
            return conditional
        guided = torch.lerp(logits[:, 1], conditional, self.scale)
        if self.interval < 0:
            return guided
        return torch.where((index - 1 <= self.interval)[..., None], guided, conditional)
