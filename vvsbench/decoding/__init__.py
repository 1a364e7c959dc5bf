"""Decoding loops: how image tokens are drawn from a target, and what that costs.

Importing this package loads no torch: the verify schedules are settings as much as code, and settings are read at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from vvsbench.config import RunConfig
    from vvsbench.decoding.base import Decoder


def build(cfg: RunConfig, device: torch.device, dtype: torch.dtype) -> Decoder:
    """Load what a run needs and put its decoder together (see `vvsbench.decoding.building`)."""
    from vvsbench.decoding.building import build_decoder
    from vvsbench.models.shelf import SHELF

    with SHELF.decoder():
        return build_decoder(cfg, device, dtype)
