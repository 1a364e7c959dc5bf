"""The sampling stage: load a decoder once, warm it up at the full shape, and draw the shards that are missing.

Decoding and turning tokens into pixels are timed apart, one row per batch; everything else (loading, warm-up,
conditions, writing) is outside both clocks.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vvsbench import identity
from vvsbench.config import RunConfig
from vvsbench.runs.prompts import prompts, texts
from vvsbench.runs.shards import Shard, ShardRange, Tokens

if TYPE_CHECKING:
    from torch import Tensor

    from vvsbench.decoding.base import Decoder

Write = Callable[[ShardRange, Shard, list[dict[str, Any]]], None]
"""Is given each finished shard with the times of its batches."""


@dataclass
class Session:
    """A loaded decoder and what loading it cost.

    Attributes:
        guarantee: what the decoder promises: exact, bounded or none.
        load_seconds: until the weights are where they are needed.
        first_image_seconds: the warm-up batch, which pays for everything that happens once.
    """

    decoder: Decoder
    guarantee: str
    load_seconds: float
    first_image_seconds: float = 0.0


def open_session(cfg: RunConfig) -> Session:
    """Load the target and, where there is one, the drafter.

    Raises:
        CheckpointError: a weights file does not fit.
    """
    import torch

    from vvsbench import decoding

    started = time.perf_counter()
    dtypes = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "fp64": torch.float64}
    build = getattr(cfg.decoder, "build", decoding.build)  # a plug-in builds its own
    decoder = build(cfg, torch.device(identity.device(cfg.device)), dtypes[cfg.dtype])
    return Session(decoder, decoder.guarantee.value, time.perf_counter() - started)


def draw(
    cfg: RunConfig, session: Session, missing: Sequence[ShardRange], write: Write, progress: Callable[[int], None]
) -> None:
    """Draw shards.

    Args:
        cfg: settings of the cell.
        session: the loaded decoder.
        missing: what to draw, in order.
        write: is called with each finished shard.
        progress: is called with the number of images of each finished batch.
    """
    chosen = prompts(cfg)
    words = texts(cfg, chosen)
    with _threads(cfg.threads):
        started = time.perf_counter()
        warm_up = next(missing[0].batches(cfg.batch_size))
        _batch(cfg, session.decoder, chosen, warm_up)
        session.first_image_seconds = time.perf_counter() - started
        for where in missing:
            parts, times = [], []
            for batch in where.batches(cfg.batch_size):
                part, seconds = _batch(cfg, session.decoder, chosen, batch)
                parts.append(part)
                times.append(seconds | {"warm": len(batch) == len(warm_up)})
                progress(len(batch))
            shard = _joined(where, parts)
            for row in shard.rows:
                row["prompt"] = words[row["image"] % len(words)]
            write(where, shard, times)


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    """Let torch use so many CPU threads; 0 changes nothing."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _batch(
    cfg: RunConfig, decoder: Decoder, chosen: Sequence[int] | Sequence[str], batch: range
) -> tuple[Shard, dict[str, Any]]:
    """Draw one batch and time it."""
    import torch

    from vvsbench.measure.clock import Stopwatch

    with torch.inference_mode():
        conditions = decoder.target.conditions([chosen[image % len(chosen)] for image in batch])  # type: ignore[arg-type]
        with Stopwatch(decoder.target.device) as drawing:
            tokens, trace = decoder.generate(conditions, batch, cfg.seed)
        with Stopwatch(decoder.target.device) as painting:
            images = decoder.target.to_images(tokens)
    shard = Shard(batch.start, images.cpu().numpy(), _stored(tokens), trace.rows())
    return shard, {
        "first": batch.start,
        "images": len(batch),
        "seconds": drawing.seconds,
        "decode_seconds": painting.seconds,
    }


def _stored(tokens: Tensor) -> Tokens:
    """Tokens as a shard keeps them: whole numbers, or the vectors of a continuous target."""
    array = tokens.cpu().numpy()
    return array.astype(np.float32) if tokens.is_floating_point() else array.astype(np.int32)


def _joined(where: ShardRange, parts: Sequence[Shard]) -> Shard:
    images = np.concatenate([part.images for part in parts])
    tokens = np.concatenate([part.tokens for part in parts])
    return Shard(where.first, images, tokens, [row for part in parts for row in part.rows])
