"""From the settings of a drafter to a draft source with its weights on a device."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from vvsbench.drafting.eagle import EagleHead, EagleSource, from_published
from vvsbench.models import checkpoints
from vvsbench.models.llamagen import LlamaGen
from vvsbench.models.loading import placed

if TYPE_CHECKING:
    from vvsbench.config import DrafterConfig


def load_drafter(config: DrafterConfig, target: LlamaGen, device: torch.device, dtype: torch.dtype) -> EagleSource:
    """A drafter for a loaded target, which lends it its output layer and its guidance.

    Raises:
        CheckpointError: a file is missing, unreadable or of another size.
    """
    path = checkpoints.locate(config.checkpoint)
    sizes = target.transformer.config
    sizes = replace(sizes, dim=config.dim, heads=config.heads, vocab=config.vocab, grid=config.grid, ffn=config.ffn)
    with torch.device("meta"):
        head = EagleHead(replace(sizes, norm_eps=config.norm_eps), config.bias)
    checkpoints.load_strict(head, from_published(checkpoints.read(path)), str(path))
    return EagleSource(placed(head, device, dtype), target)
