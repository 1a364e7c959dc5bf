"""Where a protocol's networks lie on this machine, found without importing torch and without touching the network.

Looking before sampling saves hours: `locate` names every missing file at once, with the place to put it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from vvsbench.errors import CheckpointError
from vvsbench.models import checkpoints
from vvsbench.quality.config import FIDELITY, MetricsConfig, QualityError

INCEPTION_FILE = "weights-inception-2015-12-05-6726825d.pth"
"""torch-fidelity's conversion of the TensorFlow network, 96 MB, the protocol of published FID values."""
INCEPTION_SOURCE = "https://github.com/toshas/torch-fidelity/releases/tag/v0.2.0"
VGG_FILE = "vgg16-397923af.pth"
VGG_SOURCE = "https://download.pytorch.org/models/vgg16-397923af.pth"
HPS_PACKAGE = "open_clip"
HPS_SOURCE = "https://huggingface.co/xswu/HPSv2"
CLASSIFIER_FILE = "zoo:classifier.safetensors"


@dataclass(frozen=True)
class Weights:
    """The files a protocol reads; None where it needs none."""

    extractor: Path | None
    clip: Path | None
    hps: Path | None = None

    def digests(self) -> dict[str, str]:
        """Sha256 by role, of a file or of a folder's files."""
        present = {"extractor": self.extractor, "clip": self.clip, "hps": self.hps}
        return {role: checkpoints.digest(path) for role, path in present.items() if path is not None}


def needs_extractor(config: MetricsConfig) -> bool:
    """Whether any wanted metric is computed from the extractor's features or logits."""
    return bool(set(config.values) & {*FIDELITY, "accuracy"})


def locate(config: MetricsConfig) -> Weights:
    """Find the networks of a protocol.

    Raises:
        QualityError: something is missing; every missing file is named with where to put it.
    """
    missing: list[str] = []
    found: dict[str, Path | None] = {}
    wanted: dict[str, Callable[[], Path] | None] = {
        "extractor": (lambda: _extractor(config)) if needs_extractor(config) else None,
        "clip": (lambda: _clip(str(config.clip))) if "clip" in config.values and config.clip else None,
        "hps": (lambda: _hps(str(config.hps))) if "hps" in config.values and config.hps else None,
    }
    for role, find in wanted.items():
        try:
            found[role] = find() if find else None
        except (CheckpointError, QualityError) as error:
            missing.append(str(error))
    if missing:
        raise QualityError("\n".join([f"metrics={config.name} cannot be computed here:", *missing]))
    return Weights(**found)


def _extractor(config: MetricsConfig) -> Path:
    if config.extractor.weights:
        return checkpoints.locate(config.extractor.weights)
    if config.extractor.kind == "classifier":
        return checkpoints.locate(CLASSIFIER_FILE)
    if config.extractor.kind == "vgg":
        return _downloaded("VGG", VGG_FILE, f"528 MB, {VGG_SOURCE}")
    return _downloaded("Inception", INCEPTION_FILE, f"96 MB, from {INCEPTION_SOURCE}")


def _downloaded(what: str, file: str, source: str) -> Path:
    """A file in torch's own folder of downloads."""
    path = downloads() / file
    if not path.is_file():
        raise QualityError(
            f"{what} weights not found: {path}. Put {file} ({source}) there, or name the file with "
            "metrics.extractor.weights=PATH. Nothing is downloaded by itself."
        )
    return path


def _hps(name: str) -> Path:
    """The checkpoint of the preference model, and the package that reads it."""
    if find_spec(HPS_PACKAGE) is None:
        raise QualityError(
            "the preference score needs open_clip, an optional extra: pip install 'vvsbench[hps]', or drop hps from "
            "metrics.values."
        )
    path = checkpoints.resolve(name)
    if not path.is_file():
        raise QualityError(
            f"preference model not found: {path.absolute()}. Put HPS_v2.1_compressed.pt (from {HPS_SOURCE}) there, or "
            "name the file with metrics.hps=PATH. Nothing is downloaded by itself."
        )
    return path


def downloads() -> Path:
    """The folder in which torch keeps downloads (below $TORCH_HOME, else below torch in the user's cache folder)."""
    home = os.environ.get("TORCH_HOME") or checkpoints.user_cache() / "torch"
    return Path(home).expanduser() / "hub" / "checkpoints"


def _clip(name: str) -> Path:
    """A folder in the transformers layout: a path, a zoo name, or what the hub's cache holds under this name."""
    if name.startswith(checkpoints.ZOO_PREFIX):
        return checkpoints.locate(name)
    folder = checkpoints.resolve(name)
    if folder.is_dir():
        return folder
    if name.count("/") == 1 and not name.startswith((".", "/", "~")):
        from huggingface_hub import try_to_load_from_cache

        config = try_to_load_from_cache(name, "config.json")
        if isinstance(config, str):
            return Path(config).parent
    raise QualityError(
        f"CLIP model not found: {name} is neither a folder ({folder.absolute()}) nor in the hub's cache. Download it "
        f"once (`hf download {name}`), or name a folder with metrics.clip=PATH. Nothing is downloaded by itself."
    )
