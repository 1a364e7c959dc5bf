"""Emu3-Gen (arXiv 2409.18869): codes are words of the text vocabulary, and every row of the grid ends with a token.

Guidance leads away from a prompt of its own, of another length, as the authors' script has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from vvsbench.models.families.base import Listed
from vvsbench.models.settings import TransformersConfig

PIXELS = 8
"""Side of a token in pixels."""


class Emu3(Listed):
    """See the module."""

    def __init__(self, model: Any, settings: TransformersConfig) -> None:
        words = model.vocabulary_mapping
        codes = [words.img2bpe[code] for code in range(len(words.img2bpe))]
        super().__init__(model, settings, model.model.text_model, codes, words.eol_token_id)
        self.vq = model.model.vqmodel

    @property
    def codebook(self) -> Tensor:
        return self.with_end(self.vq.quantize.embedding.weight)

    def prompt(self, processor: Any, caption: str) -> Sequence[int]:
        asked = processor(
            text=[caption],
            return_for_image_generation=True,
            ratio=f"{self.columns}:{self.rows}",
            image_area=self.rows * self.columns * PIXELS**2,
        )
        return asked["input_ids"][0]

    def null(self, processor: Any, prompt: Sequence[int]) -> Sequence[int]:
        return self.prompt(processor, self.settings.negative_prompt)

    def pixels(self, tokens: Tensor) -> Tensor:
        return self.vq.decode(self.grid(tokens))
