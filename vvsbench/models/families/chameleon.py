"""Anole (arXiv 2407.06135), and whatever else has Chameleon's architecture and draws images.

Codes are words of the text vocabulary. Guidance leads away from an image that nothing is said about (LANTERN's script).
transformers has no decoder for the pixels; Meta's own vqgan.ckpt has one (see `vqgan`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from vvsbench.models import checkpoints
from vvsbench.models.families.base import Listed
from vvsbench.models.families.vqgan import load_vqgan
from vvsbench.models.settings import TransformersConfig


class Chameleon(Listed):
    """See the module."""

    row_end: int | None = None
    """The text model's id of the token that ends a row of the grid."""

    def __init__(self, model: Any, settings: TransformersConfig) -> None:
        words = model.model.vocabulary_mapping.img2bpe
        super().__init__(model, settings, model.model, [words[code] for code in range(len(words))], self.row_end)
        weight = model.lm_head.weight
        file = settings.pixel_checkpoint if settings.pixels else ""
        self.painter = load_vqgan(checkpoints.locate(file)).to(weight.device) if file else None

    @property
    def codebook(self) -> Tensor:
        return self.with_end(self.model.model.vqmodel.quantize.embedding.weight)

    def prompt(self, processor: Any, caption: str) -> Sequence[int]:
        words = processor.tokenizer
        text = [words.bos_token_id, *words.encode(caption, add_special_tokens=False)]
        return [*text, words.sep_token_id, processor.image_start_token_id]

    def null(self, processor: Any, prompt: Sequence[int]) -> Sequence[int]:
        return [self.config.bos_token_id, prompt[-1]]

    def pixels(self, tokens: Tensor) -> Tensor:
        return super().pixels(tokens) if self.painter is None else self.painter(self.grid(tokens))
