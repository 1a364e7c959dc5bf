"""The settings of targets: which network, of what size, from which files.

Like all settings they are read before torch is, so the module imports none. A class here says everything that is to be
known of a kind of target before it is loaded: what its tokens are, what its sampling may be, and which of its sizes
the tensors of a checkpoint tell.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from math import isqrt
from typing import TYPE_CHECKING, ClassVar

from omegaconf import MISSING

from vvsbench.axes import GuidanceSchedule, Order, Tokens, Weights

if TYPE_CHECKING:
    from vvsbench.config import SamplingConfig

Shapes = Mapping[str, tuple[int, ...]]
"""Tensor names of a checkpoint to their shapes."""

HEAD_STEPS = (2, 1000)
"""Fewest and most steps of a diffusion head's chain: it needs a first and a last, and was trained with 1000."""


class Condition(StrEnum):
    """What an image is generated from."""

    label = "label"
    caption = "caption"


@dataclass
class ModelConfig:
    """Base of every target's settings: what a run needs of a model, whatever its tokens are.

    Attributes:
        name: as in conf/model.
        condition: what an image is generated from.
        grid: side of the token grid.
        classes: class ids.
        class_names: the data set that class ids get captions from: "shapes" for the tiny zoo, "scenes" for the other.
        checkpoint: weights file of the network.
    """

    tokens: ClassVar[Tokens]
    decoders: ClassVar[tuple[str, ...]]
    """Decoders that draw from such a target, those without a drafter first."""
    undrafted: ClassVar[tuple[str, ...]]
    """Those of them that need no drafter."""

    name: str = MISSING
    condition: Condition = Condition.label
    grid: int = MISSING
    classes: int = 1000
    class_names: str | None = None
    checkpoint: str = MISSING

    @property
    def sizes(self) -> dict[str, int]:
        """The settings that a checkpoint has to agree with."""
        return {"grid": self.grid, "classes": self.classes}

    def told_by(self, shapes: Shapes) -> dict[str, int]:
        """The sizes that show in the tensors of a checkpoint; nothing of tensors that are not there."""
        return {}

    def problems(self, sampling: SamplingConfig) -> list[str]:
        """What is wrong with the settings, or with this sampling of it; each line begins with the whole key."""
        return []


@dataclass
class VQTokenizerConfig:
    """A VQ tokenizer: images to tokens of a codebook and back."""

    checkpoint: str = MISSING
    codebook_size: int = 16384
    codebook_dim: int = 8
    z_channels: int = 256
    base_channels: int = 128
    channel_multipliers: list[int] = field(default_factory=lambda: [1, 1, 2, 2, 4])
    residual_blocks: int = 2
    patch: int = 1

    def told_by(self, shapes: Shapes) -> dict[str, int]:
        """See `ModelConfig.told_by`."""
        return _named(shapes, {"quantize.embedding.weight": ("codebook_size", "codebook_dim")})


@dataclass
class DiscreteConfig(ModelConfig):
    """Base of the targets that choose tokens out of a vocabulary.

    Attributes:
        vocab: image tokens to choose from.
    """

    tokens: ClassVar[Tokens] = Tokens.discrete
    decoders: ClassVar[tuple[str, ...]] = ("ar", "jacobi", "sd", "vvs")
    undrafted: ClassVar[tuple[str, ...]] = ("ar", "jacobi")

    vocab: int = MISSING

    def problems(self, sampling: SamplingConfig) -> list[str]:
        """See `ModelConfig.problems`."""
        found = []
        if not 0 <= sampling.top_k <= self.vocab:
            found.append(f"sampling.top_k={sampling.top_k} must lie in [0, {self.vocab}], the vocabulary; 0 keeps all.")
        if sampling.guidance_schedule != GuidanceSchedule.constant:
            found.append(
                f"sampling.guidance_schedule={sampling.guidance_schedule} is for targets of continuous tokens; "
                f"model={self.name} is guided alike at every token: sampling.guidance_schedule=constant."
            )
        return found


@dataclass
class LlamaGenConfig(DiscreteConfig):
    """A LlamaGen transformer over the tokens of a VQ tokenizer.

    Attributes:
        ffn: width of the MLP; 0 for LlamaGen's rule.
        text_encoder: folder of a T5 encoder, or its name on the Hugging Face hub.
    """

    dim: int = MISSING
    layers: int = MISSING
    heads: int = MISSING
    vocab: int = 16384
    ffn: int = 0
    caption_tokens: int = 120
    caption_dim: int = 2048
    text_encoder: str | None = None
    tokenizer: VQTokenizerConfig = field(default_factory=VQTokenizerConfig)

    @property
    def sizes(self) -> dict[str, int]:
        """See `ModelConfig.sizes`; a target of captions has no classes."""
        names = ("vocab", "dim", "layers", "heads", "grid", *(["classes"] if self.condition == Condition.label else []))
        return {name: getattr(self, name) for name in names}

    def told_by(self, shapes: Shapes) -> dict[str, int]:
        """See `ModelConfig.told_by`."""
        return llamagen_sizes(shapes)

    def problems(self, sampling: SamplingConfig) -> list[str]:
        """See `ModelConfig.problems`."""
        found = super().problems(sampling)
        if self.tokenizer.codebook_size != self.vocab:
            found.append(
                f"model.tokenizer.codebook_size={self.tokenizer.codebook_size} is not model.vocab={self.vocab}: "
                "every token needs its code."
            )
        return found


