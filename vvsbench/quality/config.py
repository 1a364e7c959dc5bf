"""What a metric protocol is made of: the schema of `conf/metrics/*.yaml`, its checks, and what pins it to a version.

A number is comparable only with numbers of the same recipe: extractor, reference, splits, subsets and resize. So a
recipe carries a name and a version, the shipped recipes are pinned by a digest, and a recipe that was changed on the
command line says so in its version instead of passing for the shipped one. Imports no torch: the command line reads it.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
from dataclasses import dataclass, field
from typing import Any, Optional

from vvsbench.errors import UserError
from vvsbench.training.settings import DataName

FIDELITY = ("fid", "sfid", "is", "kid", "precision", "recall")
"""Metrics taken from the features of one extractor; all but IS also need a reference."""
COMPARED = frozenset(FIDELITY) - {"is"}
FROM_IMAGES = frozenset({"kid", "precision", "recall"})
"""Metrics that need the features of every reference image: statistics are not enough."""
WORDED = ("clip", "hps", "accuracy")
"""Metrics that need a caption of every image."""
METRICS = (*FIDELITY, *WORDED, "hue")
EXTRACTORS = ("classifier", "inception", "inception_clean", "vgg")
SYNTHETIC = tuple(name.value for name in DataName)
"""References that the package draws itself."""
REFERENCES = (*SYNTHETIC, "folder", "statistics", "adm")
FILTERS = ("bicubic", "lanczos", "squash")
"""See `vvsbench.quality.references.framed`."""
DEVICES = ("auto", "cpu", "cuda")
LEAST_IMAGES = 16
"""Below this neither a covariance nor a jackknife means anything."""

PINNED_RECIPES = {
    "none v1": "63b5ab016b75",
    "tiny v1": "79f372f2fca1",
    "scenes v1": "206b14cfd50b",
    "inception v1": "c1e240cbde54",
    "inception_clip v1": "e50f5696c2b9",
    "coco-val2017-5k v1": "112025e7505d",
    "adm-imagenet-50k v1": "36d24f974a8f",
    "openai-clip-b32 v1": "5146416a3d91",
    "vgg-pr v1": "fd942c79f2e3",
    "hpsv2 v1": "1432c05a9e2f",
}
"""Recipe digests of the shipped protocols. A deliberate change of a recipe is a new version and a new line here."""


class QualityError(UserError):
    """Quality cannot be measured as asked: a file is missing, or the image set and the protocol do not fit."""


@dataclass
class ExtractorConfig:
    """The network whose features FID, IS, KID, precision and recall are computed from."""

    kind: str = "classifier"
    weights: Optional[str] = None  # noqa: UP045  (Hydra reads this annotation)


@dataclass
class ReferenceConfig:
    """The real images, or their statistics."""

    kind: str = "shapes"
    path: Optional[str] = None  # noqa: UP045
    count: int = 2048
    crop: int = 0
    filter: str = "bicubic"


@dataclass
class MetricsConfig:
    """One metric protocol; `conf/metrics/tiny.yaml` explains its keys, and the protocols that need them these three.

    prefix goes in front of every caption of the CLIP score, crop is the side that generated images are brought to
    before anything is measured (0: as they are), and hps is the checkpoint of the preference model.
    """

    name: str = "none"
    version: str = "v1"
    values: list[str] = field(default_factory=list)
    extractor: ExtractorConfig = field(default_factory=ExtractorConfig)
    reference: ReferenceConfig = field(default_factory=ReferenceConfig)
    clip: Optional[str] = None  # noqa: UP045
    prefix: str = ""
    hps: Optional[str] = None  # noqa: UP045
    crop: int = 0
    splits: int = 1
    subsets: int = 100
    subset_size: int = 1000
    neighbours: int = 3
    groups: int = 20
    resamples: int = 2000
    confidence: float = 0.95
    batch_size: int = 64
    device: str = "auto"


def problems(config: MetricsConfig) -> list[str]:
    """List everything wrong with a protocol that can be seen without opening a file.

    Args:
        config: the composed `metrics` group.

    Returns:
        One line per problem, each naming the key and the choices; empty when the protocol is sound.
    """
    found = [
        *(_choice("metrics.values", value, METRICS) for value in config.values),
        _choice("metrics.extractor.kind", config.extractor.kind, EXTRACTORS),
        _choice("metrics.reference.kind", config.reference.kind, REFERENCES),
        _choice("metrics.reference.filter", config.reference.filter, FILTERS),
        _choice("metrics.device", config.device, DEVICES),
        *_least(config),
    ]
    wanted = set(config.values)
    if len(wanted) < len(config.values):
        found.append(f"metrics.values names a metric twice: {', '.join(config.values)}.")
    if not 0.5 <= config.confidence < 1:
        found.append(f"metrics.confidence={config.confidence} must lie in [0.5, 1), for example 0.95.")
    if "clip" in wanted and not config.clip:
        found.append("metrics.values has clip but metrics.clip is null: name a folder or a hub model, or drop clip.")
    if "hps" in wanted and not config.hps:
        found.append("metrics.values has hps but metrics.hps is null: name the checkpoint, or drop hps.")
    if "sfid" in wanted and not config.extractor.kind.startswith("inception"):
        found.append("metrics.values has sfid, which only an inception extractor can give.")
    if "is" in wanted and config.extractor.kind == "vgg":
        found.append("metrics.values has is, but metrics.extractor.kind=vgg names no classes: drop is.")
    if "accuracy" in wanted and config.extractor.kind != "classifier":
        found.append("metrics.values has accuracy, which only metrics.extractor.kind=classifier can give.")
    found += _reference_problems(config, wanted)
    return [problem for problem in found if problem]


def _choice(key: str, value: str, choices: tuple[str, ...]) -> str:
    if value in choices:
        return ""
    near = difflib.get_close_matches(value, choices, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    return f"{key}={value} is unknown; choose from {', '.join(choices)}.{hint}"


def _least(config: MetricsConfig) -> list[str]:
    least = {
        "splits": 1,
        "subsets": 1,
        "subset_size": 2,
        "neighbours": 1,
        "groups": 2,
        "resamples": 100,
        "batch_size": 1,
    }
    found = [(f"metrics.{key}", getattr(config, key), bound) for key, bound in least.items()]
    found += [
        ("metrics.reference.count", config.reference.count, 2),
        ("metrics.reference.crop", config.reference.crop, 0),
        ("metrics.crop", config.crop, 0),
    ]
    return [f"{key}={value} must be at least {bound}." for key, value, bound in found if value < bound]


def _reference_problems(config: MetricsConfig, wanted: set[str]) -> list[str]:
    found = []
    reference, compared = config.reference, wanted & COMPARED
    if compared and reference.kind not in SYNTHETIC and not reference.path:
        found.append(f"metrics.reference.path is needed by metrics.reference.kind={reference.kind}.")
    if reference.kind == "statistics" and (needy := sorted(compared - {"fid"})):
        found.append(
            f"metrics.values has {', '.join(needy)}, which need reference images; metrics.reference.kind=statistics "
            "offers only mu and sigma. Drop them or use metrics.reference.kind=folder."
        )
    return found


def recipe(config: MetricsConfig) -> dict[str, Any]:
    """The part of a protocol that changes its numbers: all but the places of files, the batch size and the device.

    Files are left out because the same weights lie elsewhere on another machine; records hold their digests instead.
    """
    content = dataclasses.asdict(config)
    for key in ("name", "version", "batch_size", "device", "clip", "hps"):
        del content[key]
    del content["extractor"]["weights"], content["reference"]["path"]
    for part, key, neutral in ADDED:
        place = content[part] if part else content
        if place[key] == neutral:
            del place[key]
    return content


ADDED = (("", "prefix", ""), ("", "crop", 0), ("reference", "filter", "bicubic"))
"""Keys that came after the first recipes were pinned: a recipe that does not use one is what it was without it."""


def recipe_digest(config: MetricsConfig) -> str:
    """Twelve hexadecimal digits over `recipe`."""
    return hashlib.sha256(json.dumps(recipe(config), sort_keys=True).encode()).hexdigest()[:12]


def protocol_version(config: MetricsConfig) -> str:
    """The version to put beside numbers: "v1", or "v1+changed-DIGEST" when the recipe is not the shipped one."""
    digest = recipe_digest(config)
    if PINNED_RECIPES.get(f"{config.name} {config.version}") == digest:
        return config.version
    return f"{config.version}+changed-{digest}"
