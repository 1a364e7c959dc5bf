"""A decoder whose images say which image they are: for tests of the runner, in which decoding is not the point."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from vvsbench.axes import Guarantee

TOKENS = 16


@dataclass
class FakeTarget:
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def conditions(self, prompts: list[int]) -> Tensor:
        return torch.tensor(prompts)

    def to_images(self, tokens: Tensor) -> Tensor:
        return tokens[:, :1, None, None].expand(-1, 3, 4, 4).remainder(256).to(torch.uint8)


@dataclass
class FakeTrace:
    images: range

    def rows(self) -> list[dict[str, Any]]:
        counts = {"target_forwards": TOKENS - 1, "prefill_forwards": 1, "draft_forwards": 0}
        counts |= {"target_positions": TOKENS, "draft_positions": 0, "verified_steps": 2, "skipped_steps": 0}
        lists = {"accepted": [1, 3], "skipped": [], "origin": [0] * TOKENS}
        return [{"image": image, "step_compression": 1.0 + image % 2, **counts, **lists} for image in self.images]


@dataclass
class FakeDecoder:
    """Calls `before` with the range of every batch, so that a test can make things happen at a given image.

    Attributes:
        batches: the images of every batch.
        asked: the condition that each image was last drawn for.
    """

    before: Callable[[range], None] = lambda batch: None
    target: FakeTarget = field(default_factory=FakeTarget)
    guarantee: Guarantee = Guarantee.exact
    batches: list[range] = field(default_factory=list)
    asked: dict[int, int] = field(default_factory=dict)

    def generate(self, conditions: Tensor, images: range, seed: int) -> tuple[Tensor, FakeTrace]:
        self.batches.append(images)
        self.asked.update(zip(images, conditions.tolist(), strict=True))
        self.before(images)
        first = torch.tensor(list(images))[:, None] + seed
        return first + torch.arange(TOKENS), FakeTrace(images)

    def generate_all(
        self, conditions: Tensor, images: range, seed: int, rows: int, progress: Callable[[int], None]
    ) -> tuple[Tensor, list[FakeTrace]]:
        """Batch after batch."""
        found = []
        for first in range(images.start, images.stop, rows):
            part = range(first, min(first + rows, images.stop))
            found.append(self.generate(conditions[first - images.start :][: len(part)], part, seed))
            progress(len(part))
        return torch.cat([tokens for tokens, _ in found]), [trace for _, trace in found]


def slow(batch: range) -> None:
    time.sleep(0.05)
