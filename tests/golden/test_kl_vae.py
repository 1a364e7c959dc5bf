"""The KL autoencoder against numbers from the authors' own code; every size is read from the golden folder."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from vvsbench.composition import composed
from vvsbench.models import checkpoints
from vvsbench.models.kl_vae import KLAutoencoder
from vvsbench.models.latents import painted

LATENT_TOLERANCE = 2e-4
PIXEL_TOLERANCE = 1e-3
MAR_SCALE = 0.2325


@pytest.fixture
def folder(golden: Any) -> Any:
    return golden("kl_vae")


@pytest.fixture
def autoencoder(folder: Any) -> KLAutoencoder:
    config = folder.config["model"]
    model = KLAutoencoder(
        config["embed_dim"], config["base_channels"], config["ch_mult"], residual_blocks=config["num_res_blocks"]
    )
    path = folder.path / "checkpoint.ckpt"
    checkpoints.load_strict(model, checkpoints.read(path), str(path))
    return model.eval()


def close(ours: torch.Tensor, theirs: torch.Tensor, tolerance: float) -> None:
    torch.testing.assert_close(ours, theirs, atol=tolerance, rtol=0)


@torch.no_grad()
def test_the_posterior(folder: Any, autoencoder: KLAutoencoder) -> None:
    mean, log_variance = autoencoder.encode(folder["image"])
    std = (log_variance / 2).exp()
    close(mean, folder["mean"], LATENT_TOLERANCE)
    close(log_variance, folder["logvar"], LATENT_TOLERANCE)
    close(std, folder["std"], LATENT_TOLERANCE)
    close(mean + std * folder["noise"], folder["sample"], LATENT_TOLERANCE)


@torch.no_grad()
@pytest.mark.parametrize(
    ("latents", "scale", "pixels"),
    [("mean", 1.0, "recon_from_mean"), ("latent", 1.0, "decoded"), ("latent", MAR_SCALE, "decoded_scaled")],
)
def test_decode(folder: Any, autoencoder: KLAutoencoder, latents: str, scale: float, pixels: str) -> None:
    close(autoencoder.decode(folder[latents] / scale), folder[pixels], PIXEL_TOLERANCE)


@torch.no_grad()
@pytest.mark.parametrize("model", ["mar_base", "mar_large", "mar_huge"])
def test_a_target_paints_its_tokens_as_the_authors_do(folder: Any, autoencoder: KLAutoencoder, model: str) -> None:
    """By the scale that its settings have, in the pixels that are stored."""
    tokens = folder["latent"].flatten(2).transpose(1, 2)
    ours = painted(autoencoder, tokens, composed([f"model={model}"]).model.tokenizer.scale)
    levels = (folder["decoded_scaled"].clamp(-1, 1) + 1) * 127.5
    assert (ours - levels).abs().max() < 0.5 + 255 * PIXEL_TOLERANCE
    assert ((painted(autoencoder, tokens, 1.0) - levels).abs() > 10).double().mean() > 0.1, "the scale is not seen"
