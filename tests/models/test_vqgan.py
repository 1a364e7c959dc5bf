"""The half of Meta's vqgan.ckpt that paints: strict on its own tensors, blind to the other half."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from vvsbench.errors import CheckpointError
from vvsbench.models.families.vqgan import VQGAN, load_vqgan


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    other = {"encoder.conv_in.weight": torch.zeros(1), "quant_conv.bias": torch.zeros(1), "loss.logvar": torch.zeros(1)}
    return VQGAN(24, 8, 16, 32, [1, 2], 1).state_dict() | other


def test_a_file_says_its_own_sizes_and_is_loaded_strictly(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    torch.save({"state_dict": state}, tmp_path / "vqgan.ckpt")
    painter = load_vqgan(tmp_path / "vqgan.ckpt")
    assert {"decoder.up.1.upsample.conv.weight", "decoder.mid.attn_1.q.weight"} < painter.state_dict().keys()
    assert all(torch.equal(value, state[name]) for name, value in painter.state_dict().items())
    assert painter(torch.zeros(2, 3, 4, dtype=torch.long)).shape == (2, 3, 6, 8)
    for wrong in ("decoder.mid.block_1.conv1.weight", "decoder.conv_in.weight"):
        torch.save({"state_dict": {name: value for name, value in state.items() if name != wrong}}, tmp_path / "x.ckpt")
        with pytest.raises(CheckpointError, match=wrong):
            load_vqgan(tmp_path / "x.ckpt")
    torch.save({"state_dict": state | {"decoder.more": torch.zeros(1)}}, tmp_path / "x.ckpt")
    with pytest.raises(CheckpointError, match="unexpected: decoder.more"):
        load_vqgan(tmp_path / "x.ckpt")
