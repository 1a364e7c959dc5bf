"""The tiny protocol with the shipped networks: what is good scores well, what is bad scores badly."""

import dataclasses

import numpy as np
import pytest
import torch

from vvsbench.models import checkpoints
from vvsbench.quality import MetricsConfig, evaluate
from vvsbench.quality.config import ExtractorConfig, ReferenceConfig
from vvsbench.training import shapes

FILES = ("zoo:classifier.safetensors", "zoo:clip/config.json")
pytestmark = pytest.mark.skipif(
    not all(checkpoints.resolve(name).exists() for name in FILES), reason="the zoo's classifier and CLIP are not there"
)
CONFIG = MetricsConfig(
    name="tiny",
    values=["fid", "is", "kid", "precision", "recall", "clip", "accuracy"],
    extractor=ExtractorConfig("classifier", FILES[0]),
    reference=ReferenceConfig("shapes", None, 512, 0),
    clip="zoo:clip",
    subset_size=64,
    device="cpu",
)


@pytest.fixture(scope="module")
def real():
    images, labels = shapes.render(torch.arange(128) + shapes.HELD_OUT_FIRST + 5_000_000, size=32)
    return images.numpy(), [shapes.CLASS_NAMES[label] for label in labels.tolist()]


@pytest.fixture(scope="module")
def measured(real, tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")

    def measure(images, captions, **change):
        record = evaluate(images, captions, dataclasses.replace(CONFIG, **change), cache, "d")
        return {value.name: value for value in record.values}

    return measure


def test_held_out_images_are_recognised_and_close_to_the_reference(real, measured):
    found = measured(*real)
    assert found["accuracy"].value > 0.9
    assert found["precision"].value > 0.6
    assert found["recall"].value > 0.6
    assert found["kid"].low < 0 < measured(255 - real[0], real[1], values=["kid"])["kid"].low


def test_noise_costs_quality_step_by_step(real, measured):
    images, captions = real
    rng = np.random.default_rng(0)
    ladder = []
    for strength in (0.0, 0.15, 0.3, 0.6):
        mixed = (1 - strength) * images + strength * rng.integers(0, 256, images.shape)
        ladder.append(measured(mixed.astype(np.uint8), captions, values=["fid", "accuracy"]))
    fids = [step["fid"].value for step in ladder]
    assert fids == sorted(fids)
    assert ladder[2]["fid"].low > ladder[0]["fid"].high
    assert ladder[-1]["accuracy"].high < ladder[0]["accuracy"].low


def test_shuffled_captions_cost_clip_score_and_accuracy_but_not_fid(real, measured):
    images, captions = real
    right, wrong = measured(images, captions), measured(images, captions[1:] + captions[:1])
    assert wrong["clip"].high < right["clip"].low
    assert wrong["accuracy"].value < 0.1
    assert wrong["fid"] == right["fid"]
