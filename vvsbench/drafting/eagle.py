"""The EAGLE head (arXiv 2401.15077): one layer that predicts the target's next feature from (feature, next token).

Its output stands in for the target's feature both as its own next input and as the input of the target's output
layer. As in the published image drafters it has no input norm and no final norm, its rotary table is shifted by one
against the target's, and the tokens of the conditioning prefix are an ordinary code, id 0.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, cast

import torch
from torch import Tensor, nn

from vvsbench.drafting.cached import CachedSource, CachedState
from vvsbench.fusing import fusible
from vvsbench.models import checkpoints
from vvsbench.models.llamagen import LlamaGen, LlamaGenState
from vvsbench.models.loading import shared
from vvsbench.models.stages import Engine
from vvsbench.models.transformer import Step, TransformerBlock, TransformerConfig, rope_table

if TYPE_CHECKING:
    from vvsbench.drafting.sources import EagleConfig

PREFIX_TOKEN = 0


class EagleLayer(TransformerBlock):
    """The target's block without the norm at its input."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__(config)
        self.attention_norm = nn.Identity()


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
        """Rotations [..., hd/2, 2] of pair positions: pair p holds the target's feature at p and the token at p + 1."""
        double = self.fc.weight.dtype == torch.float64
        key = (positions.device, double)
        if key not in self._turns:
            table = rope_table(replace(self.config, prefix=self.config.prefix - 1)).to(positions.device)
            self._turns[key] = table if double else table.float()
        return self._turns[key][positions.clamp_max(self.config.prefix - 1 + self.config.tokens)]

    def join(self, features: Tensor, tokens: Tensor) -> Tensor:
        """The layer's input [..., D] of features [..., D] and the tokens [...] that follow them."""
        return self.fc(_pairs(self.tok_embeddings.weight, tokens, features))

    def forward(self, x: Tensor, step: Step) -> Tensor:
        """Run joined pairs [R*G, T, D] over the cache; returns predicted features [R*G, T, D]."""
        return self.layer(x, 0, step)

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


@fusible
def _pairs(table: Tensor, tokens: Tensor, features: Tensor) -> Tensor:
    """Embeddings of tokens [...] and the features [..., D] before them, [..., 2 D]."""
    return torch.cat([nn.functional.embedding(tokens, table), features.to(table.dtype)], -1)


@fusible
def outputs_of(outputs: Tensor, nodes: Tensor) -> Tensor:
    """The head's outputs [B, G, K, D] at nodes [B, K] of a tree, -1 being the root, from [B, G, 1 + S, D]."""
    index = (nodes + 1)[:, None, :, None].expand(-1, outputs.shape[1], -1, outputs.shape[3])
    return outputs.gather(2, index)


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


class EagleSource(CachedSource[TransformerConfig]):
    """An `EagleHead` as a `DraftSource` for a LlamaGen target, guidance included.

    Both branches draft with their own features and share the tokens; their logits are combined as the target's are.
    """

    reach: ClassVar[int] = -1  # a pair is two neighbouring positions

    def __init__(self, head: EagleHead, target: LlamaGen) -> None:
        super().__init__(head, head.config, target.guidance.branches)
        self.head, self.target = head, target

    def run_by(self, engine: Engine) -> None:
        """See `CachedSource.run_by`."""
        self.head = self.network = engine.network(self.head)

    def start(self, target: LlamaGenState, tokens: Tensor, room: int, levels: int = 1) -> CachedState:
        """See `DraftSource.start`."""
        prefix = self.sizes.prefix
        state = self._begin(list(target.images), 1, room, self.head.fc.weight, None)
        dummies = tokens.new_full((len(tokens), prefix - 1), PREFIX_TOKEN)
        x = self._known_inputs(target.prefix_features, torch.cat([dummies, tokens[:, None]], 1))
        self._run_known(state, x, torch.full_like(tokens, prefix), prefill=True)
        state.cache.note([prefix] * len(tokens))
        return state

    def _turns(self, positions: Tensor) -> Tensor:
        return self.head.turns_at(positions)

    def _known_inputs(self, features: Tensor, tokens: Tensor) -> Tensor:
        return self.head.join(features, tokens[:, None].expand(-1, self.branches, -1))

    def _node_inputs(self, state: CachedState, tokens: Tensor, parents: Tensor) -> Tensor:
        return self._known_inputs(self.predicted(state, parents), tokens)

    def _head(self, state: CachedState, outputs: Tensor, index: Tensor) -> Tensor:
        return self.target.head(outputs, index)

    def predicted(self, state: CachedState, nodes: Tensor) -> Tensor:
        """See `DraftSource.predicted`."""
        return outputs_of(state.outputs, nodes)


def load_head(config: EagleConfig, target: TransformerConfig, device: torch.device, dtype: torch.dtype) -> EagleHead:
    """The head of the settings with its weights; its prefix is the target's, its bias whatever the file has.

    Raises:
        CheckpointError: a file is missing, unreadable or of another size.
    """
    own: dict[str, Any] = {key: getattr(config, key) for key in ("dim", "heads", "vocab", "grid", "ffn", "norm_eps")}
    sizes = replace(target, **own)

    def load() -> EagleHead:
        path = checkpoints.locate(config.checkpoint)
        state = from_published(checkpoints.read(path))
        with torch.device("meta"):
            head = EagleHead(sizes, bias="fc.bias" in state)
        checkpoints.load_strict(head, state, str(path))
        return head

    return shared(config.checkpoint, repr(sizes), device, dtype, load)
