"""The EAGLE head (arXiv 2401.15077): one layer that predicts the target's next feature from (feature, next token).

Its output stands in for the target's feature both as its own next input and as the input of the target's output
layer. As in the published image drafters it has no input norm and no final norm, its rotary table is shifted by one
against the target's, and the tokens of the conditioning prefix are an ordinary code, id 0.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn

from vvsbench.models.kv_cache import KVCache
from vvsbench.models.llamagen import LlamaGen, LlamaGenState
from vvsbench.models.transformer import Attention, FeedForward, RMSNorm, Step, TransformerConfig, rope_table

PREFIX_TOKEN = 0


class EagleLayer(nn.Module):
    """Attention without an input norm, then a normalised gated MLP."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.attention = Attention(config.dim, config.heads)
        self.feed_forward = FeedForward(config.dim, config.ffn_width)
        self.ffn_norm = RMSNorm(config.dim, config.norm_eps)

    def forward(self, x: Tensor, step: Step) -> Tensor:
        x = x + self.attention(x, 0, step)
        return x + self.feed_forward(self.ffn_norm(x))

    def uncached(self, x: Tensor, turns: Tensor, mask: Tensor) -> Tensor:
        """The layer over a whole sequence, without a cache."""
        x = x + self.attention.uncached(x, turns, mask)
        return x + self.feed_forward(self.ffn_norm(x))


class EagleHead(nn.Module):
    """The drafter network.

    Args:
        config: sizes; `prefix` is the target's. One layer whatever `layers` says.
        bias: whether the projection of (token, feature) has a bias, as the published drafters do.
    """

    def __init__(self, config: TransformerConfig, bias: bool = True) -> None:
        super().__init__()
        self.config = config
        self.tok_embeddings = nn.Embedding(config.vocab, config.dim)
        self.fc = nn.Linear(2 * config.dim, config.dim, bias=bias)
        self.layers = nn.ModuleList([EagleLayer(config)])  # one, in a list for the published names
        self._turns: dict[tuple[torch.device, bool], Tensor] = {}

    @property
    def layer(self) -> EagleLayer:
        """The one layer."""
        return cast(EagleLayer, self.layers[0])

    def turns_at(self, positions: Tensor) -> Tensor:
        """Complex rotations of pair positions: pair p holds the target's feature at p and the token at p + 1."""
        double = self.fc.weight.dtype == torch.float64
        key = (positions.device, double)
        if key not in self._turns:
            table = rope_table(replace(self.config, prefix=self.config.prefix - 1)).to(positions.device)
            self._turns[key] = table if double else table.to(torch.complex64)
        return self._turns[key][positions.clamp_max(self.config.prefix - 1 + self.config.tokens)]

    def join(self, features: Tensor, tokens: Tensor) -> Tensor:
        """The layer's input [..., D] of features [..., D] and the tokens [...] that follow them."""
        return self.fc(torch.cat([self.tok_embeddings(tokens), features.to(self.fc.weight.dtype)], -1))

    def forward(self, x: Tensor, step: Step) -> Tensor:
        """Run joined pairs [R*G, T, D] over the cache; returns predicted features [R*G, T, D]."""
        return self.layer(x, step)

    def train_features(self, features: Tensor, tokens: Tensor, first: int | None = None) -> Tensor:
        """One uncached causal pass.

        Args:
            features: [B, T, D], the target's features of consecutive positions.
            tokens: int64 [B, T], the token after each of them.
            first: position of the first pair; by default that of image token 0.

        Returns:
            Predicted features [B, T, D] of the positions one further on.
        """
        length = tokens.shape[1]
        start = self.config.prefix - 1 if first is None else first
        turns = self.turns_at(torch.arange(start, start + length, device=tokens.device))
        mask = torch.ones(length, length, dtype=torch.bool, device=tokens.device).tril()
        return self.layer.uncached(self.join(features, tokens), turns, mask)


