"""LlamaGen's image tokenizer: a convolutional VQ autoencoder with an l2-normalised codebook.

Tensor names and layout are those of the official checkpoints (VQ-16 and VQ-8), so their files load as they are; the
tiny zoo's tokenizer is the same class with smaller numbers. The codebook is stored raw and normalised at every lookup,
in both directions: a port that normalises only one of them is wrong without looking wrong.
"""

from __future__ import annotations

import math
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

_USAGE_WINDOW = 65536  # length of the buffer `quantize.codebook_used` in the official files


def _middle(width: int) -> nn.ModuleList:
    return nn.ModuleList([ResidualBlock(width, width), AttentionBlock(width), ResidualBlock(width, width)])


class Encoder(nn.Module):
    """Image [B, 3, S, S] to latent map [B, z_channels, S / f, S / f] with f = 2 ** (levels - 1)."""

    def __init__(self, z_channels: int, base: int, multipliers: Sequence[int], blocks: int) -> None:
        super().__init__()
        widths = [base, *(base * multiplier for multiplier in multipliers)]
        last = len(multipliers) - 1
        self.conv_in = nn.Conv2d(3, base, 3, padding=1)
        self.conv_blocks = nn.ModuleList(
            Level(level_widths(widths[n], widths[n + 1], blocks), n == last, Downsample if n < last else None, "res")
            for n in range(len(multipliers))
        )
        self.mid = _middle(widths[-1])
        self.norm_out = group_norm(widths[-1])
        self.conv_out = nn.Conv2d(widths[-1], z_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        for block in (*self.conv_blocks, *self.mid):
            x = block(x)
        return self.conv_out(F.silu(self.norm_out(x)))


class Decoder(nn.Module):
    """The mirror of the encoder, with one residual block more per level; its levels run from low to high resolution."""

    def __init__(self, z_channels: int, base: int, multipliers: Sequence[int], blocks: int) -> None:
        super().__init__()
        widths = [base * multiplier for multiplier in reversed(multipliers)]
        last = len(multipliers) - 1
        self.conv_in = nn.Conv2d(z_channels, widths[0], 3, padding=1)
        self.mid = _middle(widths[0])
        self.conv_blocks = nn.ModuleList(
            Level(
                level_widths(widths[max(n - 1, 0)], widths[n], blocks + 1),
                n == 0,
                Upsample if n < last else None,
                "res",
            )
            for n in range(len(multipliers))
        )
        self.norm_out = group_norm(widths[-1])
        self.conv_out = nn.Conv2d(widths[-1], 3, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        x = self.conv_in(z)
        for block in (*self.mid, *self.conv_blocks):
            x = block(x)
        return self.conv_out(F.silu(self.norm_out(x)))


class Quantizer(nn.Module):
    """The codebook; rows are stored raw and used at unit length."""

    codebook_used: Tensor

    def __init__(self, codebook_size: int, codebook_dim: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(codebook_size, codebook_dim)
        nn.init.uniform_(self.embedding.weight, -1.0 / codebook_size, 1.0 / codebook_size)
        self.register_buffer("codebook_used", torch.zeros(_USAGE_WINDOW))

    def codes(self) -> Tensor:
        """Unit-length code vectors [K, C], float32 or finer."""
        weight = self.embedding.weight
        return F.normalize(weight if weight.dtype == torch.float64 else weight.float(), dim=-1)

    def nearest(self, latents: Tensor) -> Tensor:
        """Index of the code at the smallest angle: latents [..., C] to int64 [...]; ties go to the lower index."""
        codes = self.codes()
        unit = F.normalize(latents.to(codes.dtype), dim=-1)
        return (unit @ codes.T).argmax(dim=-1)

    def lookup(self, indices: Tensor) -> Tensor:
        """Unit-length code vectors [..., C] of int64 [...]."""
        return F.embedding(indices, self.codes())


class VQModel(nn.Module):
    """LlamaGen's VQ tokenizer.

    Args:
        codebook_size: number of codes, K.
        codebook_dim: length of a code vector, C.
        z_channels: channels between the convolutional stacks and the codebook's 1x1 projections.
        base_channels: width at full resolution; a multiple of 32 (group norm has 32 groups).
        channel_multipliers: width of each level over `base_channels`; every level after the first halves the side, so
            (1, 1, 2, 2, 4) is VQ-16 and (1, 2, 2, 4) is VQ-8.
        residual_blocks: per level of the encoder; the decoder has one more.
        patch: 1 for the official layout; above 1 both stacks are those of `vvsbench.models.patches` for patches of this
            side, `base_channels` wide, with as many blocks each.

    Source: LlamaGen, tokenizer/tokenizer_image/vq_model.py (layout and names; the code is our own).
    """

    def __init__(
        self,
        codebook_size: int = 16384,
        codebook_dim: int = 8,
        z_channels: int = 256,
        base_channels: int = 128,
        channel_multipliers: Sequence[int] = (1, 1, 2, 2, 4),
        residual_blocks: int = 2,
        patch: int = 1,
    ) -> None:
        super().__init__()
        multipliers = list(channel_multipliers)
        self.downsample = patch if patch > 1 else 2 ** (len(multipliers) - 1)
        self.codebook_dim = codebook_dim
        self.encoder: nn.Module
        self.decoder: nn.Module
        if patch > 1:
            self.encoder = PatchEncoder(z_channels, base_channels, residual_blocks, patch)
            self.decoder = PatchDecoder(z_channels, base_channels, residual_blocks, patch)
        else:
            self.encoder = Encoder(z_channels, base_channels, multipliers, residual_blocks)
            self.decoder = Decoder(z_channels, base_channels, multipliers, residual_blocks)
        self.quantize = Quantizer(codebook_size, codebook_dim)
        self.quant_conv = nn.Conv2d(z_channels, codebook_dim, 1)
        self.post_quant_conv = nn.Conv2d(codebook_dim, z_channels, 1)

    def latents(self, pixels: Tensor) -> Tensor:
        """Latents before quantisation, [B, C, h, w], of pixels [B, 3, S, S] in [-1, 1]."""
        return self.quant_conv(self.encoder(pixels))

    def encode(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Quantise images.

        Args:
            pixels: [B, 3, S, S] in [-1, 1].

        Returns:
            Unit-length code vectors [B, C, h, w] and their indices int64 [B, h * w], row by row.
        """
        latents = self.latents(pixels).permute(0, 2, 3, 1)
        indices = self.quantize.nearest(latents)
        return self.quantize.lookup(indices).permute(0, 3, 1, 2), indices.flatten(1)

    def decode(self, quantised: Tensor) -> Tensor:
        """Pixels [B, 3, S, S], about [-1, 1] and not clamped, of code vectors [B, C, h, w]."""
        return self.decoder(self.post_quant_conv(quantised))

    def decode_code(self, indices: Tensor, grid: int | None = None) -> Tensor:
        """Pixels [B, 3, S, S], about [-1, 1] and not clamped.

        Args:
            indices: int64 [B, h * w], row by row.
            grid: rows of the token grid, h; by default the grid is square.
        """
        rows = grid or math.isqrt(indices.shape[1])
        if indices.shape[1] % rows or (grid is None and rows * rows != indices.shape[1]):
            raise ValueError(f"{indices.shape[1]} tokens do not fill a grid of {rows} rows")
        codes = self.quantize.lookup(indices.view(len(indices), rows, -1)).permute(0, 3, 1, 2)
        return self.decode(codes.to(self.post_quant_conv.weight.dtype))

    @staticmethod
    def to_uint8(pixels: Tensor) -> Tensor:
        """uint8 images of pixels in [-1, 1], as the official sampling script makes them: clamp(127.5 x + 128), cut.

        Raises:
            NotFiniteError: see `finite`.
        """
        return (finite(pixels) * 127.5 + 128.0).clamp(0, 255).to(torch.uint8)
