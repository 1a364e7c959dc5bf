"""Models of the real sizes with random weights: speed needs no trained ones.

An image can be entered in the middle: `Late` pretends that so many tokens are committed, whose keys and values are
zeros. So a window of steps anywhere in a long image costs what it costs there, without the steps before it.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor, nn

from vvsbench.decoding.engine import Engine
from vvsbench.drafting.cached import CachedState
from vvsbench.drafting.eagle import EagleHead, EagleSource
from vvsbench.models.guidance import Guidance
from vvsbench.models.llamagen import LlamaGen, LlamaGenState
from vvsbench.models.loading import empty_latent_network
from vvsbench.models.mar import MARNetwork
from vvsbench.models.settings import MARConfig
from vvsbench.models.transformer import Transformer, TransformerConfig

M = TypeVar("M", bound=nn.Module)

STD = 0.02
SHARPNESS = 32.0
"""The output layer's weights are so many times larger: laws are peaked, and dynamic trees as deep as real ones."""
CODE = 8


class Late(LlamaGen):
    """A LlamaGen of random weights and without a tokenizer, whose images are entered in the middle.

    Attributes:
        entered: image tokens that count as committed when an image starts.
    """

    def __init__(self, transformer: Transformer, guidance: Guidance, name: str) -> None:
        config = transformer.config
        super().__init__(transformer, None, guidance, None if config.condition == "label" else self._captions, name)
        self.whole, self.entered = self.spec, 0

    def window(self, tokens: int, entered: int = 0) -> None:
        """From now on images have so many tokens after so many that count as committed."""
        self.entered, self.spec = entered, replace(self.whole, tokens=tokens)

    def _captions(self, prompts: list[str]) -> tuple[Tensor, Tensor]:
        """Features [B, P, C] and mask [B, P] of captions that fill their room."""
        config = self.transformer.config
        features = torch.randn(len(prompts), config.prefix, config.caption_dim, device=self.device)
        return features, torch.ones(features.shape[:2], dtype=torch.bool, device=self.device)

    @property
    def codebook(self) -> Tensor:
        """See `TokenModel.codebook`."""
        return self.transformer.output.weight[:, :CODE].float()

    def start(self, conditions: Tensor, images: Sequence[int], room: int) -> LlamaGenState:
        """See `TokenModel.start`."""
        state = super().start(conditions, images, room)
        state.cache.lengths.add_(self.entered)
        state.cache.extent += self.entered
        return state

    def note(self, state: LlamaGenState, totals: Sequence[int], exact: bool = True) -> None:
        """See `TokenModel.note`."""
        super().note(state, [total + self.entered for total in totals], exact)

    def select(self, state: LlamaGenState, rows: list[int], totals: Sequence[int]) -> None:
        """See `TokenModel.select`."""
        super().select(state, rows, [total + self.entered for total in totals])

    def run_by(self, engine: Engine) -> Late:
        """The same target as an engine calls it."""
        twin = copy.copy(self)
        twin.transformer = engine.network(self.transformer)
        return twin


class LateEagle(EagleSource):
    """An EAGLE head of random weights that drafts for a `Late` target from where it is entered."""

    target: Late

    def start(self, target: LlamaGenState, tokens: Tensor, room: int, levels: int = 1) -> CachedState:
        """See `DraftSource.start`."""
        state = super().start(target, tokens, room, levels)
        state.cache.lengths.add_(self.target.entered)
        state.cache.extent += self.target.entered
        self.behind = self.sizes.prefix + self.reach + self.target.entered
        return state


def llamagen(
    config: TransformerConfig, guidance: Guidance, name: str, device: torch.device, dtype: torch.dtype
) -> tuple[Late, LateEagle]:
    """A target and an EAGLE head for it."""
    with torch.device("meta"):
        transformer, head = Transformer(config), EagleHead(config)
    target = Late(_filled(transformer, device, dtype), guidance, name)
    target.transformer.output.weight.data.mul_(SHARPNESS)
    return target, LateEagle(_filled(head, device, dtype), target)


def mar(model: MARConfig, device: torch.device, dtype: torch.dtype) -> MARNetwork:
    """A MAR network."""
    network = empty_latent_network(model)
    assert isinstance(network, MARNetwork)
    return _filled(network, device, dtype)


def _filled(module: M, device: torch.device, dtype: torch.dtype) -> M:
    """A module of the meta device with random matrices, weights of norms at 1 and biases at 0."""
    torch.manual_seed(0)
    module = module.to(dtype).to_empty(device=device).eval().requires_grad_(False)
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        if tensor.ndim > 1:
            nn.init.normal_(tensor, std=STD)
        else:
            tensor.fill_(1.0 if name.endswith("weight") else 0.0)
    return module
