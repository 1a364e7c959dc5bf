"""From the settings of a model to a target with its weights on a device.

Networks come from the `Shelf`: cells that need the same one share it.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import nn

from vvsbench.axes import GuidanceSchedule, Weights
from vvsbench.models import checkpoints
from vvsbench.models.causal import Causal, CausalNetwork, CausalSizes
from vvsbench.models.guidance import Guidance
from vvsbench.models.kl_vae import KLAutoencoder
from vvsbench.models.latents import LatentGuidance
from vvsbench.models.llamagen import LlamaGen
from vvsbench.models.llamagen_layouts import to_official
from vvsbench.models.mar import MAR, MARNetwork, MARSizes
from vvsbench.models.settings import MARConfig
from vvsbench.models.shelf import SHELF
from vvsbench.models.stages import Engine
from vvsbench.models.t5 import T5Features
from vvsbench.models.transformer import Transformer, TransformerConfig
from vvsbench.models.vq import VQModel

if TYPE_CHECKING:
    from vvsbench.config import SamplingConfig
    from vvsbench.models.settings import KLTokenizerConfig, LatentConfig, LlamaGenConfig, VQTokenizerConfig

M = TypeVar("M", bound=nn.Module)
S = TypeVar("S", MARSizes, CausalSizes)


def transformer_config(model: LlamaGenConfig, norm_eps: float = 1e-5) -> TransformerConfig:
    """The sizes of a target's transformer; a Hugging Face folder names its own `norm_eps`."""
    labelled = model.condition.value == "label"
    return TransformerConfig(
        condition=model.condition.value,
        dim=model.dim,
        layers=model.layers,
        heads=model.heads,
        vocab=model.vocab,
        grid=model.grid,
        classes=model.classes,
        prefix=1 if labelled else model.caption_tokens,
        caption_dim=model.caption_dim,
        ffn=model.ffn,
        norm_eps=norm_eps,
    )


def load_target(model: LlamaGenConfig, sampling: SamplingConfig, device: torch.device, dtype: torch.dtype) -> LlamaGen:
    """Load a target.

    Args:
        model: which one.
        sampling: its guidance becomes part of the target.
        device, dtype: of the transformer; the tokenizer runs in float32 as in the authors' scripts.

    Raises:
        CheckpointError: a file is missing, unreadable or of another size.
    """
    transformer = shared(
        model.checkpoint, repr(transformer_config(model)), device, dtype, lambda: load_transformer(model)
    )
    config = model.tokenizer
    tokenizer = shared(config.checkpoint, repr(config), device, torch.float32, lambda: load_tokenizer(config))
    encoder = load_text_encoder(model, device)
    guidance = Guidance(sampling.guidance_scale, sampling.guidance_interval)
    return LlamaGen(transformer, tokenizer, guidance, encoder, model.name)


def shared(checkpoint: str, sizes: Hashable, device: torch.device, dtype: torch.dtype, load: Callable[[], M]) -> M:
    """A network ready for inference, shared with everyone who asks for the same.

    Args:
        checkpoint: its weights, as settings name them.
        sizes: whatever else its making depends on.
        device, dtype: where and how it is kept.
        load: makes it, anywhere and in any number format.

    Raises:
        CheckpointError: there is no such file.
    """
    path = checkpoints.locate(checkpoint)
    return SHELF.get(path, (sizes, str(device), dtype), lambda: placed(load(), device, dtype))


def load_text_encoder(model: LlamaGenConfig, device: torch.device) -> T5Features | None:
    """What turns a target's captions into features; None for a target that draws from class ids."""
    if model.text_encoder is None:
        return None
    source = checkpoints.resolve(model.text_encoder)
    name = str(source) if source.is_dir() else model.text_encoder
    made = ("T5", name, model.caption_tokens, str(device))
    return SHELF.get(source, made, lambda: T5Features(name, device, torch.bfloat16, model.caption_tokens))


def load_transformer(model: LlamaGenConfig) -> Transformer:
    """The transformer with its weights, on the CPU in the file's number format."""
    path = checkpoints.locate(model.checkpoint)
    config = transformer_config(model, _norm_eps(path))
    with torch.device("meta"):
        transformer = Transformer(config)
    checkpoints.load_strict(transformer, to_official(checkpoints.read(path), str(path)), str(path))
    return transformer


