"""Train the KL autoencoder: reconstruct the picture and its edges from a noisy latent, kept near a standard normal.

The noise is the point. A decoder trained on samples of a wide posterior forgives small errors of the latents, which a
diffusion head always makes, and latents that bear noise vary smoothly.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor

from vvsbench.models.kl_vae import KLAutoencoder
from vvsbench.training.data import data_set
from vvsbench.training.loop import Task, half, pick_device
from vvsbench.training.settings import AutoencoderSettings
from vvsbench.training.tokenizer import picture_loss

_MEASURED = 2048  # images whose latents are made standard, and as many held-out ones for the card
_BATCH = 256
_LAYOUT = torch.channels_last  # the faster one on CPUs


@torch.no_grad()
def standardise(autoencoder: KLAutoencoder, mean: Tensor, std: Tensor) -> None:
    """Shift and scale the latents of an autoencoder, in place; what it decodes them to stays the same.

    Args:
        autoencoder: with latents x, of which (x - mean) / std are to be the new ones.
        mean: [C], per channel.
        std: [C].
    """
    inward, outward = autoencoder.quant_conv, autoencoder.post_quant_conv
    assert inward.bias is not None
    assert outward.bias is not None
    channels = len(mean)
    inward.weight[:channels] /= std[:, None, None, None]
    inward.bias[:channels] = (inward.bias[:channels] - mean) / std
    inward.bias[channels:] -= 2 * std.log()
    outward.bias += (outward.weight * mean[None, :, None, None]).sum((1, 2, 3))
    outward.weight *= std[None, :, None, None]


class AutoencoderTask(Task):
    """The autoencoder and its training state."""

    def __init__(self, settings: AutoencoderSettings) -> None:
        torch.manual_seed(settings.seed)
        self.settings = settings
        self.device, self.images = pick_device(settings.device), data_set(settings.data_set)
        self.config = {
            "embed_dim": settings.embed_dim,
            "base_channels": settings.base_channels,
            "channel_multipliers": list(settings.channel_multipliers),
            "residual_blocks": settings.residual_blocks,
            "patch": settings.patch,
        }
        self.module = self.autoencoder = KLAutoencoder(**self.config).to(self.device).to(memory_format=_LAYOUT)
        rate = settings.learning_rate
        self.optimizers = [torch.optim.AdamW(self.module.parameters(), rate, betas=(0.9, 0.99), weight_decay=1e-4)]

    def _pixels(self, first: int, count: int) -> Tensor:
        indices = torch.arange(first, first + count, device=self.device)
        images = self.images.render(indices, self.settings.size)[0].to(memory_format=_LAYOUT)
        return images.float() / 127.5 - 1

    def loss(self, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        settings = self.settings
        pixels = self._pixels(self.images.TRAIN_FIRST + step * settings.batch_size, settings.batch_size)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=settings.bf16):
            mean, log_variance = self.autoencoder.encode(pixels)
        mean, log_variance = mean.float(), log_variance.float()
        std = (log_variance / 2).exp()
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=settings.bf16):
            rebuilt = self.autoencoder.decode(mean + std * torch.randn_like(std))
        picture, psnr = picture_loss(rebuilt.float(), pixels, settings.edge_weight)
        divergence = (mean.square() + std.square() - 1 - log_variance).mean() / 2
        return picture + settings.kl_weight * divergence, {"psnr": psnr, "std": std.detach().mean(), "kl": divergence}

    @torch.no_grad()
    def _posterior(self, first: int) -> tuple[Tensor, Tensor]:
        """Means and standard deviations, each [C, n], of all latents of some images."""
        parts = [self.autoencoder.encode(self._pixels(first + n, _BATCH)) for n in range(0, _MEASURED, _BATCH)]
        means, logs = (torch.cat(part).transpose(0, 1).flatten(1) for part in zip(*parts, strict=True))
        return means, (logs / 2).exp()

    def result(self) -> dict[str, Tensor]:
        """Weights whose latents have mean 0 and standard deviation 1 in every channel."""
        means, stds = self._posterior(self.images.TRAIN_FIRST)
        total = (means.var(1) + stds.square().mean(1)).sqrt()
        standard = copy.deepcopy(self.autoencoder)
        standardise(standard, means.mean(1), total)
        return half(standard.state_dict())

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """On 2048 held-out images: PSNR from means and from samples, and how wide the posterior is."""
        shipped = copy.deepcopy(self.autoencoder)
        shipped.load_state_dict({key: value.float() for key, value in self.result().items()})
        errors, noisy, widths = [], [], []
        for start in range(0, _MEASURED, _BATCH):
            pixels = self._pixels(self.images.HELD_OUT_FIRST + start, _BATCH)
            mean, log_variance = shipped.encode(pixels)
            std = (log_variance / 2).exp()
            sample = mean + std * torch.randn_like(std)
            errors.append(F.mse_loss(shipped.decode(mean).clamp(-1, 1), pixels))
            noisy.append(F.mse_loss(shipped.decode(sample).clamp(-1, 1), pixels))
            widths.append(std.mean())
        return {
            "psnr": float(-10 * torch.log10(torch.stack(errors).mean() / 4)),
            "psnr_of_samples": float(-10 * torch.log10(torch.stack(noisy).mean() / 4)),
            "posterior_std": float(torch.stack(widths).mean()),
        }
