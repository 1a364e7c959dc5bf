"""The images of a speculative loop: those that wait, those in flight, and the results of those that have landed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from vvsbench.decoding.base import Finished
from vvsbench.decoding.batch import Batch, Role
from vvsbench.decoding.engine import Engine
from vvsbench.decoding.trace import CallCounter, StepLog


@dataclass
class Next:
    """Images that are about to begin: where they stand in the result, their indices and conditions."""

    places: range
    images: list[int]
    conditions: Tensor


@dataclass
class Wanted:
    """The images that are asked for: the queue of those that have not begun, and the results of those that are done.

    Attributes:
        begun: how many have begun; they do so in order.
        tokens: int64 [B, N].
        origin: int8 [B, N].
        steps: what each image did.
        finished: see `Decoder.generate_all`.
    """

    conditions: Tensor
    images: Sequence[int]
    tokens: Tensor
    origin: Tensor
    steps: list[list[StepLog]]
    finished: Finished
    begun: int = 0

    @classmethod
    def of(cls, conditions: Tensor, images: Sequence[int], length: int, finished: Finished) -> Wanted:
        tokens = torch.zeros(len(images), length, dtype=torch.long, device=conditions.device)
        return cls(conditions, images, tokens, tokens.to(torch.int8), [[] for _ in images], finished)

    @property
    def waiting(self) -> int:
        """Images that have not begun."""
        return len(self.images) - self.begun

    def take(self, count: int) -> Next:
        """The next images."""
        places = range(self.begun, self.begun + count)
        self.begun += count
        return Next(places, [self.images[place] for place in places], self.conditions[places.start : places.stop])

    def put(self, batch: Batch, rows: list[int]) -> None:
        """Take the images of some rows as they are."""
        places = [batch.places[row] for row in rows]
        length = self.tokens.shape[1]
        self.tokens[places], self.origin[places] = batch.tokens[rows, :length], batch.origin[rows, :length]
        self.finished(len(rows))


@dataclass
class Flight:
    """Everything about the images in flight.

    Attributes:
        state, draft: what target and drafter remember of them.
        roles: of the last step.
        fresh: rows whose image has come since the trees were grown.
    """

    engine: Engine
    state: Any
    draft: Any
    batch: Batch
    seed: int
    roles: list[Role] = field(default_factory=list)
    fresh: set[int] = field(default_factory=set)
    target_calls: CallCounter = field(default_factory=CallCounter)
    draft_calls: CallCounter = field(default_factory=CallCounter)

    @property
    def flying(self) -> bool:
        """Whether any row has an image."""
        return any(place is not None for place in self.batch.places)

    @property
    def images(self) -> list[int]:
        """Indices of the images in flight."""
        return [image for image, place in zip(self.state.images, self.batch.places, strict=True) if place is not None]
