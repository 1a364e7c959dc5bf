"""The sampling stage: load a decoder once, warm it up at the full shape, and draw the shards that are missing.

A shard is drawn with a bounded number of rows in flight. Decoding and turning tokens into pixels are timed apart, one
row per shard; everything else (loading, warm-up, conditions, writing) is outside both clocks.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vvsbench import identity
from vvsbench.config import RunConfig
from vvsbench.errors import NotFiniteError
from vvsbench.runs.prompts import prompts, texts
from vvsbench.runs.shards import Shard, ShardRange, Tokens

if TYPE_CHECKING:
    from torch import Tensor

    from vvsbench.decoding.base import Decoder, Target

Write = Callable[[ShardRange, Shard, list[dict[str, Any]]], None]
"""Is given each finished shard with the times of its batches."""


@dataclass
class Session:
    """A loaded decoder and what loading it cost.

    Attributes:
        guarantee: what the decoder promises: exact, bounded or none.
        load_seconds: until the weights are where they are needed.
        first_image_seconds: the warm-up batch, which pays for everything that happens once.
        captions_cut: captions of the set that are longer than the text encoder reads.
    """

    decoder: Decoder
    guarantee: str
    load_seconds: float
    first_image_seconds: float = 0.0
    captions_cut: int = 0


def open_session(cfg: RunConfig) -> Session:
    """Load the target and, where there is one, the drafter.

    Raises:
        CheckpointError: a weights file does not fit.
    """
    import torch

    from vvsbench import decoding
    from vvsbench.models.t5 import T5Features

    started = time.perf_counter()
    dtypes = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "fp64": torch.float64}
    decoder = decoding.build(cfg, torch.device(identity.device(cfg.device)), dtypes[cfg.dtype])
    session = Session(decoder, decoder.guarantee.value, time.perf_counter() - started)
    encoder = getattr(decoder.target, "text_encoder", None)
    if isinstance(encoder, T5Features):
        session.captions_cut = encoder.cut([str(caption) for caption in prompts(cfg)[: cfg.count]])
    return session


def draw(
    cfg: RunConfig, session: Session, missing: Iterable[ShardRange], write: Write, progress: Callable[[int], None]
) -> None:
    """Draw shards.

    Args:
        cfg: settings of the cell.
        session: the loaded decoder.
        missing: what to draw, in order; asked for one by one, each when the one before is written.
        write: is called with each finished shard.
        progress: is called with numbers of images that were finished.
    """
    from vvsbench.decoding.base import ignored

    chosen = prompts(cfg)
    words = texts(cfg, chosen)
    rows = 0
    with _threads(cfg.threads):
        for where in missing:
            images = range(where.first, where.end)
            if not rows:
                started, rows = time.perf_counter(), min(cfg.batch_size, len(images))
                _drawn(cfg, session.decoder, chosen, images[:rows], ignored)
                session.first_image_seconds = time.perf_counter() - started
            shard, seconds = _drawn(cfg, session.decoder, chosen, images, progress)
            for row in shard.rows:
                row["prompt"] = words[row["image"] % len(words)]
            write(where, shard, [seconds | {"warm": len(images) % rows == 0}])


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


def _drawn(
    cfg: RunConfig,
    decoder: Decoder,
    chosen: Sequence[int] | Sequence[str],
    images: range,
    progress: Callable[[int], None],
) -> tuple[Shard, dict[str, Any]]:
    """Draw some images and time it."""
    import torch

    from vvsbench.measure.clock import Stopwatch

    with torch.inference_mode():
        conditions = decoder.target.conditions([chosen[image % len(chosen)] for image in images])  # type: ignore[arg-type]
        with Stopwatch(decoder.target.device) as drawing:
            tokens, traces = decoder.generate_all(conditions, images, cfg.seed, cfg.batch_size, progress)
        told = sorted((row for trace in traces for row in trace.rows()), key=lambda row: row["image"])
        with Stopwatch(decoder.target.device) as painting:
            parts = painted(decoder.target, tokens, images, cfg.batch_size)
    pictures = np.concatenate([part.cpu().numpy() for part in parts])
    return Shard(images.start, pictures, _stored(tokens), told), {
        "first": images.start,
        "images": len(images),
        "seconds": drawing.seconds,
        "decode_seconds": painting.seconds,
    }


def painted(target: Target, tokens: Tensor, images: range, rows: int) -> list[Tensor]:
    """The pictures uint8 [n, 3, H, W] of tokens, so many rows at a time.

    Raises:
        NotFiniteError: the tokenizer gave NaN or infinity.
    """
    parts = []
    for first in range(0, len(images), rows):
        try:
            parts.append(target.to_images(tokens[first : first + rows]))
        except NotFiniteError as error:
            image = images[first + (error.image or 0)]  # it was a row of the batch
            raise NotFiniteError(error.what, error.dtype, image, "", error.value) from error
    return parts


def _stored(tokens: Tensor) -> Tokens:
    """Tokens as a shard keeps them: whole numbers, or the vectors of a continuous target."""
    array = tokens.cpu().numpy()
    return array.astype(np.float32) if tokens.is_floating_point() else array.astype(np.int32)
