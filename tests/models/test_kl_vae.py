from __future__ import annotations

import pytest
import torch

from vvsbench.errors import NotFiniteError
from vvsbench.models.kl_vae import KLAutoencoder


def test_official_size() -> None:
    with torch.device("meta"):
        model = KLAutoencoder()
    names = model.state_dict()
    assert sum(tensor.numel() for tensor in names.values()) == 66_456_019
    assert len(names) == 312
    assert [key for key in names if ".attn." in key and key.endswith(".q.weight")] == [
        "encoder.down.4.attn.0.q.weight",
        "encoder.down.4.attn.1.q.weight",
    ]


@torch.no_grad()
def test_log_variances_are_bounded() -> None:
    model = KLAutoencoder(4, 32, (1, 1), 1)
    torch.nn.init.constant_(model.quant_conv.bias, 1e3)
    assert model.encode(torch.zeros(1, 3, 8, 8))[1].unique().tolist() == [20.0]


def test_pixels_are_rounded_as_officially() -> None:
    values = torch.tensor([-2.0, -1.0, -0.994, 0.0, 0.995, 1.0, 2.0])
    expected = torch.tensor([0, 0, 1, 128, 254, 255, 255], dtype=torch.uint8)
    assert torch.equal(KLAutoencoder.to_uint8(values), expected)


def test_pixels_that_are_not_finite_are_not_taken_for_black() -> None:
    pixels = torch.zeros(3, 3, 2, 2, dtype=torch.float16)
    pixels[1, 0, 0, 0] = float("nan")
    with pytest.raises(
        NotFiniteError, match="the pixels of the tokenizer are not finite .* image 1, in float16"
    ) as error:
        KLAutoencoder.to_uint8(pixels)
    assert error.value.image == 1
