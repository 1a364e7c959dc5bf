"""The KL autoencoder behind MAR: images to a Gaussian over continuous latent maps, and latents back to images.

Tensor names and layout are those of the official file (KL-16, the latent-diffusion layout), so it loads as it is; the
tiny zoo's autoencoder is the same class with smaller numbers. Two details of that layout are easily got wrong: levels
of the decoder are numbered from the highest resolution down to the lowest but run the other way, and only the last
level of the encoder has attention while no level of the decoder has any.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vvsbench.models.convolutional import (
    AttentionBlock,
    Downsample,
    Level,
    ResidualBlock,
    Upsample,
    finite,
    group_norm,
    level_widths,
)
from vvsbench.models.patches import PatchDecoder, PatchEncoder

_LOG_VARIANCE = (-30.0, 20.0)  # the official bounds


class Middle(nn.Module):
    """Two residual blocks with attention between them, at the lowest resolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.block_1 = ResidualBlock(width, width)
        self.attn_1 = AttentionBlock(width)
        self.block_2 = ResidualBlock(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.block_2(self.attn_1(self.block_1(x)))


class Encoder(nn.Module):
    """Image [B, 3, S, S] to moments [B, 2 C, S / f, S / f] with f = 2 ** (levels - 1)."""

    def __init__(self, channels: int, base: int, multipliers: Sequence[int], blocks: int) -> None:
        super().__init__()
        widths = [base, *(base * multiplier for multiplier in multipliers)]
        last = len(multipliers) - 1
        self.conv_in = nn.Conv2d(3, base, 3, padding=1)
        self.down = nn.ModuleList(
            Level(level_widths(widths[n], widths[n + 1], blocks), n == last, Downsample if n < last else None, "block")
            for n in range(len(multipliers))
        )
        self.mid = Middle(widths[-1])
        self.norm_out = group_norm(widths[-1])
        self.conv_out = nn.Conv2d(widths[-1], 2 * channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        for level in self.down:
            x = level(x)
        return self.conv_out(F.silu(self.norm_out(self.mid(x))))


class Decoder(nn.Module):
    """The mirror of the encoder, with one residual block more per level; level 0 has the highest resolution."""

    def __init__(self, channels: int, base: int, multipliers: Sequence[int], blocks: int) -> None:
        super().__init__()
        widths = [base * multiplier for multiplier in multipliers]
        before = [*widths[1:], widths[-1]]
        self.conv_in = nn.Conv2d(channels, widths[-1], 3, padding=1)
        self.mid = Middle(widths[-1])
        self.up = nn.ModuleList(
            Level(level_widths(before[n], widths[n], blocks + 1), False, Upsample if n > 0 else None, "block")
            for n in range(len(multipliers))
        )
        self.norm_out = group_norm(widths[0])
        self.conv_out = nn.Conv2d(widths[0], 3, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        x = self.mid(self.conv_in(z))
        for level in reversed(self.up):
            x = level(x)
        return self.conv_out(F.silu(self.norm_out(x)))


class KLAutoencoder(nn.Module):
    """MAR's image tokenizer.

    Args:
        embed_dim: channels of a latent, C.
        base_channels: width at full resolution; a multiple of 32 (group norm has 32 groups).
        channel_multipliers: width of each level over `base_channels`; every level after the first halves the side.
        residual_blocks: per level of the encoder; the decoder has one more.
        patch: 1 for the official layout; above 1 both stacks are those of `vvsbench.models.patches` for patches of this
            side, `base_channels` wide, with as many blocks each.

    Source: the KL-16 autoencoder of LTH14/mar, models/vae.py (layout and names; the code is our own).
    """

    def __init__(
        self,
        embed_dim: int = 16,
        base_channels: int = 128,
        channel_multipliers: Sequence[int] = (1, 1, 2, 2, 4),
        residual_blocks: int = 2,
        patch: int = 1,
    ) -> None:
        super().__init__()
        multipliers = list(channel_multipliers)
        self.downsample = patch if patch > 1 else 2 ** (len(multipliers) - 1)
        self.embed_dim = embed_dim
        self.encoder: nn.Module
        self.decoder: nn.Module
        if patch > 1:
            self.encoder = PatchEncoder(2 * embed_dim, base_channels, residual_blocks, patch)
            self.decoder = PatchDecoder(embed_dim, base_channels, residual_blocks, patch)
        else:
            self.encoder = Encoder(embed_dim, base_channels, multipliers, residual_blocks)
            self.decoder = Decoder(embed_dim, base_channels, multipliers, residual_blocks)
        self.quant_conv = nn.Conv2d(2 * embed_dim, 2 * embed_dim, 1)
        self.post_quant_conv = nn.Conv2d(embed_dim, embed_dim, 1)

    def encode(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """The posterior of images.

        Args:
            pixels: [B, 3, S, S] in [-1, 1].

        Returns:
            Mean and log variance, each [B, C, h, w]; the latter is clamped to [-30, 20].
        """
        moments = self.quant_conv(self.encoder(pixels))
        mean, log_variance = moments.chunk(2, dim=1)
        return mean, log_variance.clamp(*_LOG_VARIANCE)

    def decode(self, latents: Tensor) -> Tensor:
        """Pixels [B, 3, S, S], about [-1, 1] and not clamped, of latents [B, C, h, w]."""
        return self.decoder(self.post_quant_conv(latents))

    @staticmethod
    def to_uint8(pixels: Tensor) -> Tensor:
        """uint8 images of pixels in [-1, 1], as the official evaluation makes them: scaled to [0, 255], rounded.

        Raises:
            NotFiniteError: see `finite`.
        """
        return ((finite(pixels) + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
