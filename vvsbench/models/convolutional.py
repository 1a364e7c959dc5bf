"""The convolutional blocks that the image tokenizers share: LlamaGen's VQ model and the KL autoencoder of MAR.

Both descend from the same latent-diffusion autoencoder. Within a block the tensor names agree; how blocks are named and
put in order differs, and is left to each tokenizer.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vvsbench.errors import NotFiniteError

_GROUPS = 32
_EPS = 1e-6


def group_norm(channels: int) -> nn.GroupNorm:
    """The normalisation of all these networks."""
    return nn.GroupNorm(_GROUPS, channels, eps=_EPS)


class ResidualBlock(nn.Module):
    """norm, swish, conv, norm, swish, conv, added to the input (through a 1x1 convolution where the width changes)."""

    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__()
        self.norm1 = group_norm(width_in)
        self.conv1 = nn.Conv2d(width_in, width_out, 3, padding=1)
        self.norm2 = group_norm(width_out)
        self.conv2 = nn.Conv2d(width_out, width_out, 3, padding=1)
        if width_in != width_out:
            self.nin_shortcut = nn.Conv2d(width_in, width_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.conv1(F.silu(self.norm1(x)))
        hidden = self.conv2(F.silu(self.norm2(hidden)))
        return (self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x) + hidden


class AttentionBlock(nn.Module):
    """Single-head self-attention over all positions of a feature map, added to the input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = group_norm(width)
        self.q = nn.Conv2d(width, width, 1)
        self.k = nn.Conv2d(width, width, 1)
        self.v = nn.Conv2d(width, width, 1)
        self.proj_out = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.norm(x)
        q, k, v = (layer(hidden).flatten(2) for layer in (self.q, self.k, self.v))
        weights = (q.transpose(1, 2) @ k * q.shape[1] ** -0.5).softmax(dim=-1)
        return x + self.proj_out((v @ weights.transpose(1, 2)).view_as(x))


class Downsample(nn.Module):
    """Halves the side; padded on the right and at the bottom only."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Doubles the side: nearest neighbour, then a convolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


def level_widths(width_in: int, width_out: int, blocks: int) -> list[tuple[int, int]]:
    """Channels before and after each of a level's residual blocks; the first one changes them."""
    return [(width_in if number == 0 else width_out, width_out) for number in range(blocks)]


class Level(nn.Module):
    """The blocks of one resolution, then the change to the next one, where there is one.

    Args:
        widths: of each block, in and out.
        attention: whether a block of it follows each.
        change: `Downsample`, `Upsample` or nothing.
        name: of the blocks in the official files.
    """

    def __init__(
        self, widths: Sequence[tuple[int, int]], attention: bool, change: type[nn.Module] | None, name: str
    ) -> None:
        super().__init__()
        self._name = name
        width = widths[-1][1]
        self.add_module(name, nn.ModuleList(ResidualBlock(*pair) for pair in widths))
        self.attn = nn.ModuleList(AttentionBlock(width) for _ in widths) if attention else nn.ModuleList()
        if change is Downsample:
            self.downsample = Downsample(width)
        elif change is Upsample:
            self.upsample = Upsample(width)

    def forward(self, x: Tensor) -> Tensor:
        for number, block in enumerate(getattr(self, self._name)):
            x = block(x)
            if len(self.attn):
                x = self.attn[number](x)
        for name in ("downsample", "upsample"):
            if hasattr(self, name):
                x = getattr(self, name)(x)
        return x


def finite(pixels: Tensor) -> Tensor:
    """Pixels [B, 3, S, S] in float32, before they become whole numbers, where NaN would be black. Reads the device.

    Raises:
        NotFiniteError: some are not finite; its `image` is the row of the batch.
    """
    good = torch.isfinite(pixels).reshape(len(pixels), -1).all(1)
    if not good.all():
        row = int(good.byte().argmin())
        value = float(pixels[row].sum())
        raise NotFiniteError("pixels of the tokenizer", str(pixels.dtype).removeprefix("torch."), row, "", value)
    return pixels.float()
