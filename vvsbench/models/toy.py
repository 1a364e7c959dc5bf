"""A target whose whole distribution is known by enumeration: what exactness is tested on.

A table gives the logits after every possible prefix of a short sequence over a small vocabulary. Everything a real
target has is here in small: a cache with one length per row, blocks whose tokens see what their mask shows, kept and
dropped slots. A "feature" is the number of the prefix that ends in the token, so a mask, a position or a commit that
is wrong changes the law.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vvsbench.models.protocols import Block, ModelSpec
from vvsbench.sampling import Sampling


def child(prefix: Tensor, tokens: Tensor, vocab: int) -> Tensor:
    """Number of the prefix that a token extends another one to; the empty prefix is 0, any shape."""
    return prefix * vocab + tokens + 1


def random_table(vocab: int, tokens: int, seed: int, spread: float = 1.5) -> Tensor:
    """Logits float64 [prefixes, V] after every prefix of up to tokens - 1 tokens."""
    prefixes = sum(vocab**length for length in range(tokens))
    generator = torch.Generator().manual_seed(seed)
    return spread * torch.randn(prefixes, vocab, generator=generator, dtype=torch.float64)


@dataclass
class ToyStep:
    """What the hook that counts calls reads."""

    images: list[int]
    prefill: bool = False


class ToyNetwork(nn.Module):
    """Carries prefix numbers through, so that calls can be counted where a real network would run."""

    def forward(self, x: Tensor, step: ToyStep) -> Tensor:
        """Return x [R, T, 1]."""
        return x


@dataclass
class ToyState:
    """A batch of sequences (see `protocols.State`)."""

    images: list[int]
    slots: Tensor
    lengths: Tensor
    first_logits: Tensor
    prefix_features: Tensor
    block: Tensor


class ToyTarget:
    """A `TokenModel` over a table.

    Args:
        table: logits [prefixes, V] (see `random_table`).
        tokens: length of a sequence, N.
    """

    def __init__(self, table: Tensor, tokens: int) -> None:
        self.table, self.network, self.device = table, ToyNetwork(), table.device
        vocab, grid = table.shape[1], max(1, round(tokens**0.5))
        self.codebook = torch.randn(vocab, 2, generator=torch.Generator().manual_seed(0)).to(table.device)
        self.spec = ModelSpec("toy", tokens, grid, vocab, 1, 1, 1, table.numel(), 8 * table.numel(), 8, 0)

    def conditions(self, prompts: Sequence[int] | Sequence[str]) -> Tensor:
        """The toy has one condition."""
        return torch.zeros(len(prompts), dtype=torch.long, device=self.device)

    def start(self, conditions: Tensor, images: Sequence[int], room: int) -> ToyState:
        """See `TokenModel.start`."""
        batch = len(images)
        zeros = torch.zeros(batch, dtype=torch.long, device=self.device)
        features = self.network(zeros[:, None, None].double(), ToyStep(list(images), prefill=True))[:, None]
        slots = torch.full((batch, self.spec.tokens + room), -1, device=self.device)
        first = self.head(features, zeros[:, None])[:, 0]
        return ToyState(list(images), slots, zeros, first, features, slots.clone())

    def forward(self, state: ToyState, block: Block) -> tuple[Tensor, Tensor]:
        """See `TokenModel.forward`."""
        rows = torch.arange(len(state.images), device=self.device) if block.rows is None else block.rows
        images = block.charged
        if images is None:
            images = [state.images[row] for row in rows.tolist()]
        count, length = block.tokens.shape
        positions = state.lengths[rows, None] + block.offsets
        visible = torch.ones(1, 1, 1, dtype=torch.bool) if block.visible is None else block.visible
        columns = state.slots.shape[1]
        committed = torch.arange(columns, device=self.device) < state.lengths[rows, None]
        seen = torch.where(committed, state.slots[rows], -1)[:, None].repeat(1, length, 1)
        seen = torch.cat([seen, torch.full((count, length, 1), -1, device=self.device)], 2)
        where = torch.where(visible, positions[:, None].expand(-1, length, -1), columns)
        seen.scatter_(2, where, block.tokens[:, None].expand(-1, length, -1))
        prefix = torch.zeros(count, length, dtype=torch.long, device=self.device)
        for column in range(min(columns, self.spec.tokens)):
            token = seen[:, :, column]
            prefix = torch.where(token >= 0, child(prefix, token, self.spec.vocab), prefix)
        state.block[:, :length] = torch.full_like(state.block[:, :length], -1).index_copy(0, rows, block.tokens)
        features = self.network(prefix[..., None].double(), ToyStep(images))[:, None]
        return self.head(features, positions + 1), features

    def commit(self, state: ToyState, kept: Tensor | None, added: Tensor) -> None:
        """See `TokenModel.commit`."""
        kept = torch.arange(state.block.shape[1])[None].expand(len(added), -1) if kept is None else kept
        slot = torch.arange(kept.shape[1], device=self.device)
        tokens = state.block.gather(1, kept.clamp(0, state.block.shape[1] - 1))
        target = torch.where(slot < added[:, None], state.lengths[:, None] + slot, state.slots.shape[1] - 1)
        state.slots.scatter_(1, target.clamp_max(state.slots.shape[1] - 1), tokens)
        state.lengths.add_(added)

    def note(self, state: ToyState, totals: Sequence[int], exact: bool = True) -> None:
        """See `TokenModel.note`; the toy's host knows nothing."""

    def select(self, state: ToyState, rows: list[int], totals: Sequence[int]) -> None:
        """See `TokenModel.select`."""
        state.images = [state.images[row] for row in rows]
        state.slots, state.lengths, state.block = state.slots[rows], state.lengths[rows], state.block[rows]

    def place(self, state: ToyState, rows: list[int], fresh: ToyState) -> None:
        """See `TokenModel.place`."""
        state.slots[rows], state.lengths[rows] = fresh.slots, fresh.lengths
        for row, image in zip(rows, fresh.images, strict=True):
            state.images[row] = image

    def fix(self, state: ToyState) -> None:
        """See `TokenModel.fix`; the toy's shapes are fixed as they are."""

    def shape(self, state: ToyState) -> int:
        """See `TokenModel.shape`."""
        return 0

    def head(self, features: Tensor, index: Tensor) -> Tensor:
        """See `TokenModel.head`; past the end the last table rows serve."""
        return self.table[features[:, 0, :, 0].long().clamp_max(len(self.table) - 1)]

    def to_images(self, tokens: Tensor) -> Tensor:
        """Grey squares uint8 [B, 3, g, g]."""
        levels = (tokens * 255 // max(1, self.spec.vocab - 1)).to(torch.uint8)
        return levels[:, : self.spec.grid**2].view(-1, 1, self.spec.grid, self.spec.grid).expand(-1, 3, -1, -1)

    def law(self, sampling: Sampling) -> Tensor:
        """Probability float64 [V ** N] of every sequence, the first token counting most."""
        probabilities = torch.ones(1, dtype=torch.float64)
        prefix = torch.zeros(1, dtype=torch.long)
        tokens = torch.arange(self.spec.vocab)
        for _ in range(self.spec.tokens):
            probabilities = (probabilities[:, None] * sampling.probabilities(self.table[prefix])).flatten()
            prefix = child(prefix[:, None], tokens, self.spec.vocab).flatten()
        return probabilities

    def outcome(self, tokens: Tensor) -> Tensor:
        """Place int64 [B] of each sequence [B, N] in `law`."""
        powers = self.spec.vocab ** torch.arange(self.spec.tokens - 1, -1, -1)
        return (tokens * powers).sum(1)


@dataclass
class ToyDraftState:
    """Prefix numbers of the root and of the nodes expanded so far."""

    images: list[int]
    nodes: Tensor


class ToySource:
    """A draft source over a table of its own.

    Args:
        table: logits [prefixes, V]; the nearer to the target's, the better the drafts.
    """

    def __init__(self, table: Tensor) -> None:
        self.table, self.network = table, ToyNetwork()

    def _run(self, state: ToyDraftState, prefix: Tensor) -> Tensor:
        return self.network(prefix[..., None].double(), ToyStep(state.images))[..., 0].long()

    def start(self, target: ToyState, tokens: Tensor, room: int, levels: int = 1) -> ToyDraftState:
        """See `DraftSource.start`."""
        state = ToyDraftState(list(target.images), torch.zeros_like(tokens)[:, None])
        state.nodes = self._run(state, child(state.nodes, tokens[:, None], self.table.shape[1]))
        return state

    def observe(self, state: ToyDraftState, rows: Tensor, tree: object, logits: Tensor, counted: Tensor | None) -> None:
        """See `DraftSource.observe`."""

    def ahead(self, state: ToyDraftState, levels: int) -> None:
        """See `DraftSource.ahead`."""

    def extend(self, state: ToyDraftState, features: Tensor, tokens: Tensor, added: Tensor) -> None:
        """See `DraftSource.extend`."""
        prefix = state.nodes[:, :1]
        for column in range(tokens.shape[1]):
            longer = child(prefix, tokens[:, column : column + 1], self.table.shape[1])
            prefix = torch.where((column < added)[:, None], longer, prefix)
        state.nodes = self._run(state, prefix)

    def rewind(self, state: ToyDraftState, removed: Tensor) -> None:
        """See `DraftSource.rewind`."""
        prefix = state.nodes[:, :1]
        for count in range(int(removed.max())):
            prefix = torch.where((count < removed)[:, None], (prefix - 1) // self.table.shape[1], prefix)
        state.nodes = prefix

    def note(self, state: ToyDraftState, totals: Sequence[int], exact: bool) -> None:
        """See `DraftSource.note`; the toy's host knows nothing."""

    def root_logits(self, state: ToyDraftState, plan: object = None) -> Tensor:
        """See `DraftSource.root_logits`."""
        return self._logits(state.nodes[:, :1])

    def _logits(self, prefix: Tensor) -> Tensor:
        return self.table[prefix.clamp_max(len(self.table) - 1)]

    def expand(self, state: ToyDraftState, tokens: Tensor, parents: Tensor) -> Tensor:
        """See `DraftSource.expand`."""
        prefix = self._run(state, child(state.nodes.gather(1, parents + 1), tokens, self.table.shape[1]))
        state.nodes = torch.cat([state.nodes, prefix], 1)
        return self._logits(prefix)

    def predicted(self, state: ToyDraftState, nodes: Tensor) -> Tensor:
        """See `DraftSource.predicted`."""
        return state.nodes.gather(1, nodes + 1)[:, None, :, None].double()

    def select(self, state: ToyDraftState, rows: list[int], totals: Sequence[int]) -> None:
        """See `DraftSource.select`."""
        state.images, state.nodes = [state.images[row] for row in rows], state.nodes[rows]

    def place(self, state: ToyDraftState, rows: list[int], fresh: ToyDraftState) -> None:
        """See `DraftSource.place`."""
        state.nodes[rows, :1] = fresh.nodes[:, :1]
        for row, image in zip(rows, fresh.images, strict=True):
            state.images[row] = image

    def fix(self, state: ToyDraftState) -> None:
        """See `DraftSource.fix`.

        Raises:
            NotImplementedError: its tree grows by concatenation, and what is to be captured must not.
        """
        raise NotImplementedError("the toy's draft source has no fixed shapes")

    def shape(self, state: ToyDraftState) -> int:
        """See `DraftSource.shape`."""
        return 0


def noisy(table: Tensor, noise: float, seed: int) -> Tensor:
    """A drafter's table: the target's logits with Gaussian noise of the given standard deviation."""
    generator = torch.Generator().manual_seed(seed)
    return table + noise * torch.randn(table.shape, generator=generator, dtype=table.dtype)