_TO_OWN = (
    (r"embed_tokens\.", "tok_embeddings."),
    (r"self_attn\.o_proj\.", "attention.wo."),
    (r"mlp\.gate_proj\.", "feed_forward.w1."),
    (r"mlp\.up_proj\.", "feed_forward.w3."),
    (r"mlp\.down_proj\.", "feed_forward.w2."),
    (r"post_attention_layernorm\.", "ffn_norm."),
)
_QKV = "layers.0.self_attn.{}_proj.weight"
_FUSED = "layers.0.attention.wqkv.weight"


def from_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A published drafter's state dict under the names of `EagleHead`; absent projections stay absent."""
    own = {}
    for key, value in state.items():
        for pattern, name in _TO_OWN:
            key = re.sub(pattern, name, key)
        own[key] = value
    parts = [own.pop(_QKV.format(name), None) for name in "qkv"]
    present = [part for part in parts if part is not None]
    if len(present) == 3:
        own[_FUSED] = torch.cat(present)
    return own


def to_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of an `EagleHead` under the published names."""
    names = {"tok_embeddings.": "embed_tokens.", "attention.wo.": "self_attn.o_proj."}
    names |= {"feed_forward.w1.": "mlp.gate_proj.", "feed_forward.w3.": "mlp.up_proj."}
    names |= {"feed_forward.w2.": "mlp.down_proj.", "ffn_norm.": "post_attention_layernorm."}
    published: dict[str, Tensor] = {}
    for key, value in state.items():
        if key == _FUSED:
            published |= {_QKV.format(name): part for name, part in zip("qkv", value.chunk(3), strict=True)}
            continue
        for own, name in names.items():
            key = key.replace(own, name)
        published[key] = value
    return published


@dataclass
class EagleState:
    """The drafter's memory of a batch.

    Attributes:
        cache: pairs whose token is known; a tree's pairs lie behind them until the next `extend`.
        outputs: [B, G, 1 + S, D] predicted features of the root and of the nodes expanded so far.
        ancestors: bool [B, S, S], which expanded nodes each expanded node sees.
        level: depth of the next nodes to be expanded.
    """

    cache: KVCache
    images: list[int]
    outputs: Tensor
    ancestors: Tensor
    level: int = 0


class EagleSource:
    """An `EagleHead` as a `DraftSource` for a LlamaGen target, guidance included.

    Both branches draft with their own features and share the tokens; their logits are combined as the target's are.
    """

    def __init__(self, head: EagleHead, target: LlamaGen) -> None:
        self.network, self.target = head, target
        self.prefix, self.branches = head.config.prefix, target.guidance.branches

    def start(self, target: LlamaGenState, tokens: Tensor, room: int) -> EagleState:
        """See `DraftSource.start`."""
        batch, config = len(tokens), self.network.config
        cache = KVCache(
            layers=1,
            heads=config.heads,
            head_dim=config.dim // config.heads,
            images=batch,
            branches=self.branches,
            capacity=config.prefix + config.tokens + room,
            device=tokens.device,
            dtype=self.network.fc.weight.dtype,
        )
        features = target.prefix_features
        state = EagleState(cache, target.images, features[:, :, :1], tokens.new_zeros(batch, 0, 0, dtype=torch.bool))
        dummies = tokens.new_full((batch, self.prefix - 1), PREFIX_TOKEN)
        added = torch.full_like(tokens, self.prefix)
        self._run_known(state, features, torch.cat([dummies, tokens[:, None]], 1), added, [self.prefix] * batch, True)
        return state

    def extend(self, state: EagleState, features: Tensor, tokens: Tensor, added: Tensor, totals: Sequence[int]) -> None:
        """See `DraftSource.extend`."""
        self._run_known(state, features, tokens, added, [total + self.prefix - 1 for total in totals], False)

    def rewind(self, state: EagleState, removed: Tensor, totals: Sequence[int]) -> None:
        """See `DraftSource.rewind`."""
        state.cache.commit(None, -removed, [total + self.prefix - 1 for total in totals])

    def _run_known(
        self, state: EagleState, features: Tensor, tokens: Tensor, added: Tensor, totals: Sequence[int], prefill: bool
    ) -> None:
        cache, length = state.cache, tokens.shape[1]
        own = torch.ones(length, length, dtype=torch.bool, device=tokens.device).tril()[None]
        x = self.network.join(features, tokens[:, None].expand(-1, self.branches, -1))
        step = self._step(state, torch.arange(length, device=tokens.device)[None], own, 0, prefill)
        out = self.network(x.flatten(0, 1), step).unflatten(0, (-1, self.branches))
        cache.commit(None, added, totals)
        last = (added - 1)[:, None, None, None].expand(-1, self.branches, 1, out.shape[-1])
        state.outputs = out.gather(2, last)
        state.ancestors = own.new_zeros(len(tokens), 0, 0)
        state.level = 0

    def _step(self, state: EagleState, offsets: Tensor, own: Tensor, start: int, prefill: bool = False) -> Step:
        """A forward of pairs that stand `offsets` [1, T] behind the known ones and see `own` [B or 1, T, start + T]."""
        cache, length = state.cache, own.shape[1]
        lengths = cache.lengths
        slots = lengths[:, None] + start + torch.arange(length, device=lengths.device)
        width = cache.extent + start + length
        columns = torch.arange(width, device=lengths.device)
        mask = (columns < lengths[:, None])[:, None].repeat(1, length, 1)
        block = lengths[:, None] + torch.arange(start + length, device=lengths.device)
        mask.scatter_(2, block[:, None].expand(-1, length, -1), own.expand(len(lengths), -1, -1))
        return Step(
            cache=cache,
            turns=self.network.turns_at(lengths[:, None] + offsets).repeat_interleave(self.branches, 0),
            slots=slots.repeat_interleave(self.branches, 0),
            width=width,
            mask=mask.repeat_interleave(self.branches, 0)[:, None],
            sequences=None,
            images=state.images,
            prefill=prefill,
            start=start,
        )

    def root_logits(self, state: EagleState) -> Tensor:
        """See `DraftSource.root_logits`."""
        return self.target.head(state.outputs[:, :, :1], self._predicted(state))

    def _predicted(self, state: EagleState) -> Tensor:
        """Index [B, 1] of the image token that the next level's logits are for."""
        return (state.cache.lengths - self.prefix + 1 + state.level)[:, None]

    def expand(self, state: EagleState, tokens: Tensor, parents: Tensor) -> Tensor:
        """See `DraftSource.expand`."""
        batch, width = tokens.shape
        expanded = state.ancestors.shape[1]
        x = self.network.join(self.predicted(state, parents), tokens[:, None].expand(-1, self.branches, -1))
        above = nn.functional.pad(state.ancestors, (0, 0, 1, 0)).gather(
            1, (parents + 1)[..., None].expand(-1, -1, expanded)
        )
        myself = torch.eye(width, dtype=torch.bool, device=tokens.device).expand(batch, -1, -1)
        own = torch.cat([above, myself], 2)
        offsets = torch.full((1, width), state.level, device=tokens.device)
        out = self.network(x.flatten(0, 1), self._step(state, offsets, own, expanded)).unflatten(0, (-1, self.branches))
        state.ancestors = torch.cat([nn.functional.pad(state.ancestors, (0, width)), own], 1)
        state.outputs = torch.cat([state.outputs, out], 2)
        state.level += 1
        return self.target.head(out, self._predicted(state))

    def predicted(self, state: EagleState, nodes: Tensor) -> Tensor:
        """See `DraftSource.predicted`."""
        index = (nodes + 1)[:, None, :, None].expand(-1, self.branches, -1, state.outputs.shape[-1])
        return state.outputs.gather(2, index)

    def select(self, state: EagleState, rows: list[int], totals: Sequence[int]) -> None:
        """See `DraftSource.select`."""
        index = torch.tensor(rows, device=state.outputs.device)
        state.cache.select(index, [total + self.prefix - 1 for total in totals])
        state.images = [state.images[row] for row in rows]
        state.outputs, state.ancestors = state.outputs[index], state.ancestors[index]
