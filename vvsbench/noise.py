"""Counter-based random streams: every draw is a pure function of what it is drawn for.

A global generator makes an image depend on its neighbours in the batch, on the shard and on what was drawn before.
Here a Gumbel noise is keyed by (seed, image, position, token) and a uniform by (seed, image, position, purpose), so
the images of a set are the same at any batch size, in any order, on any worker and after a restart; and two decoders
that share the noise can be compared token by token. Sampling is Gumbel-max: argmax(log p + G) has the law of p.

A position has a 64-bit key, mixed from its parts by a splitmix64-like finaliser (Steele, Lea and Flood 2014). A
token's 32 bits are mixed from that key by two rounds of 32-bit multiply and shift: a vocabulary of noise is made per
token drawn, so it must be cheap. The shifts are arithmetic, where the originals' are logical: a word and its
complement collide, which no two keys are likelier to be than any other pair, and no masks are needed.
"""

from __future__ import annotations

import functools
from enum import IntEnum

import torch
from torch import Tensor

from vvsbench.fusing import fusible


def _signed(value: int, bits: int) -> int:
    return value - (1 << bits) if value >= 1 << (bits - 1) else value


_KEY_STEP = _signed(0x9E3779B97F4A7C15, 64)
_KEY_FACTORS = (_signed(0xBF58476D1CE4E5B9, 64), _signed(0x94D049BB133111EB, 64))
_TOKEN_STEP = _signed(0x9E3779B1, 32)
_TOKEN_FACTORS = (_signed(0x7FEB352D, 32), _signed(0x846CA68B, 32))
_MANTISSA = 0x7FFFFFFF
MOST_BYTES = 2**30
"""Of the noise of all images in flight; where it is more, it is made as it is needed."""
_CHUNK = 64
"""Positions whose noise is made at a time where that of a whole image is made: what making it needs is as large."""


class Purpose(IntEnum):
    """What a draw is for; each has its own stream."""

    TOKEN = 0
    SKIP_PATH = 1
    ACCEPTANCE = 2
    DRAFT = 3
    ORACLE = 4
    PATH = 5
    HEAD = 6
    DRAFT_HEAD = 7
    RESIDUAL = 8
    RETAIN = 9
    REDRAFT = 10


def _mix_key(x: Tensor) -> Tensor:
    x = (x ^ (x >> 30)) * _KEY_FACTORS[0]
    x = (x ^ (x >> 27)) * _KEY_FACTORS[1]
    return x ^ (x >> 31)


def _stream(seed: int, purpose: Purpose, images: Tensor) -> Tensor:
    """The int64 [] that all keys of a seed and a purpose start from, where the images are."""
    return torch.full((), _start(seed, purpose), device=images.device)


@functools.cache
def _start(seed: int, purpose: Purpose) -> int:
    """The same as a number, mixed where that costs nothing."""
    start = (seed * 0x9E3779B97F4A7C15 + int(purpose) + 1) % (1 << 64)
    return int(_mix_key(torch.tensor(_signed(start, 64))))


def _key(stream: Tensor, images: Tensor, positions: Tensor) -> Tensor:
    """An int64 key for every image and position."""
    return _mix_key(_mix_key(stream + images * _KEY_STEP) + positions * _KEY_STEP)


def _unit(bits: Tensor) -> Tensor:
    """Map the low 31 bits of mixed words to float32 in (0, 1], finely resolved near 0."""
    return bits.bitwise_and_(_MANTISSA).to(torch.float32).add_(0.5).mul_(2.0**-31)


def _units(key: Tensor, vocab: int) -> Tensor:
    """Float32 [..., V] in (0, 1], one for each token under the keys [...]."""
    key = key[..., None]
    low, high = key.to(torch.int32), (key >> 32).to(torch.int32)
    tokens = torch.arange(vocab, device=key.device, dtype=torch.int32) * _TOKEN_STEP
    x = low + tokens
    shifted = torch.empty_like(x)
    for shift, factor in zip((16, 15), _TOKEN_FACTORS, strict=True):
        x.bitwise_xor_(torch.bitwise_right_shift(x, shift, out=shifted)).mul_(factor).bitwise_xor_(high)
    x.bitwise_xor_(torch.bitwise_right_shift(x, 16, out=shifted))
    return _unit(x)


def gumbel(seed: int, images: Tensor, positions: Tensor, vocab: int, purpose: Purpose = Purpose.TOKEN) -> Tensor:
    """Gumbel noise for the token at each position.

    Args:
        seed: of the cell.
        images: int64, indices of the images, any shape.
        positions: int64, image-token positions, broadcastable against `images`.
        vocab: number of tokens V.
        purpose: whose noise it is; the target draws with Purpose.TOKEN.

    Returns:
        float32 [..., V]. The largest values, which decide, are resolved down to probabilities of 2^-32.
    """
    return _gumbel(_stream(seed, purpose, images), images, positions, vocab)


@fusible
def _gumbel(stream: Tensor, images: Tensor, positions: Tensor, vocab: int) -> Tensor:
    units = _units(_key(stream, images, positions), vocab)
    return units.neg_().log1p_().neg_().log_().neg_()


def kept(images: int, positions: int, vocab: int) -> bool:
    """Whether the noise of so many images is small enough to be made as a whole when they start."""
    return 4 * images * positions * vocab <= MOST_BYTES


def gumbel_of(seed: int, images: Tensor, first: Tensor, positions: int, vocab: int) -> Tensor:
    """Noise of the target's draws at many positions of some images, made at once so that no step has to.

    Args:
        seed: of the cell.
        images: int64 [B].
        first: int64 [1], the first position.
        positions: how many, K.
        vocab: number of tokens V.

    Returns:
        float32 [B, K, V].
    """
    noise = torch.empty(len(images), positions, vocab, device=images.device)
    for start in range(0, positions, _CHUNK):
        some = first + torch.arange(start, min(start + _CHUNK, positions), device=images.device)
        noise[:, start : start + _CHUNK] = gumbel(seed, images[:, None], some, vocab)
    return noise


def normal(seed: int, images: Tensor, positions: Tensor, vocab: int, purpose: Purpose) -> Tensor:
    """Standard normal noise for each token at each position, float32 [..., V]; arguments as of `gumbel`."""
    units = _units(_key(_stream(seed, purpose, images), images, positions), vocab)
    return torch.special.ndtri(units.clamp_max_(1 - 2.0**-24))


def uniform(seed: int, images: Tensor, positions: Tensor, purpose: Purpose, tokens: Tensor | None = None) -> Tensor:
    """One uniform in (0, 1] for each position and purpose, and for each token where tokens are given.

    Args:
        seed: of the cell.
        images, positions: int64, broadcastable against each other.
        purpose: what the draws are for.
        tokens: int64, of the same shape as the broadcast.

    Returns:
        float32 of the broadcast shape.
    """
    return _uniform(_stream(seed, purpose, images), images, positions, tokens)


@fusible
def _uniform(stream: Tensor, images: Tensor, positions: Tensor, tokens: Tensor | None) -> Tensor:
    key = _key(stream, images, positions)
    return _unit(key if tokens is None else _mix_key(key + tokens * _KEY_STEP))