def llamagen_sizes(shapes: Shapes) -> dict[str, int]:
    """Sizes of a LlamaGen transformer, or of a drafter made like one, in any of its published layouts."""
    table = ("vocab", "dim")
    sizes = _named(
        shapes,
        {"tok_embeddings.weight": table, "model.embed_tokens.weight": table, "embed_tokens.weight": table},
    )
    if layers := _numbered(shapes, "layers."):
        sizes["layers"] = layers
    for name in ("cls_embedding.embedding_table.weight", "model.cls_embedding.embedding_table.weight"):
        if name in shapes:
            sizes["classes"] = shapes[name][0] - 1
    return sizes


@dataclass
class KLTokenizerConfig:
    """A KL autoencoder: images to continuous tokens and back.

    Attributes:
        embed_dim: channels of a latent, which are a token's.
        base_channels: width at full resolution.
        channel_multipliers: width of each level over that; every level after the first halves the side.
        residual_blocks: per level.
        patch: 1 for the official layout; above 1 see `vvsbench.models.patches`.
        scale: what latents are multiplied by to make tokens, and tokens divided by to make pixels.
    """

    checkpoint: str = MISSING
    embed_dim: int = 16
    base_channels: int = 128
    channel_multipliers: list[int] = field(default_factory=lambda: [1, 1, 2, 2, 4])
    residual_blocks: int = 2
    patch: int = 1
    scale: float = 0.2325

    def told_by(self, shapes: Shapes) -> dict[str, int]:
        """See `ModelConfig.told_by`."""
        return _named(shapes, {"post_quant_conv.weight": ("embed_dim",), "encoder.conv_in.weight": ("base_channels",)})


@dataclass
class LatentConfig(ModelConfig):
    """A target of continuous tokens: a transformer conditions a diffusion head, which draws the tokens.

    Attributes:
        channels: of a token.
        head_depth, head_width: of the diffusion head.
        head_steps: denoising steps of the head per token, unless the decoder asks for another number.
        weights: which copy of the weights a checkpoint with several is read from.
    """

    tokens: ClassVar[Tokens] = Tokens.continuous
    decoders: ClassVar[tuple[str, ...]] = ("masked", "csd")
    undrafted: ClassVar[tuple[str, ...]] = ("masked",)
    order: ClassVar[Order]
    """In which order the model decides tokens unless it is asked for another."""

    channels: int = 16
    head_depth: int = MISSING
    head_width: int = MISSING
    head_steps: int = 100
    weights: Weights = Weights.ema
    tokenizer: KLTokenizerConfig = field(default_factory=KLTokenizerConfig)

    @property
    def sizes(self) -> dict[str, int]:
        """See `ModelConfig.sizes`."""
        names = ("channels", "head_depth", "head_width")
        return super().sizes | {name: getattr(self, name) for name in names}

    def told_by(self, shapes: Shapes) -> dict[str, int]:
        """See `ModelConfig.told_by`."""
        sizes = _named(shapes, {"diffloss.net.input_proj.weight": ("head_width", "channels")})
        if depth := _numbered(shapes, "diffloss.net.res_blocks."):
            sizes["head_depth"] = depth
        return sizes

    def problems(self, sampling: SamplingConfig) -> list[str]:
        """See `ModelConfig.problems`."""
        least, most = HEAD_STEPS
        found = []
        if self.condition != Condition.label:
            found.append(f"model.condition={self.condition}: model={self.name} draws from class ids; take label.")
        if not least <= self.head_steps <= most:
            found.append(f"model.head_steps={self.head_steps} must lie in [{least}, {most}].")
        if self.tokenizer.embed_dim != self.channels:
            found.append(
                f"model.tokenizer.embed_dim={self.tokenizer.embed_dim} is not model.channels={self.channels}: "
                "a token is one latent of the tokenizer."
            )
        if not self.tokenizer.scale > 0:
            found.append(f"model.tokenizer.scale={self.tokenizer.scale} must be above 0.")
        return found + [
            f"sampling.{key}={getattr(sampling, key)} is for discrete tokens; those of model={self.name} are "
            f"continuous: sampling.{key}={without}."
            for key, without in {"top_k": 0, "top_p": 1.0, "guidance_interval": -1}.items()
            if getattr(sampling, key) != without
        ]


