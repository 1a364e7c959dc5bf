"""A small autoregressive model as draft source: another transformer over the same tokens, say LlamaGen-B for XL.

It reads the conditions that the target was started with, guides itself with the target's own scale, and needs nothing
else of the target: what it is told of the target's features it ignores, and so a skipped step does not disturb it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, cast

import torch
from torch import Tensor, nn

from vvsbench.drafting.cached import CachedSource, CachedState
from vvsbench.models import checkpoints
from vvsbench.models.llamagen import LlamaGen, LlamaGenState, split_caption
from vvsbench.models.llamagen_layouts import to_official
from vvsbench.models.loading import shared
from vvsbench.models.stages import Engine
from vvsbench.models.transformer import Transformer, TransformerConfig

if TYPE_CHECKING:
    from vvsbench.drafting.sources import SmallARConfig


class SmallARSource(CachedSource[TransformerConfig]):
    """A transformer as a `DraftSource` for a LlamaGen target.

    Args:
        transformer: over the target's tokens and conditions, of any size, in eval mode.
        target: lends its guidance.
        network: the module whose calls are counted where that is not `transformer` itself.
    """

    reach: ClassVar[int] = 0

    def __init__(self, transformer: Transformer, target: LlamaGen, network: nn.Module | None = None) -> None:
        super().__init__(network or transformer, transformer.config, target.guidance.branches)
        self.transformer, self.guidance, self.target_dim = transformer, target.guidance, target.spec.dim

    def run_by(self, engine: Engine) -> None:
        """See `CachedSource.run_by`."""
        self.transformer = self.network = engine.network(self.transformer)

    def start(self, target: LlamaGenState, tokens: Tensor, room: int, levels: int = 1) -> CachedState:
        """See `DraftSource.start`; the prefix and the first tokens are one forward."""
        embedder, sizes = self.transformer.cls_embedding, self.sizes
        labelled = sizes.condition == "label"
        captions, padding = (target.conditions, None) if labelled else split_caption(target.conditions)
        both = torch.stack([captions, embedder.null(captions)][: self.branches], 1)
        if not labelled:
            both = both.to(self.transformer.output.weight.dtype)
        prefix = cast(Tensor, embedder(both.flatten(0, 1))).unflatten(0, (-1, self.branches))
        x = torch.cat([prefix, self._embedded(tokens[:, None])], 2)
        state = self._begin(list(target.images), sizes.layers, room, x, padding)
        known = sizes.prefix + 1
        self._run_known(state, x, torch.full_like(tokens, known), prefill=True)
        state.cache.note([known] * len(tokens))
        return state

    def _embedded(self, tokens: Tensor) -> Tensor:
        """[B, G, M, D] of tokens [B, M]."""
        return self.transformer.tok_embeddings(tokens)[:, None].expand(-1, self.branches, -1, -1)

    def _turns(self, positions: Tensor) -> Tensor:
        return self.transformer.turns_at(positions)

    def _known_inputs(self, features: Tensor, tokens: Tensor) -> Tensor:
        return self._embedded(tokens)

    def _node_inputs(self, state: CachedState, tokens: Tensor, parents: Tensor) -> Tensor:
        return self._embedded(tokens)

    def _head(self, state: CachedState, outputs: Tensor, index: Tensor) -> Tensor:
        return self.guidance.combine(self.transformer.logits(outputs), index)

    def predicted(self, state: CachedState, nodes: Tensor) -> Tensor:
        """Zeros [B, G, M, D] as wide as the target's features: this source predicts none, and reads none either."""
        return state.outputs.new_zeros(len(nodes), self.branches, nodes.shape[1], self.target_dim)


def load_small(
    config: SmallARConfig, target: TransformerConfig, device: torch.device, dtype: torch.dtype
) -> Transformer:
    """The transformer of the settings with its weights; prefix and conditions are the target's.

    Raises:
        CheckpointError: a file is missing, unreadable or of another size.
    """
    own: dict[str, Any] = {key: getattr(config, key) for key in ("dim", "layers", "heads", "vocab", "grid", "ffn")}
    sizes = replace(target, norm_eps=config.norm_eps, **own)

    def load() -> Transformer:
        path = checkpoints.locate(config.checkpoint)
        with torch.device("meta"):
            network = Transformer(sizes)
        checkpoints.load_strict(network, to_official(checkpoints.read(path), str(path)), str(path))
        return network

    return shared(config.checkpoint, repr(sizes), device, dtype, load)
