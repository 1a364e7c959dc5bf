"""Lumina-mGPT (arXiv 2408.02657): Chameleon's architecture with the size of the image said first and rows that end.

The prompt is that of the authors' solver; guidance leads away from the start of the image, its size included.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vvsbench.models.families.chameleon import Chameleon

ROW_END = 8803
FIRST_SIZE = 8804
"""Says 0; the size of a side is counted in pairs of tokens."""
PIXELS = 16
"""Side of a token in pixels."""


class LuminaMGPT(Chameleon):
    """See the module."""

    row_end = ROW_END

    def prompt(self, processor: Any, caption: str) -> Sequence[int]:
        size = f"{self.columns * PIXELS}x{self.rows * PIXELS}"
        words = super().prompt(processor, f"Generate an image of {size} according to the following prompt:\n{caption}")
        return [*words, FIRST_SIZE + self.rows // 2, FIRST_SIZE + self.columns // 2]

    def null(self, processor: Any, prompt: Sequence[int]) -> Sequence[int]:
        return list(prompt[-3:])
