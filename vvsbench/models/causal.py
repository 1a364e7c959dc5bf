"""A causal continuous model: LlamaGen's blocks over continuous tokens, with MAR's diffusion head on top.

A masked model needs one mask, hence one row, for every token that it verifies; a causal model conditions a whole block
of drafts in one pass, which makes it the natural home of lossless continuous speculative decoding. The input that
stands for token i - 1 (for i = 0: the class) predicts token i.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor, nn

from vvsbench.models.diffusion_head import DiffusionLoss, HeadNetwork
from vvsbench.models.kv_cache import KVCache, additive
from vvsbench.models.latents import Latent, LatentState, Wanted
from vvsbench.models.stages import Call, Stage
from vvsbench.models.transformer import (
    LabelEmbedder,
    RMSNorm,
    Step,
    TransformerBlock,
    TransformerConfig,
    rope_table,
)


@dataclass(frozen=True)
class CausalSizes:
    """Sizes of a causal continuous model.

    Attributes:
        grid: side of the token grid.
        channels: of a token, C.
        classes: class ids.
        dim, layers, heads: of the transformer.
        head_depth, head_width: of the diffusion head.
    """

    grid: int
    channels: int
    classes: int
    dim: int
    layers: int
    heads: int
    head_depth: int
    head_width: int

    @property
    def tokens(self) -> int:
        """Tokens per image, N."""
        return self.grid * self.grid

    @property
    def transformer(self) -> TransformerConfig:
        """The same sizes for LlamaGen's blocks; there is no table of tokens."""
        return TransformerConfig("label", self.dim, self.layers, self.heads, 0, self.grid, self.classes)


class CausalNetwork(nn.Module):
    """The network; `diffloss.net` is its head."""

    def __init__(self, sizes: CausalSizes) -> None:
        super().__init__()
        self.sizes, config = sizes, sizes.transformer
        self.cls_embedding = LabelEmbedder(config)
        self.token_proj = nn.Linear(sizes.channels, sizes.dim)
        self.positions = nn.Parameter(torch.randn(1, sizes.tokens, sizes.dim) * 0.02)
        self.layers = nn.ModuleList(TransformerBlock(config) for _ in range(sizes.layers))
        self.norm = RMSNorm(sizes.dim, config.norm_eps)
        self.diffloss = DiffusionLoss(HeadNetwork(sizes.channels, sizes.dim, sizes.head_depth, sizes.head_width))
        self._turns: dict[tuple[torch.device, bool], Tensor] = {}

    def turns_at(self, index: Tensor) -> Tensor:
        """Complex rotations of the inputs `index` (any shape)."""
        double = self.positions.dtype == torch.float64
        key = (index.device, double)
        if key not in self._turns:
            table = rope_table(self.sizes.transformer).to(index.device)
            self._turns[key] = table if double else table.float()
        return self._turns[key][index]

    def embed(self, classes: Tensor, tokens: Tensor, index: Tensor) -> Tensor:
        """Inputs [R, T, D]: number index[r, t] stands for the token before it in raster order, 0 for the class.

        Args:
            classes: int64 [R], the null class being `sizes.classes`.
            tokens: [R, N, C].
            index: int64 [R, T]; past the end it may be anything.
        """
        index = index.clamp_max(self.sizes.tokens - 1)
        before = tokens.gather(1, (index - 1).clamp_min(0)[..., None].expand(-1, -1, tokens.shape[-1]))
        before = before.to(self.positions.dtype)
        x = torch.where((index == 0)[..., None], self.cls_embedding(classes), self.token_proj(before))
        return x + self.positions[0][index]

    def features(self, classes: Tensor, tokens: Tensor) -> Tensor:
        """Conditioning vectors [R, N, D] of all tokens in one uncached pass, as in training; see `embed`."""
        length = self.sizes.tokens
        index = torch.arange(length, device=tokens.device)
        x = self.embed(classes, tokens, index.expand(len(tokens), -1))
        visible = torch.ones(length, length, dtype=torch.bool, device=x.device).tril()
        for block in self.layers:
            x = cast(TransformerBlock, block).uncached(x, self.turns_at(index[None]), visible)
        return self.norm(x)

    def forward(self, x: Tensor, step: Step) -> Tensor:
        """Features [R*G, T, D] of inputs over the cache."""
        for number, block in enumerate(self.layers):
            x = block(x, number, step)
        return self.norm(x)


@dataclass
class CausalState(LatentState):
    """A batch being decoded.

    Attributes:
        cache: keys and values of the inputs seen so far.
        cached: how many of them each row holds; `Causal.keep` forgets those that stand for drafts.
    """

    cache: KVCache = field(kw_only=True)
    cached: list[int] = field(kw_only=True)


