"""Reference sets: what generated images are compared with, computed once per content and kept under its digest.

torch-fidelity caches statistics under a name, so other data or weights under the same name return the old numbers.
Here the file name is a digest of everything the features depend on (source files or source code, count, size, resize,
extractor and its weights).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from vvsbench import derived
from vvsbench.models import checkpoints
from vvsbench.quality import adm
from vvsbench.quality.config import SYNTHETIC, QualityError, ReferenceConfig
from vvsbench.quality.extractors import Extractor, ImageSet
from vvsbench.quality.fidelity import Gaussian, gaussian
from vvsbench.quality.identity import synthetic_digest

REFERENCE_OFFSET = 1_000_000
"""The reference starts this far into the held-out images, away from those that training looks at while it runs."""
RENDER_BATCH = 256
IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp"}
LAYOUT = "1"
"""Version of the cached file's layout; part of its digest."""


@dataclass(frozen=True)
class Reference:
    """A reference set in the extractor's feature space.

    Attributes:
        gaussian: mean and covariance, for FID.
        embeddings: float64 [M, D] numpy array, for KID, precision and recall; None when only statistics were given.
        count: number of images M; 0 when the statistics file does not say.
        digest: of everything the numbers depend on.
        spatial: mean and covariance of the layer of sFID; None unless the extractor gives it.
    """

    gaussian: Gaussian
    embeddings: NDArray[np.float64] | None
    count: int
    digest: str
    spatial: Gaussian | None = None


@dataclass(frozen=True)
class Source:
    """Reference images that are made only if they are not in the cache: their identity, and how to get them."""

    identity: str
    images: Callable[[], Dataset[Tensor]]


def load(config: ReferenceConfig, extractor: Extractor, size: int, cache: Path, with_images: bool = True) -> Reference:
    """Read a reference from the cache, or build and keep it.

    Args:
        config: which reference.
        extractor: the network whose features are wanted.
        size: side of the generated images in pixels; synthetic references are drawn at it.
        cache: folder for reference files; made when absent.
        with_images: whether the features of single images are wanted where statistics are given as well.

    Raises:
        QualityError: the images or the statistics are missing, unreadable or do not fit the extractor.
    """
    if config.kind == "statistics":
        return _statistics(_path(config), extractor)
    if config.kind == "adm":
        return _adm(_path(config), config.count, extractor, cache, with_images)
    drawn = config.kind in SYNTHETIC
    source = _drawn(config.kind, config.count, size) if drawn else _folder(_path(config), config)
    return _of_images(source, extractor, cache)


def _of_images(source: Source, extractor: Extractor, cache: Path) -> Reference:
    """Statistics and features of reference images, from the cache where they are in it."""
    layers = "|spatial" if extractor.spatial else ""
    digest = hashlib.sha256(f"{LAYOUT}|{extractor.digest}|{source.identity}{layers}".encode()).hexdigest()
    file = cache / f"reference-{digest[:20]}.safetensors"
    names = ("embeddings", *adm.POOLED, *(adm.SPATIAL if extractor.spatial else ()))
    kept = derived.read(file, names)
    if kept is None:
        kept = _features(source, extractor)
        derived.write(file, kept)
    embeddings = kept["embeddings"].astype(np.float64)
    spatial = Gaussian(kept["mu_s"], kept["sigma_s"]) if extractor.spatial else None
    return Reference(Gaussian(kept["mu"], kept["sigma"]), embeddings, len(embeddings), digest, spatial)


def _features(source: Source, extractor: Extractor) -> dict[str, NDArray[np.float64]]:
    features = extractor(source.images())
    normal = gaussian(features.embeddings)
    made = {"embeddings": features.embeddings.numpy(), "mu": normal.mu, "sigma": normal.sigma}
    if features.spatial is not None:
        placed = gaussian(features.spatial)
        made |= {"mu_s": placed.mu, "sigma_s": placed.sigma}
    return made


WANTED = {
    "folder": "a folder of images",
    "statistics": "an .npz file with mu and sigma",
    "adm": "a reference file of ADM's evaluator, an .npz with mu, sigma, mu_s, sigma_s and arr_0",
}
"""What the path of every kind of reference leads to."""


def _path(config: ReferenceConfig) -> Path:
    path = Path(config.path or "").expanduser()
    if config.path and path.exists():
        return path
    wanted = WANTED[config.kind]
    raise QualityError(f"metrics.reference.path={config.path} does not exist; it must be {wanted}.")


def _drawn(kind: str, count: int, size: int) -> Source:
    """Held-out synthetic images, identified by the code that draws them."""
    from vvsbench.training.data import data_set

    data = data_set(kind)
    first, code = data.HELD_OUT_FIRST + REFERENCE_OFFSET, synthetic_digest(kind)

    def images() -> Dataset[Tensor]:
        starts = range(first, first + count, RENDER_BATCH)
        parts = [torch.arange(start, min(start + RENDER_BATCH, first + count)) for start in starts]
        return ImageSet(torch.cat([data.render(part, size=size, seed=0)[0] for part in parts]).numpy())

    return Source(f"{kind}|{code}|{first}|{count}|{size}|seed 0", images)


