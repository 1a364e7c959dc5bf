"""Continuous models are built in the sizes that their authors released, and read the copy of the weights asked for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests import nano
from vvsbench.axes import Weights
from vvsbench.composition import composed
from vvsbench.models import checkpoints
from vvsbench.models.kl_vae import KLAutoencoder
from vvsbench.models.loading import empty_latent_network, load_continuous, load_latent_network

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("name", "tensors", "parameters"),
    [
        ("mar_base", 364, 207_924_768),
        ("mar_large", 476, 478_326_304),
        ("mar_huge", 604, 942_403_104),
    ],
)
def test_official_sizes(name: str, tensors: int, parameters: int) -> None:
    network = empty_latent_network(composed([f"model={name}"]).model)
    assert len(network.state_dict()) == tensors
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


def test_official_tokenizer() -> None:
    config = composed(["model=mar_base"]).model.tokenizer
    with torch.device("meta"):
        tokenizer = KLAutoencoder(
            config.embed_dim, config.base_channels, config.channel_multipliers, config.residual_blocks
        )
    assert len(tokenizer.state_dict()) == 312
    assert sum(parameter.numel() for parameter in tokenizer.parameters()) == 66_456_019


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    nano.write_latent(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("asked", "value"), [(Weights.ema, 1.0), (Weights.raw, 0.0)])
def test_the_copy_asked_for_is_read(weights: Path, asked: Weights, value: float) -> None:
    model = composed(nano.latent_overrides(weights)).model
    state = checkpoints.read(weights / "mar.safetensors")
    copies = {name: {key: torch.full_like(each, fill) for key, each in state.items()} for name, fill in COPIES.items()}
    torch.save(copies, weights / "both.pth")
    network = load_latent_network(replace(model, checkpoint=f"{weights}/both.pth", weights=asked))
    assert all((parameter == value).all() for parameter in network.parameters())


COPIES = {"model": 0.0, "model_ema": 1.0}


@pytest.mark.parametrize("kind", ["mar", "causal"])
@pytest.mark.parametrize("schedule", ["constant", "linear"])
def test_settings_reach_the_model(weights: Path, kind: str, schedule: str) -> None:
    sampling = [f"sampling.guidance_schedule={schedule}", "sampling.guidance_scale=3", "sampling.temperature=0.9"]
    cfg = composed([*nano.latent_overrides(weights, kind), "model.tokenizer.scale=0.5", *sampling])
    model = load_continuous(cfg.model, cfg.sampling, 7, CPU, torch.float64)
    assert model.spec.name == f"tiny_{kind}"
    assert (model.head.steps, model.head.temperature, model.scale) == (7, 0.9, 0.5)
    assert (model.guidance.scale, model.guidance.linear) == (3.0, schedule == "linear")
    assert next(model.network.parameters()).dtype == torch.float64
    images = model.to_images(torch.zeros(2, 16, 4))
    assert (images.shape, images.dtype) == ((2, 3, 8, 8), torch.uint8)
    draft = load_continuous(cfg.model, cfg.sampling, 7, CPU, torch.float32, painter=False)
    assert draft.painter is None
