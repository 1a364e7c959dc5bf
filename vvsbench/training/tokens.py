"""Training images as tokens: each is drawn and encoded once and then read from a file that only ever grows."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from vvsbench.models import checkpoints
from vvsbench.models.vq import VQModel
from vvsbench.training.data import data_of
from vvsbench.training.loop import TrainingError

Network = TypeVar("Network", bound=nn.Module)


def load_finished(network: type[Network], path: Path) -> tuple[Network, int]:
    """A part that was trained before, float32 in eval mode, and the side of the images it was trained on.

    Raises:
        TrainingError: it has not been trained yet.
    """
    if not path.exists():
        part = path.stem
        raise TrainingError(f"{path} is missing: train the {part} first (vvsbench train {part}, same folder).")
    metadata = checkpoints.header(path).metadata
    module = network(**json.loads(metadata["config"]))
    checkpoints.load_strict(module, checkpoints.read(path), str(path))
    size = json.loads(metadata["training"])["settings"]["size"]
    return module.eval().requires_grad_(False), int(size)


def load_tokenizer(path: Path) -> tuple[VQModel, int]:
    """The finished tokenizer; see `load_finished`."""
    return load_finished(VQModel, path)


class Rows:
    """A file of equally long rows of numbers that are made once, in order, and read from then on.

    Args:
        path: of the file, which only ever grows.
        width: numbers per row.
        dtype: of a number.
        make: rows `first` to `first + count`, [count, width].
    """

    CHUNK = 512

    def __init__(
        self, path: Path, width: int, dtype: type[np.generic], make: Callable[[int, int], np.ndarray[Any, Any]]
    ) -> None:
        self.path, self.width, self.dtype, self.make = path, width, dtype, make
        self.bytes = width * np.dtype(dtype).itemsize

    def read(self, numbers: list[int]) -> np.ndarray[Any, Any]:
        """The rows of these numbers, [len(numbers), width]."""
        known = self.path.stat().st_size // self.bytes if self.path.exists() else 0
        while known <= max(numbers):
            known = self._append(known)
        return np.asarray(np.memmap(self.path, self.dtype, "r", shape=(known, self.width))[numbers])

    def _append(self, known: int) -> int:
        """Make the next rows; a half-written one of an interrupted run is cut off first."""
        made = self.make(known, self.CHUNK).astype(self.dtype)
        with self.path.open("r+b" if self.path.exists() else "w+b") as file:
            file.truncate(self.bytes * known)
            file.seek(0, 2)
            file.write(made.tobytes())
        return known + self.CHUNK


class TokenStream:
    """Tokens of the first `images` training images, encoded when first asked for.

    The file beside the tokenizer holds them in order, 16 bits a token; its name carries the tokenizer's digest, so the
    tokens of another tokenizer are never mistaken for these.

    Args:
        folder: holds tokenizer.safetensors; the file of tokens is written here.
        images: how many different images there are; indices are taken modulo this.
        device: where images are drawn and encoded.
        bf16: encode in bfloat16.
    """

    def __init__(self, folder: Path, images: int, device: torch.device, bf16: bool) -> None:
        path = folder / "tokenizer.safetensors"
        self.tokenizer, self.size = load_tokenizer(path)
        self.tokenizer.to(device)
        self.pictures, self.images = data_of(path), images
        self.device, self.bf16 = device, bf16
        self.grid = self.size // self.tokenizer.downsample
        cache = folder / f"tokens-{checkpoints.digest(path)[:16]}.cache"
        self.rows = Rows(cache, self.grid * self.grid, np.uint16, self._made)

    @torch.no_grad()
    def encode(self, indices: Tensor) -> Tensor:
        """Tokens int64 [B, N] of any images, held-out ones too, drawn and encoded now."""
        pixels = self.pictures.render(indices.to(self.device), self.size)[0].float() / 127.5 - 1
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bf16):
            return self.tokenizer.encode(pixels)[1]

    def take(self, first: int, count: int) -> tuple[Tensor, Tensor]:
        """Labels int64 [B] and tokens int64 [B, N] of `count` training images from number `first` on."""
        numbers = (torch.arange(first, first + count) % self.images).tolist()
        tokens = torch.from_numpy(self.rows.read(numbers).astype(np.int64)).to(self.device)
        indices = torch.tensor(numbers, device=self.device) + self.pictures.TRAIN_FIRST
        return self.pictures.labels_of(indices), tokens

    def held_out(self, limit: int, batch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """See `Material.held_out`."""
        for first in range(0, limit, batch):
            indices = torch.arange(first, min(first + batch, limit), device=self.device) + self.pictures.HELD_OUT_FIRST
            yield self.pictures.labels_of(indices), self.encode(indices)

    def _made(self, first: int, count: int) -> np.ndarray[Any, Any]:
        return self.encode(torch.arange(first, first + count) + self.pictures.TRAIN_FIRST).cpu().numpy()
