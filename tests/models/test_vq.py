from __future__ import annotations

import pytest
import torch

from vvsbench.errors import NotFiniteError
from vvsbench.models.vq import VQModel


@pytest.mark.parametrize(
    ("multipliers", "millions", "keys"), [((1, 1, 2, 2, 4), 71.88, 344), ((1, 2, 2, 4), 70.11, 300)]
)
def test_official_sizes(multipliers: tuple[int, ...], millions: float, keys: int) -> None:
    with torch.device("meta"):
        model = VQModel(channel_multipliers=multipliers)
    assert sum(parameter.numel() for parameter in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.005)
    assert len(model.state_dict()) == keys


@pytest.fixture
def small() -> VQModel:
    torch.manual_seed(0)
    model = VQModel(16, 4, 8, 32, (1, 1), 1)
    torch.nn.init.normal_(model.quantize.embedding.weight)
    return model


@torch.no_grad()
def test_lookup_and_nearest_ignore_the_length_of_codes(small: VQModel) -> None:
    images = torch.rand(2, 3, 8, 8) * 2 - 1
    codes, tokens = small.encode(images)
    pixels = small.decode_code(tokens)
    small.quantize.embedding.weight.mul_(torch.rand(16, 1) + 0.5)
    assert torch.equal(small.encode(images)[1], tokens)
    torch.testing.assert_close(small.decode_code(tokens), pixels)
    torch.testing.assert_close(codes.norm(dim=1), torch.ones(2, 4, 4))


@torch.no_grad()
def test_grids_need_not_be_square(small: VQModel) -> None:
    assert small.decode_code(torch.zeros(1, 8, dtype=torch.long), 2).shape == (1, 3, 4, 8)
    with pytest.raises(ValueError, match="do not fill"):
        small.decode_code(torch.zeros(1, 8, dtype=torch.long))


@torch.no_grad()
def test_patches_are_pixels_as_channels() -> None:
    """With a patch of p a token covers p times as many pixels a side, and none but its own under 1x1 convolutions."""
    torch.manual_seed(0)
    model = VQModel(16, 4, 8, 32, (1, 1), 1, patch=2)
    torch.nn.init.normal_(model.quantize.embedding.weight)
    assert model.downsample == 4
    assert model.encoder.conv_in.weight.shape == (32, 12, 3, 3)
    images = torch.rand(2, 3, 16, 16) * 2 - 1
    _, tokens = model.encode(images)
    assert tokens.shape == (2, 16)
    assert model.decode_code(tokens).shape == images.shape
    model.encoder, model.quant_conv = torch.nn.Identity(), torch.nn.Identity()
    model.decoder, model.post_quant_conv = torch.nn.Identity(), torch.nn.Identity()
    torch.testing.assert_close(model.decode(model.latents(images)), images)


def test_pixels_are_cut_as_officially() -> None:
    values = torch.tensor([-2.0, -1.0, -0.999, 0.0, 0.996, 1.0, 2.0])
    expected = torch.tensor([0, 0, 0, 128, 254, 255, 255], dtype=torch.uint8)
    assert torch.equal(VQModel.to_uint8(values), expected)


def test_pixels_that_are_not_finite_are_not_taken_for_black() -> None:
    pixels = torch.zeros(3, 3, 2, 2, dtype=torch.float16)
    pixels[1, 0, 0, 0] = float("nan")
    with pytest.raises(
        NotFiniteError, match="the pixels of the tokenizer are not finite .* image 1, in float16"
    ) as error:
        VQModel.to_uint8(pixels)
    assert error.value.image == 1
