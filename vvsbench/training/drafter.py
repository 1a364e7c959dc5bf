"""Train the EAGLE-style drafter for agreement with the target's guided distribution.

What decides how many drafted tokens are accepted is the overlap of the drafter's and the target's distributions under
guidance, at every depth of the tree. So the head is trained on both branches at once, its guided prediction is
compared with the target's, and it is unrolled on its own predictions as deep as the tree's upper levels: at depth k a
pair sees the target's features up to k pairs back and predicted ones since, exactly as in decoding.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vvsbench.drafting.eagle import PREFIX_TOKEN, EagleHead, from_published, to_published
from vvsbench.drafting.sources import Pads
from vvsbench.models import checkpoints
from vvsbench.models.llamagen import split_caption
from vvsbench.models.transformer import Transformer
from vvsbench.training.fused import FusedPass, Projection, unit
from vvsbench.training.loop import Task, half, pick_device
from vvsbench.training.material import ZOO_GUIDANCE, gathered
from vvsbench.training.settings import DrafterSettings
from vvsbench.training.target import Average, initialise, optimizers

NORM_EPS = 1e-6  # as in the published drafters


class Unrolled:
    """The head's one attention layer over pairs of several depths.

    Pair i at depth k attends to pair j at depth max(k - (i - j), 0): the nodes of a drafted path hold predictions, the
    committed pairs before them hold the target's features.

    Args:
        head: the drafter.
        length: pairs per image, from the first position of the prefix on.
        dtype: of the matrix products.
    """

    def __init__(self, head: EagleHead, length: int, dtype: torch.dtype) -> None:
        config = head.config
        self.head, self.dtype, self.layer = head, dtype, self._layer(head)
        positions = torch.arange(length, device=head.fc.weight.device)
        self.project = Projection(head.turns_at(positions), config.heads, dtype)
        self.scale = (config.dim // config.heads) ** -0.5
        self.distance = positions[:, None] - positions
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []

    @staticmethod
    def _layer(head: EagleHead) -> Any:
        return head.layers[0]  # an EagleLayer; module lists are not typed

    def _linear(self, x: Tensor, layer: nn.Linear) -> Tensor:
        bias = None if layer.bias is None else layer.bias.to(self.dtype)
        return F.linear(x.to(self.dtype), layer.weight.to(self.dtype), bias)

    def advance(self, features: Tensor, tokens: Tensor) -> Tensor:
        """Predicted features [B, T, D] of pairs one level deeper than those of the last call."""
        x = self._linear(torch.cat([self.head.tok_embeddings(tokens), features], -1), self.head.fc).float()
        attention, inner = self.layer.attention, self.layer.feed_forward
        queries, keys, values = self.project(x.to(self.dtype), attention.wqkv.weight.to(self.dtype))
        self.keys.append(keys)
        self.values.append(values)
        x = x + self._linear(self._mixed(queries * self.scale).transpose(1, 2).flatten(2), attention.wo)
        hidden = unit(x, self.head.config.norm_eps) * self.layer.ffn_norm.weight
        return x + self._linear(F.silu(self._linear(hidden, inner.w1)) * self._linear(hidden, inner.w3), inner.w2)

    def _mixed(self, queries: Tensor) -> Tensor:
        """Values mixed for queries [B, H, T, d] of the deepest level."""
        depth = len(self.keys) - 1
        scores = (queries @ self.keys[0].transpose(-1, -2)).float().masked_fill(self.distance < depth, float("-inf"))
        for level in range(1, depth + 1):
            own = (queries * _shifted(self.keys[level], depth - level)).float().sum(-1, keepdim=True)
            scores = torch.where(self.distance == depth - level, own, scores)
        weights = scores.softmax(-1)
        out = weights.masked_fill(self.distance < depth, 0).to(self.dtype) @ self.values[0]
        for level in range(1, depth + 1):
            weight = (weights * (self.distance == depth - level)).sum(-1, keepdim=True)
            out = out + weight.to(self.dtype) * _shifted(self.values[level], depth - level)
        return out


def _shifted(x: Tensor, offset: int) -> Tensor:
    """Row i of the result is row i - offset of x [B, H, T, d]; the first rows are zeros that nothing uses."""
    return F.pad(x, (0, 0, offset, 0))[:, :, : x.shape[2]] if offset else x


def overlap(p: Tensor, q: Tensor) -> Tensor:
    """Shared mass sum min(p, q) over the last axis."""
    return torch.minimum(p, q).sum(-1)


class Teacher(nn.Module):
    """The target's features of a batch under its conditions, and then under none.

    Args:
        target: frozen.
        dtype: of the matrix products.
        pads: how padded caption positions attend.
    """

    def __init__(self, target: Transformer, dtype: torch.dtype, pads: Pads) -> None:
        super().__init__()
        self.target, self.dtype, self.pads = target, dtype, pads
        self.fused = FusedPass(target, dtype) if target.config.condition == "label" else None

    def forward(self, conditions: Tensor, tokens: Tensor) -> Tensor:
        """Features [2 B, P + N - 1, D] of class ids [B] or joined captions [B, P, C + 1], and tokens int64 [B, N]."""
        twice, null = tokens.repeat(2, 1), self.target.cls_embedding.null
        if self.fused is not None:
            return self.fused.features(torch.cat([conditions, null(conditions)]), twice).float()
        captions, text = split_caption(conditions)
        both, spread = torch.cat([captions, null(captions)]), self.pads is Pads.spread
        with torch.autocast(tokens.device.type, self.dtype, enabled=self.dtype != torch.float32):
            return self.target.features(both, twice, text.repeat(2, 1), spread).float()


class Agreement(nn.Module):
    """Loss of a head over all depths, and its guided overlap with the target at each.

    Args:
        target: frozen.
        head: is trained.
        settings: weights of the terms and the guidance scale.
        depth: levels to unroll.
        dtype: of the matrix products.
    """

    def __init__(
        self, target: Transformer, head: EagleHead, settings: DrafterSettings, depth: int, dtype: torch.dtype
    ) -> None:
        super().__init__()
        self.target, self.head, self.settings, self.depth, self.dtype = target, head, settings, depth, dtype
        self.scale = settings.guidance_scale or ZOO_GUIDANCE
        self.teacher = Teacher(target, dtype, settings.pads)
        self.unrolled = Unrolled(head, target.config.prefix + target.config.tokens - 2, dtype)

    def _logits(self, features: Tensor) -> Tensor:
        return F.linear(features.to(self.dtype), self.target.output.weight.to(self.dtype)).float()

    def _guided(self, logits: Tensor) -> Tensor:
        """Guided log-probabilities [B, T, V] of logits [2 B, T, V], conditional half first."""
        conditional, null = logits.chunk(2)
        return (null + self.scale * (conditional - null)).log_softmax(-1)

    def forward(self, conditions: Tensor, tokens: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and overlaps [depth] of a batch.

        Args:
            conditions: class ids int64 [B], or captions [B, P, C + 1] joined with their mask.
            tokens: int64 [B, N].
            noise: [2 B, P + N - 2, D] in [-0.5, 0.5].
        """
        settings, first = self.settings, self.target.config.prefix - 1
        with torch.no_grad():
            features = self.teacher(conditions, tokens)
            logits = self._logits(features[:, first:])
            guided, plain = self._guided(logits).exp(), logits.softmax(-1)
            known = features[:, :-1]
            inputs = known + noise * (settings.feature_noise * known.abs().mean())
            dummies = tokens.new_full((2 * len(tokens), first), PREFIX_TOKEN)
            pairs = torch.cat([dummies, tokens.repeat(2, 1)[:, :-1]], 1)
        self.unrolled.keys, self.unrolled.values = [], []
        total, overlaps = features.new_zeros(()), list[Tensor]()
        for level in range(self.depth):
            predicted = self.unrolled.advance(inputs, pairs).float()
            logits = self._logits(predicted[:, first + level :])
            drafted, start = self._guided(logits), level + 1
            shared = overlap(guided[:, start:], drafted.exp()).mean()
            cross = -(guided[:, start:] * drafted).sum(-1).mean()
            own = -(plain[:, start:] * logits.log_softmax(-1)).sum(-1).mean()
            error = F.smooth_l1_loss(predicted[:, first + level :], features[:, first + start :])
            loss = settings.guided_weight * (cross + settings.overlap_weight * (1 - shared))
            loss = loss + settings.plain_weight * own + settings.feature_weight * error
            total = total + settings.level_decay**level * loss
            overlaps.append(shared.detach())
            inputs = torch.cat([known[:, : first + 1], predicted[:, first:-1]], dim=1)
        return total, torch.stack(overlaps)


