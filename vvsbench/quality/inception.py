"""Inception as published numbers use it: TensorFlow's weights under two resizes, and the layer that sFID is taken from.

torch-fidelity's extractor keeps the spatial layer to itself and knows one resize. Papers that measure with clean-fid
resize with an antialiased filter instead, and their FID differs: the two must never stand in one column.
"""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x

SPATIAL = "spatial"
SPATIAL_CHANNELS = 7
LAYERS = (
    *("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "MaxPool_1", "Conv2d_3b_1x1", "Conv2d_4a_3x3", "MaxPool_2"),
    *("Mixed_5b", "Mixed_5c", "Mixed_5d", "Mixed_6a", "Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"),
    *("Mixed_7a", "Mixed_7b", "Mixed_7c", "AvgPool"),
)
BRANCHED = "Mixed_6d"
"""The block that TensorFlow's graph calls mixed_6."""


class Inception(FeatureExtractorInceptionV3):  # type: ignore[misc]  # torch-fidelity has no types
    """InceptionV3 of 2015 with TensorFlow 1's resize: bilinear, corner-aligned sampling, not antialiased.

    The spatial layer is ADM's: the first 7 channels of mixed_6/conv, 17 by 17 places, 2023 numbers.
    """

    @staticmethod
    def get_provided_features_list() -> tuple[str, ...]:
        """The layers this extractor can give."""
        return "2048", "logits_unbiased", SPATIAL

    def resized(self, images: Tensor) -> Tensor:
        """Float images [B, 3, 299, 299] from 0 to 255 out of uint8 [B, 3, H, W]."""
        side = (self.INPUT_IMAGE_SIZE, self.INPUT_IMAGE_SIZE)
        resized: Tensor = interpolate_bilinear_2d_like_tensorflow1x(images.float(), size=side, align_corners=False)
        return resized

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Features of uint8 images [B, 3, H, W], in the order of `features_list`."""
        found: dict[str, Tensor] = {}
        x = (self.resized(images) - 128) / 128
        for name in LAYERS:
            if name == BRANCHED and SPATIAL in self.features_list:
                found[SPATIAL] = self.Mixed_6d.branch1x1(x)[:, :SPATIAL_CHANNELS].flatten(1)
            x = getattr(self, name)(x)
        found["2048"] = x.flatten(1)
        found["logits_unbiased"] = nn.functional.linear(found["2048"], self.fc.weight)
        return tuple(found[name] for name in self.features_list)


class CleanInception(Inception):
    """The same network behind clean-fid's resize: pillow's bicubic filter, antialiased, channel by channel in float.

    Source:
        G. Parmar, R. Zhang and J.-Y. Zhu, On aliased resizing and surprising subtleties in GAN evaluation, 2022
        (arXiv 2104.11222).
    """

    def resized(self, images: Tensor) -> Tensor:
        """Float images [B, 3, 299, 299] from 0 to 255 out of uint8 [B, 3, H, W]."""
        side = (self.INPUT_IMAGE_SIZE, self.INPUT_IMAGE_SIZE)
        planes = images.cpu().numpy().astype(np.float32).reshape(-1, *images.shape[2:])
        made = [np.asarray(Image.fromarray(p).resize(side, Image.Resampling.BICUBIC), dtype=np.float32) for p in planes]
        resized = torch.from_numpy(np.stack(made)).clamp(0, 255).reshape(len(images), 3, *side)
        return resized.to(images.device)
