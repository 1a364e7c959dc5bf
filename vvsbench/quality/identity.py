"""When a quality record is out of date: a key over everything its numbers depend on, computed without torch.

Changing a metric never samples again, and sampling again never keeps an old metric: the runner compares this key with
the one in the record and calls `evaluate` only when they differ.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from vvsbench.models import checkpoints
from vvsbench.quality import weights
from vvsbench.quality.config import COMPARED, SYNTHETIC, MetricsConfig, QualityError, recipe
from vvsbench.runs.record import QUALITY_SCHEMA


def quality_key(config: MetricsConfig, image_digest: str, captions: Sequence[str] | None) -> str:
    """See `vvsbench.quality.key`."""
    content = {
        "schema": QUALITY_SCHEMA,  # a record that keeps less than this one would is measured again
        "protocol": [config.name, config.version],
        "recipe": recipe(config),
        "weights": weights.locate(config).digests(),
        "reference": _reference(config),
        "images": image_digest,
        "captions": list(captions) if captions is not None and config.values else None,  # intervals need them as well
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:20]


SOURCES = {"shapes": ("shapes",), "scenes": ("scenes", "shapes")}
"""Modules of `vvsbench.training` whose code draws each synthetic data set."""


def synthetic_digest(kind: str) -> str:
    """Digests of the code that draws a synthetic data set; another byte of it is another data set."""
    from vvsbench import training

    folder = Path(training.__file__).parent
    return "+".join(checkpoints.digest(folder / f"{name}.py") for name in SOURCES[kind])


def _reference(config: MetricsConfig) -> str | None:
    if not COMPARED & set(config.values):
        return None
    if config.reference.kind in SYNTHETIC:
        return synthetic_digest(config.reference.kind)
    path = Path(config.reference.path or "").expanduser()
    if not config.reference.path or not path.exists():
        raise QualityError(f"metrics.reference.path={config.reference.path} does not exist.")
    return checkpoints.digest(path)
