"""What the published protocols do besides their extractors: sizes, prefixes, the optional extra, and what they lack."""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest
import torch
from PIL import Image

from vvsbench.quality import preference, references, scorers, weights
from vvsbench.quality.config import ExtractorConfig, MetricsConfig, QualityError, ReferenceConfig, problems, recipe
from vvsbench.quality.evaluation import framed
from vvsbench.quality.images import ImageSet
from vvsbench.quality.scorers import Subject
from vvsbench.quality.weights import Weights


def wide():
    """Grey, with a white middle square."""
    pixels = np.full((40, 80, 3), 100, dtype=np.uint8)
    pixels[:, 20:60] = 255
    return Image.fromarray(pixels)


@pytest.mark.parametrize(("filter", "shows_edges"), [("bicubic", False), ("lanczos", False), ("squash", True)])
def test_a_picture_becomes_a_square(filter, shows_edges):
    found = np.asarray(references.framed(wide(), 20, filter))
    assert found.shape == (20, 20, 3)
    assert bool(found[:, 0].mean() < 150) is shows_edges
    assert found[:, 10].mean() == 255


def test_generated_images_are_brought_to_the_size_of_the_protocol():
    images = np.stack([np.asarray(wide().resize((48, 48))).transpose(2, 0, 1)] * 2)
    config = MetricsConfig(crop=24, reference=ReferenceConfig(filter="lanczos"))
    held = ImageSet(images)
    made = framed(held, config)
    assert made.shape == (2, 24, 24, 3)
    assert [part.shape for part in made.parts(1)] == [(1, 3, 24, 24)] * 2
    assert framed(held, MetricsConfig(crop=48)) is held
    assert framed(held, MetricsConfig()) is held


def test_keys_that_a_recipe_does_not_use_are_not_in_it():
    assert not {"prefix", "crop", "hps"} & set(recipe(MetricsConfig()))
    assert recipe(MetricsConfig(crop=24))["crop"] == 24
    assert recipe(MetricsConfig(prefix="x"))["prefix"] == "x"


def test_the_prefix_goes_in_front_of_every_caption(monkeypatch, draw):
    from vvsbench.quality import clip_score

    seen = []

    def score(images, captions, folder, device, batch_size):
        seen.extend(captions)
        return clip_score.ClipScore(1.0, np.ones(images.shape[0]), 2)

    monkeypatch.setattr(clip_score, "score", score)
    images, captions = draw(0, 16)
    config = MetricsConfig(values=["clip"], clip="folder", prefix="A photo depicts ", device="cpu")
    found = scorers.clip(Subject(ImageSet(images), captions, config, Weights(None, images), None))
    assert found.captions_cut == 2
    assert seen == [f"A photo depicts {caption}" for caption in captions]


def test_what_an_extractor_cannot_give_is_said():
    config = MetricsConfig(values=["is", "sfid"], extractor=ExtractorConfig("vgg"))
    assert any("sfid, which only an inception extractor" in problem for problem in problems(config))
    assert any("vgg names no classes" in problem for problem in problems(config))
    assert any("metrics.hps is null" in problem for problem in problems(MetricsConfig(values=["hps"])))


def test_the_extra_and_its_checkpoint_are_asked_for_before_anything_is_drawn(monkeypatch, tmp_path):
    config = MetricsConfig(name="hpsv2", values=["hps"], hps=str(tmp_path / "hps.pt"))
    monkeypatch.setattr(weights, "find_spec", lambda name: None)
    with pytest.raises(QualityError, match=r"pip install 'vvsbench\[hps\]'"):
        weights.locate(config)
    monkeypatch.setattr(weights, "find_spec", lambda name: object())
    with pytest.raises(QualityError, match="preference model not found"):
        weights.locate(config)
    (tmp_path / "hps.pt").write_bytes(b"x")
    assert weights.locate(config).hps == tmp_path / "hps.pt"


def test_a_vgg_that_is_missing_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    config = MetricsConfig(name="vgg-pr", values=["precision"], extractor=ExtractorConfig("vgg"))
    with pytest.raises(QualityError, match=r"vgg16-397923af\.pth \(528 MB"):
        weights.locate(config)


class SmallTokenizer:
    """A token per letter, and one at each end; of five tokens the last is the end."""

    context_length = 5

    def encode(self, text):
        return list(text)

    def __call__(self, texts):
        return torch.tensor([[len(text), 1, 2] for text in texts])


class SmallPreference(torch.nn.Module):
    """Sees the mean colour of a picture and reads the length of a caption."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(1))

    def encode_image(self, pictures):
        return pictures.mean(dim=(2, 3)) * self.scale

    def encode_text(self, tokens):
        return tokens.float()


def test_the_preference_score_is_the_cosine_of_each_pair(monkeypatch, tmp_path):
    made = types.ModuleType("open_clip")
    prepare = lambda picture: torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1).float()  # noqa: E731
    made.create_model_and_transforms = lambda name, pretrained, device: (SmallPreference(), None, prepare)
    made.get_tokenizer = lambda name: SmallTokenizer()
    monkeypatch.setitem(sys.modules, "open_clip", made)
    torch.save({"state_dict": {"scale": torch.full((1,), 3.0)}}, tmp_path / "hps.pt")
    images = np.random.default_rng(0).integers(0, 255, (5, 3, 4, 4)).astype(np.uint8)
    captions = ["a" * (1 + index) for index in range(5)]
    found, cut = preference.score(ImageSet(images), captions, tmp_path / "hps.pt", torch.device("cpu"), 2)
    assert cut == 2  # of 4 and 5 letters
    colours = images.mean(axis=(2, 3))
    texts = np.array([[1 + index, 1, 2] for index in range(5)])
    norms = np.linalg.norm(colours, axis=1) * np.linalg.norm(texts, axis=1)
    np.testing.assert_allclose(found, 100 * (colours * texts).sum(axis=1) / norms, rtol=1e-5)
    torch.save({"state_dict": {"other": torch.ones(1)}}, tmp_path / "hps.pt")
    with pytest.raises(QualityError, match="does not fit ViT-H-14"):
        preference.score(ImageSet(images), captions, tmp_path / "hps.pt", torch.device("cpu"), 2)
