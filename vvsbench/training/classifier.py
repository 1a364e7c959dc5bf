"""Train the classifier whose features and class scores measure the tiny zoo's images.

Besides the class it learns what else a picture shows (background, pattern, size, place), with a head that is thrown
away: features that know nothing but the class call every background equal, and so would every metric made of them.
A small convolutional net at the images' own 32x32. Average and maximum pooling side by side give 256 features: the
maximum sees what is distinctive about an object wherever it stands, which a flattening head failed to learn.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vvsbench.models import checkpoints
from vvsbench.training.data import DataSet, data_set, factors
from vvsbench.training.loop import Task, half, pick_device
from vvsbench.training.settings import ClassifierSettings


class Classifier(nn.Module):
    """uint8 images [B, 3, H, W] to logits [B, classes] and features [B, 2 * widths[-1]].

    Args:
        widths: channels of each level; every level after the first halves the side.
        classes: number of classes.
        size: side of the images; others are resized (bilinear, antialiased).
    """

    def __init__(self, widths: list[int], classes: int, size: int) -> None:
        super().__init__()
        self.size = size
        layers: list[nn.Module] = []
        for before, width in zip([3, *widths], widths, strict=False):
            stride = 1 if before == 3 else 2
            layers += [nn.Conv2d(before, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
            if before != 3:
                layers += [nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(2 * widths[-1], classes)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        pixels = images.to(self.head.weight.dtype) / 127.5 - 1
        if images.shape[-1] != self.size or images.shape[-2] != self.size:
            pixels = F.interpolate(pixels, (self.size, self.size), mode="bilinear", antialias=True)
        hidden = self.body(pixels)
        features = torch.cat([hidden.mean((2, 3)), hidden.amax((2, 3))], dim=1)
        return self.head(features), features


def load(path: Path) -> Classifier:
    """The finished classifier, float32, in eval mode."""
    network = Classifier(**json.loads(checkpoints.header(path).metadata["config"]))
    checkpoints.load_strict(network, checkpoints.read(path), str(path))
    return network.eval().requires_grad_(False)


@torch.no_grad()
def recognised(network: Classifier, data: DataSet, images: Tensor, labels: Tensor) -> dict[str, float]:
    """Share of images whose class, and each thing it is made of, is recognised."""
    guesses = torch.cat([network(batch)[0].argmax(-1) for batch in images.split(256)])
    seen = {"class": guesses, **factors(data, guesses)}
    asked = {"class": labels, **factors(data, labels)}
    return {name: float((seen[name] == asked[name]).float().mean()) for name in seen}


class ClassifierTask(Task):
    """The classifier and its training state."""

    def __init__(self, settings: ClassifierSettings) -> None:
        torch.manual_seed(settings.seed)
        self.settings, self.device = settings, pick_device(settings.device)
        self.images = data_set(settings.data_set)
        self.config = {"widths": list(settings.widths), "classes": self.images.NUM_CLASSES, "size": settings.size}
        self.network = Classifier(list(settings.widths), self.images.NUM_CLASSES, settings.size).to(self.device)
        width = self.network.head.in_features
        self.describe = nn.Linear(width, self.images.attributes(torch.zeros(1)).shape[1]).to(self.device)
        self.module = nn.ModuleDict({"network": self.network, "describe": self.describe})
        self.optimizers = [torch.optim.AdamW(self.module.parameters(), settings.learning_rate, weight_decay=1e-2)]

    def loss(self, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        self.network.train()
        first = self.images.TRAIN_FIRST + step * self.settings.batch_size
        indices = torch.arange(first, first + self.settings.batch_size, device=self.device)
        images, labels = self.images.render(indices, self.settings.size)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.settings.bf16):
            logits, features = self.network(images)
            described = self.describe(features).float()
        error = F.mse_loss(described, self.images.attributes(indices))
        loss = F.cross_entropy(logits.float(), labels, label_smoothing=self.settings.label_smoothing)
        accuracy = (logits.argmax(-1) == labels).float().mean()
        return loss + self.settings.attribute_weight * error, {"accuracy": accuracy, "attributes": error}

    def result(self) -> dict[str, Tensor]:
        state = self.network.state_dict()
        counters = {key: value for key, value in state.items() if not value.is_floating_point()}
        return half({key: value for key, value in state.items() if key not in counters}) | counters

    def evaluate(self) -> dict[str, float]:
        """Share of 4096 held-out images that the finished file's weights recognise."""
        network = Classifier(**self.config).to(self.device)
        network.load_state_dict(self.result())
        indices = torch.arange(4096, device=self.device) + self.images.HELD_OUT_FIRST
        found = recognised(network.eval(), self.images, *self.images.render(indices, self.settings.size))
        return {f"held_out_{key}": value for key, value in found.items()}
