"""Synthetic scenes: one large or two small objects of one hue on a textured ground, in the regime of real images.

`shapes` is calm and its class names the colour, so a model of it is surer than models of photographs are, and can draw
each token almost on its own. Here the class says shape and number alone; hue, place, turn, ground and material are left
open, so tokens far apart have to agree on what no condition tells them, and the texture costs nats as in photographs.
Everything else is as in `shapes`: an image is a function of (seed, index) by hashing, and only arithmetic that is
rounded the same way in vector and scalar code touches the pixels.

The file's digest is part of the key of every quality record made with it: a change of one byte is another data set.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

# Shared and not copied; `shapes` cannot make its helpers public without becoming another data set.
from vvsbench.training.shapes import (
    _MASK,
    _TURN,
    HELD_OUT_FIRST,
    SHAPES,
    TRAIN_FIRST,
    _between,
    _colour,
    _distance,
    _keys,
    _mix,
)

__all__ = ["HELD_OUT_FIRST", "SHAPES", "TRAIN_FIRST"]

NUMBERS = ("one", "two")
NUM_CLASSES = len(SHAPES) * len(NUMBERS)
MATERIALS = ("felt", "wood", "granite", "mosaic", "checks")
HUES = (
    (0.045, "red"),
    (0.125, "orange"),
    (0.205, "yellow"),
    (0.42, "green"),
    (0.55, "cyan"),
    (0.70, "blue"),
    (0.82, "purple"),
    (0.95, "pink"),
    (1.0, "red"),
)
"""Upper ends, in turns of the colour wheel, of the hues that have a name."""

_DRAWS = 40
_GRAIN = 0.12  # amplitude of the finest noise, whose cells are three pixels wide at 48 pixels
_FINE = 16  # cells of the finest noise along a side
_LARGE = (0.29, 0.38)  # half extent of a single object, as a share of the image's side
_SMALL = (0.205, 0.23)  # of each object of a pair
_EDGE = 0.485  # how far from the middle an object may reach


def _plural(shape: str) -> str:
    return shape + ("es" if shape.endswith("s") else "s")


def class_name(label: int) -> str:
    """What a class says of its images, e.g. ``"a star"`` or ``"two stars"``."""
    shape = SHAPES[label // len(NUMBERS)]
    return f"two {_plural(shape)}" if label % len(NUMBERS) else f"a {shape}"


CLASS_NAMES = tuple(class_name(label) for label in range(NUM_CLASSES))


def labels_of(indices: Tensor, seed: int = 0) -> Tensor:
    """Class of each image, int64 [B], without drawing it: shape * 2 + (number - 1), uniform over the 16 classes."""
    return _mix(_keys(indices, seed) ^ 0x1B56C4E9) % NUM_CLASSES


def _uniforms(keys: Tensor) -> Tensor:
    """`_DRAWS` uniforms in [0, 1) per image, float64 [B, _DRAWS]."""
    slots = _mix(torch.arange(1, _DRAWS + 1, device=keys.device) * 0x632BE5AB & _MASK)
    return _mix(keys[:, None] ^ slots).double() / 2**32


def _materials(u: Tensor) -> Tensor:
    """Number of each image's material, int64 [B]."""
    return (u[:, 0] * len(MATERIALS)).long()


def captions(indices: Tensor, seed: int = 0) -> list[str]:
    """What an image shows in words, more than its class says, e.g. ``"two red stars on wood"``."""
    indices = indices.to(torch.int64)
    u = _uniforms(_keys(indices, seed))
    return [
        _caption(*of)
        for of in zip(labels_of(indices, seed).tolist(), u[:, 10].tolist(), _materials(u).tolist(), strict=True)
    ]


