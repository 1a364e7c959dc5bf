import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vvsbench.quality import references
from vvsbench.quality.config import SYNTHETIC, QualityError, ReferenceConfig
from vvsbench.quality.extractors import Extractor
from vvsbench.quality.identity import synthetic_digest
from vvsbench.quality.images import ImageSet
from vvsbench.training.data import data_set


@pytest.fixture
def extractor(classifier):
    return Extractor("classifier", classifier, torch.device("cpu"), 32)


@pytest.fixture
def folder(tmp_path, draw):
    path = tmp_path / "real"
    path.mkdir()
    for number, image in enumerate(draw(0, 12)[0]):
        Image.fromarray(image.transpose(1, 2, 0)).save(path / f"{number:03}.png")
    return path


def kept(cache):
    return sorted(cache.glob("reference-*.safetensors"))


def test_second_use_reads_the_cache(extractor, tmp_path, monkeypatch):
    config = ReferenceConfig("shapes", None, 40, 0)
    first = references.load(config, extractor, 32, tmp_path / "cache")
    monkeypatch.setattr(references, "_features", lambda *_: pytest.fail("computed again"))
    second = references.load(config, extractor, 32, tmp_path / "cache")
    np.testing.assert_array_equal(first.embeddings, second.embeddings)
    np.testing.assert_array_equal(first.gaussian.sigma, second.gaussian.sigma)
    assert first.count == second.count == 40
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [kept(tmp_path / "cache")[0].name]


@pytest.mark.parametrize("kind", SYNTHETIC)
def test_synthetic_reference_is_held_out_and_drawn_at_the_right_size(kind, extractor, tmp_path):
    data = data_set(kind)
    reference = references.load(ReferenceConfig(kind, None, 8, 0), extractor, 64, tmp_path)
    indices = torch.arange(8) + data.HELD_OUT_FIRST + references.REFERENCE_OFFSET
    expected = extractor(ImageSet(data.render(indices, 64)[0].numpy())).embeddings
    np.testing.assert_allclose(reference.embeddings, expected.numpy(), rtol=1e-5, atol=1e-6)


def test_a_synthetic_set_is_known_by_all_code_that_draws_it():
    """Scenes are drawn with helpers of the shapes; those stand alone."""
    shapes, scenes = synthetic_digest("shapes"), synthetic_digest("scenes")
    assert shapes == hashlib.sha256(Path(data_set("shapes").__file__).read_bytes()).hexdigest()
    assert scenes.endswith(f"+{shapes}")
    assert len(scenes) == 2 * len(shapes) + 1


@pytest.mark.parametrize("change", ["count", "size", "weights"])
def test_the_cache_knows_what_it_was_computed_from(change, extractor, classifier, tmp_path):
    cache = tmp_path / "cache"
    first = references.load(ReferenceConfig("shapes", None, 20, 0), extractor, 32, cache)
    if change == "weights":
        classifier.write_text("8")
        extractor = Extractor("classifier", classifier, torch.device("cpu"), 32)
    count, size = 21 if change == "count" else 20, 64 if change == "size" else 32
    second = references.load(ReferenceConfig("shapes", None, count, 0), extractor, size, cache)
    assert first.digest != second.digest
    assert len(kept(cache)) == 2


