"""From the settings of a run to a decoder: every axis of the grid is looked up here, by its name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from vvsbench.axes import AcceptanceName
from vvsbench.config import ARConfig, LanternConfig, SpeculativeConfig
from vvsbench.decoding.acceptance import AcceptanceRule, Lantern, Match, Sequential
from vvsbench.decoding.acceptance.lantern import nearest
from vvsbench.decoding.autoregressive import Autoregressive
from vvsbench.decoding.base import Decoder
from vvsbench.decoding.speculative import Grid, Speculative
from vvsbench.errors import ConfigError
from vvsbench.models.llamagen import LlamaGen
from vvsbench.models.loading import load_target
from vvsbench.sampling import Sampling

if TYPE_CHECKING:
    from vvsbench.config import AcceptanceConfig, RunConfig


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
    decoder = cfg.decoder
    if not isinstance(decoder, SpeculativeConfig):
        raise ConfigError([f"decoder.name={decoder.name}: no such decoder."])
    if decoder.drafter is None:
        raise ConfigError(["decoder.drafter: none is chosen; pick one with drafter@decoder.drafter=NAME."])
    grid = Grid(
        structure=decoder.structure.build(decoder.drafter.hit_rates, device),
        candidates=decoder.structure.candidates,
        rule=_rule(decoder.acceptance, target),
        schedule=decoder.schedule,
        skip=decoder.skip,
        ablation=decoder.ablation,
        surplus=decoder.surplus,
        sharpness=decoder.drafter.sharpness,
    )
    return Speculative(target, decoder.drafter.build(target, device, dtype), grid, sampling)


def _rule(acceptance: AcceptanceConfig, target: LlamaGen) -> AcceptanceRule:
    if isinstance(acceptance, LanternConfig):
        assert target.tokenizer is not None
        codebook = target.tokenizer.quantize.embedding.weight
        table = nearest(codebook, min(acceptance.k + 1, len(codebook) - 1), acceptance.normalised).to(target.device)
        return Lantern(table, acceptance.k, acceptance.delta, acceptance.residual)
    return Match() if acceptance.name is AcceptanceName.match else Sequential()
