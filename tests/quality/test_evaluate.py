import dataclasses
import subprocess
import sys

import numpy as np
import pytest

from vvsbench.errors import ConfigError
from vvsbench.quality import QualityError, evaluate, key
from vvsbench.quality.config import ReferenceConfig
from vvsbench.quality.intervals import Replicates
from vvsbench.runs.record import QualityRecord, unpacked

ALL = ["fid", "is", "kid", "precision", "recall", "clip", "accuracy"]


def values(record):
    return {value.name: value for value in record.values}


def test_the_record_holds_every_metric_with_an_interval_around_it(protocol, clip_folder, draw, tmp_path):
    images, captions = draw(0, 64)
    config = dataclasses.replace(protocol, values=ALL, clip=str(clip_folder))
    record = evaluate(images, captions, config, tmp_path / "cache", "image-digest")
    assert [value.name for value in record.values] == ALL
    for value in record.values:
        assert value.low <= value.value <= value.high, value
        assert value.low < value.high
        assert (value.n, value.interval[:3]) == (64, "95%")
        assert value.higher_is_better == (value.name not in ("fid", "kid"))
    assert (record.protocol, record.image_digest, record.reference_count) == ("tiny", "image-digest", 96)
    assert record.version.startswith("v1+changed-")
    assert "fixed reference of 96 images" in values(record)["fid"].interval
    assert record == QualityRecord.model_validate_json(record.model_dump_json())


def test_the_record_keeps_what_paired_intervals_are_made_from(protocol, clip_folder, draw, tmp_path):
    images, captions = draw(0, 64)
    config = dataclasses.replace(protocol, values=ALL, clip=str(clip_folder))
    record = evaluate(images, captions, config, tmp_path / "cache", "image-digest")
    found = values(record)
    for name in ("fid", "is", "recall"):
        kept = found[name].jackknife
        error = Replicates(np.array(kept.replicates), kept.share).error().value
        half = (found[name].high - found[name].low) / 2
        assert name == "recall" or half == pytest.approx(2.1 * error, rel=0.1)  # Student's quantile, 19 degrees
    for name in ("clip", "precision", "accuracy"):
        each = unpacked(found[name].each, "float32")
        assert len(each) == 64
        assert max(0.0, each.mean()) == pytest.approx(found[name].value, abs=1e-4)
    assert np.mean(found["kid"].draws) == pytest.approx(found["kid"].value)
    groups = unpacked(record.groups, "int16").reshape(-1, 64)
    assert groups.shape[0] == len(found["fid"].jackknife.replicates)
    assert groups.max() + 1 == len(found["fid"].jackknife.replicates[0])
    assert len(record.model_dump_json()) < 30_000


def test_sets_of_the_same_prompts_are_dealt_alike(protocol, draw, tmp_path):
    images, captions = draw(0, 50)
    one = evaluate(images, captions, protocol, tmp_path, "d")
    other = evaluate(images[:, :, ::-1].copy(), captions, protocol, tmp_path, "e")
    assert one.groups == other.groups
    assert values(one)["fid"].jackknife != values(other)["fid"].jackknife
    assert values(one)["fid"].jackknife == values(evaluate(images, captions, protocol, tmp_path, "f"))["fid"].jackknife


def test_a_record_of_the_first_version_is_still_read(protocol, draw, tmp_path):
    record = evaluate(draw(0, 20)[0], None, dataclasses.replace(protocol, values=["fid"]), tmp_path, "d")
    assert record.schema_version == 3
    old = record.model_dump() | {"schema_version": 1}
    del old["groups"]
    for value in old["values"]:
        del value["jackknife"], value["each"], value["draws"], value["captions_cut"]
    read = QualityRecord.model_validate(old)
    assert (read.groups, read.values[0].jackknife, read.values[0].value) == ("", None, record.values[0].value)


