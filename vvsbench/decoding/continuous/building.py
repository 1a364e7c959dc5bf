"""From the settings of a run to a decoder of continuous tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from vvsbench.axes import Guarantee, Mode, Order
from vvsbench.decoding.base import Decoder
from vvsbench.decoding.continuous.coupling import exact, published
from vvsbench.decoding.continuous.loop import Continuous, Speculation
from vvsbench.decoding.continuous.released import Released
from vvsbench.decoding.continuous.settings import CSDConfig, LatentDecoderConfig, MaskedConfig
from vvsbench.decoding.engine import make
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
        EngineError: the engine cannot run on the device.
    """
    model, decoder = cfg.model, cfg.decoder
    if not isinstance(model, LatentConfig) or not isinstance(decoder, LatentDecoderConfig):
        raise ConfigError([f"decoder={decoder.name} does not draw the tokens of model={model.name}."])
    steps, chain, raster = decoder.steps(model), decoder.chain(model), decoder.path(model) is Order.raster
    whole = steps == model.grid**2 and chain == model.head_steps
    engine = make(cfg.engine, device)
    target = load_continuous(model, cfg.sampling, chain, device, dtype, engine=engine)
    if isinstance(decoder, MaskedConfig):
        return Masked(target, steps, raster, decoder.last_noise, whole)
    if not isinstance(decoder, CSDConfig) or not isinstance(decoder.drafter, LatentDrafterConfig):
        raise ConfigError(["decoder.drafter: none is chosen that fits; pick one with drafter@decoder.drafter=NAME."])
    smaller = decoder.drafter.model
    assert isinstance(smaller, LatentConfig)  # validated
    draft = load_continuous(smaller, cfg.sampling, chain, device, dtype, painter=False, engine=engine)
    prefilled = decoder.prefilled(model)
    if decoder.mode == Mode.released:
        return Released(
            target,
            draft,
            steps,
            decoder.length,
            prefilled,
            decoder.inner_temperature,
            aligned=decoder.aligned,
            raster=raster,
        )
    speculation = Speculation(
        rule=exact if decoder.mode == Mode.exact else published,
        length=decoder.length,
        prefilled=prefilled,
        aligned=decoder.aligned,
        tolerance=decoder.tolerance,
        guarantee=_promise(decoder, whole),
    )
    return Continuous(target, draft, steps, speculation, raster)


def _promise(decoder: CSDConfig, whole: bool) -> Guarantee:
    """What a mode promises about the target's law, which is that of one token per AR step and every head step."""
    if decoder.mode != Mode.exact or not whole:
        return Guarantee.none
    return Guarantee.bounded if decoder.tolerance > 0 else Guarantee.exact
