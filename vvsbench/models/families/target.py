"""Any decoder of transformers with image tokens as a `TokenModel`: its layers, over this package's cache.

Their attention asks of a cache nothing but `update`, passes a mask of four dimensions through as it is and takes the
positions that it is given. So cache, compaction, trees and static shapes are those of every other target. The branches
of guidance may have prompts of different lengths: padding and positions belong to a sequence, not to a row.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from vvsbench.errors import UserError
from vvsbench.models.families.base import Family
from vvsbench.models.guidance import Guidance
from vvsbench.models.kv_cache import KVCache, additive
from vvsbench.models.protocols import Block, ModelSpec
from vvsbench.models.transformer import Step

NOTHING = -1
"""Stands for padding among the token ids of conditions."""


class PromptTooLong(UserError):
    """A caption has more tokens than the settings leave room for."""


class Slots:
    """What layers of transformers call a cache: `update` writes a block and returns what its queries read."""

    is_compileable = False

    def __init__(self, step: Step) -> None:
        self._step = step

    def update(self, keys: Tensor, values: Tensor, layer: int, *_: object, **__: object) -> tuple[Tensor, Tensor]:
        """Keys and values [S, H, W, hd] of a layer, the new ones [S, H, T, hd] among them."""
        step, entries = self._step, torch.stack([keys, values])
        if step.places is None:
            step.cache.write(layer, entries, step.start)
        else:
            step.cache.table(layer).index_copy_(0, step.places, entries.view(-1, entries.shape[-1]))
        return step.cache.read(layer, step.width, step.sequences)


class Backbone(nn.Module):
    """A decoder of transformers with this package's forward, which is what hooks count.

    Its norms and feed-forwards can be compiled as they are; attention stays operation by operation, since a compiler
    that is shown writes into the layers of the cache would copy it.
    """

    def __init__(self, text: nn.Module) -> None:
        super().__init__()
        self.text = text
        for module in text.modules():
            if re.search(r"(MLP|RMSNorm)$", type(module).__name__):
                module.fusible = ("forward",)  # type: ignore[assignment]

    def forward(self, x: Tensor, step: Step) -> Tensor:
        """Features [S, T, D] of embedded input [S, T, D] behind what the cache holds."""
        out = self.text(
            inputs_embeds=x,
            attention_mask=step.mask,
            position_ids=step.turns,
            past_key_values=Slots(step),
            use_cache=True,
        )
        return out.last_hidden_state


@dataclass
class TransformersState:
    """A batch of images being decoded (see `protocols.State`).

    Attributes:
        conditions: int64 [B, 2, P], token ids of both branches at the end of P places, `NOTHING` before them.
    """

    cache: KVCache
    images: list[int]
    conditions: Tensor
    first_logits: Tensor
    prefix_features: Tensor
    prefix: int

    @property
    def lengths(self) -> Tensor:
        """Committed image tokens per row, int64 [B]."""
        return self.cache.lengths - self.prefix


class Transformers:
    """A `TokenModel` over a family's model.

    Args:
        family: the model, with its weights.
        guidance: of the sampling setting.
        prefix: places for a prompt, P; shorter ones are padded on the left.
        processor: turns captions into token ids (see `Family.prompt`); None where prompts are token ids.
        name: as in conf/model.
    """

    def __init__(
        self, family: Family, guidance: Guidance, prefix: int, processor: Any = None, name: str = "transformers"
    ) -> None:
        self.family, self.guidance, self.prefix, self.processor = family, guidance, prefix, processor
        self.transformer = Backbone(family.text)
        weight = next(family.text.parameters())
        self.device, self.dtype = weight.device, weight.dtype
        self.spec = _spec(family, guidance.branches, prefix, name)

    @property
    def network(self) -> Backbone:
        """The module whose calls are counted."""
        return self.transformer

    @property
    def codebook(self) -> Tensor:
        """See `TokenModel.codebook`."""
        return self.family.codebook

    def conditions(self, prompts: Sequence[str] | Sequence[int] | Sequence[Sequence[int]]) -> Tensor:
        """Token ids int64 [B, 2, P] of captions, or of prompts that are token ids already.

        Raises:
            PromptTooLong: more than P of them.
        """
        rows = [self._branches(prompt) for prompt in prompts]
        out = torch.full((len(rows), 2, self.prefix), NOTHING)
        for row, branches in zip(out, rows, strict=True):
            for place, ids in zip(row, branches, strict=False):
                place[self.prefix - len(ids) :] = torch.as_tensor(ids)
        return out.to(self.device)

    def _branches(self, prompt: Any) -> list[Sequence[int]]:
        """The prompt and, under guidance, that of the null branch."""
        given = self.family.prompt(self.processor, prompt) if isinstance(prompt, str) else prompt
        ids = [int(token) for token in given]
        branches: list[Sequence[int]] = [ids]
        if self.guidance.branches == 2:
            branches.append(self.family.null(self.processor, ids))
        longest = max(map(len, branches))
        if longest > self.prefix:
            said = f"{prompt[:40]!r}... has" if isinstance(prompt, str) else "a prompt has"
            raise PromptTooLong(
                f"{said} {longest} tokens with the words around it, and model.prompt_tokens={self.prefix}; "
                f"set model.prompt_tokens={longest} or shorten it."
            )
        return branches

    def start(self, conditions: Tensor, images: Sequence[int], room: int) -> TransformersState:
        """Prefill (see `TokenModel.start`)."""
        family, prefix, branches = self.family, self.prefix, self.guidance.branches
        batch, text = len(images), family.text.config
        ids = conditions[:, :branches].flatten(0, 1)
        cache = KVCache(
            layers=text.num_hidden_layers,
            heads=text.num_key_value_heads,
            head_dim=head_dim(text),
            images=batch,
            branches=branches,
            capacity=prefix + family.tokens + room,
            device=self.device,
            dtype=self.dtype,
            room=room,
        )
        there = ids != NOTHING
        slots = torch.arange(prefix, device=self.device)
        visible = (slots[:, None] >= slots) & there[:, None]
        visible = visible | torch.eye(prefix, dtype=torch.bool, device=self.device)  # no row of attention is empty
        step = Step(
            cache=cache,
            turns=self._positions(slots.expand(batch * branches, -1), there),
            places=None,
            width=prefix,
            mask=additive(visible[:, None], self.dtype),
            sequences=None,
            images=list(images),
            prefill=True,
        )
        embedded = family.text.get_input_embeddings()(ids.clamp_min(0))
        features = self.transformer(embedded, step).unflatten(0, (batch, branches))
        cache.commit(None, torch.full_like(cache.lengths, prefix))
        cache.note([prefix] * batch)
        first = self.head(features[:, :, -1:], torch.zeros(1, 1, dtype=torch.long, device=self.device))[:, 0]
        return TransformersState(cache, list(images), conditions.clone(), first, features, prefix)

    def _positions(self, slots: Tensor, there: Tensor) -> Tensor:
        """What the decoder takes as positions for cache slots [S, T]; `there` [S, P] says which are no padding."""
        prompts = there.sum(1)
        return self.family.places((slots - (self.prefix - prompts)[:, None]).clamp_min(0), prompts)

    def forward(self, state: TransformersState, block: Block) -> tuple[Tensor, Tensor]:
        """See `TokenModel.forward`."""
        cache, branches, rows = state.cache, self.guidance.branches, block.rows
        lengths, conditions = cache.lengths, state.conditions[:, :branches]
        if rows is not None:
            lengths, conditions = lengths[rows], conditions[rows]
        there = conditions != NOTHING
        positions = lengths[:, None] + block.offsets
        length = block.tokens.shape[1]
        slots = lengths[:, None] + cache.columns[block.start : block.start + length]
        width = cache.width(block.start + length)
        own = torch.ones(1, 1, 1, dtype=torch.bool, device=self.device) if block.visible is None else block.visible
        images = block.charged
        if images is None:
            images = state.images if rows is None else [state.images[row] for row in rows.tolist()]
        step = Step(
            cache=cache,
            turns=self._positions(positions.repeat_interleave(branches, 0), there.flatten(0, 1)),
            places=cache.places(slots, rows),
            width=width,
            mask=cache.mask(lengths, own, there, width),
            sequences=None if rows is None else cache.sequences(rows),
            images=images,
            start=block.start,
        )
        x = self.family.embed(block.tokens).repeat_interleave(branches, 0)
        features = self.transformer(x, step).unflatten(0, (-1, branches))
        return self.head(features, positions - state.prefix + 1), features

    def commit(self, state: TransformersState, kept: Tensor | None, added: Tensor) -> None:
        """See `TokenModel.commit`."""
        state.cache.commit(kept, added)

    def note(self, state: TransformersState, totals: Sequence[int], exact: bool = True) -> None:
        """See `TokenModel.note`."""
        state.cache.note([total + state.prefix for total in totals], exact)

    def fix(self, state: TransformersState) -> None:
        """See `TokenModel.fix`."""
        state.cache.static, state.cache.uniform = True, False

    def shape(self, state: TransformersState) -> int:
        """See `TokenModel.shape`: the slots that attention reads."""
        return state.cache.width(0)

    def select(self, state: TransformersState, rows: list[int], totals: Sequence[int]) -> None:
        """See `TokenModel.select`."""
        index = torch.tensor(rows, device=self.device)
        state.cache.select(index, [total + state.prefix for total in totals])
        state.images, state.conditions = [state.images[row] for row in rows], state.conditions[index]

    def place(self, state: TransformersState, rows: list[int], fresh: TransformersState) -> None:
        """See `TokenModel.place`."""
        index = torch.tensor(rows, device=self.device)
        state.cache.place(index, fresh.cache)
        state.conditions.index_copy_(0, index, fresh.conditions)
        for row, image in zip(rows, fresh.images, strict=True):
            state.images[row] = image

    def head(self, features: Tensor, index: Tensor) -> Tensor:
        """See `TokenModel.head`; tokens that may not stand at a place have logit -inf there."""
        out = self.family.logits(features)
        guided = self.guidance.combine(out if out.dtype == torch.float64 else out.float(), index)
        allowed = self.family.allowed(index)
        return guided if allowed is None else guided.masked_fill(~allowed, float("-inf"))

    def to_images(self, tokens: Tensor) -> Tensor:
        """See `TokenModel.to_images`; cut to whole numbers, as transformers' processors do."""
        return ((self.family.pixels(tokens).float() + 1) * 127.5).clamp(0, 255).to(torch.uint8)


def head_dim(text: Any) -> int:
    """Width of a head, of a text configuration."""
    return getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads


def _spec(family: Family, branches: int, prefix: int, name: str) -> ModelSpec:
    text, size = family.text.config, next(family.text.parameters()).element_size()
    embeddings = family.text.get_input_embeddings().weight.numel()
    read = sum(parameter.numel() for parameter in family.text.layers.parameters()) + family.head_parameters
    heads = text.num_key_value_heads
    return ModelSpec(
        name=name,
        tokens=family.tokens,
        grid=family.stride,
        vocab=family.vocab,
        dim=text.hidden_size,
        prefix=prefix,
        branches=branches,
        parameters=read + embeddings,
        weight_bytes=read * size,
        cache_bytes_per_token=2 * text.num_hidden_layers * heads * head_dim(text) * size * branches,
        flops_per_token=2 * read * branches,
        forced=family.forced,
    )