def test_the_same_images_give_the_same_record_whatever_the_batch_size(protocol, draw, tmp_path):
    images, captions = draw(0, 50)
    first = evaluate(images, captions, protocol, tmp_path / "a", "d")
    second = evaluate(images, captions, dataclasses.replace(protocol, batch_size=7), tmp_path / "b", "d")
    assert first.key == second.key
    for one, other in zip(first.values, second.values, strict=True):
        assert one.value == pytest.approx(other.value, rel=1e-4, abs=1e-5)
        assert (one.low, one.high) == pytest.approx((other.low, other.high), rel=1e-3, abs=1e-4)


def test_fid_grows_with_corruption(protocol, draw, tmp_path, random):
    images, _ = draw(0, 200)
    config = dataclasses.replace(protocol, values=["fid", "kid"])
    found = []
    for strength in (0.0, 0.1, 0.25, 0.5, 1.0):
        noise = random.integers(0, 256, images.shape)
        corrupted = ((1 - strength) * images + strength * noise).astype(np.uint8)
        found.append(values(evaluate(corrupted, None, config, tmp_path, "d")))
    for name in ("fid", "kid"):
        numbers = [value[name].value for value in found]
        assert numbers == sorted(numbers)
        assert numbers[-1] > numbers[0] + 5 * (found[0][name].high - found[0][name].value)


def test_a_metric_that_is_no_number_is_refused(protocol, draw, tmp_path, monkeypatch):
    from vvsbench.quality import fidelity

    monkeypatch.setattr(fidelity, "fid", lambda generated, reference: float("nan"))
    with pytest.raises(QualityError, match="fid of these 40 images is nan, .* look at the reference \\(shapes\\)"):
        evaluate(draw(0, 40)[0], None, dataclasses.replace(protocol, values=["fid"]), tmp_path, "d")


def test_clipped_kid_subsets_are_noted(protocol, draw, tmp_path):
    config = dataclasses.replace(protocol, values=["kid"], subset_size=1000)
    kid = values(evaluate(draw(0, 40)[0], None, config, tmp_path, "d"))["kid"]
    assert "40 images (clipped from 1000 to the count)" in kid.interval


def test_several_splits_give_the_spread_over_splits(protocol, draw, tmp_path):
    config = dataclasses.replace(protocol, values=["is"], splits=4)
    score = values(evaluate(draw(0, 80)[0], None, config, tmp_path, "d"))["is"]
    assert "over 4 splits" in score.interval
    with pytest.raises(QualityError, match="at least 100 images"):
        evaluate(draw(0, 80)[0], None, dataclasses.replace(config, splits=50), tmp_path, "d")


def test_accuracy_counts_recognised_captions(protocol, draw, tmp_path, monkeypatch):
    """A network that reads the class off the first pixel is right exactly where that pixel was set to the class."""
    import torch
    from torch import nn

    from vvsbench.training import classifier, shapes

    class Reader(nn.Module):
        def forward(self, images):
            return nn.functional.one_hot(images[:, 0, 0, 0].long() % 64, 64).float(), images[:, :, 0, 0].float()

    monkeypatch.setattr(classifier, "load", lambda path: Reader())
    images, captions = draw(0, 40)
    labels = torch.tensor([shapes.CLASS_NAMES.index(caption) for caption in captions])
    images[:, 0, 0, 0] = labels.numpy()
    images[:10, 0, 0, 0] = (labels[:10] + 1).numpy() % 64
    config = dataclasses.replace(protocol, values=["accuracy"])
    accuracy = values(evaluate(images, captions, config, tmp_path, "d"))["accuracy"]
    assert accuracy.value == 0.75
    assert (accuracy.low, accuracy.high) == pytest.approx((0.598, 0.858), abs=2e-3)  # Wilson, 30 of 40
    with pytest.raises(QualityError, match="'a photo of a dog'"):
        evaluate(images, ["a photo of a dog"] * 40, config, tmp_path, "d")


