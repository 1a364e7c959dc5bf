"""A LlamaGen checkpoint as a `TokenModel`: cache, classifier-free guidance and tokenizer around the transformer.

The null branch of a caption-conditional model sees a learned caption under the prompt's own padding mask, as in
training.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vvsbench.models.guidance import Guidance
from vvsbench.models.kv_cache import KVCache, additive
from vvsbench.models.protocols import Block, ModelSpec
from vvsbench.models.transformer import Step, Transformer, caption_mask

if TYPE_CHECKING:
    from vvsbench.models.vq import VQModel


@dataclass
class LlamaGenState:
    """A batch of images being decoded (see `protocols.State`).

    Attributes:
        conditions: what `LlamaGen.start` was given; a drafter that reads them itself finds them here.
    """

    cache: KVCache
    images: list[int]
    conditions: Tensor
    first_logits: Tensor
    prefix_features: Tensor
    prefix: int
    padding: Tensor | None = field(default=None)
    """bool [B, P], caption positions that hold text; None where all do."""

    @property
    def lengths(self) -> Tensor:
        """Committed image tokens per row, int64 [B]."""
        return self.cache.lengths - self.prefix


TextEncoder = Callable[[list[str]], tuple[Tensor, Tensor]]
"""Captions to features [B, P, C], rotated to the left, and their bool mask [B, P] (see `t5`)."""


class LlamaGen:
    """A LlamaGen checkpoint as a `TokenModel`: cache, guidance and tokenizer around the transformer.

    Args:
        transformer: with its weights, on its device, in eval mode.
        tokenizer: turns tokens into pictures; None where only tokens are wanted.
        guidance: of the sampling setting.
        text_encoder: turns captions into features and their mask; only for caption-conditional models.
        name: as in conf/model.

    Attributes:
        spread_pads: whether a padded caption position sees more than itself (see `caption_mask`). No image token feels
            it; a feature drafter does, and asks for what it was trained on.
    """

    spread_pads = False

    def __init__(
        self,
        transformer: Transformer,
        tokenizer: VQModel | None,
        guidance: Guidance,
        text_encoder: TextEncoder | None = None,
        name: str = "llamagen",
    ) -> None:
        self.transformer, self.tokenizer, self.guidance = transformer, tokenizer, guidance
        self.text_encoder = text_encoder
        self.device = transformer.output.weight.device
        self.dtype = transformer.output.weight.dtype
        self.spec = _spec(transformer, guidance, name)

    @property
    def network(self) -> Transformer:
        """The module whose calls are counted."""
        return self.transformer

    @property
    def codebook(self) -> Tensor:
        """See `TokenModel.codebook`."""
        return self._tokenizer.quantize.embedding.weight

    @property
    def _tokenizer(self) -> VQModel:
        if self.tokenizer is None:
            raise ValueError("this target was built without a tokenizer")
        return self.tokenizer

    def conditions(self, prompts: Sequence[int] | Sequence[str]) -> Tensor:
        """Class ids int64 [B], or text features [B, P, C + 1] whose last channel is the padding mask."""
        if self.text_encoder is None:
            return torch.tensor(prompts, dtype=torch.long, device=self.device)
        features, mask = self.text_encoder([str(prompt) for prompt in prompts])
        return join_caption(features, mask).to(self.device, self.dtype)

    def start(self, conditions: Tensor, images: Sequence[int], room: int) -> LlamaGenState:
        """Prefill (see `TokenModel.start`)."""
        config, branches = self.transformer.config, self.guidance.branches
        batch, prefix = len(images), config.prefix
        captions, padding = (conditions, None) if config.condition == "label" else split_caption(conditions)
        embedder = self.transformer.cls_embedding
        both = torch.stack([captions, embedder.null(captions)][:branches], 1).flatten(0, 1)
        cache = KVCache(
            layers=config.layers,
            heads=config.heads,
            head_dim=config.dim // config.heads,
            images=batch,
            branches=branches,
            capacity=prefix + config.tokens + room,
            device=self.device,
            dtype=self.dtype,
            room=room,
        )
        visible = torch.ones(prefix, prefix, dtype=torch.bool, device=self.device).tril()[None, None]
        if padding is not None:
            visible = caption_mask(visible, padding.repeat_interleave(branches, 0), self.spread_pads)
        positions = torch.arange(prefix, device=self.device)[None]
        step = Step(
            cache=cache,
            turns=self.transformer.turns_at(positions),
            places=None,
            width=prefix,
            mask=additive(visible, self.dtype),
            sequences=None,
            images=list(images),
            prefill=True,
        )
        features = self.transformer(embedder(both), step).unflatten(0, (batch, branches))
        cache.commit(None, torch.full_like(cache.lengths, prefix))
        cache.note([prefix] * batch)
        first = self.head(features[:, :, -1:], torch.zeros(1, 1, dtype=torch.long, device=self.device))[:, 0]
        return LlamaGenState(cache, list(images), conditions.clone(), first, features, prefix, padding)

    def forward(self, state: LlamaGenState, block: Block) -> tuple[Tensor, Tensor]:
        """See `TokenModel.forward`."""
        cache, branches = state.cache, self.guidance.branches
        rows = block.rows
        lengths = cache.lengths if rows is None else cache.lengths[rows]
        alike = rows is None and cache.uniform and block.offsets.shape[0] == 1 and state.padding is None
        if alike:  # one row of positions and of the mask serves all images
            lengths = lengths[:1]
        positions = lengths[:, None] + block.offsets
        length = block.tokens.shape[1]
        sliced, columns = cache.uniform and rows is None, cache.columns[block.start : block.start + length]
        width = cache.width(block.start + length)
        images = block.charged
        if images is None:
            images = state.images if rows is None else [state.images[row] for row in rows.tolist()]
        step = Step(
            cache=cache,
            turns=self.transformer.turns_at(positions if alike else positions.repeat_interleave(branches, 0)),
            places=None if sliced else cache.places(lengths[:, None] + columns, rows),
            width=width,
            mask=self._mask(state, block, lengths, width),
            sequences=None if rows is None else cache.sequences(rows),
            images=images,
            start=block.start,
        )
        x = self.transformer.tok_embeddings(block.tokens).repeat_interleave(branches, 0)
        features = self.transformer(x, step).unflatten(0, (-1, branches))
        shift = state.prefix - 1
        return self.head(features, positions - shift if shift else positions), features

    def _mask(self, state: LlamaGenState, block: Block, lengths: Tensor, width: int) -> Tensor | None:
        """Of [R*G, 1, T, width]: committed slots, the visible part of the block, no padded caption position."""
        if block.tokens.shape[1] == 1 and not block.start and state.cache.uniform and state.padding is None:
            return None
        text = state.padding if state.padding is None or block.rows is None else state.padding[block.rows]
        own = torch.ones(1, 1, 1, dtype=torch.bool, device=self.device) if block.visible is None else block.visible
        return state.cache.mask(lengths, own, text, width)

    def commit(self, state: LlamaGenState, kept: Tensor | None, added: Tensor) -> None:
        """See `TokenModel.commit`."""
        state.cache.commit(kept, added)

    def note(self, state: LlamaGenState, totals: Sequence[int], exact: bool = True) -> None:
        """See `TokenModel.note`."""
        state.cache.note([total + state.prefix for total in totals], exact)

    def fix(self, state: LlamaGenState) -> None:
        """See `TokenModel.fix`."""
        state.cache.static, state.cache.uniform = True, False

    def shape(self, state: LlamaGenState) -> int:
        """See `TokenModel.shape`: the slots that attention reads."""
        return state.cache.width(0)

    def select(self, state: LlamaGenState, rows: list[int], totals: Sequence[int]) -> None:
        """See `TokenModel.select`."""
        index = torch.tensor(rows, device=self.device)
        state.cache.select(index, [total + state.prefix for total in totals])
        state.images, state.conditions = [state.images[row] for row in rows], state.conditions[index]
        state.padding = None if state.padding is None else state.padding[index]

    def place(self, state: LlamaGenState, rows: list[int], fresh: LlamaGenState) -> None:
        """See `TokenModel.place`."""
        index = torch.tensor(rows, device=self.device)
        state.cache.place(index, fresh.cache)
        state.conditions.index_copy_(0, index, fresh.conditions)
        if state.padding is not None and fresh.padding is not None:
            state.padding.index_copy_(0, index, fresh.padding)
        for row, image in zip(rows, fresh.images, strict=True):
            state.images[row] = image

    def head(self, features: Tensor, index: Tensor) -> Tensor:
        """See `TokenModel.head`."""
        return self.guidance.combine(self.transformer.logits(features), index)

    def to_images(self, tokens: Tensor) -> Tensor:
        """Decode tokens [B, N] into uint8 [B, 3, H, W]."""
        return self._tokenizer.to_uint8(self._tokenizer.decode_code(tokens, self.spec.grid))


def join_caption(features: Tensor, mask: Tensor) -> Tensor:
    """Features [B, P, C] and mask [B, P] in one tensor [B, P, C + 1], so that a batch of conditions is one tensor."""
    return torch.cat([features, mask[..., None].to(features.dtype)], -1)


def split_caption(conditions: Tensor) -> tuple[Tensor, Tensor]:
    """The features [B, P, C] and the bool mask [B, P] of `join_caption`."""
    return conditions[..., :-1], conditions[..., -1] > 0.5


def _spec(transformer: Transformer, guidance: Guidance, name: str) -> ModelSpec:
    config = transformer.config
    size = transformer.output.weight.element_size()
    parameters = sum(parameter.numel() for parameter in transformer.parameters())
    embeddings = transformer.tok_embeddings.weight.numel()
    return ModelSpec(
        name=name,
        tokens=config.tokens,
        grid=config.grid,
        vocab=config.vocab,
        dim=config.dim,
        prefix=config.prefix,
        branches=guidance.branches,
        parameters=parameters,
        weight_bytes=(parameters - embeddings) * size,
        cache_bytes_per_token=2 * config.layers * config.dim * size * guidance.branches,
        flops_per_token=2 * (parameters - embeddings) * guidance.branches,
    )
