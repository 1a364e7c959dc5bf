"""The preallocated key-value cache: one length per image, no reallocation and no concatenation while decoding.

A forward writes the keys and values of its block behind what is committed; `commit` keeps some of those slots, in a
given order, and forgets the rest by not counting them. Speculation and roll-back are therefore both "write, then keep".
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vvsbench.fusing import fusible

BUCKET = 128
"""Attention reads a multiple of so many slots in static use: few shapes, little waste."""
ALIGNED = 16
"""Capacities are multiples of so many slots: attention's fast kernels would copy a mask whose rows are not."""


class KVCache:
    """Keys and values of all layers for `images` x `branches` sequences.

    `branches` is 2 under classifier-free guidance (conditional, null) and 1 without; both always have the same length.

    Args:
        layers, heads, head_dim: sizes of the attention that owns the cache.
        images: rows of the batch, B.
        branches: sequences per row, G.
        capacity: slots per sequence, S, at least.
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
        self.images, self.branches, self.capacity = images, branches, -(-capacity // ALIGNED) * ALIGNED
        shape = (layers, 2, images * branches, heads, self.capacity, head_dim)
        # zeros, not empty: a masked slot is weighted by zero, and zero times an uninitialised NaN is NaN
        self.slots = torch.zeros(shape, device=device, dtype=dtype)
        self.lengths = torch.zeros(images, device=device, dtype=torch.long)
        self.columns = torch.arange(self.capacity + 1, device=device)
        """Every slot's own number."""
        self._edges = torch.tensor([True, False], device=device).view(2, 1, 1, 1)
        self._no = torch.full((), float("-inf"), dtype=dtype, device=device)
        self._tables = self._starts(images)
        """Where the slots of each row's sequences and heads begin in a layer's `table`, [2, B, G H, 1]."""
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

    def _starts(self, images: int) -> Tensor:
        heads = self.slots.shape[3]
        number = torch.arange(2 * images * self.branches * heads, device=self.slots.device)
        return (number * self.capacity).view(2, images, self.branches * heads, 1)

    def places(self, slots: Tensor, rows: Tensor | None) -> Tensor | None:
        """Where in a layer's `table` a block goes, the same for all layers.

        Args:
            slots: [R or 1, T] where each position goes.
            rows: [R] rows of the batch that the block is of; None for all of them.

        Returns:
            int64 [2*R*G H T], keys first; None where a slice does, see `write`.
        """
        return None if self.uniform and rows is None else self._at(slots, rows)

    def _at(self, slots: Tensor, rows: Tensor | None) -> Tensor:
        tables = self._tables if rows is None else self._tables.index_select(1, rows)
        return (tables + slots[:, None]).flatten()

    def table(self, layer: int) -> Tensor:
        """Keys, then values of a layer, with a row for each sequence, head and slot: [2 sequences H S, hd].

        Whole rows of it are copied faster than the elements of an expanded index.
        """
        return self.slots[layer].view(-1, self.slots.shape[-1])

    def write(self, layer: int, entries: Tensor, start: int) -> None:
        """Store keys and values [2, B*G, H, T, hd] of all rows, which are equally long.

        Args:
            layer: whose.
            entries: of the block.
            start: slots between the committed ones and the block.
        """
        block = slice(self.extent + start, self.extent + start + entries.shape[3])
        self.slots[layer, :, :, :, block] = entries

    def read(self, layer: int, width: int, sequences: Tensor | None) -> tuple[Tensor, Tensor]:
        """Keys and values [R*G, H, width, hd] of the first `width` slots."""
        keys, values = self.slots[layer, 0, :, :, :width], self.slots[layer, 1, :, :, :width]
        return (keys, values) if sequences is None else (keys[sequences], values[sequences])

    def mask(self, lengths: Tensor, own: Tensor, text: Tensor | None, width: int) -> Tensor:
        """What a block sees that hangs behind the committed slots, as `additive` has it.

        Args:
            lengths: int64 [R or 1], committed slots.
            own: bool [R or 1, T, M], which of the M slots behind the committed ones each of the last T of them sees.
            text: bool [R, P], slots of the prefix that anybody may see, or [R, G, P] where that differs between
                branches; None for all.
            width: slots that attention reads, W.

        Returns:
            [R*G or 1, 1, T, W], in the dtype of keys.
        """
        if text is not None and text.ndim == 3:
            own = own if len(own) == 1 else own.repeat_interleave(self.branches, 0)
            lengths, text = lengths.repeat_interleave(self.branches), text.flatten(0, 1)
            return _block_mask(self.columns[1 : width + 1], lengths, own, text, self._edges, self._no)[:, None]
        mask = _block_mask(self.columns[1 : width + 1], lengths, own, text, self._edges, self._no)[:, None]
        return mask.repeat_interleave(self.branches, 0) if len(lengths) > 1 and self.branches > 1 else mask

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
        column, last = self.columns[: kept.shape[1]], self.capacity - 1
        source, target = ((self.lengths[:, None] + slots).clamp_max(last) for slots in (kept, column))
        tables = self.slots.view(len(self.slots), -1, self.slots.shape[-1])
        tables.index_copy_(1, self._at(target, None), tables.index_select(1, self._at(source, None)))

    def select(self, rows: Tensor, totals: Sequence[int]) -> None:
        """Keep only the given rows [R] of the batch, so that finished images stop costing."""
        self.slots = self.slots.index_select(2, self.sequences(rows))
        self.lengths = self.lengths[rows]
        self.images = len(totals)
        self._tables = self._starts(self.images)
        self.note(totals)

    def place(self, rows: Tensor, other: KVCache) -> None:
        """Put the rows of another cache, whose rows are all equally long, in place of these rows [R]."""
        self.slots[:, :, self.sequences(rows), :, : other.extent] = other.slots[:, :, :, :, : other.extent]
        self.lengths.index_copy_(0, rows, other.lengths)


def additive(visible: Tensor, dtype: torch.dtype) -> Tensor:
    """A bool mask as what attention adds to its scores: 0 or -inf, once for all layers."""
    return torch.where(visible, 0.0, visible.new_full((), float("-inf"), dtype=dtype))


@fusible
def _block_mask(
    columns: Tensor, lengths: Tensor, own: Tensor, text: Tensor | None, edges: Tensor, no: Tensor
) -> Tensor:
    """See `KVCache.mask`, for one sequence per row: [R or 1, T, W].

    Args:
        columns: int64 [W], numbers of the slots from 1 on.
        lengths, own, text: as there.
        edges: bool [2, 1, 1, 1], true and false.
        no: what is added to scores where nothing is seen.
    """
    rows, (length, behind) = len(lengths), own.shape[1:]
    # a slot's place among what a position may see: first anything committed, then the block, then what lies past it
    place = (columns - lengths[:, None]).clamp(0, behind + 1)
    yes, never = edges.expand(2, len(own), length, 1).unbind(0)
    seen = torch.cat([yes, own, never], 2).expand(rows, -1, -1).gather(2, place[:, None].expand(-1, length, -1))
    if text is not None:
        seen = seen & torch.nn.functional.pad(text, (0, len(columns) - text.shape[1]), value=True)[:, None]
    return torch.where(seen, 0.0, no)