def load_drafter(path: Path, target: Transformer) -> EagleHead:
    """A finished drafter, float32, in eval mode."""
    head = EagleHead(replace(target.config, norm_eps=NORM_EPS), bias=True)
    checkpoints.load_strict(head, from_published(checkpoints.read(path)), str(path))
    return head.eval().requires_grad_(False)


class DrafterTask(Task):
    """The drafter and its training state."""

    def __init__(self, settings: DrafterSettings) -> None:
        torch.manual_seed(settings.seed)
        self.device = pick_device(settings.device)
        self.material = gathered(settings, self.device)
        self.settings = settings = settings.resolved(self.material.guidance_scale)
        self.target = self.material.target
        self.head = EagleHead(replace(self.target.config, norm_eps=NORM_EPS), bias=True)
        initialise(self.head)
        self.head.tok_embeddings.weight.data.copy_(self.target.tok_embeddings.weight)
        self.head.fc.weight.data[:, self.target.config.dim :].copy_(
            torch.eye(self.target.config.dim)
        )  # keep the feature
        self.head.to(self.device)
        dtype = torch.bfloat16 if settings.bf16 else torch.float32
        agreement = Agreement(self.target, self.head, settings, settings.unroll, dtype)
        self.agreement = torch.compile(agreement, dynamic=False) if settings.compile and self._fuses else agreement
        self.averaged = Average(self.head, settings.average)
        self.module = nn.ModuleDict({"head": self.head, "average": self.averaged.average})
        shape = self.target.config
        self.config = {"dim": shape.dim, "heads": shape.heads, "vocab": shape.vocab, "grid": shape.grid}
        self.config |= {"prefix": shape.prefix, "ffn": shape.ffn_width, "norm_eps": NORM_EPS}
        self.config |= {"condition": shape.condition, "pads": settings.pads.value}
        matrices = [p for p in self.head.parameters() if p.ndim == 2 and p is not self.head.tok_embeddings.weight]
        inside = {id(p) for p in matrices}
        others = [p for p in self.head.parameters() if id(p) not in inside]
        self.optimizers = optimizers(matrices, others, settings.learning_rate, settings.weight_decay)

    @property
    def _fuses(self) -> bool:
        """Whether the pass is written in arithmetic that a compiler fuses; that of captions is not."""
        return self.target.config.condition == "label"

    def _noise(self, batch: int) -> Tensor:
        shape = self.target.config
        return torch.rand(2 * batch, shape.prefix + shape.tokens - 2, shape.dim, device=self.device) - 0.5

    def loss(self, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """See `Task.loss`."""
        batch = self.settings.batch_size
        conditions, tokens = self.material.sequences.take(step * batch, batch)
        total, overlaps = self.agreement(conditions, tokens, self._noise(batch))
        return total, {f"overlap_{depth + 1}": shared for depth, shared in enumerate(overlaps)}

    def after_step(self, step: int) -> None:
        """See `Task.after_step`."""
        self.averaged.update(step)

    def result(self) -> dict[str, Tensor]:
        """See `Task.result`."""
        return half(to_published(self.averaged.average.state_dict()))

    def write(self, path: Path, metadata: dict[str, str]) -> None:
        """Write the file, and beside it the settings by which a run takes it."""
        super().write(path, metadata)
        path.with_suffix(".yaml").write_text(self._option(path.resolve()), encoding="utf-8")

    def _option(self, path: Path) -> str:
        """An option of the group `drafter`, of which only the hit rates are still to be measured."""
        sizes = "\n".join(f"{key}: {self.config[key]}" for key in ("dim", "heads", "vocab", "ffn", "grid", "pads"))
        return (
            f"# EAGLE drafter of model={self.material.model}; an option of a run as experiments/drafter/NAME.yaml.\n"
            f"defaults: [/schema/drafter/eagle@_here_]\nname: {path.parent.name}_{path.stem}\n"
            f"checkpoint: {path}\n{sizes}\n"
            "hit_rates: [0.45, 0.14, 0.08, 0.06, 0.05, 0.04, 0.03, 0.02, 0.02, 0.02]"
            "  # assumed; python -m vvsbench.decoding.fitting measures them, and sharpness\n"
        )

    def metadata(self) -> dict[str, str]:
        """The target it fits, and the guidance it was trained for."""
        return {
            "target_digest": self.material.digest,
            "guidance_scale": str(self.settings.guidance_scale),
        }

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Guided overlap at depths 1 to 5 on up to 1024 held-out images."""
        depth = min(5, self.target.config.tokens - 1)
        agreement = Agreement(self.target, self.averaged.average, self.settings, depth, torch.float32)
        sums, count = torch.zeros(depth, device=self.device), 0
        for conditions, tokens in self.material.sequences.held_out(1024, min(128, 2 * self.settings.batch_size)):
            noise = torch.zeros_like(self._noise(len(tokens)))
            sums, count = sums + agreement(conditions, tokens, noise)[1] * len(tokens), count + len(tokens)
        return {f"guided_overlap_{level + 1}": float(value) / count for level, value in enumerate(sums)}
