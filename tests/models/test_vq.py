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
def test_codes_of_patches_are_local() -> None:
    """A code sees its patch and half a patch around it; a decoder of two blocks shows a code three patches away."""
    torch.manual_seed(0)
    model = VQModel(16, 4, 8, 16, (1,), 2, patch=4)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    assert model.downsample == 4
    images = torch.rand(1, 3, 32, 32) * 2 - 1
    changed = images.clone()
    changed[..., 14:16, 14:16] *= -1  # a corner of patch (3, 3), which the next ones see as well
    before, after = model.latents(images), model.latents(changed)
    touched = (before - after).abs().amax((0, 1)) > 0
    rows, columns = touched.nonzero().unbind(1)
    assert touched[3, 3]
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (3, 4, 3, 4)
    tokens = torch.zeros(1, 64, dtype=torch.long)
    other = tokens.clone()
    other[0, 27] = 1  # row 3, column 3
    pictures = model.decode_code(tokens) - model.decode_code(other)
    shown = pictures.abs().amax((0, 1)) > 0
    assert shown.any()
    assert not shown[28:].any(), "three windows of 3x3 reach three patches"
    assert model.decode_code(tokens).shape == images.shape


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