@dataclass
class MARConfig(LatentConfig):
    """MAR: a masked encoder and decoder, each of which sees the tokens in both directions.

    Attributes:
        buffer: class positions in front of the tokens.
        encoder_dim, encoder_depth, encoder_heads: sizes of the encoder.
        decoder_dim, decoder_depth, decoder_heads: sizes of the decoder.
    """

    order: ClassVar[Order] = Order.random

    buffer: int = 64
    encoder_dim: int = MISSING
    encoder_depth: int = MISSING
    encoder_heads: int = MISSING
    decoder_dim: int = MISSING
    decoder_depth: int = MISSING
    decoder_heads: int = MISSING

    @property
    def sizes(self) -> dict[str, int]:
        """See `ModelConfig.sizes`."""
        names = [f"{part}_{size}" for part in ("encoder", "decoder") for size in ("dim", "depth", "heads")]
        return super().sizes | {name: getattr(self, name) for name in ("buffer", *names)}

    def told_by(self, shapes: Shapes) -> dict[str, int]:
        """See `ModelConfig.told_by`."""
        sizes = super().told_by(shapes) | _named(
            shapes,
            {"class_emb.weight": ("classes", "encoder_dim"), "decoder_embed.weight": ("decoder_dim", "encoder_dim")},
        )
        for part in ("encoder", "decoder"):
            if depth := _numbered(shapes, f"{part}_blocks."):
                sizes[f"{part}_depth"] = depth
        if (places := shapes.get("diffusion_pos_embed_learned")) is not None:
            sizes["grid"] = isqrt(places[1])
            if (padded := shapes.get("encoder_pos_embed_learned")) is not None:
                sizes["buffer"] = padded[1] - places[1]
        return sizes


@dataclass
class CausalConfig(LatentConfig):
    """A causal transformer over continuous tokens: row by row, each token after those before it.

    Attributes:
        dim, layers, heads: sizes of the transformer.
    """

    order: ClassVar[Order] = Order.raster

    dim: int = MISSING
    layers: int = MISSING
    heads: int = MISSING

    @property
    def sizes(self) -> dict[str, int]:
        """See `ModelConfig.sizes`."""
        return super().sizes | {name: getattr(self, name) for name in ("dim", "layers", "heads")}

    def told_by(self, shapes: Shapes) -> dict[str, int]:
        """See `ModelConfig.told_by`."""
        sizes = super().told_by(shapes) | llamagen_sizes(shapes)
        if (places := shapes.get("positions")) is not None:
            sizes |= {"grid": isqrt(places[1]), "dim": places[2]}
        return sizes


@dataclass
class TransformersConfig(DiscreteConfig):
    """A target that the library transformers runs: a folder as its `save_pretrained` writes it, or a hub's name.

    Attributes:
        family: what such models have in common (`vvsbench.models.families`), by the name of its file.
        columns: of the token grid; 0 for as many as it has rows (`grid`).
        prompt_tokens: places for a prompt and the words around it; shorter ones are padded.
        negative_prompt: what guidance leads away from, in families that take words for it.
        pixel_checkpoint: weights of what makes pixels, in families where they are no part of the folder.
        pixels: whether tokens become pictures here; else the images are colours that stand for tokens.
    """

    condition: Condition = Condition.caption
    family: str = MISSING
    columns: int = 0
    prompt_tokens: int = 128
    negative_prompt: str = ""
    pixel_checkpoint: str = ""
    pixels: bool = True

    @property
    def sizes(self) -> dict[str, int]:
        """See `ModelConfig.sizes`: all of them are in the folder's config.json, and read from there."""
        return {}


def _named(shapes: Shapes, names: Mapping[str, tuple[str, ...]]) -> dict[str, int]:
    """The leading dimensions of some tensors, by the names that they have here."""
    return {
        size: length
        for tensor, sizes in names.items()
        if tensor in shapes
        for size, length in zip(sizes, shapes[tensor], strict=False)
    }


def _numbered(shapes: Shapes, prefix: str) -> int:
    """How many different numbers follow a prefix in the tensors' names."""
    return len({name.split(prefix, 1)[1].split(".", 1)[0] for name in shapes if prefix in name})


FAMILIES = "vvsbench.families"
"""Group of entry points in which another package names a family of its own: name = "module:Class"."""

MODELS: dict[str, type[ModelConfig]] = {
    "llamagen": LlamaGenConfig,
    "mar": MARConfig,
    "causal": CausalConfig,
    "transformers": TransformersConfig,
}
"""The kinds of targets, by the name of their node in the schema; conf/model names sizes and files of each."""
