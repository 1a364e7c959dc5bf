"""Janus and Janus-Pro (arXiv 2410.13848, 2501.17811): embeddings and a head of their own for image tokens.

Guidance replaces the words of the prompt by padding tokens that stay attended, as in training.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from vvsbench.models.families.base import Family
from vvsbench.models.settings import TransformersConfig


class Janus(Family):
    """See the module."""

    def __init__(self, model: Any, settings: TransformersConfig) -> None:
        super().__init__(model, settings)
        self.core = model.model
        self.text, self.vocab = self.core.language_model, self.config.vq_config.num_embeddings
        special = model.generation_config
        self.bos, self.pad = special.bos_token_id, special.pad_token_id
        self.image_start = getattr(special, "generation_kwargs", {}).get("boi_token_id")

    def embed(self, tokens: Tensor) -> Tensor:
        return self.core.generation_aligner(self.core.generation_embeddings(tokens))

    def logits(self, features: Tensor) -> Tensor:
        return self.core.generation_head(features)

    @property
    def head_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.core.generation_head.parameters())

    @property
    def codebook(self) -> Tensor:
        return self.core.vqmodel.quantize.embedding.weight

    def prompt(self, processor: Any, caption: str) -> Sequence[int]:
        said = [{"role": "user", "content": [{"type": "text", "text": caption}]}]
        text = processor.apply_chat_template(said, add_generation_prompt=True)
        return processor(text=text, generation_mode="image")["input_ids"][0]

    def null(self, processor: Any, prompt: Sequence[int]) -> Sequence[int]:
        kept = {self.bos, prompt[-1] if self.image_start is None else self.image_start}
        return [token if token in kept else self.pad for token in prompt]

    def pixels(self, tokens: Tensor) -> Tensor:
        return self.core.vqmodel.decode(tokens)
