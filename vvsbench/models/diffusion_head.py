"""The diffusion head of MAR: a small residual network that turns a conditioning vector into a continuous token.

Names and layout are those of the official checkpoints (`diffloss.net.*`). What does not change along the chain is
computed once: the embedding of every time step once per model, the projection of the conditioning vector once per
token. Both guided branches share the noisy token, so its projection is made once as well.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vvsbench.models.diffusion import Diffusion, Moments

_EPS = 1e-6
_FREQUENCIES = 256
_PERIOD = 10000.0

StepNoise = Callable[[int], Tensor]
"""The noise [M, C] of a head step; S - 1 is the first taken, 0 the last, S the noise that the chain starts from."""


@dataclass(frozen=True)
class Call:
    """What one evaluation of a network is charged to and costs; handed to the network so that a hook can read it.

    Attributes:
        images: index of the image of every row, guided branches counted as one row.
        positions: token positions per row.
        flops: multiply-adds x 2 per row, all branches.
    """

    images: tuple[int, ...]
    positions: int
    flops: float


class TimeEmbedding(nn.Module):
    """Original step numbers to vectors: sinusoids (cosines first), then two layers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(_FREQUENCIES, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, timesteps: Tensor) -> Tensor:
        half = _FREQUENCIES // 2
        frequencies = torch.exp(-math.log(_PERIOD) * torch.arange(half, dtype=torch.float32) / half)
        angles = timesteps[:, None].float() * frequencies.to(timesteps.device)
        return self.mlp(torch.cat([angles.cos(), angles.sin()], -1).to(next(self.mlp.parameters()).dtype))


class ResidualLayer(nn.Module):
    """norm, scale and shift by the condition, two layers, gated by the condition, added to the input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.in_ln = nn.LayerNorm(width, eps=_EPS)
        self.mlp = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 3 * width))

    def forward(self, x: Tensor, activated: Tensor) -> Tensor:
        shift, scale, gate = self.adaLN_modulation[1](activated).chunk(3, -1)
        return torch.addcmul(x, gate, self.mlp(torch.addcmul(shift, self.in_ln(x), 1 + scale)))


class FinalLayer(nn.Module):
    """norm without weights, scale and shift by the condition, projection to (eps, variance logits)."""

    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, channels)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))

    def forward(self, x: Tensor, activated: Tensor) -> Tensor:
        shift, scale = self.adaLN_modulation[1](activated).chunk(2, -1)
        return self.linear(torch.addcmul(shift, F.layer_norm(x, x.shape[-1:], eps=_EPS), 1 + scale))


class HeadNetwork(nn.Module):
    """One denoising evaluation.

    Args:
        channels: of a token, C.
        condition: width of the conditioning vector, D.
        depth, width: of the network.
    """

    def __init__(self, channels: int, condition: int, depth: int, width: int) -> None:
        super().__init__()
        self.channels, self.width, self.depth = channels, width, depth
        self.time_embed = TimeEmbedding(width)
        self.cond_embed = nn.Linear(condition, width)
        self.input_proj = nn.Linear(channels, width)
        self.res_blocks = nn.ModuleList(ResidualLayer(width) for _ in range(depth))
        self.final_layer = FinalLayer(width, 2 * channels)

    def forward(self, x: Tensor, times: Tensor, conditions: Tensor, call: Call | None = None) -> Tensor:
        """Predict noise and variance logits.

        Args:
            x: noisy tokens [M, C].
            times: embedded time, [M, W] or [1, W] (`time_embed`).
            conditions: embedded conditioning vectors [G * M, W], branch by branch (`cond_embed`).
            call: what the evaluation is charged to; read by hooks only.

        Returns:
            [G * M, 2 C].
        """
        branches = len(conditions) // len(x)
        hidden = self.input_proj(x).repeat(branches, 1)
        activated = F.silu(times + conditions)
        for block in self.res_blocks:
            hidden = block(hidden, activated)
        return self.final_layer(hidden, activated)

    @property
    def flops(self) -> float:
        """Of one evaluation of one token in one branch."""
        inside = self.depth * 5 * self.width**2 + 2 * self.width**2
        return 2.0 * (inside + 3 * self.channels * self.width)


class DiffusionLoss(nn.Module):
    """Holds the network under the name that it has in the official checkpoints."""

    def __init__(self, network: HeadNetwork) -> None:
        super().__init__()
        self.net = network


def wider(dtype: torch.dtype) -> torch.dtype:
    """What tokens and their densities are kept in: float32, or float64 of a float64 model.

    A last transition is 0.006 wide; a token rounded to bfloat16 would have no density that means anything.
    """
    return torch.float64 if dtype == torch.float64 else torch.float32


class DiffusionHead:
    """Samples tokens by a chain of S evaluations.

    Args:
        network: with its weights.
        steps: S, the head steps.
        temperature: factor of every sigma.
    """

    def __init__(self, network: HeadNetwork, steps: int, temperature: float) -> None:
        self.network, self.temperature = network, temperature
        self.diffusion = Diffusion(steps)
        device = network.input_proj.weight.device
        with torch.no_grad():
            self._times = network.time_embed(self.diffusion.timesteps.to(device))

    @property
    def steps(self) -> int:
        """Head steps, S."""
        return self.diffusion.steps

    def denoise(self, z: Tensor, noise: StepNoise, scale: Tensor | None = None, call: Call | None = None) -> Moments:
        """Run the chain up to its last transition, whose noise is left to the caller.

        Args:
            z: conditioning vectors [G, M, D]; branch 0 is the conditional one, branch 1 that without a class.
            noise: of each step.
            scale: guidance scale of each token [M]; None without guidance (then G is 1). Guidance acts on the predicted
                noise; the variance is the conditional branch's (MAR, section 3.4 of its code's sampler).
            call: what each evaluation is charged to.
        """
        conditions = self.network.cond_embed(z.flatten(0, 1))
        wide = wider(z.dtype)
        x = noise(self.steps).to(wide)
        total = torch.zeros_like(x)
        weight = None if scale is None else scale[:, None].to(wide)
        for step in reversed(range(self.steps)):
            out = self.network(x.to(z.dtype), self._times[step : step + 1], conditions, call).to(wide)
            eps, logits = out[: len(x)].chunk(2, -1)
            if weight is not None:
                eps = torch.lerp(out[len(x) :, : eps.shape[-1]], eps, weight)
            mean, log_std = self.diffusion.mean(x, eps, step), self.diffusion.log_std(logits, step)
            std = log_std.exp() * self.temperature
            if step == 0:
                break
            total = total + log_std
            x = mean + std * noise(step).to(wide)
        return Moments(mean, std, total)
