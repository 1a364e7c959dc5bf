"""Synthetic captioned images: eight shapes in eight colours on calm textured backgrounds.

The tiny zoo needs data that costs nothing to get, that any machine can make again and that a person can judge at a
glance. Every image is a pure function of (seed, index): all of its randomness comes from hashing these two numbers with
the number of the draw, so order, batch size and machine do not matter. Only elementwise arithmetic that is rounded the
same way in vector and scalar code (+ - * / sqrt floor) touches the pixels in float32; sines are taken in float64 along
the axes.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

SHAPES = ("circle", "square", "triangle", "star", "heart", "ring", "cross", "moon")
COLOURS = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink")
NUM_CLASSES = len(SHAPES) * len(COLOURS)

TRAIN_FIRST = 0
"""Index of the first training image; training uses indices from here up to `HELD_OUT_FIRST` (exclusive)."""
HELD_OUT_FIRST = 10_000_000
"""Index of the first held-out image: no training in this package uses an index from here on."""

_RGB = (
    (0.87, 0.12, 0.14),
    (0.97, 0.50, 0.05),
    (0.98, 0.87, 0.16),
    (0.16, 0.66, 0.24),
    (0.16, 0.80, 0.84),
    (0.14, 0.30, 0.88),
    (0.52, 0.18, 0.74),
    (0.98, 0.52, 0.74),
)
_MASK = 0xFFFFFFFF
_DRAWS = 40
_LARGE = (0.30, 0.40)  # half extent of an object, as a share of the image's side


def caption(label: int) -> str:
    """Caption of a class, e.g. ``"a red star"`` (``"an orange ring"`` where English wants it)."""
    colour, shape = COLOURS[label % len(COLOURS)], SHAPES[label // len(COLOURS)]
    return f"{'an' if colour[0] in 'aeiou' else 'a'} {colour} {shape}"


CLASS_NAMES = tuple(caption(label) for label in range(NUM_CLASSES))


def _mix(x: Tensor) -> Tensor:
    """A 32-bit avalanche hash of int64 values below 2**32."""
    x = ((x ^ (x >> 16)) * 0x21F0AAAD) & _MASK
    x = ((x ^ (x >> 15)) * 0x735A2D97) & _MASK
    return x ^ (x >> 15)


def _keys(indices: Tensor, seed: int) -> Tensor:
    """One 32-bit key per image, int64 [B]."""
    low, high = indices & _MASK, indices >> 32
    start = _mix(torch.full_like(indices, seed & _MASK) ^ 0x5BD1E995)
    return _mix(_mix(low ^ start) + 0x9E3779B9 + _mix(high ^ 0x2545F491) & _MASK)


def labels_of(indices: Tensor, seed: int = 0) -> Tensor:
    """Class of each image, int64 [B], without drawing it: shape * 8 + colour, uniform over the 64 classes."""
    return _mix(_keys(indices, seed) ^ 0x1B56C4E9) % NUM_CLASSES


def _uniforms(keys: Tensor) -> Tensor:
    """`_DRAWS` uniforms in [0, 1) per image, float64 [B, _DRAWS]."""
    slots = _mix(torch.arange(1, _DRAWS + 1, device=keys.device) * 0x632BE5AB & _MASK)
    return _mix(keys[:, None] ^ slots).double() / 2**32


def _circle(x: Tensor, y: Tensor) -> Tensor:
    return (x * x + y * y).sqrt() - 0.95


def _square(x: Tensor, y: Tensor) -> Tensor:
    return torch.maximum(x.abs(), y.abs()) - 0.82


def _triangle(x: Tensor, y: Tensor) -> Tensor:
    """Equilateral, pointing up (y grows downwards), circumradius 1.15 about its centroid."""
    half = math.sqrt(3) / 2
    return torch.maximum(y, x.abs() * half - y * 0.5) - 0.575


def _star(x: Tensor, y: Tensor) -> Tensor:
    """Five points: the plane is folded onto one half of one point, whose edge is then a straight line."""
    x, y = x.abs(), -y
    for angle in (math.pi / 5, -math.pi / 5):
        normal_x, normal_y = math.cos(angle), -math.sin(abs(angle))
        if angle < 0:
            normal_x = -normal_x
        outside = (x * normal_x + y * normal_y).clamp(min=0) * 2
        x, y = x - outside * normal_x, y - outside * normal_y
    x = x.abs()
    tip, inner = 1.12, 0.52
    notch_x, notch_y = inner * math.sin(math.pi / 5), inner * math.cos(math.pi / 5)
    edge_x, edge_y = notch_x, notch_y - tip
    length = math.hypot(edge_x, edge_y)
    return (x * -edge_y + (y - tip) * edge_x) / length


def _heart(x: Tensor, y: Tensor) -> Tensor:
    """A square on its corner and a disc on each of its two upper sides."""
    x, y = x.abs(), y + 0.02
    side, half = 0.55, math.sqrt(0.5)
    turned = torch.maximum(((x + y) * half).abs(), ((x - y) * half).abs()) - side
    offset = side * half
    disc = ((x - offset) * (x - offset) + (y + offset) * (y + offset)).sqrt() - side
    return torch.minimum(turned, disc)


def _ring(x: Tensor, y: Tensor) -> Tensor:
    return ((x * x + y * y).sqrt() - 0.74).abs() - 0.24


def _cross(x: Tensor, y: Tensor) -> Tensor:
    x, y = x.abs(), y.abs()
    long, wide = 1.0, 0.32
    return torch.minimum(torch.maximum(x - long, y - wide), torch.maximum(x - wide, y - long))


def _moon(x: Tensor, y: Tensor) -> Tensor:
    """A disc with a bite taken out of its right side."""
    x = x + 0.12
    bite = ((x - 0.55) * (x - 0.55) + y * y).sqrt() - 0.78
    return torch.maximum((x * x + y * y).sqrt() - 1.0, -bite)


_DISTANCES: tuple[Callable[[Tensor, Tensor], Tensor], ...] = (
    _circle,
    _square,
    _triangle,
    _star,
    _heart,
    _ring,
    _cross,
    _moon,
)
_TURN = (0.0, math.pi, 0.55, 0.6, 0.4, 0.0, 0.5, 0.5)  # largest rotation each way, radians, by shape


def _between(u: Tensor, low: float, high: float) -> Tensor:
    return low + (high - low) * u


def _colour(hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """A muted colour, float64 [B, 3], from hue in turns; a cosine wheel, smooth in the hue."""
    phases = torch.tensor([0.0, 1 / 3, 2 / 3], dtype=hue.dtype, device=hue.device)
    wheel = torch.cos((hue[:, None] - phases) * (2 * math.pi))
    return value[:, None] * (1 + saturation[:, None] * wheel)


def _wave(u: Tensor, axis: Tensor, cycles_x: Tensor, cycles_y: Tensor) -> Tensor:
    """sin(2 pi (cycles_x x + cycles_y y + u)) over the image, float32 [B, S, S], from float64 values along the axes."""
    along_x = 2 * math.pi * (cycles_x[:, None] * axis + u[:, None])
    along_y = 2 * math.pi * cycles_y[:, None] * axis
    sin_x, cos_x = along_x.sin().float()[:, None, :], along_x.cos().float()[:, None, :]
    sin_y, cos_y = along_y.sin().float()[:, :, None], along_y.cos().float()[:, :, None]
    return sin_x * cos_y + cos_x * sin_y


def _pattern(u: Tensor, axis: Tensor) -> Tensor:
    """Stripes, checks, dots or nothing, float32 [B, S, S] within about [-1, 1]."""
    angle, cycles = math.pi * u[:, 0], _between(u[:, 1], 2.0, 3.2)
    cos, sin = cycles * angle.cos(), cycles * angle.sin()
    first, second = _wave(u[:, 2], axis, cos, sin), _wave(u[:, 3], axis, -sin, cos)
    kind = (u[:, 4] * 4).floor()[:, None, None]
    checks, dots = first * second * 1.4, ((first + second) * 1.2 - 0.9).clamp(-0.6, 1.0)
    chosen = torch.where(kind == 0, first, torch.where(kind == 1, checks, dots))
    return torch.where(kind == 3, torch.zeros_like(chosen), chosen)


def _background(u: Tensor, axis: Tensor) -> Tensor:
    """Gradient of two related muted colours, one slow wave, one pattern: float32 [B, 3, S, S]."""
    value = _between(u[:, 0], 0.30, 0.80)
    saturation = _between(u[:, 1], 0.04, 0.18)
    first = _colour(u[:, 2], saturation, value)
    second = _colour(u[:, 2] + _between(u[:, 3], -0.15, 0.15), saturation, value + _between(u[:, 4], -0.18, 0.18))
    angle = 2 * math.pi * u[:, 5]
    ramp_x = (angle.cos()[:, None] * (axis - 0.5)).float()[:, None, :]
    ramp_y = (angle.sin()[:, None] * (axis - 0.5)).float()[:, :, None]
    ramp = (ramp_x + ramp_y) * 0.75 + 0.5
    slow = _wave(u[:, 6], axis, _between(u[:, 7], -0.9, 0.9), _between(u[:, 8], -0.9, 0.9))
    pattern = _pattern(u[:, 9:14], axis)
    shade = slow * _between(u[:, 14], 0.01, 0.05).float()[:, None, None]
    shade = shade + pattern * _between(u[:, 15], 0.02, 0.06).float()[:, None, None]
    start, end = first.float()[:, :, None, None], second.float()[:, :, None, None]
    return start + (end - start) * ramp[:, None] + shade[:, None]


def _distance(shapes: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Signed distance to each image's own shape, in units of its half extent, negative inside: float32 [B, S, S]."""
    out = torch.empty_like(x)
    for number, distance in enumerate(_DISTANCES):
        rows = (shapes == number).nonzero()[:, 0]
        if len(rows):
            out[rows] = distance(x[rows], y[rows])
    return out


