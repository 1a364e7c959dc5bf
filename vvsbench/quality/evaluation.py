"""The quality stage: a protocol applied to an image set, from checks to record."""

from __future__ import annotations

import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vvsbench.errors import ConfigError
from vvsbench.quality import references, weights
from vvsbench.quality.config import LEAST_IMAGES, MetricsConfig, QualityError, problems, protocol_version
from vvsbench.quality.extractors import check_images
from vvsbench.quality.identity import quality_key
from vvsbench.quality.scorers import SCORERS, Subject
from vvsbench.runs.record import QualityRecord

LIBRARIES = ("torch", "torchvision", "torch-fidelity", "torchmetrics", "transformers", "scipy", "numpy")


def evaluate(
    images: NDArray[np.uint8],
    captions: Sequence[str] | None,
    config: MetricsConfig,
    cache: Path,
    image_digest: str,
) -> QualityRecord:
    """See `vvsbench.quality.evaluate`."""
    if found := problems(config):
        raise ConfigError(found)
    if len(check_images(images)) < LEAST_IMAGES:
        raise QualityError(
            f"{len(images)} images are too few to measure; set count to {LEAST_IMAGES} or more, or use metrics=none."
        )
    if captions is not None and len(captions) != len(images):
        raise QualityError(f"{len(images)} images but {len(captions)} captions; there must be one for each.")
    started = time.perf_counter()
    subject = Subject(framed(images, config), captions, config, weights.locate(config), cache)
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


def framed(images: NDArray[np.uint8], config: MetricsConfig) -> NDArray[np.uint8]:
    """The images at the size that the protocol measures them at.

    Args:
        images: uint8 [N, 3, H, W].
        config: `crop` is the side wanted, 0 or theirs already to leave them alone.
    """
    side = config.crop
    if not side or images.shape[2:] == (side, side):
        return images
    pictures = (Image.fromarray(image.transpose(1, 2, 0)) for image in images)
    made = [np.asarray(references.framed(picture, side, config.reference.filter)) for picture in pictures]
    return np.stack(made).transpose(0, 3, 1, 2)
