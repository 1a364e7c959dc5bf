"""ADM's files: read in parts and in whole, checked, and used as the reference of FID, sFID, precision and recall."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest
import torch
from numpy.lib import format as npy
from scipy import linalg

from vvsbench.quality import adm, fidelity, references, scorers
from vvsbench.quality.config import MetricsConfig, QualityError, ReferenceConfig
from vvsbench.quality.extractors import Features
from vvsbench.quality.images import ImageSet
from vvsbench.quality.scorers import Subject
from vvsbench.quality.weights import Weights

WIDTH, PLACES = 6, 5


class SmallExtractor:
    """Features that a test can compute by hand: means of the pixels' halves, and some pixels as the spatial layer."""

    digest, spatial, width = "small", True, WIDTH

    def __call__(self, images):
        pixels = torch.cat([torch.from_numpy(part) for part in images.parts(7)]).double().flatten(1)
        embeddings = torch.stack([part.mean(dim=1) for part in pixels.chunk(WIDTH, dim=1)], dim=1)
        return Features(embeddings, embeddings, pixels[:, :: pixels.shape[1] // PLACES][:, :PLACES])


def pictures(count, seed, shift=0):
    return (np.random.default_rng(seed).integers(0, 200, (count, 3, 8, 8)) + shift).astype(np.uint8)


@pytest.fixture
def file(tmp_path):
    """A file in ADM's layout; its statistics are of other images than arr_0, as those of the published files are."""
    random = np.random.default_rng(3)
    whole = random.normal(100, 9, (500, WIDTH)), random.normal(90, 30, (500, PLACES))
    arrays = {"arr_0": pictures(40, 1).transpose(0, 2, 3, 1)}
    for (mu, sigma), values in zip((adm.POOLED, adm.SPATIAL), whole, strict=True):
        arrays |= {mu: values.mean(axis=0).astype(np.float32), sigma: np.cov(values, rowvar=False)}
    np.savez(tmp_path / "reference.npz", **arrays)
    return tmp_path / "reference.npz"


def frechet(features, mu, sigma):
    """The formula, by another square root than torch-fidelity's."""
    mean, covariance = features.mean(axis=0), np.cov(features, rowvar=False)
    root = linalg.sqrtm(covariance @ sigma).real
    return ((mean - mu) ** 2).sum() + np.trace(covariance + sigma - 2 * root)


def inside(points, manifold, neighbours):
    """Share of the points within the ball of some point of the manifold, as the definition says it, pair by pair."""
    found = 0
    for point in points:
        for centre in manifold:
            radius = sorted(np.linalg.norm(centre - other) for other in manifold)[neighbours]
            if np.linalg.norm(point - centre) <= radius:
                found += 1
                break
    return found / len(points)


def test_every_metric_is_taken_from_its_part_of_the_file(file, tmp_path):
    values = ["fid", "sfid", "precision", "recall"]
    config = MetricsConfig(name="adm", values=values, reference=ReferenceConfig("adm", str(file), 40, 0))
    images = pictures(36, 2, shift=30)
    subject = Subject(ImageSet(images), None, config, Weights(None, None), tmp_path / "cache")
    vars(subject)["extractor"] = SmallExtractor()
    found = {name: scorers.SCORERS[name](subject) for name in values}
    ours = SmallExtractor()(ImageSet(images))
    theirs = SmallExtractor()(ImageSet(pictures(40, 1))).embeddings.numpy()
    for name, features, names in (("fid", ours.embeddings, adm.POOLED), ("sfid", ours.spatial, adm.SPATIAL)):
        mu, sigma = adm.statistics(file, names)
        assert found[name].value == pytest.approx(frechet(features.numpy(), mu, sigma), rel=1e-6)
        assert found[name].low < found[name].value < found[name].high
        assert found[name].jackknife is not None
    mine = ours.embeddings.numpy()
    assert found["precision"].value == pytest.approx(inside(mine, theirs, 3), abs=1e-6)
    assert found["recall"].value == pytest.approx(inside(theirs, mine, 3), abs=1e-6)
    assert subject.reference.count == 40


def test_statistics_alone_do_for_fid(file, tmp_path):
    np.savez(tmp_path / "bare.npz", **{name: np.load(file)[name] for name in (*adm.POOLED, *adm.SPATIAL)})
    config = ReferenceConfig("adm", str(tmp_path / "bare.npz"), 40, 0)
    known = references.load(config, SmallExtractor(), 8, tmp_path / "cache", with_images=False)
    assert (known.embeddings, known.count) == (None, 0)
    with pytest.raises(QualityError, match="no array arr_0 with images; it holds mu, sigma, mu_s, sigma_s"):
        references.load(config, SmallExtractor(), 8, tmp_path / "cache")
    with pytest.raises(QualityError, match="holds 40 images; lower the count"):
        references.load(ReferenceConfig("adm", str(file), 41, 0), SmallExtractor(), 8, tmp_path / "cache")


def test_statistics_of_another_network_or_of_none_are_refused(file, tmp_path):
    extractor = SmallExtractor()
    extractor.width = 7
    with pytest.raises(QualityError, match="of another extractor"):
        references.load(ReferenceConfig("adm", str(file), 40, 0), extractor, 8, tmp_path)
    np.savez(tmp_path / "nan.npz", mu=np.full(3, np.nan), sigma=np.eye(3))
    with pytest.raises(QualityError, match="has NaN or infinity in mu or sigma"):
        adm.statistics(tmp_path / "nan.npz", adm.POOLED)
    np.savez(tmp_path / "odd.npz", mu=np.zeros(3), sigma=np.eye(2))
    with pytest.raises(QualityError, match="which are no statistics"):
        adm.statistics(tmp_path / "odd.npz", adm.POOLED)


@pytest.mark.parametrize("size", [1, 7, 100])
def test_parts_are_the_whole_and_numpy_reads_what_is_written(tmp_path, size):
    images = pictures(9, 5)
    for write in (np.savez, np.savez_compressed):
        write(tmp_path / "theirs.npz", arr_0=images.transpose(0, 2, 3, 1), arr_1=np.arange(9))
        parts = list(adm.images(tmp_path / "theirs.npz").parts(size))
        assert (np.concatenate(parts) == images).all()
    adm.write(tmp_path / "ours.npz", (9, 8, 8, 3), iter(parts))
    with np.load(tmp_path / "ours.npz") as stored:
        assert stored.files == ["arr_0"]
        assert (stored["arr_0"] == images.transpose(0, 2, 3, 1)).all()


def test_a_damaged_file_is_named(file):
    content = bytearray(file.read_bytes())
    content[900] ^= 255
    file.write_bytes(content)
    with pytest.raises(QualityError, match=r"reference\.npz is damaged"):
        list(adm.images(file).parts(16))


def test_gaussians_of_the_file_are_used_as_they_are(file, tmp_path):
    found = references.load(ReferenceConfig("adm", str(file), 40, 0), SmallExtractor(), 8, tmp_path)
    mu, sigma = adm.statistics(file, adm.POOLED)
    assert fidelity.fid(found.gaussian, fidelity.Gaussian(mu, sigma)) == pytest.approx(0, abs=1e-6)


def archived(path, header, content, packed=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", packed) as archive, archive.open("arr_0.npy", "w") as array:
        npy.write_array_header_1_0(array, {"descr": "|u1", "fortran_order": False, "shape": header})
        array.write(content)
    return path


@pytest.mark.parametrize(
    "shape", [(-1, 2, 2, 3), (4, 2, 2, 3), (10**12, 2, 2, 3), (1, 10**6, 10**6, 3), (2, -2, -1, 3)]
)
def test_a_shape_that_its_bytes_do_not_have_is_refused(tmp_path, shape):
    with pytest.raises(QualityError, match="arr_0"):
        adm.images(archived(tmp_path / "a.npz", shape, bytes(12)))


def test_an_array_that_grows_out_of_all_proportion_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(adm, "LARGE", 2**16)
    path = archived(tmp_path / "a.npz", (1000, 16, 16, 3), bytes(1000 * 16 * 16 * 3))
    with pytest.raises(QualityError, match="grows from"):
        adm.images(path)
    np.savez_compressed(tmp_path / "s.npz", mu=np.zeros(500), sigma=np.zeros((500, 500)))
    with pytest.raises(QualityError, match="sigma grows from"):
        adm.statistics(tmp_path / "s.npz", adm.POOLED)


def test_corrupt_deflate_is_damage(tmp_path):
    noise = np.random.default_rng(0).integers(0, 8, 4 * 16 * 16 * 3, dtype=np.uint8)
    path = archived(tmp_path / "a.npz", (4, 16, 16, 3), noise.tobytes())
    content = bytearray(path.read_bytes())
    content[400:600] = bytes(200)
    path.write_bytes(content)
    with pytest.raises(QualityError, match="is damaged|not a readable"):
        list(adm.images(path).parts(2))
