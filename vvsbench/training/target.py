"""Train the target: LlamaGen's class-conditional transformer over the tokens of the synthetic images."""

from __future__ import annotations

import copy
import json
from dataclasses import asdict
from pathlib import Path
from typing import Generic, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from vvsbench.models import checkpoints
from vvsbench.models.transformer import Transformer, TransformerConfig
from vvsbench.training.fused import FusedPass
from vvsbench.training.loop import Task, TrainingError, half, pick_device
from vvsbench.training.muon import Muon
from vvsbench.training.settings import TargetSettings
from vvsbench.training.tokens import TokenStream

Network = TypeVar("Network", bound=nn.Module)


def initialise(network: nn.Module, head: nn.Linear | None = None) -> None:
    """Small normal weights, and an output layer of zeros: the first prediction is uniform."""
    for module in network.modules():
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
    if head is not None:
        nn.init.zeros_(head.weight)


@torch.no_grad()
def start_from_codes(embedding: nn.Embedding, codes: Tensor) -> None:
    """Add a random projection of the unit code vectors [K, C] to embeddings, which keep 0.3 of their own start."""
    projection = torch.randn(codes.shape[1], embedding.embedding_dim)
    embedding.weight.mul_(0.3).add_(codes @ projection, alpha=0.02)


def optimizers(matrices: list[nn.Parameter], others: list[nn.Parameter], rate: float, decay: float) -> list[Optimizer]:
    """Muon for the matrices inside the blocks, AdamW for embeddings, norms and heads."""
    return [
        Muon(matrices, lr=rate, weight_decay=decay, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=rate, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def load_target(path: Path) -> Transformer:
    """A finished target, float32, in eval mode.

    Raises:
        TrainingError: it has not been trained yet.
    """
    if not path.exists():
        raise TrainingError(f"{path} is missing: train the target first (vvsbench train target, same folder).")
    network = Transformer(TransformerConfig(**json.loads(checkpoints.header(path).metadata["config"])))
    checkpoints.load_strict(network, checkpoints.read(path), str(path))
    return network.eval().requires_grad_(False)


class Average(Generic[Network]):
    """Exponential moving average of a module's weights; short-sighted at first so that the start is forgotten."""

    def __init__(self, module: Network, decay: float) -> None:
        self.module, self.decay = module, decay
        self.average: Network = copy.deepcopy(module).requires_grad_(False)

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after a step."""
        weight = max(1 - self.decay, 1 / (1 + step / 4))
        ours: list[Tensor] = list(self.average.parameters())
        torch._foreach_lerp_(ours, [parameter.detach() for parameter in self.module.parameters()], weight)


class TargetTask(Task):
    """The target and its training state."""

    def __init__(self, settings: TargetSettings) -> None:
        torch.manual_seed(settings.seed)
        self.settings, self.device = settings, pick_device(settings.device)
        self.data = TokenStream(Path(settings.folder), settings.images, self.device, settings.bf16)
        shape = TransformerConfig(
            condition="label",
            dim=settings.dim,
            layers=settings.layers,
            heads=settings.heads,
            ffn=settings.ffn,
            vocab=self.data.tokenizer.quantize.embedding.num_embeddings,
            grid=self.data.grid,
            classes=self.data.pictures.NUM_CLASSES,
        )
        self.config = asdict(shape)
        self.network = Transformer(shape)
        initialise(self.network, self.network.output)
        if settings.code_embeddings:
            start_from_codes(self.network.tok_embeddings, self.data.tokenizer.quantize.codes().cpu())
        self.network.to(self.device)
        fused = FusedPass(self.network, torch.bfloat16 if settings.bf16 else torch.float32)
        self.forward = torch.compile(fused, dynamic=False) if settings.compile else fused
        self.averaged = Average(self.network, settings.average)
        self.module = nn.ModuleDict({"network": self.network, "average": self.averaged.average})
        matrices = [p for p in self.network.layers.parameters() if p.ndim == 2]
        inside = {id(p) for p in matrices}
        others = [p for p in self.network.parameters() if id(p) not in inside]
        self.optimizers = optimizers(matrices, others, settings.learning_rate, settings.weight_decay)

    def loss(self, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        batch = self.settings.batch_size
        labels, tokens = self.data.take(step * batch, batch)
        dropped = torch.rand(batch, device=self.device) < self.settings.label_drop
        labels = torch.where(dropped, torch.full_like(labels, self.network.config.classes), labels)
        logits = self.forward(labels, tokens)
        loss = F.cross_entropy(logits.flatten(0, 1).float(), tokens.flatten())
        return loss, {}

    def after_step(self, step: int) -> None:
        self.averaged.update(step)

    def result(self) -> dict[str, Tensor]:
        return half(self.averaged.average.state_dict())

    def metadata(self) -> dict[str, str]:
        return {"grid": str(self.data.grid)}

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Nats per token of 2048 held-out images, with and without their class, and the entropy of the predictions."""
        average = self.averaged.average
        sums = {"held_out_nats": 0.0, "held_out_nats_without_class": 0.0, "entropy": 0.0}
        for labels, tokens in self.data.held_out(2048, 256):
            logs = average.train_logits(labels, tokens).log_softmax(-1)
            null = average.train_logits(torch.full_like(labels, average.config.classes), tokens).log_softmax(-1)
            sums["held_out_nats"] -= float(logs.gather(-1, tokens[..., None]).mean()) / 8
            sums["held_out_nats_without_class"] -= float(null.gather(-1, tokens[..., None]).mean()) / 8
            sums["entropy"] -= float((logs.exp() * logs).sum(-1).mean()) / 8
        return sums
