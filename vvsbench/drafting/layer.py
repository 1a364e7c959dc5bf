"""An EAGLE head for targets of transformers: one decoder layer of the target's own class, in the published layout.

A pair is the target's feature at a place and the word after it, prompt included; the layer's output stands in for the
next feature. Norms, rotations and grouped heads are whatever the target's layer has, so the drafters that LANTERN's
authors published for Anole and Lumina-mGPT load under their own names (jadohu/anole_drafter).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from vvsbench.drafting.cached import CachedSource, CachedState
from vvsbench.drafting.eagle import outputs_of
from vvsbench.models import checkpoints
from vvsbench.models.families.base import Listed
from vvsbench.models.families.target import NOTHING, Slots, Transformers, TransformersState, head_dim
from vvsbench.models.kv_cache import additive
from vvsbench.models.loading import shared
from vvsbench.models.transformer import Step


class LayerHead(nn.Module):
    """The drafter network.

    Args:
        text: the target's decoder, whose layer, sizes and rotations it has.
        bias: whether the projection of (word, feature) has a bias.
    """

    def __init__(self, text: Any, bias: bool = True) -> None:
        super().__init__()
        dim = text.config.hidden_size
        self.embed_tokens = nn.Embedding(text.config.vocab_size, dim)
        self.fc = nn.Linear(2 * dim, dim, bias=bias)
        self.layers = nn.ModuleList([type(text.layers[0])(text.config, 0)])
        self._rotations = [text.rotary_emb]  # in a list: it is the target's, and no part of this module

    def join(self, features: Tensor, words: Tensor) -> Tensor:
        """The layer's input [..., D] of features [..., D] and the words [...] that follow them."""
        return self.fc(torch.cat([self.embed_tokens(words), features.to(self.fc.weight.dtype)], -1))

    def forward(self, x: Tensor, step: Step) -> Tensor:
        """Predicted features [S, T, D] of joined pairs [S, T, D] over the cache."""
        out = self.layers[0](
            x,
            attention_mask=step.mask,
            position_ids=step.turns,
            past_key_values=Slots(step),
            use_cache=True,
            position_embeddings=self._rotations[0](x, position_ids=step.turns),
        )
        predicted: Tensor = out[0] if isinstance(out, tuple) else out
        return predicted


@dataclass(frozen=True)
class LayerSizes:
    """See `cached.Sizes`."""

    dim: int
    heads: int
    head_dim: int
    prefix: int
    tokens: int


class LayerSource(CachedSource[LayerSizes]):
    """A `LayerHead` as a `DraftSource`, guidance included.

    Args:
        head: in eval mode.
        target: of a family whose image tokens are words of the text vocabulary.
    """

    reach: ClassVar[int] = -1  # a pair is two neighbouring places

    def __init__(self, head: LayerHead, target: Transformers) -> None:
        text, spec = target.family.text.config, target.spec
        sizes = LayerSizes(text.hidden_size, text.num_key_value_heads, head_dim(text), spec.prefix, spec.tokens)
        super().__init__(head, sizes, spec.branches)
        assert isinstance(target.family, Listed)
        self.head, self.target, self.words = head, target, target.family.ids

    def start(self, target: TransformersState, tokens: Tensor, room: int, levels: int = 1) -> CachedState:
        """See `DraftSource.start`."""
        prefix, branches = self.sizes.prefix, self.branches
        prompt = target.conditions[:, :branches]
        there = prompt != NOTHING
        state = self._begin(list(target.images), 1, room, self.head.fc.weight, there[:, :, : prefix - 1])
        first = self.words[tokens][:, None, None].expand(-1, branches, -1)
        x = self.head.join(target.prefix_features, torch.cat([prompt[:, :, 1:].clamp_min(0), first], 2))
        self._run_known(state, x, torch.full_like(tokens, prefix), prefill=True)
        state.cache.note([prefix] * len(tokens))
        return state

    def _step(self, state: CachedState, offsets: Tensor, own: Tensor, start: int, prefill: bool = False) -> Step:
        """See `CachedSource._step`."""
        turns, slots, mask = self._placed(state, offsets, own, start, state.padding)
        if prefill and state.padding is not None:  # a padded place sees itself, so that no row of attention is empty
            there = nn.functional.pad(state.padding.flatten(0, 1), (0, 1), value=True)
            visible = (own & there[:, None]) | torch.eye(own.shape[1], dtype=torch.bool, device=own.device)
            mask = additive(visible[:, None], mask.dtype)
        return self._ready(state, turns, slots, mask, start, prefill)

    def _placed(
        self, state: CachedState, offsets: Tensor, own: Tensor, start: int, text: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """See `CachedSource._placed`; padding and positions belong to a sequence, as the target's do."""
        cache, length = state.cache, own.shape[1]
        assert text is not None
        positions = cache.lengths[:, None] + offsets
        turns = (positions[:, None] - (~text).sum(2, keepdim=True)).clamp_min(0).flatten(0, 1)
        slots = cache.lengths[:, None] + cache.columns[start : start + length]
        return turns, slots, cache.mask(cache.lengths, own, text, cache.width(start + length))

    def _turns(self, positions: Tensor) -> Tensor:
        return positions

    def _known_inputs(self, features: Tensor, tokens: Tensor) -> Tensor:
        return self.head.join(features, self.words[tokens][:, None].expand(-1, self.branches, -1))

    def _node_inputs(self, state: CachedState, tokens: Tensor, parents: Tensor) -> Tensor:
        return self._known_inputs(self.predicted(state, parents), tokens)

    def _head(self, state: CachedState, outputs: Tensor, index: Tensor) -> Tensor:
        return self.target.head(outputs, index)

    def predicted(self, state: CachedState, nodes: Tensor) -> Tensor:
        """See `DraftSource.predicted`."""
        return outputs_of(state.outputs, nodes)


def load_layer(checkpoint: str, target: Transformers, device: torch.device, dtype: torch.dtype) -> LayerHead:
    """The head of a published folder, or of one file.

    Raises:
        CheckpointError: a file is missing, unreadable or of another size.
    """
    text = target.family.text

    def load() -> LayerHead:
        path = checkpoints.locate(checkpoint)
        state = checkpoints.read(path)
        with torch.device("meta"):
            head = LayerHead(text, bias="fc.bias" in state)
        checkpoints.load_strict(head, state, str(path))
        return head

    return shared(checkpoint, repr(text.config), device, dtype, load)