def _folder(path: Path, config: ReferenceConfig) -> Source:
    """The first `count` images of a folder, in the order of their names, subfolders included.

    Args:
        path: the folder.
        config: `count` is the number of images, `crop` the side to bring them to (0 leaves them alone).
    """
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES)
    if len(files) < config.count:
        raise QualityError(
            f"metrics.reference.count={config.count}, but {path} holds {len(files)} images "
            f"({', '.join(sorted(IMAGE_SUFFIXES))}); lower the count or fill the folder."
        )
    chosen = files[: config.count]
    listing = "\n".join(f"{file.relative_to(path)}:{checkpoints.digest(file)}" for file in chosen)
    code = hashlib.sha256(listing.encode()).hexdigest()
    how = "box and bicubic" if config.filter == "bicubic" else config.filter
    return Source(f"folder|{code}|crop {config.crop} {how}", lambda: Folder(chosen, config.crop, config.filter))


class Folder(Dataset[Tensor]):
    """Image files, opened one by one as they are measured.

    Args:
        files: in the order wanted.
        crop: side to bring every image to; 0 leaves them alone, then all must be of one size.
        filter: see `framed`.
    """

    def __init__(self, files: list[Path], crop: int, filter: str = "bicubic") -> None:
        self.files = files
        self.crop = crop
        self.filter = filter
        self.shape = _open(files[0], crop, filter).shape

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Tensor:
        image = _open(self.files[index], self.crop, self.filter)
        if image.shape != self.shape:
            raise QualityError(
                f"{self.files[index]} is {image.shape[2]}x{image.shape[1]}, not {self.shape[2]}x{self.shape[1]}: "
                "set metrics.reference.crop to the side of the generated images."
            )
        return torch.from_numpy(image)


def _open(file: Path, crop: int, filter: str = "bicubic") -> NDArray[np.uint8]:
    """Read an image as uint8 [3, H, W], brought to the side `crop` unless that is 0."""
    try:
        with Image.open(file) as opened:
            image = opened.convert("RGB")
    except OSError as error:
        raise QualityError(f"{file} is not a readable image ({error}); remove or replace it.") from error
    if crop:
        image = framed(image, crop, filter)
    return np.asarray(image, dtype=np.uint8).transpose(2, 0, 1).copy()


def framed(image: Image.Image, side: int, filter: str) -> Image.Image:
    """An image as a square of a given size.

    Args:
        image: of any size.
        side: in pixels.
        filter: bicubic resizes, antialiased, and then takes the middle; lanczos takes the middle and then resizes, as
            LANTERN and VVS do for FID; squash resizes the whole picture, bilinearly, as they do for P and R.
    """
    if filter == "squash":
        return image.resize((side, side), Image.Resampling.BILINEAR)
    if filter == "lanczos":
        return _middle(image, min(image.size)).resize((side, side), Image.Resampling.LANCZOS)
    scale = side / min(image.size)
    width, height = (max(side, round(length * scale)) for length in image.size)
    return _middle(image.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=2.0), side)


def _middle(image: Image.Image, side: int) -> Image.Image:
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side))


def _statistics(path: Path, extractor: Extractor) -> Reference:
    """Published statistics: an .npz with `mu` [D] and `sigma` [D, D]; pickles inside are refused."""
    mu, sigma = adm.statistics(path, adm.POOLED)
    width = extractor.width
    if mu.shape != (width,) or sigma.shape != (width, width):
        raise QualityError(
            f"{path} has mu {mu.shape} and sigma {sigma.shape}, but the extractor's features have {width} numbers: "
            "the statistics are of another extractor."
        )
    digest = hashlib.sha256(f"{LAYOUT}|{extractor.digest}|{checkpoints.digest(path)}".encode()).hexdigest()
    return Reference(Gaussian(mu, sigma), None, 0, digest)


def _adm(path: Path, count: int, extractor: Extractor, cache: Path, with_images: bool) -> Reference:
    """A reference file of ADM's evaluator: its own statistics, and features of its images where they are wanted."""
    known = _statistics(path, extractor)
    spatial = Gaussian(*adm.statistics(path, adm.SPATIAL)) if extractor.spatial else None
    if not with_images:
        return Reference(known.gaussian, None, 0, known.digest, spatial)
    images = adm.images(path)
    if images.shape[0] < count:
        raise QualityError(
            f"metrics.reference.count={count}, but {path} holds {images.shape[0]} images; lower the count."
        )
    source = Source(f"adm|{checkpoints.digest(path)}|{count}", lambda: ImageSet(_first(images, count)))
    found = _of_images(source, extractor, cache)
    digest = hashlib.sha256(f"{known.digest}|{found.digest}".encode()).hexdigest()
    return Reference(known.gaussian, found.embeddings, found.count, digest, spatial)


def _first(images: adm.Images, count: int) -> NDArray[np.uint8]:
    parts = images.parts(RENDER_BATCH)
    return np.concatenate([next(parts) for _ in range(0, count, RENDER_BATCH)])[:count]
