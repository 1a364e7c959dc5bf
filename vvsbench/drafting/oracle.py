"""The target as its own drafter, with noise on its logits: a drafter whose quality is a number one can turn.

At noise 0 it drafts what the target will draw; with more noise it agrees less. Its calls are calls of a drafter: they
go through a module of their own, so that those who count the target's calls, or time them, do not see them.
"""

from __future__ import annotations

from torch import Tensor, nn

from vvsbench.drafting.ar import SmallARSource
from vvsbench.drafting.cached import CachedState
from vvsbench.models.llamagen import LlamaGen
from vvsbench.models.stages import Engine
from vvsbench.models.transformer import Step, Transformer
from vvsbench.noise import Purpose, normal


class Unhooked(nn.Module):
    """Another module's forward without the hooks that hang on that module, and without owning its weights."""

    def __init__(self, transformer: Transformer) -> None:
        super().__init__()
        self._run = transformer.forward

    def forward(self, x: Tensor, step: Step) -> Tensor:
        """See `Transformer.forward`."""
        return self._run(x, step)


class OracleSource(SmallARSource):
    """The target's network over a cache of its own, plus a fixed noise.

    Args:
        target: whose weights are used.
        noise: standard deviation of the noise on the guided logits.
        seed: of the noise, which is keyed by image, position and token: it does not depend on the batch or the tree.
    """

    def __init__(self, target: LlamaGen, noise: float, seed: int) -> None:
        super().__init__(target.transformer, target, Unhooked(target.transformer))
        self.noise, self.seed = noise, seed

    def run_by(self, engine: Engine) -> None:
        """See `CachedSource.run_by`; the target's network is run by it already."""

    def _head(self, state: CachedState, outputs: Tensor, index: Tensor) -> Tensor:
        logits = super()._head(state, outputs, index)
        if self.noise == 0:
            return logits
        return logits + self.noise * normal(self.seed, state.keys, index, self.sizes.vocab, Purpose.ORACLE).to(
            logits.dtype
        )
