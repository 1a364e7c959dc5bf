"""What every decoder is: it turns conditions into image tokens, says what it promises, and tells what it cost."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from vvsbench.axes import Guarantee


class Target(Protocol):
    """What a run needs of a target, whatever its tokens are."""

    device: torch.device

    def conditions(self, prompts: Sequence[int] | Sequence[str]) -> Tensor:
        """Turn class ids or captions into what `Decoder.generate` takes."""
        ...

    def to_images(self, tokens: Tensor) -> Tensor:
        """Decode tokens [B, N, ...] into uint8 [B, 3, H, W]."""
        ...


class Trace(Protocol):
    """What a generation cost and where its tokens came from."""

    def rows(self) -> list[dict[str, Any]]:
        """One plain dictionary per image (the columns of trace.parquet). Reads the device: call it off the clock.

        Raises:
            NotFiniteError: a network gave NaN or infinity for one of them.
        """
        ...


Finished = Callable[[int], None]


def ignored(count: int) -> None:
    """For those who do not want to know how far a decoder is."""


class Decoder(ABC):
    """Draws image tokens from a target.

    Attributes:
        target: the model whose distribution is wanted.
    """

    target: Target

    @property
    @abstractmethod
    def guarantee(self) -> Guarantee:
        """What this decoder, in its present setting, promises."""

    @abstractmethod
    def generate(self, conditions: Tensor, images: Sequence[int], seed: int) -> tuple[Tensor, Trace]:
        """Generate a batch of images.

        Args:
            conditions: one row per image, from `TokenModel.conditions`.
            images: index of each image in its set; with the seed it determines the image.
            seed: of the set.

        Returns:
            tokens, int64 [B, N] or, of a continuous target, float32 [B, N, C], and the trace.

        Raises:
            NotFiniteError: a network gave NaN or infinity, and the loop has seen it; else the trace tells.
        """

    def generate_all(
        self, conditions: Tensor, images: Sequence[int], seed: int, rows: int, finished: Finished = ignored
    ) -> tuple[Tensor, Sequence[Trace]]:
        """Generate any number of images with a bounded number of them in flight; the images are those of `generate`.

        Batch after batch, unless a decoder whose rows finish at different times refills them from the queue.

        Args:
            conditions, images, seed: as of `generate`.
            rows: images in flight, at most.
            finished: is told how many images have been finished, as often as some are.

        Returns:
            tokens of all images, in order, and the traces, which together have every image once.
        """
        tokens, traces = [], []
        for start in range(0, len(images), rows):
            part = slice(start, start + rows)
            drawn, trace = self.generate(conditions[part], images[part], seed)
            tokens.append(drawn)
            traces.append(trace)
            finished(len(drawn))
        return torch.cat(tokens), traces
