"""From the settings of a run to a decoder: every axis of the grid is looked up here, by its name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from vvsbench.axes import StructureName
from vvsbench.config import ARConfig, SpeculativeConfig
from vvsbench.decoding.autoregressive import Autoregressive
from vvsbench.decoding.base import Decoder
from vvsbench.decoding.speculative import SkipRule, Speculative
from vvsbench.drafting.loading import load_drafter
from vvsbench.drafting.protocols import DraftSource
from vvsbench.drafting.tree import DynamicTree, StaticTree, Structure, fitted_paths
from vvsbench.errors import ConfigError
from vvsbench.models.llamagen import LlamaGen
from vvsbench.models.loading import load_target
from vvsbench.sampling import Sampling

if TYPE_CHECKING:
    from vvsbench.config import RunConfig


def build_decoder(cfg: RunConfig, device: torch.device, dtype: torch.dtype) -> Decoder:
    """Load the target and, where there is one, the drafter, and put the decoder together.

    Args:
        cfg: settings of a cell, validated.
        device, dtype: of the models.

    Raises:
        CheckpointError: a weights file is missing or does not fit.
    """
    sampling = Sampling(cfg.sampling.temperature, cfg.sampling.top_k, cfg.sampling.top_p, cfg.sampling.top_p_first)
    target = load_target(cfg.model, cfg.sampling, device, dtype)
    if isinstance(cfg.decoder, ARConfig):
        return Autoregressive(target, sampling)
    if not isinstance(cfg.decoder, SpeculativeConfig):
        raise ConfigError([f"decoder.name={cfg.decoder.name}: no such decoder."])
    return Speculative(
        target=target,
        source=_source(cfg.decoder, target, device, dtype),
        structure=_structure(cfg.decoder, device),
        candidates=cfg.decoder.structure.candidates,
        rule=cfg.decoder.acceptance.build(target, sampling, Path(cfg.output_root) / "cache"),
        schedule=cfg.decoder.schedule,
        skip=SkipRule(cfg.decoder.skip.selector, cfg.decoder.skip.truncation, cfg.decoder.skip.features),
        sampling=sampling,
    )


def _source(decoder: SpeculativeConfig, target: LlamaGen, device: torch.device, dtype: torch.dtype) -> DraftSource[Any]:
    if decoder.drafter is None:
        raise ConfigError(["decoder.drafter: none is chosen; pick one with drafter@decoder.drafter=NAME."])
    return load_drafter(decoder.drafter, target, device, dtype)


def _structure(decoder: SpeculativeConfig, device: torch.device) -> Structure:
    structure = decoder.structure
    if structure.name is StructureName.dynamic:
        return DynamicTree(structure.depth, structure.top_k, structure.nodes)
    rates = decoder.drafter.hit_rates if decoder.drafter else []
    return StaticTree(fitted_paths(rates, structure.nodes, structure.depth), device)
