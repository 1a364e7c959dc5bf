"""Train the EAGLE-style drafter for agreement with the target's guided distribution.

What decides how many drafted tokens are accepted is the overlap of the drafter's and the target's distributions under
guidance, at every depth of the tree. So the head is trained on both branches at once, its guided prediction is
compared with the target's, and it is unrolled on its own predictions as deep as the tree's upper levels: at depth k a
pair sees the target's features up to k pairs back and predicted ones since, exactly as in decoding.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vvsbench.drafting.eagle import EagleHead, to_published
from vvsbench.models import checkpoints
from vvsbench.training import shapes
from vvsbench.training.loop import Task, half, pick_device
from vvsbench.training.settings import DrafterSettings
from vvsbench.training.target import Average, initialise, load_target, optimizers
from vvsbench.training.tokens import TokenStream


class Unrolled:
    """The head's one attention layer over pairs of several depths.

    Pair i at depth k attends to pair j at depth max(k - (i - j), 0): the nodes of a drafted path hold predictions, the
    committed pairs before them hold the target's features.
    """

    def __init__(self, head: EagleHead, length: int) -> None:
        self.layer: Any = head.layers[0]  # an EagleLayer; module lists are not typed
        self.head = head
        positions = torch.arange(length, device=head.fc.weight.device)
        self.turns = head.turns_at(positions + head.config.prefix - 1)
        self.distance = positions[:, None] - positions
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []

    def advance(self, features: Tensor, tokens: Tensor) -> Tensor:
        """Predicted features [B, T, D] of pairs one level deeper than those of the last call."""
        x = self.head.join(features, tokens)
        attention = self.layer.attention
        queries, keys, values = attention._project(x, self.turns)
        self.keys.append(keys)
        self.values.append(values)
        depth = len(self.keys) - 1
        queries = queries * queries.shape[-1] ** -0.5
        scores = (queries @ self.keys[0].transpose(-1, -2)).masked_fill(self.distance < depth, float("-inf"))
        for level in range(1, depth + 1):
            own = (queries * self._shifted(self.keys[level], depth - level)).sum(-1, keepdim=True)
            scores = torch.where(self._diagonal(depth - level), own.to(scores.dtype), scores)
        weights = scores.softmax(-1)
        out = weights.masked_fill(self.distance < depth, 0) @ self.values[0]
        for level in range(1, depth + 1):
            weight = (weights * self._diagonal(depth - level)).sum(-1, keepdim=True)
            out = out + weight.to(out.dtype) * self._shifted(self.values[level], depth - level)
        x = x + attention.wo(out.transpose(1, 2).flatten(2))
        return x + self.layer.feed_forward(self.layer.ffn_norm(x))

    def _diagonal(self, offset: int) -> Tensor:
        return self.distance == offset

    @staticmethod
    def _shifted(x: Tensor, offset: int) -> Tensor:
        """Row i of the result is row i - offset of x [B, H, T, d]; the first rows are zeros that nothing uses."""
        return F.pad(x, (0, 0, offset, 0))[:, :, : x.shape[2]] if offset else x


def overlap(p: Tensor, q: Tensor) -> Tensor:
    """Shared mass sum min(p, q) over the last axis."""
    return torch.minimum(p, q).sum(-1)


class DrafterTask(Task):
    """The drafter and its training state."""

    def __init__(self, settings: DrafterSettings) -> None:
        torch.manual_seed(settings.seed)
        self.settings, self.device = settings, pick_device(settings.device)
        folder = Path(settings.folder)
        self.target_path = folder / "target.safetensors"
        self.target = load_target(self.target_path).to(self.device)
        self.data = TokenStream(folder, settings.images, self.device)
        self.head = EagleHead(self.target.config, bias=True)
        initialise(self.head)
        self.head.tok_embeddings.weight.data.copy_(self.target.tok_embeddings.weight)
        self.head.to(self.device)
        self.averaged = Average(self.head, settings.average)
        self.module = nn.ModuleDict({"head": self.head, "average": self.averaged.average})
        shape = self.target.config
        self.config = {"dim": shape.dim, "heads": shape.heads, "vocab": shape.vocab, "grid": shape.grid}
        self.config |= {"prefix": shape.prefix, "bias": True, "norm_eps": shape.norm_eps}
        matrices = [p for p in self.head.parameters() if p.ndim == 2 and p is not self.head.tok_embeddings.weight]
        inside = {id(p) for p in matrices}
        others = [p for p in self.head.parameters() if id(p) not in inside]
        self.optimizers = optimizers(matrices, others, settings.learning_rate, settings.weight_decay)

    def _guided(self, features: Tensor) -> Tensor:
        """Guided log-probabilities [B, T, V] of features [2 B, T, D], conditional half first."""
        conditional, null = self.target.logits(features).float().chunk(2)
        return torch.lerp(null, conditional, self.settings.guidance_scale).log_softmax(-1)

    def _teach(self, labels: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Target features [2 B, N, D] of both branches, its guided and its plain log-probabilities."""
        conditions = torch.cat([labels, torch.full_like(labels, self.target.config.classes)])
        with torch.no_grad():
            features, logits = self.target.features_and_logits(conditions, tokens.repeat(2, 1))
            return features, self._guided(features), logits.float().log_softmax(-1)

    def _agreement(self, head: EagleHead, labels: Tensor, tokens: Tensor, depth: int) -> tuple[Tensor, list[Tensor]]:
        """Loss over all depths and the guided overlap at each."""
        settings = self.settings
        features, guided, plain = self._teach(labels, tokens)
        known, following = features[:, :-1], tokens.repeat(2, 1)[:, :-1]
        noise = settings.feature_noise * (torch.rand_like(known) - 0.5) * known.abs().mean()
        unrolled, inputs = Unrolled(head, known.shape[1]), known + noise
        total, overlaps = features.new_zeros(()), list[Tensor]()
        for level in range(depth):
            predicted = unrolled.advance(inputs, following)
            start = level + 1
            wanted = guided[:, start:]
            drafted = self._guided(predicted)[:, level:]
            shared = overlap(wanted.exp(), drafted.exp())
            cross = -(wanted.exp() * drafted).sum(-1).mean()
            loss = settings.guided_weight * (cross + settings.overlap_weight * (1 - shared).mean())
            own = self.target.logits(predicted).float().log_softmax(-1)[:, level:]
            loss = loss - settings.plain_weight * (plain[:, start:].exp() * own).sum(-1).mean()
            error = F.smooth_l1_loss(predicted[:, level:].float(), features[:, start:].float())
            total = total + settings.level_decay**level * (loss + settings.feature_weight * error)
            overlaps.append(shared.mean().detach())
            inputs = torch.cat([known[:, :1], predicted[:, :-1].float()], dim=1)
        return total, overlaps

    def loss(self, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        batch = self.settings.batch_size
        labels, tokens = self.data.take(step * batch, batch)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.settings.bf16):
            total, overlaps = self._agreement(self.head, labels, tokens, self.settings.unroll)
        return total, {f"overlap_{depth + 1}": shared for depth, shared in enumerate(overlaps)}

    def after_step(self, step: int) -> None:
        self.averaged.update(step)

    def result(self) -> dict[str, Tensor]:
        return half(to_published(self.averaged.average.state_dict()))

    def metadata(self) -> dict[str, str]:
        return {
            "target_digest": checkpoints.digest(self.target_path),
            "guidance_scale": str(self.settings.guidance_scale),
        }

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Guided overlap at depths 1 to 5 on 1024 held-out images."""
        sums = [0.0] * 5
        for start in range(0, 1024, 128):
            indices = torch.arange(start, start + 128, device=self.device) + shapes.HELD_OUT_FIRST
            tokens, labels = self.data.encode(indices), shapes.labels_of(indices)
            overlaps = self._agreement(self.averaged.average, labels, tokens, len(sums))[1]
            sums = [total + float(shared) / 8 for total, shared in zip(sums, overlaps, strict=True)]
        return {f"guided_overlap_{depth + 1}": value for depth, value in enumerate(sums)}
