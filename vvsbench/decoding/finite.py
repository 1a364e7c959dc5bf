"""Whether the networks gave numbers: NaN and infinity would else be drawn from, scored and timed like anything else.

A NaN survives what is cheap to keep of a tensor: its maximum and its sum. So a loop keeps one number per row and step
on the device, and the host looks at it when it reads the device anyway: every step where it does that, at the end
elsewhere. -inf is a legitimate logit (of a token that cannot be); a row that holds nothing else is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from vvsbench.errors import NotFiniteError
from vvsbench.fusing import fusible


@fusible
def peak(logits: Tensor) -> Tensor:
    """One number per row of logits [R, T, V], float [R]: finite if and only if they are, -inf set apart."""
    return logits.amax(-1).sum(-1)


def dtype_of(network: nn.Module | None) -> str:
    """What a network computes in, in torch's words; "float32" of one without weights."""
    weights = None if network is None else next(network.parameters(), None)
    return str(torch.float32 if weights is None else weights.dtype).removeprefix("torch.")


@dataclass(frozen=True)
class Outputs:
    """What was kept of a network's outputs for every token of some images.

    Attributes:
        what: the numbers and their network, for the message.
        dtype: see `dtype_of`.
        values: float [B, N], one number per token, finite if and only if its outputs were.
        path: int64 [B, N], the order in which tokens were decided; None where that is their own.
    """

    what: str
    dtype: str
    values: Tensor
    path: Tensor | None = None

    def check(self, images: Sequence[int]) -> None:
        """Look at them. Reads the device.

        Args:
            images: indices of the images in the rows.

        Raises:
            NotFiniteError: some are not finite; the first of the first image is named.
        """
        values = self.values if self.path is None else self.values.gather(1, self.path)
        bad = ~torch.isfinite(values)
        if not bad.any():
            return
        row, rank = (int(index) for index in bad.nonzero()[0])
        token = rank if self.path is None else int(self.path[row, rank])
        raise NotFiniteError(self.what, self.dtype, images[row], f"token {token}", float(values[row, rank]))


def target_logits(target: Any) -> tuple[str, str]:
    """The logits of a discrete target and their dtype, for a message."""
    return f"logits of the target ({target.spec.name})", dtype_of(target.network)


def latents(model: Any, role: str, tokens: Tensor, path: Tensor | None = None) -> Outputs:
    """Tokens [B, N, C] of a continuous model, kept as they are.

    Args:
        model: that gave them.
        role: of it, "target" or "drafter".
        tokens: by position.
        path: see `Outputs`.
    """
    what = f"tokens of the {role} ({model.spec.name})"
    return Outputs(what, dtype_of(model.head.network), tokens.sum(-1), path)
