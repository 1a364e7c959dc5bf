"""CLIP score: how well each image fits its caption, by torchmetrics with any CLIP in the transformers layout.

transformers 5 returns output objects where torchmetrics 1.9 expects tensors, and torchmetrics only knows some model
names; `Unwrapped` mends both. It also keeps the embeddings it hands out, which gives the score of every single image
(and with them the interval) from the same forward passes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchmetrics.multimodal.clip_score import CLIPScore

from vvsbench.quality.config import QualityError
from vvsbench.quality.extractors import check_images


@dataclass(frozen=True)
class ClipScore:
    """The score of a set.

    Attributes:
        value: torchmetrics' score, 100 * mean cosine, cut off at 0.
        each: float64 [N], 100 * cosine of every image with its caption.
    """

    value: float
    each: NDArray[np.float64]


class Unwrapped(nn.Module):
    """A CLIP model whose feature calls return tensors, as torchmetrics expects.

    Args:
        model: transformers' CLIPModel.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.config = model.config
        self.cosines: list[Tensor] = []
        self._images: Tensor | None = None

    def get_image_features(self, pixel_values: Tensor) -> Tensor:
        """Image embeddings [B, D]."""
        self._images = _tensor(self.model.get_image_features(pixel_values=pixel_values))  # type: ignore[operator]
        return self._images

    def get_text_features(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Caption embeddings [B, D] of the captions of the images embedded just before."""
        captions = _tensor(
            self.model.get_text_features(input_ids=input_ids, attention_mask=attention_mask)  # type: ignore[operator]
        )
        assert self._images is not None, "torchmetrics embeds images before captions"
        self.cosines.append(nn.functional.cosine_similarity(self._images.double(), captions.double()).cpu())
        return captions


def _tensor(output: Any) -> Tensor:
    """The embedding tensor of a feature call: transformers 4 returned it bare, 5 inside an output object."""
    embedding = output if isinstance(output, Tensor) else output.pooler_output
    assert isinstance(embedding, Tensor)
    return embedding


def score(
    images: NDArray[np.uint8], captions: Sequence[str], folder: Path, device: torch.device, batch_size: int
) -> ClipScore:
    """CLIP score of images with their captions.

    Args:
        images: uint8 [N, 3, H, W].
        captions: N of them.
        folder: a CLIP model with its processor, transformers layout.
        device: where it runs.
        batch_size: pairs at a time; it changes speed, not numbers.

    Raises:
        QualityError: counts differ, or the folder holds no readable CLIP.
    """
    check_images(images)
    if len(captions) != len(images):
        raise QualityError(f"{len(images)} images but {len(captions)} captions: CLIP score needs one for each.")
    model, processor = _open(folder)
    unwrapped = Unwrapped(model)
    opener: Any = lambda: (unwrapped, processor)  # noqa: E731  (torchmetrics' type asks for a CLIPModel)
    metric = CLIPScore(model_name_or_path=opener).to(device)
    with torch.inference_mode():
        for first in range(0, len(images), batch_size):
            batch = torch.from_numpy(images[first : first + batch_size]).to(device)
            metric.update(batch, list(captions[first : first + batch_size]))
        value = float(metric.compute())
    return ClipScore(value, 100 * torch.cat(unwrapped.cosines).numpy())


def _open(folder: Path) -> tuple[nn.Module, Any]:
    from transformers import CLIPModel, CLIPProcessor

    try:
        model: nn.Module = CLIPModel.from_pretrained(folder, local_files_only=True)
        processor = CLIPProcessor.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()[0]
        raise QualityError(f"{folder} holds no CLIP model in the transformers layout ({reason}).") from error
    return model.eval(), processor