def _place(shapes: Tensor, u: Tensor, axis: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Coordinates in the object's own frame, float32 [B, S, S] each, and its half extent, float64 [B]."""
    extent = _between(u[:, 0], *_LARGE)
    room = 0.485 - extent * 1.08
    centre_x, centre_y = 0.5 + room * (2 * u[:, 1] - 1), 0.5 + room * (2 * u[:, 2] - 1)
    turn = torch.tensor(_TURN, dtype=u.dtype, device=u.device)[shapes] * (2 * u[:, 3] - 1)
    mirrored = torch.where(u[:, 4] < 0.5, -1.0, 1.0) * (shapes == 7) + 1.0 * (shapes != 7)
    cos, sin = turn.cos() / extent, turn.sin() / extent
    from_x, from_y = axis - centre_x[:, None], axis - centre_y[:, None]
    x_x, x_y = (cos[:, None] * from_x).float()[:, None, :], (sin[:, None] * from_y).float()[:, :, None]
    y_x, y_y = (-sin[:, None] * from_x).float()[:, None, :], (cos[:, None] * from_y).float()[:, :, None]
    return (x_x + x_y) * mirrored.float()[:, None, None], y_x + y_y, extent


def _paint(canvas: Tensor, labels: Tensor, u: Tensor, axis: Tensor) -> Tensor:
    """The object with its shadow, lit from the upper left, over the canvas: float32 [B, 3, S, S]."""
    shapes, colours = labels // len(COLOURS), labels % len(COLOURS)
    x, y, extent = _place(shapes, u, axis)
    pixels = (extent * len(axis)).float()[:, None, None]
    distance = _distance(shapes, x, y)
    shadow = _distance(shapes, x - 0.10, y - 0.16)
    dark = (0.5 - shadow * pixels * 0.25).clamp(0, 1) * 0.30
    canvas = canvas * (1 - dark)[:, None]
    tint = torch.tensor(_RGB, device=canvas.device)[colours] * _between(u[:, 5], 0.90, 1.06).float()[:, None]
    light = 1.0 - (x + y) * 0.09 - (0.5 + distance * pixels * 0.35).clamp(0, 1) * 0.22
    body = tint[:, :, None, None] * light[:, None]
    cover = (0.5 - distance * pixels * 0.8).clamp(0, 1)[:, None]
    return canvas + (body - canvas) * cover


def _grain(keys: Tensor, size: int) -> Tensor:
    """Light pixel noise with a triangular law on [-1, 1], float32 [B, 1, S, S]."""
    pixels = torch.arange(size * size, device=keys.device) * 0x27D4EB2F & _MASK
    bits = _mix(_mix(keys ^ 0x68E31DA4)[:, None] ^ pixels)
    return ((bits & 0xFFFF) - (bits >> 16)).float().reshape(-1, 1, size, size) / 2**16


def balanced(first: int, count: int, seed: int = 0) -> Tensor:
    """The first `count` indices from `first` on whose classes come in turn: int64 [count], image i of class i % 64.

    Class counts that differ by chance between two sets are most of their FID at a few thousand images.
    """
    turns = -(-count // NUM_CLASSES)
    pool = torch.arange(first, first + NUM_CLASSES * (2 * turns + 64))
    labels = labels_of(pool, seed)
    columns = [pool[labels == label][:turns] for label in range(NUM_CLASSES)]
    return torch.stack(columns, dim=1).flatten()[:count]


def attributes(indices: Tensor, seed: int = 0) -> Tensor:
    """What an image shows besides its class, float32 [B, 19] in [-1, 1]: background, pattern, light, size and place."""
    u = _uniforms(_keys(indices.to(torch.int64), seed))
    turns = [wave(2 * math.pi * u[:, draw]) for draw in (2, 5, 9) for wave in (torch.sin, torch.cos)]
    kinds = [((u[:, 13] * 4).floor() == kind) * 2.0 - 1 for kind in range(4)]
    patterned = (u[:, 13] < 0.75).double()
    turns[-2:] = [turn * patterned for turn in turns[-2:]]
    ranges = [2 * u[:, draw] - 1 for draw in (0, 1, 4, 14, 16, 17, 18, 21)]
    return torch.stack([*turns, *kinds, *ranges, (2 * u[:, 15] - 1) * patterned], dim=1).float()


def render(indices: Tensor, size: int = 32, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Draw images.

    Args:
        indices: int64 [B], which images; training ones lie in [`TRAIN_FIRST`, `HELD_OUT_FIRST`), held-out ones above.
        size: side in pixels.
        seed: another seed is another data set.

    Returns:
        Images uint8 [B, 3, size, size] and labels int64 [B].
    """
    indices = indices.to(torch.int64)
    keys, labels = _keys(indices, seed), labels_of(indices, seed)
    draws = _uniforms(keys)
    axis = (torch.arange(size, dtype=torch.float64, device=indices.device) + 0.5) / size
    canvas = _background(draws[:, :16], axis)
    canvas = _paint(canvas, labels, draws[:, 16:22], axis) + _grain(keys, size) * 0.012
    return (canvas.clamp(0, 1) * 255 + 0.5).floor().to(torch.uint8), labels
