"""What every decoder is: it turns conditions into image tokens, says what it promises, and tells what it cost."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from vvsbench.axes import Guarantee
from vvsbench.decoding.trace import DecodeTrace
from vvsbench.models.protocols import TokenModel
from vvsbench.sampling import Sampling


class Decoder(ABC):
    """Draws image tokens from a target.

    Attributes:
        target: the model whose distribution is wanted.
        sampling: how guided logits become that distribution.
    """

    target: TokenModel[Any]
    sampling: Sampling

    @property
    @abstractmethod
    def guarantee(self) -> Guarantee:
        """What this decoder, in its present setting, promises."""

    @abstractmethod
    def generate(self, conditions: Tensor, images: Sequence[int], seed: int) -> tuple[Tensor, DecodeTrace]:
        """Generate a batch of images.

        Args:
            conditions: one row per image, from `TokenModel.conditions`.
            images: index of each image in its set; with the seed it determines the image.
            seed: of the set.

        Returns:
            tokens int64 [B, N] and the trace.
        """
