"""What the MAR fixtures share: networks from official argument names, and noise that was recorded instead of drawn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vvsbench.decoding.continuous.draws import Draws
from vvsbench.models import checkpoints
from vvsbench.models.mar import MARNetwork, MARSizes
from vvsbench.noise import Purpose


def network(config: dict[str, Any], path: Path) -> MARNetwork:
    """The averaged weights of an official file, in a network of the sizes of its official arguments."""
    sizes = MARSizes(
        grid=config["img_size"] // config["vae_stride"],
        channels=config["vae_embed_dim"],
        classes=config["class_num"],
        buffer=config["buffer_size"],
        encoder_dim=config["encoder_embed_dim"],
        encoder_depth=config["encoder_depth"],
        encoder_heads=config["encoder_num_heads"],
        decoder_dim=config["decoder_embed_dim"],
        decoder_depth=config["decoder_depth"],
        decoder_heads=config["decoder_num_heads"],
        head_depth=config["diffloss_d"],
        head_width=config["diffloss_w"],
    )
    module = MARNetwork(sizes)
    state = torch.load(path, weights_only=True)["model_ema"]
    checkpoints.load_strict(module, state, str(path))
    return module.eval()


def recorded(orders: Tensor, first: Tensor, later: Sequence[Tensor]) -> type[Draws]:
    """Draws that repeat a recording.

    Args:
        orders: int64 [B, L] of the authors' code, which reveals from the end.
        first: [B, L, C], the noise that the chains start from.
        later: by head step, [B, L, C] each.
    """

    class Recorded(Draws):
        def path(self, images: Tensor, tokens: int) -> Tensor:
            return orders.flip(1)

        def head(self, images: Tensor, positions: Tensor, steps: int, purpose: Purpose = Purpose.HEAD) -> Tensor:
            return torch.stack([each[images, positions] for each in (*later, first)])

    return Recorded


def picture(tokens: Tensor) -> Tensor:
    """Tokens [B, L, C] as the authors' code returns them, [B, C, h, w]."""
    side = int(tokens.shape[1] ** 0.5)
    return tokens.transpose(1, 2).unflatten(2, (side, side))
