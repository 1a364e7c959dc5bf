"""Training images as tokens: each is drawn and encoded once and then read from a file that only ever grows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vvsbench.models import checkpoints
from vvsbench.models.vq import VQModel
from vvsbench.training import shapes
from vvsbench.training.loop import TrainingError


def load_tokenizer(path: Path) -> tuple[VQModel, int]:
    """The finished tokenizer, float32 in eval mode, and the side of the images it was trained on.

    Raises:
        TrainingError: it has not been trained yet.
    """
    if not path.exists():
        raise TrainingError(f"{path} is missing: train the tokenizer first (vvsbench train tokenizer, same folder).")
    metadata = checkpoints.header(path).metadata
    tokenizer = VQModel(**json.loads(metadata["config"]))
    checkpoints.load_strict(tokenizer, checkpoints.read(path), str(path))
    size = json.loads(metadata["training"])["settings"]["size"]
    return tokenizer.eval().requires_grad_(False), int(size)


class TokenStream:
    """Tokens of the first `images` training images, encoded when first asked for.

    The file beside the tokenizer holds them in order, 16 bits a token; its name carries the tokenizer's digest, so the
    tokens of another tokenizer are never mistaken for these.

    Args:
        folder: holds tokenizer.safetensors; the file of tokens is written here.
        images: how many different images there are; indices are taken modulo this.
        device: where images are drawn and encoded.
    """

    CHUNK = 512

    def __init__(self, folder: Path, images: int, device: torch.device) -> None:
        path = folder / "tokenizer.safetensors"
        self.tokenizer, self.size = load_tokenizer(path)
        self.tokenizer.to(device)
        self.images, self.device = images, device
        self.grid = self.size // self.tokenizer.downsample
        self.path = folder / f"tokens-{checkpoints.digest(path)[:16]}.cache"

    @torch.no_grad()
    def encode(self, indices: Tensor) -> Tensor:
        """Tokens int64 [B, N] of any images, held-out ones too, drawn and encoded now."""
        pixels = shapes.render(indices.to(self.device), self.size)[0].float() / 127.5 - 1
        with torch.autocast(self.device.type, dtype=torch.bfloat16):
            return self.tokenizer.encode(pixels)[1]

    def take(self, first: int, count: int) -> tuple[Tensor, Tensor]:
        """Labels int64 [B] and tokens int64 [B, N] of `count` training images from number `first` on."""
        numbers = (torch.arange(first, first + count) % self.images).tolist()
        width = self.grid * self.grid
        known = self.path.stat().st_size // (2 * width) if self.path.exists() else 0
        while known <= max(numbers):
            known = self._append(known)
        rows = np.memmap(self.path, np.uint16, "r", shape=(known, width))[numbers]
        tokens = torch.from_numpy(rows.astype(np.int64)).to(self.device)
        return shapes.labels_of(torch.tensor(numbers, device=self.device) + shapes.TRAIN_FIRST), tokens

    def held_out(self, limit: int, batch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """See `Material.held_out`."""
        for first in range(0, limit, batch):
            indices = torch.arange(first, min(first + batch, limit), device=self.device) + shapes.HELD_OUT_FIRST
            yield shapes.labels_of(indices), self.encode(indices)

    def _append(self, known: int) -> int:
        """Encode the next images; a half-written row of an interrupted run is cut off first."""
        width = self.grid * self.grid
        tokens = self.encode(torch.arange(known, known + self.CHUNK) + shapes.TRAIN_FIRST)
        with self.path.open("r+b" if self.path.exists() else "w+b") as file:
            file.truncate(2 * width * known)
            file.seek(0, 2)
            file.write(tokens.cpu().numpy().astype(np.uint16).tobytes())
        return known + self.CHUNK
