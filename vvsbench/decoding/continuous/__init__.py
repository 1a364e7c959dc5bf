"""Speculative decoding of continuous tokens: the rules that judge drafted tokens, and the loops that apply them.

Importing this package loads no torch, because the decoders' settings lie in it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from vvsbench.config import RunConfig
    from vvsbench.decoding.base import Decoder


def build(cfg: RunConfig, device: torch.device, dtype: torch.dtype) -> Decoder:
    """Load what a run needs and put its decoder together (see `vvsbench.decoding.continuous.building`)."""
    from vvsbench.decoding.continuous.building import build_continuous

    return build_continuous(cfg, device, dtype)
