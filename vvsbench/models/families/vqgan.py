"""The half of a taming-transformers VQGAN that turns codes into pixels, under the names of Meta's vqgan.ckpt.

All of its sizes show in the file. The half that makes codes of pixels is in the file too, and not read; nor is what
training left there.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from vvsbench.errors import CheckpointError
from vvsbench.models import checkpoints
from vvsbench.models.kl_vae import Decoder

UNREAD = ("encoder.", "quant_conv.", "loss.")
"""Beginnings of names of what makes codes of pixels, or was used in training only."""


class VQGAN(nn.Module):
    """Codes to pixels.

    Args:
        codes, dim: of the codebook.
        z_channels, base, multipliers, blocks: of the decoder, as in `kl_vae.Decoder`.
    """

    def __init__(self, codes: int, dim: int, z_channels: int, base: int, multipliers: list[int], blocks: int) -> None:
        super().__init__()
        self.quantize = nn.ModuleDict({"embedding": nn.Embedding(codes, dim)})
        self.post_quant_conv = nn.Conv2d(dim, z_channels, 1)
        self.decoder = Decoder(z_channels, base, multipliers, blocks)

    def forward(self, codes: Tensor) -> Tensor:
        """Pixels [B, 3, H, W], about [-1, 1], of codes int64 [B, h, w]."""
        return self.decoder(self.post_quant_conv(self.quantize["embedding"](codes).movedim(-1, 1)))


def load_vqgan(path: Path) -> VQGAN:
    """The decoder of a file, float32, for inference.

    Raises:
        CheckpointError: a tensor is missing, left over or of another shape than its neighbours say.
    """
    state = {name: value for name, value in checkpoints.read(path).items() if not name.startswith(UNREAD)}
    with torch.device("meta"):
        painter = VQGAN(*_sizes(state, path))
    checkpoints.load_strict(painter, state, str(path))
    return painter.eval().requires_grad_(False).float()


def _sizes(state: Mapping[str, Tensor], path: Path) -> tuple[int, int, int, int, list[int], int]:
    try:
        base = state["decoder.conv_out.weight"].shape[1]
        levels = len({name.split(".")[2] for name in state if name.startswith("decoder.up.")})
        widths = [state[f"decoder.up.{level}.block.0.conv1.weight"].shape[0] for level in range(levels)]
        blocks = len({name.split(".")[4] for name in state if name.startswith("decoder.up.0.block.")})
        codes, dim = state["quantize.embedding.weight"].shape
        z_channels = state["decoder.conv_in.weight"].shape[1]
    except (KeyError, IndexError, ValueError) as error:
        raise CheckpointError(f"{path} is no VQGAN: it lacks {error}. Name vqgan.ckpt of Chameleon.") from error
    return codes, dim, z_channels, base, [width // base for width in widths], blocks - 1
