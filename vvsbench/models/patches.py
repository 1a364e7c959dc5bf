"""A tokenizer's two stacks on the grid of tokens, for CPUs: no level at full resolution, and codes that are local.

A stack of convolutions with attention lets every code depend on the whole picture. That decorrelates the codes of an
image: after 2,600 images a small model stood at 6.9 nats a token, and at 5.8 on the codes of this stack. Here a code
sees its patch and half a patch around it, and nothing is normalised across places; only the decoder mixes neighbours.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class PlaceNorm(nn.Module):
    """Layer norm over the channels of every place of a map [B, C, h, w]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class PatchBlock(nn.Module):
    """A residual block; it starts as the identity.

    Args:
        width: channels.
        kernel: side of its window, in places.
    """

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        self.norm = PlaceNorm(width)
        self.conv1 = nn.Conv2d(width, width, kernel, padding=kernel // 2)
        self.conv2 = nn.Conv2d(width, width, 1)
        nn.init.zeros_(self.conv2.weight)
        assert self.conv2.bias is not None
        nn.init.zeros_(self.conv2.bias)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.silu(self.conv1(self.norm(x))))


class PatchEncoder(nn.Sequential):
    """Image [B, 3, S, S] to map [B, channels, S / patch, S / patch], each place from a window of two patches a side."""

    def __init__(self, channels: int, width: int, blocks: int, patch: int) -> None:
        super().__init__(
            nn.Conv2d(3, width, 2 * patch, patch, patch // 2),
            *(PatchBlock(width, 1) for _ in range(blocks)),
            nn.SiLU(),
            nn.Conv2d(width, channels, 1),
        )


class PatchDecoder(nn.Sequential):
    """Map [B, channels, h, w] to image [B, 3, patch * h, patch * w]."""

    def __init__(self, channels: int, width: int, blocks: int, patch: int) -> None:
        super().__init__(
            nn.Conv2d(channels, width, 3, padding=1),
            *(PatchBlock(width, 3) for _ in range(blocks)),
            nn.SiLU(),
            nn.Conv2d(width, 3 * patch * patch, 1),
            nn.PixelShuffle(patch),
        )
