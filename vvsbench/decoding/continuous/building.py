"""From the settings of a run to a decoder of continuous tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from vvsbench.axes import Guarantee, Mode, Order
from vvsbench.decoding.base import Decoder
from vvsbench.decoding.continuous.coupling import exact, published
from vvsbench.decoding.continuous.loop import Continuous, Speculation
from vvsbench.decoding.continuous.released import Released
from vvsbench.decoding.continuous.settings import CSDConfig, MaskedConfig
from vvsbench.decoding.masked import Masked
from vvsbench.drafting.sources import LatentDrafterConfig
from vvsbench.errors import ConfigError
from vvsbench.models.loading import load_continuous
from vvsbench.models.settings import LatentConfig

if TYPE_CHECKING:
    from vvsbench.config import RunConfig


def build_continuous(cfg: RunConfig, device: torch.device, dtype: torch.dtype) -> Decoder:
    """Load the target and, where there is one, the draft, and put the decoder together.

    Args:
        cfg: settings of a cell, validated.
        device, dtype: of the models.

    Raises:
        CheckpointError: a weights file is missing or does not fit.
    """
    decoder, model = cfg.decoder, cfg.model
    if not isinstance(model, LatentConfig):
        raise ConfigError([f"decoder={decoder.name} does not draw {model.tokens} tokens."])
    assert isinstance(decoder, MaskedConfig | CSDConfig)
    steps, chain, raster = decoder.steps(model), decoder.chain(model), decoder.path(model) is Order.raster
    target = load_continuous(model, cfg.sampling, chain, device, dtype)
    if isinstance(decoder, MaskedConfig):
        whole = steps == model.grid**2 and chain == model.head_steps
        return Masked(target, steps, raster, decoder.last_noise, whole)
    if not isinstance(decoder.drafter, LatentDrafterConfig) or not isinstance(decoder.drafter.model, LatentConfig):
        raise ConfigError(["decoder.drafter: none is chosen that fits; pick one with drafter@decoder.drafter=NAME."])
    draft = load_continuous(decoder.drafter.model, cfg.sampling, chain, device, dtype, painter=False)
    if decoder.mode == Mode.released:
        softness = decoder.inner_temperature
        return Released(target, draft, steps, decoder.length, decoder.prefill, softness, decoder.aligned, raster)
    return Continuous(target, draft, steps, _speculation(decoder), raster)


def _speculation(decoder: CSDConfig) -> Speculation:
    """How a round is made, and what that promises."""
    relaxed = Guarantee.bounded if decoder.tolerance else Guarantee.exact
    return Speculation(
        rule=exact if decoder.mode == Mode.exact else published,
        length=decoder.length,
        prefill=decoder.prefill,
        aligned=decoder.aligned,
        tolerance=decoder.tolerance,
        guarantee=relaxed if decoder.mode == Mode.exact else Guarantee.none,
    )
