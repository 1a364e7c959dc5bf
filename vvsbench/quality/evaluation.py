"""The quality stage: a protocol applied to an image set, from checks to record."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from PIL import Image

from vvsbench.errors import ConfigError
from vvsbench.quality import references, weights
from vvsbench.quality.config import LEAST_IMAGES, MetricsConfig, QualityError, problems, protocol_version
from vvsbench.quality.identity import quality_key
from vvsbench.quality.images import Images, ImageSet, Part
from vvsbench.quality.scorers import SCORERS, Subject
from vvsbench.runs.record import QualityRecord

LIBRARIES = ("torch", "torchvision", "torch-fidelity", "torchmetrics", "transformers", "scipy", "numpy")


def evaluate(
    images: Images | Part,
    captions: Sequence[str] | None,
    config: MetricsConfig,
    cache: Path,
    image_digest: str,
) -> QualityRecord:
    """See `vvsbench.quality.evaluate`."""
    if found := problems(config):
        raise ConfigError(found)
    subjects = ImageSet(images) if isinstance(images, np.ndarray) else images
    count = subjects.shape[0]
    if count < LEAST_IMAGES:
        raise QualityError(
            f"{count} images are too few to measure; set count to {LEAST_IMAGES} or more, or use metrics=none."
        )
    if captions is not None and len(captions) != count:
        raise QualityError(f"{count} images but {len(captions)} captions; there must be one for each.")
    started = time.perf_counter()
    subject = Subject(framed(subjects, config), captions, config, weights.locate(config), cache)
    values = [SCORERS[name](subject) for name in config.values]
    compared = "reference" in vars(subject)
    return QualityRecord(
        protocol=config.name,
        version=protocol_version(config),
        key=quality_key(config, image_digest, captions),
        image_digest=image_digest,
        reference_digest=subject.reference.digest if compared else "",
        reference_count=subject.reference.count if compared else 0,
        groups=subject.groups() if any(value.jackknife for value in values) else "",
        values=values,
        seconds=time.perf_counter() - started,
        versions={library: version(library) for library in LIBRARIES}
        | {f"{role} sha256": digest for role, digest in subject.weights.digests().items()},
    )


def framed(images: Images, config: MetricsConfig) -> Images:
    """The images at the size that the protocol measures them at.

    Args:
        images: of any size.
        config: `crop` is the side wanted, 0 or theirs already to leave them alone.
    """
    side = config.crop
    if not side or images.shape[1:3] == (side, side):
        return images
    return Framed(images, side, config.reference.filter)


@dataclass(frozen=True)
class Framed:
    """Images that are brought to squares as they are read, see `references.framed`."""

    images: Images
    side: int
    filter: str

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """See `Images.shape`."""
        return self.images.shape[0], self.side, self.side, 3

    def parts(self, size: int) -> Iterator[Part]:
        """See `Images.parts`."""
        for part in self.images.parts(size):
            pictures = (Image.fromarray(image.transpose(1, 2, 0)) for image in part)
            made = [np.asarray(references.framed(picture, self.side, self.filter)) for picture in pictures]
            yield np.ascontiguousarray(np.stack(made).transpose(0, 3, 1, 2))
