"""The settings of draft sources: which model drafts, of what size, from which file.

Like all settings they are read before torch is, so the model itself is imported by `build`. Another package adds a
source by deriving a dataclass from `DrafterConfig` (entry point vvsbench.drafters).
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar

from omegaconf import MISSING

from vvsbench.axes import Tokens
from vvsbench.models.settings import LatentConfig, LlamaGenConfig, ModelConfig, TransformersConfig

if TYPE_CHECKING:
    import torch

    from vvsbench.drafting.protocols import DraftSource
    from vvsbench.models.protocols import TokenModel


class Pads(StrEnum):
    """What a padded caption position of the target sees, which its image tokens do not feel but a feature drafter does.

    isolated: itself (LlamaGen's own code). spread: the padding up to itself and the whole caption behind it, all alike
    (the Hugging Face conversions, in whose mask "future" and "padding" weigh the same).
    """

    isolated = "isolated"
    spread = "spread"


@dataclass
class DrafterConfig:
    """Base of every draft source's settings.

    Attributes:
        name: as in conf/drafter.
    """

    tokens: ClassVar[Tokens]
    """What it drafts."""

    name: str = MISSING

    def problems(self, model: ModelConfig) -> list[str]:
        """What is wrong with the settings, or why they do not fit the target; each line begins with the field.

        Args:
            model: a target of the same kind of tokens.
        """
        return []

    @property
    def label(self) -> list[str]:
        """What tells this source apart in tables and plots; nothing for the usual one."""
        return []


@dataclass
class TokenDrafterConfig(DrafterConfig):
    """Base of the sources of discrete tokens.

    Attributes:
        hit_rates: how often the target draws the drafter's candidate of each rank, best first; a static tree is fitted
            to them (python -m vvsbench.decoding.fitting measures them). One list, or one for each run (see
            `vvsbench.drafting.rates`), the last of which serves for all longer ones.
        sharpness: how far a candidate's log q + G, times this, tells the chance that the target draws it under the same
            noise; measured beside the hit rates, and like them one number or one for each depth.
    """

    tokens: ClassVar[Tokens] = Tokens.discrete
    retains: ClassVar[bool] = False
    """Whether the source can keep drafts of the step before, for candidates=retained."""

    hit_rates: list[Any] = field(default_factory=list)
    sharpness: Any = 1.0

    def sharpnesses(self, levels: int) -> list[float]:
        """The sharpness at each depth of a tree."""
        given = self.sharpness if isinstance(self.sharpness, list) else [self.sharpness]
        return [float(given[min(level, len(given) - 1)]) for level in range(levels)]

    def sharpness_problems(self) -> list[str]:
        """What is wrong with it, one line each."""
        given = self.sharpness if isinstance(self.sharpness, list) else [self.sharpness]
        if given and all(isinstance(value, int | float) and value > 0 for value in given):
            return []
        return [
            f"sharpness={self.sharpness} must be a number above 0, or a list with one for each depth, as in [0.9,1.4]"
        ]

    @abstractmethod
    def build(self, target: TokenModel[Any], device: torch.device, dtype: torch.dtype) -> DraftSource[Any]:
        """The source for a loaded target.

        Args:
            target: whose tokens are drafted; it lends its guidance and whatever else the source shares.
            device, dtype: of the source's own weights.

        Raises:
            CheckpointError: a file is missing, unreadable or of another size.
        """


def _misfits(drafter: EagleConfig | SmallARConfig, model: ModelConfig, sizes: tuple[str, ...]) -> list[str]:
    """Why a drafter of LlamaGen's make does not fit the target: another make, or the sizes that contradict it."""
    if not isinstance(model, LlamaGenConfig):
        return [f"name={drafter.name} drafts for LlamaGen, and model={model.name} is none: take another drafter"]
    return [
        f"{key}={getattr(drafter, key)} does not fit the target's model.{key}={getattr(model, key)}: this drafter "
        f"({drafter.checkpoint}) was made for another model than {model.name}"
        for key in sizes
        if getattr(drafter, key) != getattr(model, key)
    ]


@dataclass
class EagleConfig(TokenDrafterConfig):
    """An EAGLE head: one layer over the target's features, trained for one target.

    Attributes:
        checkpoint: a file of this package's own training, or a published folder with its config.json.
        ffn: width of the MLP; 0 for LlamaGen's rule.
        grid: side of the token grid, which places the head's rotary table.
        pads: how the target's padded caption positions attended when the head was trained.
    """

    name: str = "eagle"
    checkpoint: str = MISSING
    dim: int = MISSING
    heads: int = MISSING
    vocab: int = 16384
    ffn: int = 0
    grid: int = MISSING
    norm_eps: float = 1e-6
    pads: Pads = Pads.isolated

    def build(self, target: TokenModel[Any], device: torch.device, dtype: torch.dtype) -> DraftSource[Any]:
        """See `TokenDrafterConfig.build`; the target prefills its padding from now on as the head expects it."""
        from vvsbench.drafting.eagle import EagleSource, load_head
        from vvsbench.models.llamagen import LlamaGen

        assert isinstance(target, LlamaGen)  # `problems` lets no other pass
        head = load_head(self, target.transformer.config, device, dtype)
        target.spread_pads = self.pads is Pads.spread
        return EagleSource(head, target)

    def problems(self, model: ModelConfig) -> list[str]:
        """See `DrafterConfig.problems`."""
        return _misfits(self, model, ("dim", "vocab", "grid"))


@dataclass
class SmallARConfig(TokenDrafterConfig):
    """A smaller transformer over the same tokens, with a cache and guidance of its own.

    Attributes:
        checkpoint: in any layout that a target may have; it must have been trained on the target's tokenizer.
        ffn: width of the MLP; 0 for LlamaGen's rule.
        grid: side of the token grid, which must be the target's.
        norm_eps: of its norms.
    """

    name: str = "ar"
    checkpoint: str = MISSING
    dim: int = MISSING
    layers: int = MISSING
    heads: int = MISSING
    vocab: int = 16384
    ffn: int = 0
    grid: int = MISSING
    norm_eps: float = 1e-5

    def build(self, target: TokenModel[Any], device: torch.device, dtype: torch.dtype) -> DraftSource[Any]:
        """See `TokenDrafterConfig.build`."""
        from vvsbench.drafting.ar import SmallARSource, load_small
        from vvsbench.models.llamagen import LlamaGen

        assert isinstance(target, LlamaGen)  # `problems` lets no other pass
        return SmallARSource(load_small(self, target.transformer.config, device, dtype), target)

    def problems(self, model: ModelConfig) -> list[str]:
        """See `DrafterConfig.problems`."""
        return _misfits(self, model, ("vocab", "grid"))

    @property
    def label(self) -> list[str]:
        """See `DrafterConfig.label`."""
        return ["small AR"]


@dataclass
class OracleConfig(TokenDrafterConfig):
    """The target itself with noise on its logits: how good must a drafter be?

    It costs what the target costs, so it is for counting tokens, never for timing.

    Attributes:
        noise: standard deviation of what is added to the guided logits; at 0 every draft is the target's own.
        seed: of that noise.
    """

    name: str = "oracle"
    noise: float = 1.0
    seed: int = 0

    def build(self, target: TokenModel[Any], device: torch.device, dtype: torch.dtype) -> DraftSource[Any]:
        """See `TokenDrafterConfig.build`."""
        from vvsbench.drafting.oracle import OracleSource

        return OracleSource(target, self.noise, self.seed)

    def problems(self, model: ModelConfig) -> list[str]:
        """See `DrafterConfig.problems`."""
        found = [f"{key}={getattr(self, key)} must be 0 or more" for key in ("noise", "seed") if getattr(self, key) < 0]
        return [*found, *([f"seed={self.seed} must be below 2**63"] if self.seed >= 2**63 else [])]

    @property
    def label(self) -> list[str]:
        """See `DrafterConfig.label`."""
        return [f"oracle n={self.noise:g}"]


@dataclass
class JacobiConfig(TokenDrafterConfig):
    """The target's own logits of earlier rounds: no network, no training, no forward."""

    retains: ClassVar[bool] = True

    name: str = "jacobi"

    def build(self, target: TokenModel[Any], device: torch.device, dtype: torch.dtype) -> DraftSource[Any]:
        """See `TokenDrafterConfig.build`."""
        from vvsbench.drafting.jacobi import JacobiSource

        return JacobiSource(target)

    @property
    def label(self) -> list[str]:
        """See `DrafterConfig.label`."""
        return ["no drafter"]


@dataclass
class LayerConfig(TokenDrafterConfig):
    """An EAGLE head for a target of transformers: one decoder layer like the target's, in the published layout.

    Attributes:
        checkpoint: a published folder, or its file of weights.
    """

    name: str = "layer"
    checkpoint: str = MISSING

    def build(self, target: TokenModel[Any], device: torch.device, dtype: torch.dtype) -> DraftSource[Any]:
        """See `TokenDrafterConfig.build`."""
        from vvsbench.drafting.layer import LayerSource, load_layer
        from vvsbench.models.families.target import Transformers

        assert isinstance(target, Transformers)  # `problems` lets no other pass
        return LayerSource(load_layer(self.checkpoint, target, device, dtype), target)

    def problems(self, model: ModelConfig) -> list[str]:
        """See `DrafterConfig.problems`."""
        if isinstance(model, TransformersConfig):
            return []
        return [f"name={self.name} drafts for targets of transformers, and model={model.name} is none"]


@dataclass
class LatentDrafterConfig(DrafterConfig):
    """A smaller continuous model that drafts for a larger one over the same latents.

    Attributes:
        model: which one; its tokenizer is the target's and is not loaded.
    """

    tokens: ClassVar[Tokens] = Tokens.continuous

    name: str = "latent"
    model: ModelConfig = MISSING

    def problems(self, model: ModelConfig) -> list[str]:
        """See `DrafterConfig.problems`."""
        if not (isinstance(model, LatentConfig) and isinstance(self.model, LatentConfig)):
            return [f"model.name={self.model.name} has {self.model.tokens} tokens, the target {model.tokens} ones"]
        own, wanted = (vars(one) | {"tokenizer.scale": one.tokenizer.scale} for one in (self.model, model))
        return [
            f"model.{key}={own[key]} does not fit the target's model.{key}={wanted[key]}: {self.model.name} does not "
            f"draw the tokens of {model.name}"
            for key in ("grid", "channels", "classes", "tokenizer.scale")
            if own[key] != wanted[key]
        ]


DRAFTERS: tuple[type[DrafterConfig], ...] = (
    EagleConfig,
    SmallARConfig,
    OracleConfig,
    JacobiConfig,
    LayerConfig,
    LatentDrafterConfig,
)
"""The package's own sources; the schema has a node for each, under its own name."""
