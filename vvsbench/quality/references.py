"""Reference sets: what generated images are compared with, computed once per content and kept under its digest.

torch-fidelity caches statistics under a name, so other data or weights under the same name return the old numbers.
Here the file name is a digest of everything the features depend on (source files or source code, count, size, resize,
extractor and its weights).
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from vvsbench import derived
from vvsbench.models import checkpoints
from vvsbench.quality import adm, pictures
from vvsbench.quality.config import SYNTHETIC, QualityError, ReferenceConfig
from vvsbench.quality.extractors import Extractor
from vvsbench.quality.fidelity import Gaussian, gaussian
from vvsbench.quality.identity import synthetic_digest
from vvsbench.quality.images import Images, regrouped

log = logging.getLogger(__name__)

REFERENCE_OFFSET = 1_000_000
"""The reference starts this far into the held-out images, away from those that training looks at while it runs."""
RENDER_BATCH = 256
READER = "transparent on white, upper 8 of 16 bits"
"""How `pictures` reads files: part of the digest of a folder."""
LAYOUT = "1"
"""Version of the cached file's layout; part of its digest."""


@dataclass(frozen=True)
class Reference:
    """A reference set in the extractor's feature space.

    Attributes:
        gaussian: mean and covariance, for FID.
        embeddings: float32 [M, D] numpy array, for KID, precision and recall; None when only statistics were given.
        count: number of images M; 0 when the statistics file does not say.
        digest: of everything the numbers depend on.
        spatial: mean and covariance of the layer of sFID; None unless the extractor gives it.
    """

    gaussian: Gaussian
    embeddings: NDArray[np.float32] | None
    count: int
    digest: str
    spatial: Gaussian | None = None


@dataclass(frozen=True)
class Source:
    """Reference images that are made only if they are not in the cache: their identity, and how to get them."""

    identity: str
    images: Callable[[], Images]


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
    embeddings = kept["embeddings"].astype(np.float32)
    spatial = Gaussian(kept["mu_s"], kept["sigma_s"]) if extractor.spatial else None
    return Reference(Gaussian(kept["mu"], kept["sigma"]), embeddings, len(embeddings), digest, spatial)


def _features(source: Source, extractor: Extractor) -> dict[str, NDArray[Any]]:
    features = extractor(source.images())
    normal = gaussian(features.embeddings)
    made: dict[str, NDArray[Any]] = {"embeddings": features.embeddings.numpy(), "mu": normal.mu, "sigma": normal.sigma}
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

    def render(numbers: Tensor) -> NDArray[np.uint8]:
        return data.render(numbers, size=size, seed=0)[0].numpy()

    return Source(
        f"{kind}|{code}|{first}|{count}|{size}|seed 0", lambda: Rendered(render, first, (count, size, size, 3))
    )


@dataclass(frozen=True)
class Rendered:
    """Synthetic images, drawn as they are asked for.

    Attributes:
        render: uint8 [n, 3, S, S] of numbers int64 [n].
        first: number of the first image.
        shape: [N, S, S, 3].
    """

    render: Callable[[Tensor], NDArray[np.uint8]]
    first: int
    shape: tuple[int, int, int, int]

    def parts(self, size: int) -> Iterator[NDArray[np.uint8]]:
        """See `Images.parts`."""
        end = self.first + self.shape[0]
        starts = range(self.first, end, RENDER_BATCH)
        rendered = (self.render(torch.arange(start, min(start + RENDER_BATCH, end))) for start in starts)
        return regrouped(rendered, size)


def _folder(path: Path, config: ReferenceConfig) -> Source:
    """The first `count` images of a folder, in the order of their names, subfolders included.

    Args:
        path: the folder.
        config: `count` is the number of images, `crop` the side to bring them to (0 leaves them alone).
    """
    listing = pictures.listed(path)
    files = sorted(listing.pictures)
    if len(files) < config.count:
        raise QualityError(
            f"metrics.reference.count={config.count}, but {path} holds {len(files)} images "
            f"({', '.join(pictures.SUFFIXES)}); lower the count or fill the folder. {listing.left_out}".rstrip()
        )
    if listing.left_out:
        log.warning("reference: %s", listing.left_out)
    chosen = files[: config.count]
    content = "\n".join(f"{file.relative_to(path)}:{checkpoints.digest(file)}" for file in chosen)
    code = hashlib.sha256(content.encode()).hexdigest()
    how = "box and bicubic" if config.filter == "bicubic" else config.filter
    seen = f"folder|{code}|crop {config.crop} {how}|{READER}"
    return Source(seen, lambda: Folder(chosen, config.crop, config.filter))


class Folder:
    """Image files, opened one by one as they are measured.

    Args:
        files: in the order wanted.
        crop: side to bring every image to; 0 leaves them alone, then all must be of one size.
        filter: see `framed`.

    Attributes:
        shape: see `Images.shape`.
    """

    def __init__(self, files: list[Path], crop: int, filter: str = "bicubic") -> None:
        self.files, self.crop, self.filter = files, crop, filter
        _, height, width = self._opened(pictures.Reader(), files[0]).shape
        self.shape = (len(files), height, width, 3)

    def parts(self, size: int) -> Iterator[NDArray[np.uint8]]:
        """See `Images.parts`; what had to be converted is told at the end.

        Raises:
            QualityError: a file cannot be read, or is of another size.
        """
        reader = pictures.Reader()
        for first in range(0, len(self.files), size):
            yield np.stack([self._fitting(reader, file) for file in self.files[first : first + size]])
        for sentence in reader.told:
            log.warning("reference: %s", sentence)

    def _fitting(self, reader: pictures.Reader, file: Path) -> NDArray[np.uint8]:
        image = self._opened(reader, file)
        _, height, width = image.shape
        if (height, width) != self.shape[1:3]:
            raise QualityError(
                f"{file} is {width}x{height}, not {self.shape[2]}x{self.shape[1]}: "
                "set metrics.reference.crop to the side of the generated images."
            )
        return image

    def _opened(self, reader: pictures.Reader, file: Path) -> NDArray[np.uint8]:
        """An image as uint8 [3, H, W], brought to the side `crop` unless that is 0."""
        picture = reader.read(file)
        return pictures.pixels(framed(picture, self.crop, self.filter) if self.crop else picture)


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
    source = Source(f"adm|{checkpoints.digest(path)}|{count}", lambda: First(images, count))
    found = _of_images(source, extractor, cache)
    digest = hashlib.sha256(f"{known.digest}|{found.digest}".encode()).hexdigest()
    return Reference(known.gaussian, found.embeddings, found.count, digest, spatial)


@dataclass(frozen=True)
class First:
    """The first images of a set."""

    images: Images
    count: int

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """See `Images.shape`."""
        return self.count, *self.images.shape[1:]

    def parts(self, size: int) -> Iterator[NDArray[np.uint8]]:
        """See `Images.parts`."""
        left = self.count
        for part in self.images.parts(size):
            yield part[:left]
            left -= len(part)
            if left <= 0:
                return
