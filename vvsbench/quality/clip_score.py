"""CLIP score: how well each image fits its caption, by torchmetrics with any CLIP in the transformers layout.

transformers 5 returns output objects where torchmetrics 1.9 expects tensors, and torchmetrics only knows some model
names; `Unwrapped` mends both. It also keeps the embeddings it hands out, which gives the score of every single image
(and with them the interval) from the same forward passes. And torchmetrics cuts a long caption together with its end
token, at which CLIP reads off what a caption means; `Shortened` cuts before it.
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
from vvsbench.quality.extractors import finite
from vvsbench.quality.images import Images


@dataclass(frozen=True)
class ClipScore:
    """The score of a set.

    Attributes:
        value: torchmetrics' score, 100 * mean cosine, cut off at 0.
        each: float64 [N], 100 * cosine of every image with its caption.
        cut: captions that were longer than the model reads.
    """

    value: float
    each: NDArray[np.float64]
    cut: int


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


class Shortened:
    """A processor that cuts captions to the length that the model reads; their end token stays.

    Args:
        processor: transformers' CLIPProcessor.
        longest: tokens, the two around the caption included.

    Attributes:
        cut: captions that were longer.
    """

    def __init__(self, processor: Any, longest: int) -> None:
        self.processor, self.longest, self.cut = processor, longest, 0

    def __call__(self, text: list[str] | None = None, **chosen: Any) -> Any:
        if text is None:
            return self.processor(**chosen)
        whole = self.processor.tokenizer(text, verbose=False)["input_ids"]
        self.cut += sum(len(tokens) > self.longest for tokens in whole)
        return self.processor(text=text, truncation=True, max_length=self.longest, **chosen)


def _tensor(output: Any) -> Tensor:
    """The embedding tensor of a feature call: transformers 4 returned it bare, 5 inside an output object."""
    embedding = output if isinstance(output, Tensor) else output.pooler_output
    assert isinstance(embedding, Tensor)
    return embedding


def score(images: Images, captions: Sequence[str], folder: Path, device: torch.device, batch_size: int) -> ClipScore:
    """CLIP score of images with their captions.

    Args:
        images: N of them.
        captions: likewise.
        folder: a CLIP model with its processor, transformers layout.
        device: where it runs.
        batch_size: pairs at a time; it changes speed, not numbers.

    Raises:
        QualityError: counts differ, or the folder holds no readable CLIP.
        NotFiniteError: the model gave NaN or infinity.
    """
    count = images.shape[0]
    if len(captions) != count:
        raise QualityError(f"{count} images but {len(captions)} captions: CLIP score needs one for each.")
    model, processor = _open(folder)
    unwrapped = Unwrapped(model)
    config: Any = model.config
    shortened = Shortened(processor, config.text_config.max_position_embeddings)
    opener: Any = lambda: (unwrapped, shortened)  # noqa: E731  (torchmetrics' type asks for a CLIPModel)
    metric = CLIPScore(model_name_or_path=opener).to(device)
    with torch.inference_mode():
        first = 0
        for part in images.parts(batch_size):
            metric.update(torch.from_numpy(part).to(device), list(captions[first : first + len(part)]))
            first += len(part)
        value = float(metric.compute())
    each = 100 * torch.cat(unwrapped.cosines)
    finite(each, f"CLIP scores ({folder.name})", next(model.parameters()).dtype)
    return ClipScore(value, each.numpy(), shortened.cut)


def _open(folder: Path) -> tuple[nn.Module, Any]:
    from transformers import CLIPModel, CLIPProcessor

    try:
        model: nn.Module = CLIPModel.from_pretrained(folder, local_files_only=True)
        processor = CLIPProcessor.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()[0]
        raise QualityError(f"{folder} holds no CLIP model in the transformers layout ({reason}).") from error
    return model.eval(), processor