def load_tokenizer(config: VQTokenizerConfig) -> VQModel:
    """The VQ tokenizer with its weights, on the CPU in the file's number format."""
    path = checkpoints.locate(config.checkpoint)
    with torch.device("meta"):
        tokenizer = VQModel(
            config.codebook_size,
            config.codebook_dim,
            config.z_channels,
            config.base_channels,
            tuple(config.channel_multipliers),
            config.residual_blocks,
            config.patch,
        )
    checkpoints.load_strict(tokenizer, checkpoints.read(path), str(path))
    return tokenizer


def load_continuous(
    model: LatentConfig,
    sampling: SamplingConfig,
    head_steps: int,
    device: torch.device,
    dtype: torch.dtype,
    painter: bool = True,
    engine: Engine | None = None,
) -> MAR | Causal:
    """Load a target of continuous tokens, or a draft.

    Args:
        model: which one.
        sampling: its guidance and temperature become part of the model.
        head_steps: denoising steps per token.
        device, dtype: of the network; the tokenizer runs in float32.
        painter: whether its tokens are to be turned into pictures; a draft's are not.
        engine: that runs it; None to run it operation by operation.

    Raises:
        CheckpointError: a file is missing, unreadable or of another size.
    """
    linear = sampling.guidance_schedule == GuidanceSchedule.linear
    guidance = LatentGuidance(sampling.guidance_scale, linear)
    sizes = repr((_latent_sizes(model), model.weights))
    network = shared(model.checkpoint, sizes, device, dtype, lambda: load_latent_network(model))
    autoencoder = _shared_autoencoder(model.tokenizer, device) if painter else None
    rest = (guidance, sampling.temperature, head_steps, model.tokenizer.scale, model.name, engine)
    if isinstance(network, MARNetwork):
        return MAR(network, autoencoder, *rest)
    return Causal(network, autoencoder, *rest)


def _shared_autoencoder(config: KLTokenizerConfig, device: torch.device) -> KLAutoencoder:
    return shared(config.checkpoint, repr(config), device, torch.float32, lambda: load_autoencoder(config))


def load_latent_network(model: LatentConfig) -> MARNetwork | CausalNetwork:
    """The transformer and its head with their weights, on the CPU in the file's number format."""
    path = checkpoints.locate(model.checkpoint)
    network = empty_latent_network(model)
    averaged = checkpoints.AVERAGED if model.weights == Weights.ema else ()
    checkpoints.load_strict(network, checkpoints.read(path, averaged), str(path))
    return network


def empty_latent_network(model: LatentConfig) -> MARNetwork | CausalNetwork:
    """The same without weights, on the meta device."""
    sizes = _latent_sizes(model)
    with torch.device("meta"):
        return MARNetwork(sizes) if isinstance(sizes, MARSizes) else CausalNetwork(sizes)


def _latent_sizes(model: LatentConfig) -> MARSizes | CausalSizes:
    return _same_named(MARSizes, model) if isinstance(model, MARConfig) else _same_named(CausalSizes, model)


def _same_named(sizes: type[S], model: LatentConfig) -> S:
    """A network's sizes, which have the settings' names."""
    return sizes(**{field.name: getattr(model, field.name) for field in dataclasses.fields(sizes)})


def load_autoencoder(config: KLTokenizerConfig) -> KLAutoencoder:
    """The KL tokenizer with its weights, on the CPU in the file's number format."""
    path = checkpoints.locate(config.checkpoint)
    with torch.device("meta"):
        tokenizer = KLAutoencoder(
            config.embed_dim, config.base_channels, config.channel_multipliers, config.residual_blocks, config.patch
        )
    checkpoints.load_strict(tokenizer, checkpoints.read(path), str(path))
    return tokenizer


def _norm_eps(path: Path) -> float:
    """The epsilon of a Hugging Face folder's config.json; LlamaGen's own files all have 1e-5."""
    described = path / "config.json"
    said = json.loads(described.read_text(encoding="utf-8")) if described.is_file() else {}
    return float(said.get("rms_norm_eps", 1e-5))


def placed(module: M, device: torch.device, dtype: torch.dtype) -> M:
    """The module ready for inference."""
    return module.eval().requires_grad_(False).to(device, dtype)
