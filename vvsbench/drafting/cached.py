"""What draft sources with a transformer of their own share: a cache, and a tree that hangs behind it.

Known tokens are in the cache. The nodes of a tree are written behind them level by level; a node attends to what is
known, to its ancestors and to itself. Nothing of a tree is ever kept: the next known tokens overwrite it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn

from vvsbench.drafting.tree import Expansions, TokenTree
from vvsbench.fusing import fusible
from vvsbench.models.kv_cache import KVCache
from vvsbench.models.stages import Engine
from vvsbench.models.transformer import Step, caption_mask


@dataclass
class CachedState:
    """The drafter's memory of a batch.

    Attributes:
        cache: of what is known; a tree lies behind it until the next `extend`.
        keys: int64 [B, 1], image indices on the device.
        outputs: [B, G, 1 + S, D] the network's outputs at the root and at the nodes expanded so far.
        ancestors: bool [B, S, S], which expanded nodes each expanded node sees.
        padding: bool [B, P], or [B, G, P], prefix positions that hold text; None where all of them are seen.
        ahead: rotations, slots and mask of all nodes that will be expanded, where they are known; else None.
        level: depth of the next nodes to be expanded.
        expanded: nodes of the tree that were expanded so far.
    """

    cache: KVCache
    images: list[int]
    keys: Tensor
    outputs: Tensor
    ancestors: Tensor
    padding: Tensor | None = None
    ahead: tuple[Tensor, Tensor, Tensor] | None = None
    level: int = 0
    expanded: int = 0


class Sizes(Protocol):
    """What a source must know of its network and of the target.

    Attributes:
        dim, heads, head_dim: of the layers; heads are those of keys and values.
        prefix, tokens: of the target.
    """

    @property
    def dim(self) -> int: ...
    @property
    def heads(self) -> int: ...
    @property
    def head_dim(self) -> int: ...
    @property
    def prefix(self) -> int: ...
    @property
    def tokens(self) -> int: ...


S = TypeVar("S", bound=Sizes)


class CachedSource(ABC, Generic[S]):
    """A `DraftSource` over a cache of its own.

    Args:
        network: the module whose calls are counted; takes (input [R*G, T, D], step).
        sizes: of its layers; `prefix` and `tokens` are the target's.
        branches: sequences per image, as the target's.
    """

    reach: ClassVar[int]
    """Cached positions of a row with no known token, less the prefix: 0 for tokens, -1 for pairs of neighbours."""

    def __init__(self, network: nn.Module, sizes: S, branches: int) -> None:
        self.network, self.sizes, self.branches = network, sizes, branches
        self.behind = sizes.prefix + self.reach
        self._causal: dict[int, Tensor] = {}
        """What known tokens see of each other, by their number."""

    def run_by(self, engine: Engine) -> None:
        """Call the network as an engine does."""
        self.network = engine.network(self.network)

    @abstractmethod
    def _turns(self, positions: Tensor) -> Tensor:
        """Rotations of cache positions (any shape)."""

    @abstractmethod
    def _known_inputs(self, features: Tensor, tokens: Tensor) -> Tensor:
        """The network's input [B, G, M, D] for known tokens [B, M], given the target's features before them."""

    @abstractmethod
    def _node_inputs(self, state: CachedState, tokens: Tensor, parents: Tensor) -> Tensor:
        """The network's input [B, G, W, D] for nodes [B, W] of a tree (see `DraftSource.expand`)."""

    @abstractmethod
    def _head(self, state: CachedState, outputs: Tensor, index: Tensor) -> Tensor:
        """Guided logits [B, W, V] of outputs [B, G, W, D] that predict image token `index` [B, 1]."""

    def _begin(self, images: list[int], layers: int, room: int, like: Tensor, padding: Tensor | None) -> CachedState:
        """An empty memory for some images; `like` lends its device and dtype."""
        sizes, batch = self.sizes, len(images)
        cache = KVCache(
            layers=layers,
            heads=sizes.heads,
            head_dim=sizes.head_dim,
            images=batch,
            branches=self.branches,
            capacity=sizes.prefix + sizes.tokens + room,
            device=like.device,
            dtype=like.dtype,
            room=room,
        )
        outputs = like.new_zeros(batch, self.branches, 1 + room, sizes.dim)
        ancestors = torch.zeros(batch, room, room, dtype=torch.bool, device=like.device)
        keys = torch.tensor(images, device=like.device)[:, None]
        return CachedState(cache, images, keys, outputs, ancestors, padding)

    def observe(
        self, state: CachedState, rows: Tensor, tree: TokenTree, logits: Tensor, counted: Tensor | None
    ) -> None:
        """See `DraftSource.observe`; what it reads of the target comes with `extend`."""
        return

    def ahead(self, state: CachedState, levels: int) -> None:
        """See `DraftSource.ahead`; every node is run."""
        return

    def extend(self, state: CachedState, features: Tensor, tokens: Tensor, added: Tensor) -> None:
        """See `DraftSource.extend`."""
        self._run_known(state, self._known_inputs(features, tokens), added, prefill=False)

    def _run_known(self, state: CachedState, x: Tensor, added: Tensor, *, prefill: bool) -> None:
        """Run inputs [B, G, M, D] causally behind the cache and keep the first added[b] positions of each row."""
        length = x.shape[2]
        if length not in self._causal:
            self._causal[length] = torch.ones(length, length, dtype=torch.bool, device=x.device).tril()[None]
        step = self._step(state, state.cache.columns[None, :length], self._causal[length], 0, prefill)
        out = self.network(x.flatten(0, 1), step).unflatten(0, (-1, self.branches))
        state.cache.commit(None, added)
        added = added[:, None, None, None]
        last = out.gather(2, (added - 1).clamp_min(0).expand(-1, self.branches, 1, out.shape[-1]))
        state.outputs[:, :, :1] = torch.where(added > 0, last, state.outputs[:, :, :1])

    def note(self, state: CachedState, totals: Sequence[int], exact: bool) -> None:
        """See `DraftSource.note`."""
        state.cache.note([total + self.behind for total in totals], exact)

    def _step(self, state: CachedState, offsets: Tensor, own: Tensor, start: int, prefill: bool = False) -> Step:
        """A forward of inputs `offsets` [1, T] behind the known ones, which see `own` [B or 1, T, start + T]."""
        text = state.padding
        if prefill and text is not None:
            own, text = caption_mask(own[:, None], text)[:, 0], None
        turns, slots, mask = self._placed(state, offsets, own, start, text)
        return self._ready(state, turns, slots, mask, start, prefill)

    def _placed(
        self, state: CachedState, offsets: Tensor, own: Tensor, start: int, text: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Rotations, slots [B, T] and mask of such inputs, the first of them so many slots behind the known ones."""
        cache, length = state.cache, own.shape[1]
        lengths = cache.lengths
        positions = lengths[:, None] + offsets
        turns = self._turns(positions)
        if len(lengths) > 1:
            turns = turns.repeat_interleave(self.branches, 0)
        slots = lengths[:, None] + cache.columns[start : start + length]
        return turns, slots, cache.mask(lengths, own, text, cache.width(start + length))

    def _ready(
        self, state: CachedState, turns: Tensor, slots: Tensor, mask: Tensor, start: int, prefill: bool = False
    ) -> Step:
        cache = state.cache
        return Step(
            cache=cache,
            turns=turns,
            places=cache.places(slots, None),
            width=mask.shape[-1],
            mask=mask,
            sequences=None,
            images=state.images,
            prefill=prefill,
            start=start,
        )

    def root_logits(self, state: CachedState, plan: Expansions | None = None) -> Tensor:
        """See `DraftSource.root_logits`."""
        state.level = state.expanded = 0
        state.ahead = None
        if plan is not None and plan.depths.shape[1]:
            state.ahead = self._placed(state, plan.depths, plan.visible, 0, state.padding)
        return self._head(state, state.outputs[:, :, :1], self._predicted_index(state))

    def _predicted_index(self, state: CachedState) -> Tensor:
        """Index [B, 1] of the image token that the next level's logits are for."""
        return state.cache.lengths[:, None] + (state.level - self.behind)

    def expand(self, state: CachedState, tokens: Tensor, parents: Tensor) -> Tensor:
        """See `DraftSource.expand`."""
        width, before = tokens.shape[1], state.expanded
        x = self._node_inputs(state, tokens, parents)
        step = self._planned(state, width) if state.ahead is not None else self._unplanned(state, parents)
        out = self.network(x.flatten(0, 1), step).unflatten(0, (-1, self.branches))
        state.expanded, state.level = before + width, state.level + 1
        state.outputs[:, :, 1 + before : 1 + state.expanded] = out
        return self._head(state, out, self._predicted_index(state))

    def _planned(self, state: CachedState, width: int) -> Step:
        """The forward of the next nodes of a tree that is known."""
        assert state.ahead is not None
        turns, slots, mask = state.ahead
        some = slice(state.expanded, state.expanded + width)
        read = state.cache.width(some.stop)
        return self._ready(state, turns[:, some], slots[:, some], mask[:, :, some, :read], some.start)

    def _unplanned(self, state: CachedState, parents: Tensor) -> Step:
        """The forward of nodes below `parents` [B, W]; what they see is remembered for those below them."""
        before, width = state.expanded, parents.shape[1]
        own = seen(state.ancestors[:, :before, :before], parents)
        state.ancestors[:, before : before + width, : before + width] = own
        offsets = torch.full((1, width), state.level, device=parents.device)
        return self._step(state, offsets, own, before)

    def rewind(self, state: CachedState, removed: Tensor) -> None:
        """See `DraftSource.rewind`."""
        state.cache.lengths.sub_(removed)
        state.cache.uniform = False  # the host does not know how much was removed

    def select(self, state: CachedState, rows: list[int], totals: Sequence[int]) -> None:
        """See `DraftSource.select`."""
        index = torch.tensor(rows, device=state.outputs.device)
        state.cache.select(index, [total + self.behind for total in totals])
        state.images = [state.images[row] for row in rows]
        state.keys, state.outputs, state.ancestors = state.keys[index], state.outputs[index], state.ancestors[index]
        state.padding = None if state.padding is None else state.padding[index]

    def place(self, state: CachedState, rows: list[int], fresh: CachedState) -> None:
        """See `DraftSource.place`."""
        index = torch.tensor(rows, device=state.outputs.device)
        state.cache.place(index, fresh.cache)
        state.keys.index_copy_(0, index, fresh.keys)
        state.outputs[index, :, :1] = fresh.outputs[:, :, :1]
        if state.padding is not None and fresh.padding is not None:
            state.padding.index_copy_(0, index, fresh.padding)
        for row, image in zip(rows, fresh.images, strict=True):
            state.images[row] = image

    def fix(self, state: CachedState) -> None:
        """See `DraftSource.fix`."""
        state.cache.static, state.cache.uniform = True, False

    def shape(self, state: CachedState) -> int:
        """See `DraftSource.shape`: the slots that attention reads."""
        return state.cache.width(0)


@fusible
def seen(ancestors: Tensor, parents: Tensor) -> Tensor:
    """Which of the expanded nodes, and then of themselves, new nodes see.

    Args:
        ancestors: bool [B, E, E], of the expanded ones.
        parents: int64 [B, W], -1 for the root.

    Returns:
        bool [B, W, E + W].
    """
    batch, before = ancestors.shape[:2]
    above = nn.functional.pad(ancestors, (0, 0, 1, 0)).gather(1, (parents + 1)[..., None].expand(-1, -1, before))
    myself = torch.eye(parents.shape[1], dtype=torch.bool, device=parents.device).expand(batch, -1, -1)
    return torch.cat([above, myself], 2)
