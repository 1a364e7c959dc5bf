"""GLM-Image's autoregressive stage: a small grid of codes, then the large one that its diffusion stage paints from.

Positions have three axes: text counts in all of them, and a grid starts where the last thing ended and counts its rows
and columns in two. There is no guidance in this stage, and its pixels are made by a diffusion transformer.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import Any

import torch
from torch import Tensor

from vvsbench.models.families.base import Family
from vvsbench.models.settings import TransformersConfig

PIXELS = 32
"""Side of a token in pixels."""
PREVIEW = 16
"""Side of a square preview in tokens."""


class GlmImage(Family):
    """See the module.

    Attributes:
        preview: rows and columns of the small grid.
    """

    def __init__(self, model: Any, settings: TransformersConfig) -> None:
        super().__init__(model, settings)
        self.text, self.vocab = model.model.language_model, self.config.vq_config.num_embeddings
        slope = sqrt(self.rows / self.columns)
        self.preview = (int(slope * PREVIEW), int(PREVIEW / slope))

    @property
    def tokens(self) -> int:
        return self.preview[0] * self.preview[1] + self.rows * self.columns

    def embed(self, tokens: Tensor) -> Tensor:
        return self.text.get_input_embeddings()(tokens)

    def logits(self, features: Tensor) -> Tensor:
        return self.model.lm_head(features)[..., : self.vocab]

    @property
    def head_parameters(self) -> int:
        return int(self.model.lm_head.weight.numel())

    @property
    def codebook(self) -> Tensor:
        return self.model.model.vqmodel.quantize.embedding.weight

    def prompt(self, processor: Any, caption: str) -> Sequence[int]:
        said = [{"role": "user", "content": [{"type": "text", "text": caption}]}]
        size = {"target_h": self.rows * PIXELS, "target_w": self.columns * PIXELS}
        asked = processor.apply_chat_template(said, tokenize=True, return_dict=True, **size)
        return asked["input_ids"][0]

    def places(self, places: Tensor, prompts: Tensor) -> Tensor:
        index = places - prompts[:, None]
        last = self.tokens  # stands for everything past the end, which only drafts reach
        offsets = self._offsets(places.device)[:, index.clamp(0, last)]
        return torch.where(index < 0, places, prompts[:, None] + offsets)

    def _offsets(self, device: torch.device) -> Tensor:
        """Axes int64 [3, N + 1] of every image token and of the end, counted from the end of the prompt."""
        parts, start = [], 0
        for rows, columns in (self.preview, (self.rows, self.columns)):
            row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
            parts.append(torch.stack([torch.zeros_like(row), row, column]).flatten(1) + start)
            start += max(rows, columns)
        return torch.cat([*parts, torch.full((3, 1), start)], 1).to(device)

    def grid(self, tokens: Tensor) -> Tensor:
        return tokens[:, -self.rows * self.columns :].view(-1, self.rows, self.columns)
