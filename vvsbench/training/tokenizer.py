"""Train the VQ tokenizer: reconstruct the picture and its edges through a codebook kept by moving averages."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vvsbench.models.vq import VQModel
from vvsbench.training.data import data_set
from vvsbench.training.loop import Task, half, pick_device
from vvsbench.training.settings import TokenizerSettings


class MovingCodebook(nn.Module):
    """Codes as moving averages of the unit latents that chose them; codes that nothing chooses are moved onto data."""

    count: Tensor
    total: Tensor

    def __init__(self, codes: int, width: int, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("count", torch.zeros(codes))
        self.register_buffer("total", torch.zeros(codes, width))

    @torch.no_grad()
    def start(self, weight: Tensor, latents: Tensor) -> None:
        """Put every code onto some latent of the first batch."""
        chosen = latents[torch.randperm(len(latents), device=latents.device)[: len(weight)]]
        weight.copy_(chosen)
        self.total.copy_(chosen)
        self.count.fill_(1.0)

    @torch.no_grad()
    def update(self, weight: Tensor, latents: Tensor, indices: Tensor) -> None:
        """Move `weight` [K, C] towards unit latents [M, C] with their codes int64 [M]."""
        chosen = torch.zeros_like(self.count).index_add_(0, indices, torch.ones_like(latents[:, 0]))
        sums = torch.zeros_like(self.total).index_add_(0, indices, latents)
        self.count.lerp_(chosen, 1 - self.decay)
        self.total.lerp_(sums, 1 - self.decay)
        dead = self.count < 0.05 * len(latents) / len(weight)
        spare = latents[torch.randint(len(latents), (len(weight),), device=latents.device)]
        typical = self.count.mean()
        self.total.copy_(torch.where(dead[:, None], spare * typical, self.total))
        self.count.copy_(torch.where(dead, typical, self.count))
        weight.copy_(F.normalize(self.total, dim=-1))


def edges(pictures: Tensor) -> tuple[Tensor, Tensor]:
    """Differences between neighbouring pixels, along and across rows."""
    return pictures[..., 1:] - pictures[..., :-1], pictures[..., 1:, :] - pictures[..., :-1, :]


def picture_loss(rebuilt: Tensor, pixels: Tensor, edge_weight: float) -> tuple[Tensor, Tensor]:
    """What pictures [B, 3, S, S] in [-1, 1] differ in, pixels and edges, and the PSNR in dB (without gradient)."""
    picture = (rebuilt - pixels).abs().mean() + 2.0 * F.mse_loss(rebuilt, pixels)
    edge = sum((a - b).abs().mean() for a, b in zip(edges(rebuilt), edges(pixels), strict=True))
    psnr = -10 * torch.log10(F.mse_loss(rebuilt.detach().clamp(-1, 1), pixels) / 4)
    return picture + edge_weight * edge, psnr


class TokenizerTask(Task):
    """The tokenizer and its training state."""

    def __init__(self, settings: TokenizerSettings) -> None:
        torch.manual_seed(settings.seed)
        self.settings = settings
        self.device, self.images = pick_device(settings.device), data_set(settings.data_set)
        self.config = {
            "codebook_size": settings.codebook_size,
            "codebook_dim": settings.codebook_dim,
            "z_channels": settings.z_channels,
            "base_channels": settings.base_channels,
            "channel_multipliers": list(settings.channel_multipliers),
            "residual_blocks": settings.residual_blocks,
            "patch": settings.patch,
        }
        self.tokenizer = VQModel(**self.config)
        self.codebook = MovingCodebook(settings.codebook_size, settings.codebook_dim, settings.codebook_decay)
        self.module = nn.ModuleDict({"tokenizer": self.tokenizer, "codebook": self.codebook}).to(self.device)
        self.tokenizer.quantize.embedding.weight.requires_grad_(False)
        trained = [p for p in self.tokenizer.parameters() if p.requires_grad]
        self.optimizers = [torch.optim.AdamW(trained, settings.learning_rate, betas=(0.9, 0.99), weight_decay=1e-4)]
        self._chosen: tuple[Tensor, Tensor] | None = None

    def _pixels(self, first: int, count: int) -> Tensor:
        """Images in [-1, 1], float32 [B, 3, S, S], from number `first` on."""
        indices = torch.arange(first, first + count, device=self.device)
        return self.images.render(indices, self.settings.size)[0].float() / 127.5 - 1

    def loss(self, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        settings = self.settings
        pixels = self._pixels(self.images.TRAIN_FIRST + step * settings.batch_size, settings.batch_size)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=settings.bf16):
            latents = self.tokenizer.latents(pixels)
        unit = F.normalize(latents.float(), dim=1)
        straight, commitment = self._quantise(step, unit)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=settings.bf16):
            rebuilt = self.tokenizer.decode(straight)
        picture, psnr = picture_loss(rebuilt.float(), pixels, settings.edge_weight)
        return picture + settings.commitment * commitment, {"psnr": psnr, "commitment": commitment.detach()}

    def _quantise(self, step: int, unit: Tensor) -> tuple[Tensor, Tensor]:
        """Codes of unit latents [B, C, h, w] with the gradient passed straight through, and the commitment loss.

        The first `continuous_steps` steps pass the latents through as they are: they spread out before they get codes.
        """
        settings, quantizer = self.settings, self.tokenizer.quantize
        if step < settings.continuous_steps:
            return unit, unit.new_zeros(())
        flat = unit.detach().permute(0, 2, 3, 1).reshape(-1, settings.codebook_dim)
        if step == settings.continuous_steps:
            self.codebook.start(quantizer.embedding.weight, flat)
        indices = quantizer.nearest(flat)
        self._chosen = (flat, indices)
        batch, _, rows, columns = unit.shape
        codes = quantizer.lookup(indices).view(batch, rows, columns, -1).permute(0, 3, 1, 2)
        commitment = F.mse_loss(unit, codes) * settings.codebook_dim
        return unit + (codes - unit).detach(), commitment

    def after_step(self, step: int) -> None:
        if self._chosen is not None:
            self.codebook.update(self.tokenizer.quantize.embedding.weight.data, *self._chosen)

    def result(self) -> dict[str, Tensor]:
        return half(self.tokenizer.state_dict())

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """On 2048 held-out images: PSNR, codes in use, perplexity, and what a swap for the nearest code costs."""
        self.tokenizer.load_state_dict({key: value.float() for key, value in self.result().items()})
        codes = self.tokenizer.quantize.codes()
        near = (codes @ codes.T - 2 * torch.eye(len(codes), device=codes.device)).argmax(dim=-1)
        used, errors, swapped = torch.zeros(len(codes), device=codes.device), [], []
        for start in range(0, 2048, 256):
            pixels = self._pixels(self.images.HELD_OUT_FIRST + start, 256)
            tokens = self.tokenizer.encode(pixels)[1]
            used += torch.bincount(tokens.flatten(), minlength=len(codes))
            rebuilt = self.tokenizer.decode_code(tokens).clamp(-1, 1)
            errors.append(F.mse_loss(rebuilt, pixels))
            swap = torch.where(torch.rand(tokens.shape, device=self.device) < 1 / tokens.shape[1], near[tokens], tokens)
            swapped.append(F.mse_loss(self.tokenizer.decode_code(swap).clamp(-1, 1), rebuilt))
        share = used / used.sum()
        entropy = -(share * share.clamp(min=1e-12).log()).sum()
        return {
            "psnr": float(-10 * torch.log10(torch.stack(errors).mean() / 4)),
            "psnr_one_token_swapped": float(-10 * torch.log10(torch.stack(swapped).mean() / 4)),
            "codes_used": float((used > 0).float().mean()),
            "perplexity": float(entropy.exp()),
        }
