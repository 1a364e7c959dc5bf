"""An image set on disk: files of a fixed range of image indices each, that prove by themselves that they are whole.

A shard holds nothing that depends on when or how often it was made: its bytes are a function of the cell. Times, which
differ from run to run, lie in a small file beside it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from vvsbench.runs import files

FOLDER = "images"

Tokens = NDArray[np.int32] | NDArray[np.float32]


class DamagedShard(Exception):
    """A shard is truncated, altered or not a shard; it has to be drawn again."""


@dataclass(frozen=True)
class ShardRange:
    """Image indices of one shard: `first` up to `end`, exclusive."""

    number: int
    first: int
    end: int

    def path(self, cell: Path) -> Path:
        """Of the shard in a cell's folder."""
        return cell / FOLDER / f"shard-{self.number:05d}.safetensors"

    def times_path(self, cell: Path) -> Path:
        """Of its times beside it."""
        return self.path(cell).with_suffix(".times.json")


@dataclass
class Shard:
    """Images of one range.

    Attributes:
        images: uint8 [n, 3, H, W].
        tokens: int32 [n, N], or float32 [n, N, C] of a continuous target.
        rows: one dict of counts per image (see `vvsbench.runs.tables`).
        digest: sha256 over all of it.
    """

    first: int
    images: NDArray[np.uint8]
    tokens: Tokens
    rows: list[dict[str, Any]] = field(default_factory=list)
    digest: str = ""


def ranges(count: int, shard_size: int) -> list[ShardRange]:
    """Split `count` images into shards."""
    return [
        ShardRange(number, first, min(count, first + shard_size))
        for number, first in enumerate(range(0, count, shard_size))
    ]


def write(cell: Path, where: ShardRange, shard: Shard, times: list[dict[str, Any]]) -> str:
    """Write a shard and its batches' times; the shard last, since it is what says that the work is done.

    Returns:
        Its digest.
    """
    files.write(where.times_path(cell), json.dumps(times, indent=1).encode())
    rows = json.dumps(shard.rows, sort_keys=True)
    digest = _digest(shard.first, shard.images, shard.tokens, rows)
    about = json.dumps({"first": shard.first, "digest": digest, "rows": rows}, sort_keys=True)
    tensors: dict[str, NDArray[Any]] = {
        "images": np.ascontiguousarray(shard.images),
        "tokens": np.ascontiguousarray(shard.tokens),
    }
    files.write(where.path(cell), save(tensors, {"shard": about}))  # one entry: the format does not keep their order
    return digest


def read(cell: Path, where: ShardRange) -> Shard | None:
    """Read a shard and check it.

    Returns:
        None if it is not there.

    Raises:
        DamagedShard: it is there and not what was written.
    """
    path = where.path(cell)
    if not path.exists():
        return None
    try:
        content = path.read_bytes()
        size = int.from_bytes(content[:8], "little")
        about = json.loads(json.loads(content[8 : 8 + size])["__metadata__"]["shard"])
        tensors = load(content)
        images, tokens = tensors["images"], tensors["tokens"]
        whole = _digest(about["first"], images, tokens, about["rows"]) == about["digest"]
        rows = json.loads(about["rows"])
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1] != 3 or tokens.ndim not in (2, 3):
            raise ValueError(f"images {images.dtype} {list(images.shape)}, tokens {list(tokens.shape)}")
        if not len(images) == len(tokens) == len(rows) or not all(isinstance(row, dict) for row in rows):
            raise ValueError(f"{len(images)} images, {len(tokens)} of tokens and {len(rows)} of counts")
    except (SafetensorError, OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedShard(f"{path} is damaged ({error or type(error).__name__})") from error
    if not whole:
        raise DamagedShard(f"{path} is damaged (its content does not match its digest)")
    if about["first"] != where.first or len(images) != where.end - where.first:
        raise DamagedShard(f"{path} holds images from {about['first']} on, not {where.first} to {where.end - 1}")
    return Shard(about["first"], images, tokens, rows, about["digest"])


def read_times(cell: Path, where: ShardRange) -> list[dict[str, Any]]:
    """Times of a shard's batches; empty if that file was lost, which costs the times and not the images."""
    try:
        times = json.loads(where.times_path(cell).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return times if isinstance(times, list) else []


def _digest(first: int, images: NDArray[np.uint8], tokens: Tokens, rows: str) -> str:
    total = hashlib.sha256(f"{first} {images.shape} {tokens.shape} ".encode())
    total.update(np.ascontiguousarray(images).tobytes())
    total.update(np.ascontiguousarray(tokens).tobytes())
    total.update(rows.encode())
    return total.hexdigest()
