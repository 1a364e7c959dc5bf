"""Settings of every training, as dataclasses that check a configuration before torch is imported."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class LoopSettings:
    """What all trainings share.

    Attributes:
        part: which one of the zoo's parts is trained.
        folder: where finished weights go, and where parts trained before are looked for.
        overwrite: train again although the finished file exists.
        seed: of initialisation, data and noise.
        steps: optimiser steps in all.
        batch_size: images per step.
        learning_rate: peak, after `warmup` steps; it falls linearly to zero over the last `decay` share of the steps.
        clip: largest norm of the gradient.
        device: cpu, cuda or auto.
        bf16: compute forwards in bfloat16 where that is safe.
        checkpoint_seconds: time between the states from which an interrupted training goes on.
        log_seconds: time between lines of the log when the output is not a terminal.
    """

    part: str = "???"
    folder: str = "outputs/zoo"
    overwrite: bool = False
    seed: int = 0
    steps: int = 1000
    batch_size: int = 128
    learning_rate: float = 1e-3
    warmup: int = 100
    decay: float = 0.3
    clip: float = 1.0
    device: str = "auto"
    bf16: bool = True
    checkpoint_seconds: float = 30.0
    log_seconds: float = 15.0

    @property
    def finished(self) -> Path:
        """The file that the training ends with."""
        return Path(self.folder) / f"{self.part}.safetensors"


@dataclass
class TokenizerSettings(LoopSettings):
    """The VQ tokenizer; sizes as in `vvsbench.models.vq.VQTokenizer`."""

    size: int = 32
    codebook_size: int = 512
    codebook_dim: int = 8
    z_channels: int = 64
    base_channels: int = 32
    channel_multipliers: list[int] = field(default_factory=lambda: [1, 2, 2])
    residual_blocks: int = 1
    edge_weight: float = 1.0
    commitment: float = 0.25
    codebook_decay: float = 0.98
    continuous_steps: int = 150
