"""The VQ tokenizer against numbers from the authors' own code; every size is read from the golden folder."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from vvsbench.models import checkpoints
from vvsbench.models.vq import VQModel

LATENT_TOLERANCE = 2e-4
PIXEL_TOLERANCE = 1e-3


@pytest.fixture
def folder(golden: Any) -> Any:
    return golden("llamagen_vq")


@pytest.fixture
def tokenizer(folder: Any) -> VQModel:
    config = folder.config["model"]
    assert config["encoder_ch_mult"] == config["decoder_ch_mult"]
    model = VQModel(
        codebook_size=config["codebook_size"],
        codebook_dim=config["codebook_embed_dim"],
        z_channels=config["z_channels"],
        base_channels=config["base_channels"],
        channel_multipliers=config["encoder_ch_mult"],
        residual_blocks=config["num_res_blocks"],
    )
    path = folder.path / "checkpoint.pt"
    checkpoints.load_strict(model, checkpoints.read(path), str(path))
    return model.eval()


def close(ours: torch.Tensor, theirs: torch.Tensor, tolerance: float) -> None:
    torch.testing.assert_close(ours, theirs, atol=tolerance, rtol=0)


@torch.no_grad()
def test_encode(folder: Any, tokenizer: VQModel) -> None:
    tensors = folder.tensors
    close(tokenizer.latents(tensors["image"]), tensors["pre_quant"], LATENT_TOLERANCE)
    quantised, indices = tokenizer.encode(tensors["image"])
    close(quantised, tensors["quant"], LATENT_TOLERANCE)
    assert torch.equal(indices, tensors["indices"].view_as(indices))


@torch.no_grad()
@pytest.mark.parametrize(("tokens", "pixels"), [("indices", "recon_pixels"), ("given_indices", "given_pixels")])
def test_decode(folder: Any, tokenizer: VQModel, tokens: str, pixels: str) -> None:
    indices = folder.tensors[tokens].long().flatten(1)
    close(tokenizer.decode_code(indices), folder.tensors[pixels], PIXEL_TOLERANCE)


@torch.no_grad()
def test_lookup(folder: Any, tokenizer: VQModel) -> None:
    latents = folder.tensors["given_latents"]
    indices = folder.tensors["given_indices"].long().view(len(latents), *latents.shape[2:])
    close(tokenizer.quantize.lookup(indices).permute(0, 3, 1, 2), latents, LATENT_TOLERANCE)


def test_stored_codes_are_not_unit_length(tokenizer: VQModel) -> None:
    """Otherwise the tests above could not tell whether both directions normalise."""
    norms = tokenizer.quantize.embedding.weight.norm(dim=-1)
    assert norms.max() - norms.min() > 0.1