def test_accuracy_knows_the_classes_of_the_data_that_the_classifier_was_trained_on(
    protocol, draw, tmp_path, monkeypatch
):
    from vvsbench.training import data, scenes

    monkeypatch.setattr(data, "data_of", lambda path: scenes)
    images, config = draw(0, 20)[0], dataclasses.replace(protocol, values=["accuracy"])
    assert values(evaluate(images, list(scenes.CLASS_NAMES)[:10] * 2, config, tmp_path, "d"))["accuracy"].n == 20
    with pytest.raises(QualityError, match="such as 'a circle', not 'a red star'"):
        evaluate(images, ["a red star"] * 20, config, tmp_path, "d")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"values": ["clip"], "clip": "nowhere/here"}, r"hf download nowhere/here"),
        ({"values": ["accuracy"]}, "accuracy needs the captions"),
        ({"values": ["recall"], "neighbours": 40}, "metrics.neighbours=40"),
    ],
)
def test_what_cannot_be_measured_says_why(change, message, protocol, draw, tmp_path):
    with pytest.raises(QualityError, match=message):
        evaluate(draw(0, 40)[0], None, dataclasses.replace(protocol, **change), tmp_path, "d")


def test_a_missing_inception_file_is_named_at_once(protocol, tmp_path, draw, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch-home"))
    config = dataclasses.replace(protocol, values=["fid", "clip"], clip="nobody/nothing")
    config.extractor = dataclasses.replace(config.extractor, kind="inception", weights=None)
    with pytest.raises(QualityError) as caught:
        evaluate(draw(0, 40)[0], ["a"] * 40, config, tmp_path, "d")
    message = str(caught.value)
    assert str(tmp_path / "torch-home/hub/checkpoints/weights-inception-2015-12-05-6726825d.pth") in message
    assert "hf download nobody/nothing" in message  # everything that is missing, in one message


def test_contradictions_are_listed_together(protocol, draw, tmp_path):
    config = dataclasses.replace(
        protocol, values=["fdi", "kid"], reference=ReferenceConfig("statistics", "x.npz", 0, 0)
    )
    with pytest.raises(ConfigError) as caught:
        evaluate(draw(0, 40)[0], None, config, tmp_path, "d")
    assert "Did you mean fid?" in str(caught.value)
    assert "kid, which need reference images" in str(caught.value)
    assert "metrics.reference.count=0 must be at least 2" in str(caught.value)


def test_the_fewest_images_that_can_be_measured(protocol, draw, tmp_path):
    images = draw(0, 16)[0]
    record = evaluate(images, None, protocol, tmp_path, "d")
    assert all(np.isfinite([value.value, value.low, value.high]).all() for value in record.values)
    with pytest.raises(QualityError, match="15 images are too few"):
        evaluate(images[:15], None, protocol, tmp_path, "d")


def test_no_values_need_no_files(draw, tmp_path, protocol):
    record = evaluate(draw(0, 16)[0], None, dataclasses.replace(protocol, values=[]), tmp_path, "d")
    assert record.values == []


def test_the_key_changes_with_everything_that_changes_numbers(protocol, classifier, tmp_path):
    first = key(protocol, "images", None)
    assert first == key(dataclasses.replace(protocol, batch_size=3, device="auto"), "images", None)
    others = [
        key(protocol, "other images", None),
        key(protocol, "images", ["a red star"]),
        key(dataclasses.replace(protocol, version="v2"), "images", None),
        key(dataclasses.replace(protocol, neighbours=4), "images", None),
        key(dataclasses.replace(protocol, reference=ReferenceConfig("shapes", None, 97, 0)), "images", None),
        key(dataclasses.replace(protocol, values=["accuracy"]), "images", ["a red star"]),
        key(dataclasses.replace(protocol, values=["accuracy"]), "images", ["a blue star"]),
    ]
    classifier.write_text("9")
    others.append(key(protocol, "images", None))
    assert len({first, *others}) == len(others) + 1


def test_importing_the_package_and_taking_a_key_load_no_torch():
    code = (
        "import sys, vvsbench.quality as q\n"
        "q.key(q.MetricsConfig(), 'images', None)\n"
        "assert not {'torch', 'torch_fidelity', 'torchmetrics', 'scipy', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