def _caption(label: int, hue: float, material: int) -> str:
    colour = next(name for end, name in HUES if hue < end)
    shape, ground = SHAPES[label // len(NUMBERS)], MATERIALS[material]
    if label % len(NUMBERS):
        return f"two {colour} {_plural(shape)} on {ground}"
    return f"{'an' if colour[0] in 'aeiou' else 'a'} {colour} {shape} on {ground}"


def _lattice(keys: Tensor, salt: int, rows: int, columns: int) -> Tensor:
    """Independent values uniform on [-1, 1), float32 [B, rows, columns]; another salt gives others."""
    points = torch.arange(1, rows * columns + 1, device=keys.device) * 0x27D4EB2F + salt * 0x9E3779B9 & _MASK
    bits = _mix(_mix(keys ^ (salt * 0x68E31DA4 & _MASK))[:, None] ^ points)
    return (bits.float() / 2**31 - 1).view(-1, rows, columns)


def _corners(axis: Tensor, cells: int) -> tuple[Tensor, Tensor]:
    """The cell of each pixel along an axis, int64 [S], and the smooth weight of the cell's far corner, float32 [S]."""
    at = axis * cells
    low = at.floor()
    within = at - low
    return low.long(), (within * within * (3 - 2 * within)).float()


def _noise(keys: Tensor, salt: int, axis: Tensor, rows: int, columns: int) -> Tensor:
    """Value noise with rows x columns cells over the picture, float32 [B, S, S] within [-1, 1]."""
    lattice = _lattice(keys, salt, rows + 1, columns + 1)
    row, weight = _corners(axis, rows)
    above, below = lattice[:, row], lattice[:, row + 1]
    mixed = above + (below - above) * weight[:, None]
    column, weight = _corners(axis, columns)
    left, right = mixed[:, :, column], mixed[:, :, column + 1]
    return left + (right - left) * weight


def _swing(x: Tensor) -> Tensor:
    """A sine of period 1 made of two parabolas: the rounding of a real one in float32 depends on the batch."""
    t = x - x.floor()
    rising = t < 0.5
    half = torch.where(rising, t, t - 0.5)
    arch = 16 * half * (0.5 - half)
    return torch.where(rising, arch, -arch)


def _tiles(keys: Tensor, salt: int, axis: Tensor, cells: int, shift: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A grid of tiles, shifted by [B, 2] tiles: each float32 [B, S, S].

    Returns:
        A value per tile on [-1, 1), the distance to the tile's border in tiles, and -1 or 1 as on a chessboard.
    """
    lattice = _lattice(keys, salt, cells + 2, cells + 2)
    x, y = axis * cells + shift[:, :1], axis * cells + shift[:, 1:]
    column, row = x.floor().long(), y.floor().long()
    rows = lattice.gather(1, row[:, :, None].expand(-1, -1, cells + 2))
    value = rows.gather(2, column[:, None, :].expand(-1, len(axis), -1))
    along, down = (x - column).float(), (y - row).float()
    border_x, border_y = torch.minimum(along, 1 - along), torch.minimum(down, 1 - down)
    odd = ((column[:, None, :] + row[:, :, None]) % 2).float() * 2 - 1
    return value, torch.minimum(border_x[:, None, :], border_y[:, :, None]), odd


def _felt(keys: Tensor, u: Tensor, axis: Tensor) -> Tensor:
    coarse, middle, fine = (_noise(keys, salt, axis, cells, cells) for salt, cells in ((1, 3), (2, 6), (3, 12)))
    return 0.75 * coarse + 0.55 * middle + 0.45 * fine


def _wood(keys: Tensor, u: Tensor, axis: Tensor) -> Tensor:
    """Rings along one axis, warped, with short fibres across the grain."""
    warp = 0.16 * _noise(keys, 4, axis, 3, 3) + 0.03 * _noise(keys, 5, axis, 8, 8)
    cycles = _between(u[:, 0], 3.0, 6.0).float()[:, None, None]
    field = 0.5 * _swing(cycles * (axis.float() + warp)) + 0.7 * _noise(keys, 6, axis, 6, _FINE)
    return torch.where((u[:, 1] < 0.5)[:, None, None], field.transpose(1, 2), field)


def _granite(keys: Tensor, u: Tensor, axis: Tensor) -> Tensor:
    return 0.8 * _noise(keys, 7, axis, 12, 12) + 0.7 * _noise(keys, 8, axis, _FINE, _FINE)


def _mosaic(keys: Tensor, u: Tensor, axis: Tensor) -> Tensor:
    value, border, _ = _tiles(keys, 9, axis, 8, u[:, 2:4])
    return 0.9 * value - (0.16 - border).clamp(min=0) * 4.0


def _checks(keys: Tensor, u: Tensor, axis: Tensor) -> Tensor:
    value, _, odd = _tiles(keys, 10, axis, 6, u[:, 2:4])
    return 0.6 * odd + 0.45 * value


_FIELDS = (_felt, _wood, _granite, _mosaic, _checks)


def _field(keys: Tensor, materials: Tensor, u: Tensor, axis: Tensor) -> Tensor:
    """The texture of each image's own material, float32 [B, S, S], about [-1, 1]."""
    out = torch.empty(len(keys), len(axis), len(axis), device=keys.device)
    for number, field in enumerate(_FIELDS):
        rows = (materials == number).nonzero()[:, 0]
        if len(rows):
            out[rows] = field(keys[rows], u[rows], axis)
    return out


def _tint(hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    return _colour(hue, saturation, value).float()[:, :, None, None]


def _ground(keys: Tensor, u: Tensor, axis: Tensor) -> Tensor:
    """Two muted colours mixed by the material, and grain: float32 [B, 3, S, S]."""
    value, saturation = _between(u[:, 5], 0.32, 0.68), _between(u[:, 6], 0.05, 0.20)
    first = _tint(u[:, 7], saturation, value)
    other = u[:, 7] + _between(u[:, 8], -0.3, 0.3)
    second = _tint(other, saturation, value + _between(u[:, 9], 0.10, 0.22))
    field = _field(keys, _materials(u), u[:, 1:5], axis)
    grain = _noise(keys, 11, axis, _FINE, _FINE)
    return first + (second - first) * (field * 0.5 + 0.5)[:, None] + (grain * _GRAIN)[:, None]


def _placed(labels: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    """Half extent [B] and the centres [B, 2 objects, 2] of one or two objects inside the frame, float64.

    A pair lies within 20 degrees of a diagonal, where two objects find most room.
    """
    pair = labels % len(NUMBERS) == 1
    extent = torch.where(pair, _between(u[:, 0], *_SMALL), _between(u[:, 0], *_LARGE))
    angle = (u[:, 1] * 2).floor() * (math.pi / 2) + math.pi * _between(u[:, 2], 5 / 36, 13 / 36)
    apart = torch.where(pair, extent * _between(u[:, 3], 1.10, 1.22), 0.0)
    half = apart[:, None] * torch.stack([angle.cos(), angle.sin()], -1)
    room = (_EDGE - 1.06 * extent[:, None] - half.abs()).clamp(min=0.0)
    middle = 0.5 + room * (2 * u[:, 4:6] - 1)
    return extent, torch.stack([middle - half, middle + half], 1)


def _frames(labels: Tensor, extent: Tensor, centre: Tensor, u: Tensor, axis: Tensor) -> tuple[Tensor, Tensor]:
    """Coordinates in an object's own turned frame, in half extents, float32 [B, S, S] each."""
    shapes = labels // len(NUMBERS)
    turn = torch.tensor(_TURN, dtype=u.dtype, device=u.device)[shapes] * (2 * u[:, 0] - 1)
    mirror = torch.where((shapes == SHAPES.index("moon")) & (u[:, 1] < 0.5), -1.0, 1.0).float()[:, None, None]
    cos, sin = turn.cos() / extent, turn.sin() / extent
    from_x, from_y = axis - centre[:, :1], axis - centre[:, 1:]
    x_x, x_y = (cos[:, None] * from_x).float()[:, None, :], (sin[:, None] * from_y).float()[:, :, None]
    y_x, y_y = (-sin[:, None] * from_x).float()[:, None, :], (cos[:, None] * from_y).float()[:, :, None]
    return (x_x + x_y) * mirror, y_x + y_y


def _paint(canvas: Tensor, keys: Tensor, labels: Tensor, u: Tensor, axis: Tensor) -> Tensor:
    """The objects with their shadows, of one hue and rough as cloth, over the canvas: float32 [B, 3, S, S]."""
    tint = _tint(u[:, 0], _between(u[:, 1], 0.65, 0.90), _between(u[:, 2], 0.42, 0.56))
    rough = 1 + 0.22 * _noise(keys, 12, axis, 12, 12) + 0.10 * _noise(keys, 13, axis, _FINE, _FINE)
    extent, centres = _placed(labels, u[:, 3:9])
    pixels = (extent * len(axis)).float()[:, None, None]
    pair = (labels % len(NUMBERS) == 1).float()[:, None, None]
    for number, shown in enumerate((torch.ones_like(pair), pair)):
        x, y = _frames(labels, extent, centres[:, number], u[:, 9 + 2 * number : 11 + 2 * number], axis)
        distance = _distance(labels // len(NUMBERS), x, y)
        shadow = _distance(labels // len(NUMBERS), x - 0.10, y - 0.16)
        canvas = canvas * (1 - (0.5 - shadow * pixels * 0.25).clamp(0, 1) * 0.30 * shown)[:, None]
        light = (1.0 - (x + y) * 0.10 - (0.5 + distance * pixels * 0.35).clamp(0, 1) * 0.20) * rough
        cover = (0.5 - distance * pixels * 0.8).clamp(0, 1) * shown
        canvas = canvas + (tint * light[:, None] - canvas) * cover[:, None]
    return canvas


def balanced(first: int, count: int, seed: int = 0) -> Tensor:
    """The first `count` indices from `first` on whose classes come in turn; see `shapes.balanced`."""
    turns = -(-count // NUM_CLASSES)
    pool = torch.arange(first, first + NUM_CLASSES * (2 * turns + 64))
    labels = labels_of(pool, seed)
    columns = [pool[labels == label][:turns] for label in range(NUM_CLASSES)]
    return torch.stack(columns, dim=1).flatten()[:count]


def attributes(indices: Tensor, seed: int = 0) -> Tensor:
    """What an image shows besides its class, float32 [B, 18] in [-1, 1]: hues, material, light, strength, place."""
    u = _uniforms(_keys(indices.to(torch.int64), seed))
    turns = [wave(2 * math.pi * u[:, draw]) for draw in (7, 10) for wave in (torch.sin, torch.cos)]
    kinds = [(_materials(u) == kind) * 2.0 - 1 for kind in range(len(MATERIALS))]
    ranges = [2 * u[:, draw] - 1 for draw in (5, 6, 8, 9, 11, 12, 13, 17, 18)]
    return torch.stack([*turns, *kinds, *ranges], dim=1).float()


def render(indices: Tensor, size: int = 48, seed: int = 0) -> tuple[Tensor, Tensor]:
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
    u = _uniforms(keys)
    axis = (torch.arange(size, dtype=torch.float64, device=indices.device) + 0.5) / size
    canvas = _paint(_ground(keys, u, axis), keys, labels, u[:, 10:], axis)
    return (canvas.clamp(0, 1) * 255 + 0.5).floor().to(torch.uint8), labels
