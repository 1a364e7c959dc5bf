"""Counter-based random streams: every draw is a pure function of what it is drawn for.

A global generator makes an image depend on its neighbours in the batch, on the shard and on what was drawn before. Here a
Gumbel noise is keyed by (seed, image, position, token) and a uniform by (seed, image, position, purpose), so the images of a
set are the same at any batch size, in any order, on any worker and after a restart; and two decoders that share the noise can be
compared token by token. Sampling is Gumbel-max: argmax(log p + G) has the law of p.

The mixing function is the finaliser of splitmix64 (Steele, Lea and Flood 2014), applied once per key part.
"""

from __future__ import annotations

from enum import IntEnum

import torch
from torch import Tensor


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


_GOLDEN = _signed(0x9E3779B97F4A7C15)
_FIRST = _signed(0xBF58476D1CE4E5B9)
_SECOND = _signed(0x94D049BB133111EB)
_TOKEN_STEP = _signed(0xD1342543DE82EF95)


class Purpose(IntEnum):
    """What a draw is for; each has its own stream."""

    TOKEN = 0
    SKIP_PATH = 1
    ACCEPTANCE = 2
    DRAFT = 3


def _mix(x: Tensor) -> Tensor:
    """The splitmix64 finaliser on int64 tensors (wrapping arithmetic, logical shifts)."""
    x = (x ^ ((x >> 30) & 0x3FFFFFFFF)) * _FIRST
    x = (x ^ ((x >> 27) & 0x1FFFFFFFFF)) * _SECOND
    return x ^ ((x >> 31) & 0x1FFFFFFFF)


def _key(seed: int, images: Tensor, positions: Tensor, purpose: Purpose) -> Tensor:
    key = _mix(torch.full_like(images, _signed((seed * 0x9E3779B97F4A7C15 + int(purpose)) % (1 << 64))))
    key = _mix(key + images * _GOLDEN)
    return _mix(key + positions * _GOLDEN)


def _unit(bits: Tensor) -> Tensor:
    """Map the top 32 bits of int64 words to float32 in (0, 1], finely resolved near 0."""
    return ((bits >> 32) & 0xFFFFFFFF).to(torch.float32).add_(0.5).mul_(2.0**-32)


def gumbel(seed: int, images: Tensor, positions: Tensor, vocab: int) -> Tensor:
    """Gumbel noise for the token at each position.

    Args:
        seed: of the cell.
        images: int64, indices of the images, any shape.
        positions: int64, image-token positions, broadcastable against `images`.
        vocab: number of tokens V.

    Returns:
        float32 [..., V]. The largest values, which decide, are resolved down to probabilities of 2^-33.
    """
    images, positions = torch.broadcast_tensors(images, positions)
    key = _key(seed, images, positions, Purpose.TOKEN)
    tokens = torch.arange(vocab, device=images.device) * _TOKEN_STEP
    exponential = torch.log1p(_unit(_mix(key[..., None] + tokens)).neg_()).neg_()
    return exponential.log_().neg_()


def uniform(seed: int, images: Tensor, positions: Tensor, purpose: Purpose) -> Tensor:
    """One uniform in (0, 1] for each position and purpose, float32 of the broadcast shape of images and positions."""
    images, positions = torch.broadcast_tensors(images, positions)
    return _unit(_key(seed, images, positions, purpose))
