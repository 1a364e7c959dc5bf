"""The preallocated key-value cache: one length per image, no reallocation and no concatenation while decoding.

A forward writes the keys and values of its block behind what is committed; `commit` keeps some of those slots, in a
given order, and forgets the rest by not counting them. Speculation and roll-back are therefore both "write, then keep".
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

BUCKET = 128
"""Attention reads a multiple of so many slots in static use: few shapes, little waste."""


class KVCache:
    """Keys and values of all layers for `images` x `branches` sequences.

    `branches` is 2 under classifier-free guidance (conditional, null) and 1 without; both always have the same length.

    Args:
        layers, heads, head_dim: sizes of the attention that owns the cache.
        images: rows of the batch, B.
        branches: sequences per row, G.
        capacity: slots per sequence, S.
        device, dtype: of the stored keys and values.
        room: the most slots that hang behind the committed ones in one forward.

    Attributes:
        static: whether the shapes of reads and writes depend on nothing but a coarse bound of the lengths, so that a
            forward can be captured once and repeated.
    """

    def __init__(
        self,
        *,
        layers: int,
        heads: int,
        head_dim: int,
        images: int,
        branches: int,
        capacity: int,
        device: torch.device,
        dtype: torch.dtype,
        room: int = 0,
    ) -> None:
        self.room, self.static = room, False
        self.images, self.branches, self.capacity = images, branches, capacity
        shape = (layers, 2, images * branches, heads, capacity, head_dim)
        # zeros, not empty: a masked slot is weighted by zero, and zero times an uninitialised NaN is NaN
        self.slots = torch.zeros(shape, device=device, dtype=dtype)
        self.lengths = torch.zeros(images, device=device, dtype=torch.long)
        self.extent = 0
        """Committed slots of the longest row, known on the host; at least as many."""
        self.uniform = True
        """Whether all rows are known to have that length: then a write is a slice and a causal step needs no mask."""

    def width(self, length: int) -> int:
        """Slots that attention reads when a block of some length hangs behind the committed ones.

        What is filled, and in static use the least multiple of `BUCKET` that any block fits in.
        """
        if not self.static:
            return self.extent + length
        return min(self.capacity, -(-(self.extent + self.room) // BUCKET) * BUCKET)

    def sequences(self, rows: Tensor) -> Tensor:
        """Indices of the sequences [R*G] that belong to the given rows [R] of the batch."""
        branch = torch.arange(self.branches, device=rows.device)
        return (rows[:, None] * self.branches + branch).flatten()

    def write(
        self, layer: int, keys: Tensor, values: Tensor, start: int, slots: Tensor, sequences: Tensor | None
    ) -> None:
        """Store a block behind the committed slots.

        Args:
            layer: whose keys and values.
            keys, values: [R*G, H, T, hd].
            start: slots between the committed ones and the block.
            slots: [R*G, T] where each goes.
            sequences: [R*G] which sequences of the cache these are; None for all of them.
        """
        store = self.slots[layer]
        if self.uniform and sequences is None:
            block = slice(self.extent + start, self.extent + start + keys.shape[2])
            store[0, :, :, block] = keys
            store[1, :, :, block] = values
            return
        index = torch.arange(keys.shape[0], device=keys.device) if sequences is None else sequences
        places = self._places(index, slots)
        store[0].view(-1, store.shape[-1]).index_copy_(0, places, keys.reshape(-1, keys.shape[-1]))
        store[1].view(-1, store.shape[-1]).index_copy_(0, places, values.reshape(-1, values.shape[-1]))

    def _places(self, sequences: Tensor, slots: Tensor) -> Tensor:
        """Rows [R*G H T] of a layer's store, flattened to [sequences H S, hd], for slots [R*G, T] of some sequences.

        Whole rows are copied faster than the elements of an expanded index.
        """
        heads = torch.arange(self.slots.shape[3], device=slots.device)
        return (((sequences[:, None] * len(heads) + heads) * self.capacity)[..., None] + slots[:, None]).flatten()

    def read(self, layer: int, width: int, sequences: Tensor | None) -> tuple[Tensor, Tensor]:
        """Keys and values [R*G, H, width, hd] of the first `width` slots."""
        keys, values = self.slots[layer, 0, :, :, :width], self.slots[layer, 1, :, :, :width]
        return (keys, values) if sequences is None else (keys[sequences], values[sequences])

    def commit(self, kept: Tensor | None, added: Tensor) -> None:
        """Keep slots of the last block and drop the rest of it; `note` follows once the host knows the lengths.

        Args:
            kept: [B, K] block-relative slots to keep, in order; row b uses its first added[b]. None: the first
                added[b] slots as they lie.
            added: [B] how many each row keeps (0 leaves a row as it was).
        """
        if kept is not None and kept.shape[1]:
            self._compact(kept)
        self.lengths.add_(added)

    def note(self, totals: Sequence[int], exact: bool = True) -> None:
        """Tell the host's side how long the rows are.

        Args:
            totals: [B] committed slots per row.
            exact: False where a row may be shorter.
        """
        self.extent = max(totals)
        self.uniform = exact and not self.static and min(totals) == self.extent

    def _compact(self, kept: Tensor) -> None:
        layers, two, sequences, heads, _, head_dim = self.slots.shape
        everyone = torch.arange(sequences, device=kept.device)
        start = self.lengths[:, None]
        column = torch.arange(kept.shape[1], device=kept.device)
        source, target = (
            self._places(everyone, (start + slots).clamp_max(self.capacity - 1).repeat_interleave(self.branches, 0))
            for slots in (kept, column)
        )
        rows = self.slots.view(layers * two, -1, head_dim)
        rows.index_copy_(1, target, rows.index_select(1, source))

    def select(self, rows: Tensor, totals: Sequence[int]) -> None:
        """Keep only the given rows [R] of the batch, so that finished images stop costing."""
        self.slots = self.slots.index_select(2, self.sequences(rows))
        self.lengths = self.lengths[rows]
        self.images = len(totals)
        self.note(totals)

    def place(self, rows: Tensor, other: KVCache) -> None:
        """Put the rows of another cache, whose rows are all equally long, in place of these rows [R]."""
        self.slots[:, :, self.sequences(rows), :, : other.extent] = other.slots[:, :, :, :, : other.extent]
        self.lengths.index_copy_(0, rows, other.lengths)
