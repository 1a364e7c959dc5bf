"""Human preference score v2: a CLIP fine-tuned on people's choices between pictures of one prompt.

The network is open_clip's ViT-H/14, an optional extra (`vvsbench[hps]`); the checkpoint is the authors'.

Source:
    X. Wu et al., Human Preference Score v2: a solid benchmark for evaluating human preferences of text-to-image
    synthesis, 2023 (arXiv 2306.09341).
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from vvsbench.models import checkpoints
from vvsbench.quality.config import QualityError
from vvsbench.quality.extractors import finite
from vvsbench.quality.images import Images

NETWORK = "ViT-H-14"
ENDS = 2
"""Tokens around a caption."""


def score(
    images: Images, captions: Sequence[str], checkpoint: Path, device: torch.device, batch_size: int
) -> tuple[NDArray[np.float64], int]:
    """Preference score of every image for its caption.

    Args:
        images: N of them.
        captions: likewise.
        checkpoint: the authors' file, a pickle of tensors with an entry state_dict.
        device: where it runs.
        batch_size: pairs at a time; it changes speed, not numbers.

    Returns:
        float64 [N], 100 times the cosine of image and caption; and how many captions were longer than the network
        reads, which open_clip's tokenizer cuts in front of their end token.

    Raises:
        QualityError: the checkpoint does not fit the network.
        NotFiniteError: the network gave NaN or infinity.
    """
    open_clip: Any = importlib.import_module("open_clip")
    model, _, prepare = open_clip.create_model_and_transforms(NETWORK, pretrained=None, device=device)
    try:
        model.load_state_dict(checkpoints.read(checkpoint))
    except RuntimeError as error:
        raise QualityError(f"{checkpoint} does not fit {NETWORK}: {str(error).splitlines()[0]}") from error
    tokenizer = open_clip.get_tokenizer(NETWORK)
    model.eval()
    found: list[torch.Tensor] = []
    with torch.inference_mode():
        for part in images.parts(batch_size):
            first = sum(map(len, found))
            pictures = torch.stack([prepare(Image.fromarray(image.transpose(1, 2, 0))) for image in part])
            seen = model.encode_image(pictures.to(device)).double()
            read = model.encode_text(tokenizer(list(captions[first : first + len(part)])).to(device)).double()
            found.append(torch.nn.functional.cosine_similarity(seen, read).cpu())
    each = 100 * torch.cat(found)
    finite(each, f"preference scores ({NETWORK})", next(model.parameters()).dtype)
    return each.numpy(), sum(len(tokenizer.encode(caption)) + ENDS > tokenizer.context_length for caption in captions)
