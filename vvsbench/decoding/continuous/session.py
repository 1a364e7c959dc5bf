"""A model at work on a batch: the few moves that every continuous decoder is made of.

One class serves target and draft, so both arms run the same code; they differ in their weights and, where trajectories
are not aligned, in whose noise they are given.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from vvsbench.decoding.continuous.draws import Draws
from vvsbench.decoding.continuous.reveal import Reveal
from vvsbench.decoding.finite import latents
from vvsbench.decoding.phases import Phase, phase
from vvsbench.models.diffusion import Moments
from vvsbench.models.latents import LatentModel, Wanted, head_call
from vvsbench.noise import Purpose


class Session:
    """A model, its batch and its noise.

    Args:
        model: target or draft.
        reveal: how many tokens each AR step decides.
        draws: the random numbers.
        conditions: class ids [B].
        images: indices of the images.
        path: int64 [B, N].
        purpose: whose noise the head is given.
        phases: what the transformer's and the head's work is counted as.

    Attributes:
        state: of the batch.
        keys: int64 [B], indices of the images in the rows, on the device.
    """

    def __init__(
        self,
        model: LatentModel[Any],
        reveal: Reveal,
        draws: Draws,
        conditions: Tensor,
        images: Sequence[int],
        path: Tensor,
        purpose: Purpose = Purpose.HEAD,
        phases: tuple[Phase, Phase] = (Phase.verify, Phase.sampling),
    ) -> None:
        self.model, self.reveal, self.draws, self.purpose = model, reveal, draws, purpose
        self.phases = phases
        self.state = model.start(conditions, images, path)
        self.keys = torch.tensor(list(images), device=path.device)

    def moments(self, wanted: Wanted, steps: list[int], drafts: Tensor | None = None) -> tuple[Moments, Tensor]:
        """Run transformer and head for the wanted tokens.

        Args:
            wanted: M tokens.
            steps: AR step by which each is guided, M numbers.
            drafts: see `LatentModel.predict`.

        Returns:
            The last transition of each, and its noise [M, C].
        """
        with phase(self.phases[0]):
            z = self.model.predict(self.state, wanted, drafts)
        with phase(self.phases[1]):
            head = self.model.head
            noise = self.draws.head(self.keys[wanted.rows], wanted.positions, head.steps, self.purpose)
            moments = head.denoise(z, noise, self._scales(steps, z.device), head_call(self.model, self.state, wanted))
            return moments, noise[0].to(moments.mean.dtype)

    def _scales(self, steps: list[int], device: torch.device) -> Tensor | None:
        """Guidance scales [M] of tokens of these AR steps; None without guidance."""
        if self.model.guidance.branches == 1:
            return None
        if len(set(steps)) == 1:  # needs nothing from the host
            return torch.full((len(steps),), self.reveal.scales[steps[0]], device=device, dtype=torch.float32)
        return torch.tensor([self.reveal.scales[step] for step in steps], device=device, dtype=torch.float32)

    def decide(self, wanted: Wanted, tokens: Tensor) -> None:
        """Write tokens [M, C] and count them all as decided."""
        self.state.write(wanted, tokens)
        totals = [count + sum(sizes) for count, sizes in zip(self.state.counts, wanted.sizes, strict=True)]
        self.model.keep(self.state, totals)

    def step(self, steps: Sequence[int | None], last_noise: bool) -> tuple[Wanted, Moments]:
        """One AR step of the model by itself: predict the next tokens and decide them.

        Args:
            steps: AR step of each row; None for a row that takes no part.
            last_noise: whether the last head step adds its noise.
        """
        sizes = [[] if step is None else [self.reveal.size(step)] for step in steps]
        wanted = self.state.wanted(sizes)
        per_token = [step for step in steps if step is not None for _ in range(self.reveal.size(step))]
        moments, noise = self.moments(wanted, per_token)
        with phase(Phase.commit):
            self.decide(wanted, moments.mean + moments.std * noise if last_noise else moments.mean)
        return wanted, moments

    def check(self, role: str, wanted: Wanted, tokens: Tensor) -> None:
        """Look for tokens that are not finite, among those decided and the wanted ones [M, C]. Reads the device.

        Args:
            role: of the model, for the message.
            wanted: M tokens.
            tokens: that the model gave for them.

        Raises:
            NotFiniteError: there are some; the first in the image's order is named.
        """
        everything = self.state.tokens.index_put((wanted.rows, wanted.positions), tokens.to(self.state.tokens.dtype))
        latents(self.model, role, everything, self.state.path).check(self.state.images)

    def admit(self, rows: list[int], conditions: Tensor, images: Sequence[int], path: Tensor) -> None:
        """Begin other images in some rows; the arguments are those of `__init__`, of these images."""
        self.model.admit(self.state, rows, conditions, images, path)
        index = torch.tensor(rows, device=self.keys.device)
        self.keys = self.keys.index_copy(0, index, torch.tensor(list(images), device=index.device))

    def select(self, rows: list[int]) -> None:
        """Keep only these rows."""
        self.model.select(self.state, rows)
        self.keys = self.keys[torch.tensor(rows, dtype=torch.long, device=self.keys.device)]


def paths(draws: Draws, images: Sequence[int], tokens: int, raster: bool, device: torch.device) -> Tensor:
    """The order in which each image's positions are decided, int64 [B, N]."""
    if raster:
        return torch.arange(tokens, device=device).expand(len(images), -1)
    return draws.path(torch.tensor(list(images), device=device), tokens)