class Causal(Latent[CausalNetwork]):
    """A causal continuous checkpoint as a `LatentModel`.

    Its calls are not recorded, its head's chains are: how much of the cache there is differs from row to row.
    """

    causal = True

    def _full_flops(self) -> float:
        weights = sum(parameter.numel() for parameter in self.network.layers.parameters())
        return 2.0 * weights * self.guidance.branches

    def _stage(self) -> Stage:
        return Stage(lambda x, step: (self._called(x, step),), rows=(0, 0))

    def start(self, conditions: Tensor, images: Sequence[int], path: Tensor) -> CausalState:
        """See `LatentModel.start`; the path must be the raster's."""
        sizes, batch = self.network.sizes, len(images)
        cache = KVCache(
            layers=sizes.layers,
            heads=sizes.heads,
            head_dim=sizes.dim // sizes.heads,
            images=batch,
            branches=self.guidance.branches,
            capacity=sizes.tokens + 1,
            device=self.device,
            dtype=self.dtype,
        )
        tokens, nothing = self._blank(batch), [0] * batch
        return CausalState(list(images), conditions, path, tokens, nothing, cache=cache, cached=list(nothing))

    def predict(self, state: CausalState, wanted: Wanted, drafts: Tensor | None = None) -> Tensor:
        """See `LatentModel.predict`: one pass over what is not cached yet, drafts included.

        Raises:
            ValueError: a group holds more than one token, which a causal model cannot give.
        """
        if any(size != 1 for sizes in wanted.sizes for size in sizes):
            raise ValueError("a causal model decides one token per AR step")
        rows = [row for row, sizes in enumerate(wanted.sizes) if sizes]
        tokens = state.tokens
        if drafts is not None:
            tokens = tokens.clone()
            tokens[wanted.rows, wanted.positions] = drafts.to(tokens.dtype)
        ends = {row: state.counts[row] + len(wanted.sizes[row]) for row in rows}
        pending = {row: state.counts[row] - state.cached[row] for row in rows}
        features = self._run(state, rows, tokens, max(end - state.cached[row] for row, end in ends.items()))
        for row, end in ends.items():
            state.cached[row] = end
        places = {row: place for place, row in enumerate(rows)}
        asked = list(zip(wanted.row_list, wanted.group_list, strict=True))
        index = torch.tensor([[places[row], pending[row] + group] for row, group in asked], device=self.device)
        return features[:, index[:, 0], index[:, 1]]

    def _run(self, state: CausalState, rows: list[int], tokens: Tensor, length: int) -> Tensor:
        """Features [G, R, T, D] of the `length` inputs behind what is cached."""
        cache, branches = state.cache, self.guidance.branches
        everyone = len(rows) == len(state.images)
        index = torch.tensor(rows, device=self.device)
        self._sync(state)
        inputs = cache.lengths[index][:, None] + torch.arange(length, device=self.device)
        classes = state.classes[index]
        both = torch.stack([classes, torch.full_like(classes, self.network.sizes.classes)][:branches], 1).flatten()
        repeated = inputs.repeat_interleave(branches, 0)
        x = self.network.embed(both, tokens[index].repeat_interleave(branches, 0), repeated)
        slots = inputs.clamp_max(self.network.sizes.tokens)
        width = min(cache.extent + length, cache.capacity)
        visible = torch.arange(width, device=self.device) <= repeated[..., None]
        step = Step(
            cache=cache,
            turns=self.network.turns_at(slots).repeat_interleave(branches, 0),
            places=cache.places(slots, None if everyone else index),
            width=width,
            mask=None if length == 1 and cache.uniform else additive(visible, self.dtype)[:, None],
            sequences=None if everyone else cache.sequences(index),
            images=[state.images[row] for row in rows],
        )
        call = Call(tuple(step.images), length, self.spec.flops * length)
        (features,) = self.counted(call, x, step)
        return features.unflatten(0, (-1, branches)).transpose(0, 1)

    def _sync(self, state: CausalState) -> None:
        """Tell the cache how much of it is valid."""
        state.cache.lengths = torch.tensor(state.cached, device=self.device)
        state.cache.extent = max(state.cached)
        state.cache.uniform = min(state.cached) == state.cache.extent

    def keep(self, state: CausalState, counts: Sequence[int]) -> None:
        """See `LatentModel.keep`: what was cached of tokens that are no longer decided is forgotten."""
        state.counts = list(counts)
        state.cached = [min(cached, count) for cached, count in zip(state.cached, counts, strict=True)]

    def admit(
        self, state: CausalState, rows: list[int], conditions: Tensor, images: Sequence[int], path: Tensor
    ) -> None:
        """See `LatentModel.admit`; what the cache has in these rows is written over."""
        state.admit(rows, conditions, images, path)
        for row in rows:
            state.cached[row] = 0

    def select(self, state: CausalState, rows: list[int]) -> None:
        """See `LatentModel.select`."""
        state.select(rows)
        state.cached = [state.cached[row] for row in rows]
        state.cache.select(torch.tensor(rows, dtype=torch.long, device=self.device), state.cached)
