"""Train models of continuous tokens: what the masked and the causal one share.

Training images are kept as their posteriors, encoded once; every step draws its latents from them afresh, so a model
sees the autoencoder's noise and not one draw of it. The loss is the diffusion head's alone.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from vvsbench.models import checkpoints
from vvsbench.models.diffusion import Diffusion
from vvsbench.models.diffusion_head import HeadNetwork
from vvsbench.models.kl_vae import KLAutoencoder
from vvsbench.training.data import data_of
from vvsbench.training.loop import Task, half, pick_device
from vvsbench.training.settings import LatentSettings
from vvsbench.training.target import Average, optimizers
from vvsbench.training.tokens import Rows, load_finished

_PATTERN = 10.0  # size of the constant beside what passes through an untrained head
_SIGNAL = 0.3
_LARGEST_WEIGHT = 100.0
_NOISIEST = 0.03  # share of the tokens that are denoised at the noisiest step

Network = TypeVar("Network", bound=nn.Module)


def load_autoencoder(path: Path) -> tuple[KLAutoencoder, int]:
    """The finished autoencoder; see `vvsbench.training.tokens.load_finished`."""
    return load_finished(KLAutoencoder, path)


class LatentStream:
    """Latents of the first `images` training images; arguments as of `vvsbench.training.tokens.TokenStream`."""

    def __init__(self, folder: Path, images: int, device: torch.device) -> None:
        path = folder / "autoencoder.safetensors"
        self.autoencoder, self.size = load_autoencoder(path)
        self.autoencoder.to(device)
        self.pictures, self.images, self.device = data_of(path), images, device
        self.grid, self.channels = self.size // self.autoencoder.downsample, self.autoencoder.embed_dim
        cache = folder / f"latents-{checkpoints.digest(path)[:16]}.cache"
        self.rows = Rows(cache, 2 * self.grid * self.grid * self.channels, np.float16, self._made)

    @torch.no_grad()
    def posterior(self, indices: Tensor) -> Tensor:
        """Means and standard deviations [B, N, 2 C] of any images, held-out ones too, encoded now."""
        pixels = self.pictures.render(indices.to(self.device), self.size)[0].float() / 127.5 - 1
        mean, log_variance = self.autoencoder.encode(pixels)
        return torch.cat([mean, (log_variance / 2).exp()], 1).flatten(2).transpose(1, 2)

    @staticmethod
    def drawn(posterior: Tensor) -> Tensor:
        """Latents [B, N, C] of posteriors [B, N, 2 C], from torch's global stream."""
        mean, std = posterior.chunk(2, -1)
        return mean + std * torch.randn_like(std)

    def take(self, first: int, count: int) -> tuple[Tensor, Tensor]:
        """Labels int64 [B] and latents [B, N, C] of `count` training images from number `first` on."""
        numbers = (torch.arange(first, first + count) % self.images).tolist()
        stored = torch.from_numpy(self.rows.read(numbers)).to(self.device).float()
        labels = self.pictures.labels_of(torch.tensor(numbers, device=self.device) + self.pictures.TRAIN_FIRST)
        return labels, self.drawn(stored.view(count, -1, 2 * self.channels))

    def _made(self, first: int, count: int) -> np.ndarray[Any, Any]:
        found = self.posterior(torch.arange(first, first + count) + self.pictures.TRAIN_FIRST)
        return found.flatten(1).cpu().numpy()


def initialise(network: nn.Module, head: HeadNetwork) -> None:
    """MAR's initial weights, but for the first prediction of its head: see `_pass_through`."""
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
    _pass_through(head)


@torch.no_grad()
def _pass_through(head: HeadNetwork) -> None:
    """Let the head predict its own input as the noise, almost exactly.

    At the noisiest step that is the answer, and a chain multiplies an error made there by up to 1000. Norms forget the
    length of what they are given, so a head finds it hard to learn. Here a constant pattern, orthogonal to everything
    else and larger, keeps the length; the blocks' own norms take the pattern away again.
    """
    width, channels = head.width, head.channels
    pattern = torch.full((width,), _PATTERN)
    pattern[1::2] *= -1
    basis = torch.linalg.qr(torch.cat([torch.ones(width, 1), pattern[:, None], torch.randn(width, channels)], 1))[0]
    inward = _SIGNAL * width**0.5 * basis[:, 2:]
    head.input_proj.weight.copy_(inward)
    head.input_proj.bias.copy_(pattern)
    layers: Iterable[Any] = head.res_blocks
    for layer in layers:
        layer.in_ln.weight.fill_(_PATTERN / (_SIGNAL * channels**0.5))
        layer.in_ln.bias.copy_(-pattern / (_SIGNAL * channels**0.5))
        nn.init.zeros_(layer.adaLN_modulation[1].weight)
    final: Any = head.final_layer
    nn.init.zeros_(final.adaLN_modulation[1].weight)
    nn.init.zeros_(final.linear.weight)
    final.linear.weight[:channels] = inward.T * (_PATTERN / (_SIGNAL**2 * width))


