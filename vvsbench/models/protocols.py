"""What a decoder may ask of a discrete target: the contract between models and decoding.

Guidance lives inside the target, so a decoder never sees the two halves of a guided batch; it sees guided logits, and
features that keep a branch axis because a drafter continues both branches.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class ModelSpec:
    """Sizes and costs of a target; the roofline of a cell is computed from them.

    Attributes:
        name: as in conf/model.
        tokens: image tokens per image, N.
        grid: side of the token grid; of one that is not square, tokens from a place to the one below it.
        vocab: codebook size, V.
        dim: width of the features, D.
        prefix: conditioning positions before the first image token, P.
        branches: sequences per image, 2 under guidance.
        parameters: of the transformer.
        weight_bytes: read once per forward, whatever the batch.
        cache_bytes_per_token: keys and values of one position of one image, all branches.
        flops_per_token: multiply-adds x 2 of one position of one image, all branches, attention scores excluded.
        forced: how many of the image tokens are no choice of the model's, such as the ends of rows.
    """

    name: str
    tokens: int
    grid: int
    vocab: int
    dim: int
    prefix: int
    branches: int
    parameters: int
    weight_bytes: int
    cache_bytes_per_token: int
    flops_per_token: int
    forced: int = 0


@dataclass
class Block:
    """The input of one forward: tokens that hang behind what each row has committed.

    Attributes:
        tokens: int64 [R, T].
        offsets: int64 [R, T] or [1, T], sequence position of each token relative to the row's committed length.
        visible: bool [R, T, T] or [1, T, T], which tokens of the block each one sees, itself included. None for T = 1.
        rows: int64 [R], rows of the batch that take part; None for all of them.
        charged: images that the forward is counted for; None for those of the rows.
        start: slots between the committed ones and the block, written by the blocks before it; then `visible` is
            [R, T, start + T] or [1, T, start + T].
    """

    tokens: Tensor
    offsets: Tensor
    visible: Tensor | None = None
    rows: Tensor | None = None
    charged: list[int] | None = None
    start: int = 0


class State(Protocol):
    """What everyone may know of a batch being decoded; the rest is the target's own business.

    Attributes:
        images: indices of the images in the rows, known on the host (calls are counted by them).
        first_logits: [B, V] guided logits of the first image token.
        prefix_features: [B, G, P, D] features of the conditioning positions.
    """

    images: list[int]
    first_logits: Tensor
    prefix_features: Tensor


StateT = TypeVar("StateT", bound=State)


class TokenModel(Protocol[StateT]):
    """A discrete target, whose batches are of type StateT."""

    spec: ModelSpec
    device: torch.device

    @property
    def network(self) -> nn.Module:
        """The module whose calls are counted."""
        ...

    @property
    def codebook(self) -> Tensor:
        """What tokens decode from, float32 [V, C]: raw rows of the tokenizer's codebook."""
        ...

    def conditions(self, prompts: Sequence[int] | Sequence[str]) -> Tensor:
        """Turn class ids or captions into what `start` takes."""
        ...

    def start(self, conditions: Tensor, images: Sequence[int], room: int) -> StateT:
        """Prefill the prefix of each row; `room` is the largest block that will hang behind a full image."""
        ...

    def forward(self, state: StateT, block: Block) -> tuple[Tensor, Tensor]:
        """Guided logits [R, T, V] (float32, or float64 of a float64 model) and features [R, G, T, D] of a block."""
        ...

    def commit(self, state: StateT, kept: Tensor | None, added: Tensor) -> None:
        """Keep slots of the last block (see `KVCache.commit`); the host learns of it by `note`."""
        ...

    def note(self, state: StateT, totals: Sequence[int], exact: bool = True) -> None:
        """Tell the host's side how many image tokens each row has committed, or (not exact) has at most."""
        ...

    def select(self, state: StateT, rows: list[int], totals: Sequence[int]) -> None:
        """Keep only these rows, with these committed lengths: the others are finished and stop costing."""
        ...

    def place(self, state: StateT, rows: list[int], fresh: StateT) -> None:
        """Put the images of a fresh state, one of `start`, into rows whose images are finished; `note` follows."""
        ...

    def fix(self, state: StateT) -> None:
        """From now on forwards have shapes that depend on `shape` and the block alone, and read nothing on the host."""
        ...

    def shape(self, state: StateT) -> Hashable:
        """What the shape of a forward depends on beside its block, once the state is fixed."""
        ...

    def head(self, features: Tensor, index: Tensor) -> Tensor:
        """Guided logits [R, T, V] of features [R, G, T, D], for the image tokens `index` [R, T] that they predict.

        A feature drafter shares it with its target.
        """
        ...

    def to_images(self, tokens: Tensor) -> Tensor:
        """Decode tokens [B, N] into uint8 [B, 3, H, W]."""
        ...
