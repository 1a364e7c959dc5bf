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
from vvsbench.quality.extractors import check_images

NETWORK = "ViT-H-14"


def score(
    images: NDArray[np.uint8], captions: Sequence[str], checkpoint: Path, device: torch.device, batch_size: int
) -> NDArray[np.float64]:
    """Preference score of every image for its caption.

    Args:
        images: uint8 [N, 3, H, W].
        captions: N of them.
        checkpoint: the authors' file, a pickle of tensors with an entry state_dict.
        device: where it runs.
        batch_size: pairs at a time; it changes speed, not numbers.

    Returns:
        float64 [N], 100 times the cosine of image and caption.

    Raises:
        QualityError: the checkpoint does not fit the network.
    """
    check_images(images)
    open_clip: Any = importlib.import_module("open_clip")
    model, _, prepare = open_clip.create_model_and_transforms(NETWORK, pretrained=None, device=device)
    try:
        model.load_state_dict(checkpoints.read(checkpoint))
    except RuntimeError as error:
        raise QualityError(f"{checkpoint} does not fit {NETWORK}: {str(error).splitlines()[0]}") from error
    tokenizer = open_clip.get_tokenizer(NETWORK)
    model.eval()
    found = []
    with torch.inference_mode():
        for first in range(0, len(images), batch_size):
            part = images[first : first + batch_size]
            pictures = torch.stack([prepare(Image.fromarray(image.transpose(1, 2, 0))) for image in part])
            seen = model.encode_image(pictures.to(device)).double()
            read = model.encode_text(tokenizer(list(captions[first : first + batch_size])).to(device)).double()
            found.append(torch.nn.functional.cosine_similarity(seen, read).cpu())
    return 100 * torch.cat(found).numpy()
