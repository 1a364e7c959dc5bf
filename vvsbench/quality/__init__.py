"""How good an image set is: FID, IS, KID, precision, recall, CLIP score and class accuracy, each with an interval.

A stage of its own: it takes images and returns a record, and never samples. Importing this package loads neither torch
nor any metric library; `evaluate` does.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vvsbench.quality.config import MetricsConfig, QualityError, problems

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vvsbench.quality.images import Images, Part
    from vvsbench.runs.record import QualityRecord

__all__ = ["MetricsConfig", "QualityError", "evaluate", "key", "problems"]


def key(config: MetricsConfig, image_digest: str, captions: Sequence[str] | None) -> str:
    """Identity of a quality record: it changes when any number in the record could. Imports no torch.

    Args:
        config: the protocol.
        image_digest: digest of the image set.
        captions: one per image, or None.

    Returns:
        Twenty hexadecimal digits.

    Raises:
        QualityError: the protocol's networks or reference are missing.
    """
    from vvsbench.quality.identity import quality_key

    return quality_key(config, image_digest, captions)


def evaluate(
    images: Images | Part,
    captions: Sequence[str] | None,
    config: MetricsConfig,
    cache: Path,
    image_digest: str,
) -> QualityRecord:
    """Measure an image set under a protocol.

    Args:
        images: read a few at a time and never held; an array uint8 [N, 3, H, W] is one too.
        captions: one per image, or None when the prompts have none.
        config: the protocol; its `values` are measured in their order.
        cache: folder in which reference features are kept between calls.
        image_digest: digest of the image set, copied into the record.

    Returns:
        The record, complete but not yet written.

    Raises:
        QualityError: files are missing, images, captions and protocol do not fit, or a metric is no number.
        NotFiniteError: a network gave NaN or infinity.
        ConfigError: the protocol contradicts itself.
    """
    from vvsbench.quality.evaluation import evaluate as measure

    return measure(images, captions, config, cache, image_digest)
