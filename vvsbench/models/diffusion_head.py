"""The diffusion head of MAR: a small residual network that turns a conditioning vector into a continuous token.

Names and layout are those of the official checkpoints (`diffloss.net.*`). What does not change along the chain is
computed once: the embedding of every time step once per model, the projection of the conditioning vector once per
token. Both guided branches share the noisy token, so its projection is made once as well. And what a layer does to its
input depends on the time step and the conditioning vector alone, so it is known for many steps before the first one is
taken: 3/5 of the weights are read once for all of them instead of once per step.

A chain has a fixed shape, its coefficients are plain numbers, its noise is drawn before it starts, and nothing in it
asks the host: an engine may record it as a whole (`Stage`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vvsbench.models.diffusion import Diffusion, Moments
from vvsbench.models.stages import Call, Engine, Stage

_EPS = 1e-6
_FREQUENCIES = 256
_PERIOD = 10000.0

AHEAD = 1 << 23
"""Numbers that are made of the conditioning vectors at a time, for as many head steps as they suffice: 32 MB."""


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

    def modulation(self, activated: Tensor) -> Tensor:
        """Shift, 1 + scale and gate side by side, [..., 3 W], of activated conditions [..., W]."""
        return _with_one_added(self.adaLN_modulation[1](activated), self.in_ln.normalized_shape[0])

    def forward(self, x: Tensor, modulation: Tensor) -> Tensor:
        shift, scale, gate = modulation.chunk(3, -1)
        return torch.addcmul(x, gate, self.mlp(torch.addcmul(shift, self.in_ln(x), scale)))


class FinalLayer(nn.Module):
    """norm without weights, scale and shift by the condition, projection to (eps, variance logits)."""

    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, channels)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))

    def modulation(self, activated: Tensor) -> Tensor:
        """Shift and 1 + scale side by side, [..., 2 W], of activated conditions [..., W]."""
        return _with_one_added(self.adaLN_modulation[1](activated), self.linear.in_features)

    def forward(self, x: Tensor, modulation: Tensor) -> Tensor:
        shift, scale = modulation.chunk(2, -1)
        return self.linear(torch.addcmul(shift, F.layer_norm(x, x.shape[-1:], eps=_EPS), scale))


def _with_one_added(modulation: Tensor, width: int) -> Tensor:
    """Add 1 to the scales [..., width to 2 width], in place: a scale of 0 leaves the input as it is."""
    modulation.narrow(-1, width, width).add_(1)
    return modulation


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

    def forward(self, x: Tensor, times: Tensor, conditions: Tensor) -> Tensor:
        """Predict noise and variance logits.

        Args:
            x: noisy tokens [M, C].
            times: embedded time, [M, W] or [1, W] (`time_embed`).
            conditions: embedded conditioning vectors [G * M, W], branch by branch (`cond_embed`).

        Returns:
            [G * M, 2 C].
        """
        return self.evaluate(x, self.modulations(times, conditions))

    def modulations(self, times: Tensor, conditions: Tensor) -> list[Tensor]:
        """What each layer does to its input, the last layer's at the end: [..., 3 W] each, of the last one [..., 2 W].

        Args:
            times, conditions: as of `forward`, or broadcasting against each other in front.
        """
        activated = F.silu(times + conditions)
        return [layer.modulation(activated) for layer in self.layers]

    def evaluate(self, x: Tensor, modulations: Sequence[Tensor]) -> Tensor:
        """Like `forward`, of [G * M, ...] modulations."""
        branches = len(modulations[0]) // len(x)
        hidden = self.input_proj(x)
        hidden = hidden.repeat(branches, 1) if branches > 1 else hidden
        for layer, modulation in zip(self.layers, modulations, strict=True):
            hidden = layer(hidden, modulation)
        return hidden

    @property
    def layers(self) -> list[ResidualLayer | FinalLayer]:
        """All layers that are modulated, in order."""
        return [*self.res_blocks, self.final_layer]

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


class _Evaluation(nn.Module):
    """One evaluation of a network as a module of its own, which an engine can compile."""

    def __init__(self, network: HeadNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, modulations: Sequence[Tensor]) -> Tensor:
        return self.network.evaluate(x, modulations)


class DiffusionHead:
    """Samples tokens by a chain of S evaluations.

    Args:
        network: with its weights.
        steps: S, the head steps.
        temperature: factor of every sigma.
        engine: that runs the chains; None to run them operation by operation.

    Attributes:
        counted: its calls are chains.
    """

    def __init__(self, network: HeadNetwork, steps: int, temperature: float, engine: Engine | None = None) -> None:
        self.network, self.temperature = network, temperature
        self.diffusion = Diffusion(steps)
        device = network.input_proj.weight.device
        with torch.no_grad():
            self._times = network.time_embed(self.diffusion.timesteps.to(device))
        self.counted = Stage(self._chain, rows=(1, 1, 0), engine=engine)
        evaluation = _Evaluation(network)
        self._evaluate = evaluation if engine is None else engine.network(evaluation)

    @property
    def steps(self) -> int:
        """Head steps, S."""
        return self.diffusion.steps

    @property
    def flops(self) -> float:
        """Multiply-adds x 2 of one evaluation of one token in one branch."""
        return self.network.flops

    def denoise(self, z: Tensor, noise: Tensor, scale: Tensor | None = None, call: Call | None = None) -> Moments:
        """Run the chain up to its last transition, whose noise is left to the caller.

        Args:
            z: conditioning vectors [G, M, D]; branch 0 is the conditional one, branch 1 that without a class.
            noise: [S + 1, M, C], of each step: S - 1 is the first taken, 0 the last (not read here), S the noise that
                the chain starts from.
            scale: guidance scale of each token [M]; None without guidance (then G is 1). Guidance acts on the predicted
                noise; the variance is the conditional branch's (MAR, section 3.4 of its code's sampler).
            call: what the chain is charged to.
        """
        return Moments(*self.counted(call, z, noise, scale))

    def _chain(self, z: Tensor, noise: Tensor, scale: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        wide = wider(z.dtype)
        noise = noise.to(wide)
        x, weight = noise[self.steps], None if scale is None else scale[:, None].to(wide)
        total = torch.zeros_like(x)
        for step, modulations in self._modulations(z):
            out = self._evaluate(x.to(z.dtype), modulations).to(wide)
            eps, logits = out[: len(x)].chunk(2, -1)
            if weight is not None:
                eps = torch.lerp(out[len(x) :, : eps.shape[-1]], eps, weight)
            at = self.diffusion.transitions[step]
            mean = torch.sub(x * at.on_x, eps, alpha=at.on_eps)
            log_std = logits * at.slope + at.level
            std = log_std.exp() * self.temperature
            if step:
                total = total + log_std
                x = torch.addcmul(mean, std, noise[step])
        return mean, std, total

    def _modulations(self, z: Tensor) -> Iterator[tuple[int, list[Tensor]]]:
        """Every step, from the first one taken, with what it does to the layers' inputs, [G * M, ...] each."""
        network = self.network
        conditions = network.cond_embed(z.flatten(0, 1))
        ahead = max(1, AHEAD // (len(conditions) * (3 * network.depth + 2) * network.width))
        for end in range(self.steps, 0, -ahead):
            first = max(0, end - ahead)
            known = network.modulations(self._times[first:end, None], conditions)
            for step in reversed(range(first, end)):
                yield step, [each[step - first] for each in known]