@pytest.mark.parametrize("damage", ["truncated", "flipped", "garbage"])
def test_a_damaged_cache_is_named_and_rebuilt(damage, extractor, tmp_path, caplog):
    config = ReferenceConfig("shapes", None, 20, 0)
    first = references.load(config, extractor, 32, tmp_path)
    file = kept(tmp_path)[0]
    content = bytearray(file.read_bytes())
    if damage == "flipped":
        content[-5] ^= 0x40
    file.write_bytes(content[: len(content) // 2] if damage == "truncated" else content)
    if damage == "garbage":
        file.write_text("no tensors here")
    second = references.load(config, extractor, 32, tmp_path)
    assert file.name in caplog.text
    np.testing.assert_array_equal(first.embeddings, second.embeddings)
    caplog.clear()
    references.load(config, extractor, 32, tmp_path)
    assert not caplog.text


def test_a_cache_that_cannot_be_written_only_costs_time(extractor, tmp_path, caplog):
    (tmp_path / "cache").write_text("a file where the folder should be")
    assert references.load(ReferenceConfig("shapes", None, 20, 0), extractor, 32, tmp_path / "cache").count == 20
    assert "cannot be kept" in caplog.text


def test_folder_gives_its_first_images_by_name(extractor, folder, tmp_path, draw):
    from vvsbench.quality.images import ImageSet

    reference = references.load(ReferenceConfig("folder", str(folder), 10, 0), extractor, 32, tmp_path / "cache")
    expected = extractor(ImageSet(draw(0, 10)[0])).embeddings
    np.testing.assert_allclose(reference.embeddings, expected.numpy(), rtol=1e-5, atol=1e-6)


def test_same_folder_with_another_image_is_another_reference(extractor, folder, tmp_path):
    config = ReferenceConfig("folder", str(folder), 12, 0)
    first = references.load(config, extractor, 32, tmp_path / "cache")
    Image.new("RGB", (32, 32), "red").save(folder / "003.png")
    second = references.load(config, extractor, 32, tmp_path / "cache")
    assert first.digest != second.digest
    assert not np.array_equal(first.embeddings, second.embeddings)


def test_crop_brings_images_of_any_size_to_one(extractor, folder, tmp_path):
    Image.new("L", (90, 50), 128).save(folder / "000.png")
    plain = ReferenceConfig("folder", str(folder), 12, 0)
    with pytest.raises(QualityError, match=r"metrics\.reference\.crop"):
        references.load(plain, extractor, 32, tmp_path / "cache")
    cropped = ReferenceConfig("folder", str(folder), 12, 24)
    assert references.load(cropped, extractor, 32, tmp_path / "cache").count == 12
    assert references.Folder([folder / "000.png"], 24).shape == (1, 24, 24, 3)


def test_shrinking_reference_files_is_antialiased(tmp_path):
    """A fine checkerboard becomes grey, not a coarser checkerboard."""
    board = (np.indices((128, 128)).sum(axis=0) % 2 * 255).astype(np.uint8)
    Image.fromarray(board).save(tmp_path / "board.png")
    (shrunk,) = references.Folder([tmp_path / "board.png"], 16).parts(1)
    assert np.abs(shrunk.astype(int) - 127).max() < 12


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (ReferenceConfig("folder", "nowhere", 4, 0), "does not exist; it must be a folder of images"),
        (ReferenceConfig("statistics", "nowhere.npz", 4, 0), "npz file with mu and sigma"),
    ],
)
def test_missing_references_say_what_is_wanted(config, message, extractor, tmp_path):
    with pytest.raises(QualityError, match=message):
        references.load(config, extractor, 32, tmp_path)


def test_a_folder_is_read_as_an_imported_set_is_and_what_is_not_as_it_was_is_told_once(
    extractor, folder, tmp_path, caplog
):
    grey = np.full((32, 32), 257 * 90, dtype=np.uint16)
    Image.fromarray(grey).save(folder / "000.png")
    for name in ("001.png", "002.png"):
        Image.new("RGBA", (32, 32), (30, 30, 30, 196)).save(folder / name)
    (folder / "notes.txt").write_text("none", encoding="utf-8")
    found = np.concatenate(list(references.Folder(sorted(folder.glob("*.png")), 0).parts(5)))
    assert found[:3, :, 9, 9].tolist() == [[90] * 3, [82] * 3, [82] * 3]
    caplog.clear()
    references.load(ReferenceConfig("folder", str(folder), 12, 0), extractor, 32, tmp_path / "cache")
    assert [record.message for record in caplog.records] == [
        f"reference: left out of {folder}, no pictures by their names: 1 (notes.txt)",
        "reference: grey pictures with 16 bits, of which the upper 8 are kept: 1",
        "reference: transparent pictures, put on white: 2",
    ]


def test_too_few_and_unreadable_files(extractor, folder, tmp_path):
    with pytest.raises(QualityError, match="holds 12 images"):
        references.load(ReferenceConfig("folder", str(folder), 13, 0), extractor, 32, tmp_path / "cache")
    (folder / "005.png").write_text("no image")
    with pytest.raises(QualityError, match=r"005\.png is not a readable picture"):
        references.load(ReferenceConfig("folder", str(folder), 12, 0), extractor, 32, tmp_path / "cache")


def test_published_statistics(extractor, tmp_path):
    path = tmp_path / "statistics.npz"
    np.savez(path, mu=np.zeros(24), sigma=np.eye(24))
    reference = references.load(ReferenceConfig("statistics", str(path), 4, 0), extractor, 32, tmp_path)
    assert reference.embeddings is None
    np.savez(path, mu=np.zeros(2048), sigma=np.eye(2048))
    with pytest.raises(QualityError, match="of another extractor"):
        references.load(ReferenceConfig("statistics", str(path), 4, 0), extractor, 32, tmp_path)
    np.savez(path, mu=np.array([object()]))
    with pytest.raises(QualityError, match="is not an .npz file with arrays"):
        references.load(ReferenceConfig("statistics", str(path), 4, 0), extractor, 32, tmp_path)
