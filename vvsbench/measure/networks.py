"""What the networks of a decoder weigh, for its roofline: from the modules, and from what models tell of themselves."""

from __future__ import annotations

from typing import Any

from torch import nn

from vvsbench.decoding.base import Decoder
from vvsbench.drafting.eagle import EagleSource
from vvsbench.measure.roofline import Networks
from vvsbench.models.latents import LatentSpec
from vvsbench.models.protocols import ModelSpec


def networks(decoder: Decoder) -> Networks | None:
    """Describe a decoder; None for a target that tells nothing of itself."""
    spec = getattr(decoder.target, "spec", None)
    if isinstance(spec, LatentSpec):
        return _continuous(decoder, spec)
    if isinstance(spec, ModelSpec):
        return _discrete(decoder, spec)
    return None


def _discrete(decoder: Decoder, spec: ModelSpec) -> Networks:
    draft_bytes, draft_parameters = _draft(getattr(decoder, "source", None))
    return Networks(
        target_bytes=spec.weight_bytes,
        draft_bytes=draft_bytes,
        cache_bytes=spec.cache_bytes_per_token,
        prefix=spec.prefix,
        tokens=spec.tokens,
        target_flops=spec.flops_per_token,
        draft_flops=2.0 * draft_parameters * spec.branches,
    )


def _draft(source: Any) -> tuple[float, float]:
    """Bytes and number of the weights that a forward of a draft source reads."""
    source = getattr(source, "drafter", source)  # of a joint source
    module = getattr(source, "network", None)
    if module is None:  # vanilla decoding, or a source without a network
        return 0.0, 0.0
    shared = source.target.network.output if isinstance(source, EagleSource) else None  # it borrows the target's output
    parts = [_read(module), *([_read(shared)] if shared is not None else [])]
    return sum(size for size, _ in parts), sum(count for _, count in parts)


def _continuous(decoder: Decoder, spec: LatentSpec) -> Networks:
    draft = getattr(decoder, "draft", None)
    return Networks(
        target_bytes=_chain(decoder.target),
        draft_bytes=_chain(draft) if draft is not None else 0.0,
        tokens=spec.tokens,
        unit_flops=spec.flops,
    )


def _chain(model: Any) -> float:
    """Bytes that one call of a continuous model reads: its transformer once, its head at every denoising step."""
    head = _read(model.head.network)[0]
    inside = any(module is model.head.network for module in model.network.modules())
    return _read(model.network)[0] - (head if inside else 0.0) + head * model.head.steps


def _read(module: nn.Module) -> tuple[float, float]:
    """Bytes and number of a module's weights; of an embedding table a forward reads next to nothing."""
    tables = {id(part.weight) for part in module.modules() if isinstance(part, nn.Embedding)}
    weights = [weight for weight in module.parameters() if id(weight) not in tables]
    return float(sum(w.numel() * w.element_size() for w in weights)), float(sum(w.numel() for w in weights))
