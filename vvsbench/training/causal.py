"""Train the causal continuous model and its draft: denoise every token given those before it."""

from __future__ import annotations

from dataclasses import asdict

from torch import Tensor

from vvsbench.models.causal import CausalNetwork, CausalSizes
from vvsbench.training.latents import LatentTask
from vvsbench.training.settings import CausalSettings


class CausalTask(LatentTask[CausalNetwork]):
    """The causal model and its training state."""

    settings: CausalSettings

    @property
    def no_class(self) -> int:
        """See `LatentTask.no_class`; the class after the last."""
        return self.data.pictures.NUM_CLASSES

    def built(self) -> CausalNetwork:
        settings = self.settings
        sizes = CausalSizes(
            grid=self.data.grid,
            channels=self.data.channels,
            classes=self.data.pictures.NUM_CLASSES,
            dim=settings.dim,
            layers=settings.layers,
            heads=settings.heads,
            head_depth=settings.head_depth,
            head_width=settings.head_width,
        )
        self.config = asdict(sizes)
        return CausalNetwork(sizes)

    def conditioned(self, network: CausalNetwork, labels: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        return network.features(labels, tokens).flatten(0, 1), tokens.flatten(0, 1)
