"""The KL autoencoder against numbers from the authors' own code; every size is read from the golden folder."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from vvsbench.models import checkpoints
from vvsbench.models.kl_vae import KLAutoencoder

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
