"""A random classifier, a random CLIP and simple image sets, so that the metrics are tested without trained weights."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from vvsbench.quality.config import ExtractorConfig, MetricsConfig, ReferenceConfig
from vvsbench.training import classifier as zoo_classifier
from vvsbench.training import data as zoo_data
from vvsbench.training import shapes


class RandomNetwork(nn.Module):
    """Takes uint8 images like the zoo's classifier and returns (logits, features); one 3x3 convolution deep."""

    def __init__(self, seed: int, width: int = 24, classes: int = 64):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.kernel = nn.Parameter(torch.randn(width, 3, 5, 5, generator=generator) / 3)
        self.head = nn.Parameter(torch.randn(width, classes, generator=generator) * 8)

    def forward(self, images):
        maps = torch.relu(nn.functional.conv2d(images.float() / 127.5 - 1, self.kernel))
        features = maps.mean(dim=(2, 3))
        return features @ self.head, features


@pytest.fixture
def classifier(monkeypatch, tmp_path) -> Path:
    """A weights file whose content is the seed of a random network, loaded where the zoo's classifier would be."""
    monkeypatch.setattr(zoo_classifier, "load", lambda path: RandomNetwork(int(Path(path).read_text(encoding="utf-8"))))
    monkeypatch.setattr(zoo_data, "data_of", lambda path: shapes)
    path = tmp_path / "classifier.safetensors"
    path.write_text("7")
    return path


@pytest.fixture(autouse=True)
def caches(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user-cache"))


@pytest.fixture
def protocol(classifier) -> MetricsConfig:
    """A small protocol over the random network."""
    return MetricsConfig(
        name="tiny",
        values=["fid", "is", "kid", "precision", "recall"],
        extractor=ExtractorConfig("classifier", str(classifier)),
        reference=ReferenceConfig("shapes", None, 96, 0),
        subset_size=32,
        subsets=10,
        batch_size=16,
        device="cpu",
    )


@pytest.fixture(scope="session")
def draw():
    """Draws synthetic images uint8 [N, 3, S, S] and their captions."""

    def drawn(first: int, count: int, size: int = 32):
        images, labels = shapes.render(torch.arange(first, first + count), size=size, seed=0)
        return images.numpy(), [shapes.CLASS_NAMES[label] for label in labels.tolist()]

    return drawn


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory) -> Path:
    """A random CLIP of two layers with a byte-level tokenizer, in transformers' own layout."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizer

    folder = tmp_path_factory.mktemp("clip")
    letters = sorted(ByteLevel.alphabet())
    tokens = ["<|startoftext|>", *letters, *(f"{letter}</w>" for letter in letters), "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({token: number for number, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer.from_pretrained(folder, model_max_length=32)
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {
        "vocab_size": len(tokens),
        "max_position_embeddings": 32,
        "eos_token_id": len(tokens) - 1,
        "bos_token_id": 0,
    }
    torch.manual_seed(0)
    config = CLIPConfig(
        text_config={**small, **text}, vision_config={**small, "image_size": 32, "patch_size": 8}, projection_dim=16
    )
    model = CLIPModel(config)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    pictures = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    CLIPProcessor(image_processor=pictures, tokenizer=tokenizer).save_pretrained(folder)
    return folder


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(1)