def denoising_loss(head: HeadNetwork, diffusion: Diffusion, z: Tensor, tokens: Tensor, repeats: int) -> Tensor:
    """Mean loss of denoising tokens [M, C] under conditioning vectors [M, D], each at `repeats` random steps.

    The squared error of the noise has weight 1 / (share of signal left), up to a limit, which gives all steps gradients
    of about the same size: the nearer a step is to pure noise, the less of the noise is in doubt, and the more an error
    there grows along the chain. The noisiest step, with which every chain begins, is drawn more often.
    """
    clean = tokens.repeat(repeats, 1)
    steps = torch.randint(diffusion.steps, (len(clean),), device=clean.device)
    steps = torch.where(torch.rand(len(clean), device=clean.device) < _NOISIEST, diffusion.steps - 1, steps)
    noise = torch.randn_like(clean)
    times = head.time_embed(diffusion.timesteps.to(clean.device))[steps]
    conditions = head.cond_embed(z).repeat(repeats, 1)
    predicted = head(diffusion.noised(clean, noise, steps), times, conditions).float()
    weight = diffusion.alpha_bars.rsqrt().clamp_max(_LARGEST_WEIGHT).to(noise)[steps]
    error = (predicted[:, : head.channels] - noise).square().mean(-1)
    return (diffusion.loss(clean, noise, steps, predicted) + (weight - 1) * error).mean()


class LatentTask(Task, Generic[Network]):
    """A network of continuous tokens and its training state.

    Args:
        settings: of the training.
    """

    def __init__(self, settings: LatentSettings) -> None:
        torch.manual_seed(settings.seed)
        self.settings, self.device = settings, pick_device(settings.device)
        self.data = LatentStream(Path(settings.folder), settings.images, self.device)
        self.diffusion = Diffusion()
        self.network = self.built()
        head = self.head(self.network)
        initialise(self.network, head)
        self.network.to(self.device)
        self.averaged = Average(self.network, settings.average)
        self.module = nn.ModuleDict({"network": self.network, "average": self.averaged.average})
        inside = {id(p) for name, p in self.network.named_parameters() if self._is_inner(name, p)}
        matrices = [p for p in self.network.parameters() if id(p) in inside]
        others = [p for p in self.network.parameters() if id(p) not in inside]
        self.optimizers = optimizers(matrices, others, settings.learning_rate, settings.weight_decay)

    @staticmethod
    def _is_inner(name: str, parameter: nn.Parameter) -> bool:
        """Whether it is a matrix between hidden states, as opposed to an embedding, a norm or an output."""
        stacks = ("encoder_blocks", "decoder_blocks", "layers", "res_blocks")
        return parameter.ndim == 2 and any(stack in name.split(".") for stack in stacks)

    @property
    @abstractmethod
    def no_class(self) -> int:
        """The label of no class."""

    @abstractmethod
    def built(self) -> Network:
        """The untrained network; sets `config`."""

    @abstractmethod
    def conditioned(self, network: Network, labels: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Conditioning vectors [M, D] and the tokens [M, C] to be denoised under them, of a batch.

        Args:
            network: the one trained or its average.
            labels: int64 [B], `no_class` for none.
            tokens: [B, N, C].
        """

    @staticmethod
    def head(network: Network) -> HeadNetwork:
        """The network's diffusion head."""
        held: Any = network
        head: HeadNetwork = held.diffloss.net
        return head

    def batch_loss(self, network: Network, labels: Tensor, tokens: Tensor) -> Tensor:
        """Mean loss of a batch; arguments as of `conditioned`."""
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.settings.bf16):
            z, clean = self.conditioned(network, labels, tokens)
            return denoising_loss(self.head(network), self.diffusion, z, clean, self.settings.repeats)

    def loss(self, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        batch = self.settings.batch_size
        labels, tokens = self.data.take(step * batch, batch)
        dropped = torch.rand(batch, device=self.device) < self.settings.label_drop
        labels = torch.where(dropped, torch.full_like(labels, self.no_class), labels)
        return self.batch_loss(self.network, labels, tokens), {}

    def after_step(self, step: int) -> None:
        self.averaged.update(step)

    def result(self) -> dict[str, Tensor]:
        return half(self.averaged.average.state_dict())

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Denoising loss on 1024 held-out images, with and without their class, at the same noise."""
        sums = {"held_out_loss": 0.0, "held_out_loss_without_class": 0.0}
        for start in range(0, 1024, 128):
            indices = torch.arange(start, start + 128, device=self.device) + self.data.pictures.HELD_OUT_FIRST
            labels, posterior = self.data.pictures.labels_of(indices), self.data.posterior(indices)
            for key, given in zip(sums, (labels, torch.full_like(labels, self.no_class)), strict=True):
                torch.manual_seed(start)
                tokens = self.data.drawn(posterior)
                sums[key] += float(self.batch_loss(self.averaged.average, given, tokens)) / 8
        return sums
