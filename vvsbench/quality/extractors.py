"""Feature extractors: images in, features and class scores out, once per image set.

Every extractor is a torch-fidelity extractor, the tiny zoo's classifier included (registered here), so one code path
and one set of metric functions serves all protocols. How Inception resizes is told in `vvsbench.quality.inception`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY, register_feature_extractor
from torch_fidelity.utils import create_feature_extractor

from vvsbench.errors import NotFiniteError
from vvsbench.models import checkpoints
from vvsbench.quality.config import QualityError
from vvsbench.quality.fidelity import options
from vvsbench.quality.images import Images, ImageSet
from vvsbench.quality.inception import SPATIAL, CleanInception, Inception


@dataclass(frozen=True)
class Features:
    """What one extractor says about an image set.

    Attributes:
        embeddings: float32 [N, D], the layer that distances are taken in.
        logits: float32 [N, C], the layer that classes are read from.
        spatial: float32 [N, 2023], the layer of sFID; None unless it was asked for.
    """

    embeddings: Tensor
    logits: Tensor
    spatial: Tensor | None = None


@dataclass(frozen=True)
class Kind:
    """A registered extractor and the layers its metrics use."""

    registered: str
    embeddings: str
    logits: str


class ClassifierExtractor(FeatureExtractorBase):  # type: ignore[misc]  # torch-fidelity has no types
    """The tiny zoo's classifier in torch-fidelity's interface: pooled features and class scores.

    Args:
        name: the registered name.
        features_list: the layers wanted, of "features" and "logits".
        feature_extractor_weights_path: the classifier's safetensors file.
        unused: torch-fidelity passes all of its settings to every extractor.
    """

    def __init__(
        self, name: str, features_list: list[str], feature_extractor_weights_path: str | None = None, **unused: Any
    ) -> None:
        from vvsbench.training import classifier

        super().__init__(name, features_list)
        if feature_extractor_weights_path is None:
            raise QualityError("the classifier extractor needs its weights file.")
        self.network = classifier.load(Path(feature_extractor_weights_path))

    @staticmethod
    def get_provided_features_list() -> tuple[str, ...]:
        """The layers this extractor can give."""
        return "features", "logits"

    @staticmethod
    def get_default_feature_layer_for_metric(metric: str) -> str:
        """The layer torch-fidelity uses when none is named."""
        return "logits" if metric == "isc" else "features"

    @staticmethod
    def can_be_compiled() -> bool:
        """It is small; compiling would cost more than it gains."""
        return False

    @staticmethod
    def get_dummy_input_for_compile() -> Tensor:
        """Part of the interface: a smallest valid input."""
        return torch.zeros(1, 3, 32, 32, dtype=torch.uint8)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Features of uint8 images [B, 3, H, W], in the order of `features_list`."""
        logits, features = self.network(images)
        layers = {"features": features.float(), "logits": logits.float()}
        return tuple(layers[layer] for layer in self.features_list)


KINDS = {
    "classifier": Kind("vvsbench-classifier", "features", "logits"),
    "inception": Kind("vvsbench-inception", "2048", "logits_unbiased"),
    "inception_clean": Kind("vvsbench-inception-clean", "2048", "logits_unbiased"),
    "vgg": Kind("vgg16", "fc2", "fc2"),
}
OWN = {"classifier": ClassifierExtractor, "inception": Inception, "inception_clean": CleanInception}
for _kind, _class in OWN.items():
    if KINDS[_kind].registered not in FEATURE_EXTRACTORS_REGISTRY:
        register_feature_extractor(KINDS[_kind].registered, _class)


class Extractor:
    """One loaded extractor.

    Args:
        kind: one of `KINDS`.
        weights: its weights file.
        device: where it runs.
        batch_size: images at a time; it changes speed, not numbers.
        spatial: whether the layer of sFID is wanted too.
    """

    def __init__(self, kind: str, weights: Path, device: torch.device, batch_size: int, spatial: bool = False) -> None:
        self.kind = KINDS[kind]
        self.spatial = spatial
        self.device = device
        self.batch_size = batch_size
        self.digest = hashlib.sha256(f"{self.kind}:{checkpoints.digest(weights)}".encode()).hexdigest()
        if kind != "classifier":
            checkpoints.read(weights)  # refuses pickles with code in them, which torch-fidelity would run
        chosen = options(cuda=device.type == "cuda", feature_extractor_weights_path=str(weights))
        layers = [*dict.fromkeys((self.kind.embeddings, self.kind.logits)), *([SPATIAL] if spatial else [])]
        try:
            self.network = create_feature_extractor(self.kind.registered, layers, **chosen)
        except RuntimeError as error:
            raise QualityError(f"{weights} is not a weights file of the {kind} extractor: {error}") from error

    def __call__(self, images: Images) -> Features:
        """Extract the features of an image set, in full float32 whatever the device allows; no image is kept.

        Raises:
            NotFiniteError: the network gave NaN or infinity.
        """
        found: dict[str, Tensor] = {}
        count, first = images.shape[0], 0
        with torch.no_grad(), torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
            for part in images.parts(self.batch_size):
                layers = self.network(torch.from_numpy(part).to(self.device))
                for name, values in self.network.convert_features_tuple_to_dict(layers).items():
                    rows = values.float().cpu()
                    finite(rows, f"features of the extractor {self.kind.registered} (layer {name})", rows.dtype, first)
                    kept = found.setdefault(name, rows.new_empty(count, *rows.shape[1:]))
                    kept[first : first + len(rows)] = rows
                first += len(part)
        return Features(found[self.kind.embeddings], found[self.kind.logits], found.get(SPATIAL))

    @cached_property
    def width(self) -> int:
        """Numbers per embedding."""
        return self(ImageSet(np.zeros((2, 3, 32, 32), dtype=np.uint8))).embeddings.shape[1]


def finite(values: Tensor, what: str, dtype: torch.dtype, first: int = 0) -> None:
    """Check what a network says of images.

    Args:
        values: [n, ...], a row per image, on the host.
        what: they are, and of which network.
        dtype: that the network computes in.
        first: index of the first image.

    Raises:
        NotFiniteError: some are NaN or infinite.
    """
    good = torch.isfinite(values).reshape(len(values), -1).all(1)
    if not good.all():
        row = int(good.byte().argmin())
        raise NotFiniteError(what, str(dtype).removeprefix("torch."), first + row, "", float(values[row].sum()))


def device_of(name: str) -> torch.device:
    """Turn "auto", "cpu" or "cuda" into a device that exists.

    Raises:
        QualityError: "cuda" on a machine without a usable GPU.
    """
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise QualityError("metrics.device=cuda, but torch finds no GPU here; use metrics.device=auto.")
    return torch.device("cuda" if available and name != "cpu" else "cpu")
