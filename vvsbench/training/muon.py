"""Muon in single precision: torch's own computes in bfloat16, which a CPU without it emulates fifty times slower."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
from torch import Tensor


def orthogonal(matrices: Tensor, coefficients: tuple[float, float, float], steps: int, eps: float) -> Tensor:
    """Matrices with singular values near 1 and the singular vectors of those given.

    Args:
        matrices: float32 [M, rows, columns], each handled by itself.
        coefficients: of the quintic polynomial that every step applies to the singular values.
        steps: of the iteration.
        eps: least norm to divide by.

    Source: K. Jordan et al., Muon: an optimizer for hidden layers in neural networks, 2024 (Newton-Schulz iteration).
    """
    a, b, c = coefficients
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / x.flatten(1).norm(dim=1).clamp(min=eps)[:, None, None]
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


class Muon(torch.optim.Muon):
    """`torch.optim.Muon` with `adjust_lr_fn="match_rms_adamw"`, its matrices of one shape taken together."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update every matrix that has a gradient; there is no closure."""
        assert closure is None
        for group in self.param_groups:
            alike: defaultdict[torch.Size, list[Tensor]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    alike[parameter.shape].append(parameter)
            for parameters in alike.values():
                self._update(parameters, group)

    def _update(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        """One step of matrices of one shape."""
        grads = [parameter.grad for parameter in parameters if parameter.grad is not None]
        momenta = [
            self.state[parameter].setdefault("momentum_buffer", torch.zeros_like(parameter)) for parameter in parameters
        ]
        torch._foreach_lerp_(momenta, grads, 1 - group["momentum"])
        ahead = torch.stack([grad.lerp(kept, group["momentum"]) for grad, kept in zip(grads, momenta, strict=True)])
        updates = orthogonal(ahead, group["ns_coefficients"], group["ns_steps"], group["eps"])
        rate = group["lr"] * 0.2 * max(ahead.shape[1:]) ** 0.5  # steps as long as AdamW's
        torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(parameters, list(updates.unbind()), alpha=-rate)
