"""Pictures for the card and the gates of a zoo folder: held-out ones, and those that its own parts draw."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from vvsbench.composition import composed
from vvsbench.decoding import build
from vvsbench.training.data import DataSet
from vvsbench.training.settings import SampleSettings

BATCH = 64


def overrides(folder: Path, settings: SampleSettings, decoder: str) -> list[str]:
    """The `vvsbench run` settings that sample from a folder's discrete parts."""
    sampling = [f"sampling.guidance_scale={settings.guidance_scale}", f"sampling.top_k={settings.top_k}"]
    where = folder.resolve()
    files = [f"model.checkpoint='{where / 'target.safetensors'}'"]
    files += [f"model.tokenizer.checkpoint='{where / 'tokenizer.safetensors'}'"]
    if decoder != "ar":
        files += [f"decoder.drafter.checkpoint='{where / 'drafter.safetensors'}'"]
    return [f"model={settings.model}", f"decoder={decoder}", *files, *sampling]


def continuous(folder: Path, settings: SampleSettings, part: str) -> list[str]:
    """The settings that sample from a continuous part of a folder, one token per step, as the studies do."""
    where = folder.resolve()
    files = [f"model.checkpoint='{where / f'{part}.safetensors'}'"]
    files += [f"model.tokenizer.checkpoint='{where / 'autoencoder.safetensors'}'"]
    return [f"model={settings.model}_{part}", "decoder=masked", *files]


@torch.no_grad()
def drawn(
    chosen: Sequence[str], data: DataSet, count: int, device: torch.device
) -> tuple[Tensor, Tensor, list[dict[str, Any]]]:
    """Draw images of classes in turn.

    Args:
        chosen: settings of a run.
        data: whose classes are asked for.
        count: of images.
        device: that draws them.

    Returns:
        Images uint8 [count, 3, H, W], their tokens [count, N, ...] and their trace rows, on the host.
    """
    decoder = build(composed(chosen), device, torch.float32)
    images, codes, rows = [], [], list[dict[str, Any]]()
    for start in range(0, count, BATCH):
        numbers = range(start, min(start + BATCH, count))
        conditions = decoder.target.conditions([number % data.NUM_CLASSES for number in numbers])
        tokens, trace = decoder.generate(conditions, numbers, 0)
        images.append(decoder.target.to_images(tokens).cpu())
        codes.append(tokens.cpu())
        rows += trace.rows()
    return torch.cat(images), torch.cat(codes), rows


def tokens_per_forward(rows: list[dict[str, Any]]) -> float:
    """Image tokens per target forward over trace rows, prefill included."""
    return sum(len(row["origin"]) for row in rows) / sum(
        row["target_forwards"] + row["prefill_forwards"] for row in rows
    )


def held_out(data: DataSet, first: int, count: int, size: int) -> tuple[Tensor, Tensor]:
    """Held-out images uint8 [count, 3, size, size] from number `first` on, classes in turn, and their labels."""
    return data.render(data.balanced(first + data.HELD_OUT_FIRST, count), size)


def contact_sheet(images: Tensor, columns: int, path: Path, scale: int = 2) -> None:
    """Write uint8 images [B, 3, S, S] as one picture, row by row."""
    count, channels, height, width = images.shape
    rows = count // columns
    tiles = images[: rows * columns].view(rows, columns, channels, height, width).permute(0, 3, 1, 4, 2)
    picture = Image.fromarray(tiles.reshape(rows * height, columns * width, channels).numpy())
    picture.resize((columns * width * scale, rows * height * scale), Image.Resampling.NEAREST).save(path, optimize=True)
