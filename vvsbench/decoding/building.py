"""From the settings of a run to a decoder: every axis of the grid is looked up here, by its name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from vvsbench.decoding import continuous
from vvsbench.decoding.autoregressive import Autoregressive
from vvsbench.decoding.base import Decoder
from vvsbench.decoding.continuous.settings import LatentDecoderConfig
from vvsbench.decoding.engine import make
from vvsbench.decoding.settings import ARConfig, SpeculativeConfig
from vvsbench.decoding.speculative import Grid, Speculative
from vvsbench.drafting.cached import CachedSource
from vvsbench.drafting.sources import TokenDrafterConfig
from vvsbench.errors import ConfigError
from vvsbench.models.families.loading import load_transformers
from vvsbench.models.families.target import Transformers
from vvsbench.models.llamagen import LlamaGen
from vvsbench.models.loading import load_target
from vvsbench.models.settings import LlamaGenConfig, TransformersConfig
from vvsbench.sampling import Sampling

if TYPE_CHECKING:
    from vvsbench.config import RunConfig


def _target(cfg: RunConfig, device: torch.device, dtype: torch.dtype) -> LlamaGen | Transformers:
    """The target with its weights.

    Raises:
        CheckpointError: see `build_decoder`.
    """
    if isinstance(cfg.model, LlamaGenConfig):
        return load_target(cfg.model, cfg.sampling, device, dtype)
    if isinstance(cfg.model, TransformersConfig):
        return load_transformers(cfg.model, cfg.sampling, device, dtype)
    raise ConfigError([f"decoder={cfg.decoder.name} does not draw {cfg.model.tokens} tokens."])


def build_decoder(cfg: RunConfig, device: torch.device, dtype: torch.dtype) -> Decoder:
    """Load the target and, where there is one, the drafter, and put the decoder together.

    Args:
        cfg: settings of a cell, validated.
        device, dtype: of the models.

    Raises:
        CheckpointError: a weights file is missing or does not fit.
    """
    if isinstance(cfg.decoder, LatentDecoderConfig):
        return continuous.build(cfg, device, dtype)
    sampling = Sampling(cfg.sampling.temperature, cfg.sampling.top_k, cfg.sampling.top_p, cfg.sampling.top_p_first)
    target = _target(cfg, device, dtype)
    engine = make(cfg.engine, device)
    target.transformer = engine.network(target.transformer)
    if isinstance(cfg.decoder, ARConfig):
        return Autoregressive(target, sampling, engine)
    decoder = cfg.decoder
    if not isinstance(decoder, SpeculativeConfig):
        raise ConfigError([f"decoder.name={decoder.name}: no such decoder."])
    if not isinstance(decoder.drafter, TokenDrafterConfig):
        raise ConfigError(["decoder.drafter: none is chosen that fits; pick one with drafter@decoder.drafter=NAME."])
    structure = decoder.structure.build(decoder.drafter.hit_rates, device)
    grid = Grid(
        structure=structure,
        candidates=decoder.structure.candidates,
        rule=decoder.acceptance.build(target, sampling, Path(cfg.output_root) / "cache"),
        schedule=decoder.schedule,
        skip=decoder.skip,
        ablation=decoder.ablation,
        sharpness=decoder.drafter.sharpnesses(structure.levels),
        surplus=decoder.surplus,
    )
    source = decoder.drafter.build(target, device, dtype)
    if isinstance(source, CachedSource):
        source.run_by(engine)
    return Speculative(target, decoder.structure.source(source, target), grid, sampling, engine)
