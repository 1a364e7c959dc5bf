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
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY, register_feature_extractor
from torch_fidelity.utils import create_feature_extractor, get_featuresdict_from_dataset

from vvsbench.models import checkpoints
from vvsbench.quality.config import QualityError
from vvsbench.quality.fidelity import options
from vvsbench.quality.inception import SPATIAL, CleanInception, Inception


@dataclass(frozen=True)
class Features:
    """What one extractor says about an image set.

    Attributes:
        embeddings: float64 [N, D], the layer that distances are taken in.
        logits: float64 [N, C], the layer that classes are read from.
        spatial: float64 [N, 2023], the layer of sFID; None unless it was asked for.
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


class ImageSet(Dataset[Tensor]):
    """Images in the only form torch-fidelity measures rightly: uint8, channels first.

    Args:
        images: uint8 [N, 3, H, W].
    """

    def __init__(self, images: NDArray[np.uint8]) -> None:
        self.images = check_images(images)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        if not 0 <= index < len(self.images):
            raise IndexError(index)
        return torch.from_numpy(self.images[index].copy())


def check_images(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the images if they are uint8 [N, 3, H, W] with N at least 2.

    Raises:
        QualityError: another type, layout or count; floats are refused because their range cannot be known.
    """
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8:
        found = getattr(images, "dtype", type(images).__name__)
        raise QualityError(f"images must be a numpy array of uint8 (0 to 255), not {found}.")
    if images.ndim != 4 or images.shape[1] != 3:
        hint = " It looks channels-last: transpose it." if images.ndim == 4 and images.shape[3] == 3 else ""
        raise QualityError(f"images must have shape [N, 3, H, W], not {list(images.shape)}.{hint}")
    if len(images) < 2:
        raise QualityError("quality needs at least 2 images; set count higher.")
    return images


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

    def __call__(self, images: Dataset[Tensor]) -> Features:
        """Extract features of a data set of uint8 images [3, H, W], in full float32 whatever the device allows."""
        cuda = self.device.type == "cuda"
        with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
            layers = get_featuresdict_from_dataset(
                images, self.network, self.batch_size, cuda, save_cpu_ram=True, verbose=False
            )
        spatial = layers[SPATIAL].double() if self.spatial else None
        return Features(layers[self.kind.embeddings].double(), layers[self.kind.logits].double(), spatial)

    @cached_property
    def width(self) -> int:
        """Numbers per embedding."""
        return self(ImageSet(np.zeros((2, 3, 32, 32), dtype=np.uint8))).embeddings.shape[1]


def device_of(name: str) -> torch.device:
    """Turn "auto", "cpu" or "cuda" into a device that exists.

    Raises:
        QualityError: "cuda" on a machine without a usable GPU.
    """
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise QualityError("metrics.device=cuda, but torch finds no GPU here; use metrics.device=auto.")
    return torch.device("cuda" if available and name != "cpu" else "cpu")
