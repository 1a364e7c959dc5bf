"""From the settings of a transformers target to the target: its folder, its class, its weights, its processor."""

from __future__ import annotations

import importlib
import inspect
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from vvsbench.errors import CheckpointError
from vvsbench.models import checkpoints
from vvsbench.models.families.base import Family
from vvsbench.models.families.target import Transformers
from vvsbench.models.guidance import Guidance
from vvsbench.models.settings import FAMILIES
from vvsbench.models.shelf import SHELF

if TYPE_CHECKING:
    from vvsbench.config import SamplingConfig
    from vvsbench.models.settings import TransformersConfig


def family_class(name: str) -> type[Family]:
    """The family of a name: the one of this package's file of that name, or of another package's entry point.

    Raises:
        CheckpointError: there is none.
    """
    for entry in entry_points(group=FAMILIES):
        if entry.name == name:
            found: type[Family] = entry.load()
            return found
    try:
        module = importlib.import_module(f"vvsbench.models.families.{name}")
    except ModuleNotFoundError as error:
        raise CheckpointError(
            f"model.family={name}: no such family. Name a file of vvsbench/models/families, or an entry point of "
            f"{FAMILIES} (docs/adding.md)."
        ) from error
    kinds = [kind for kind in vars(module).values() if inspect.isclass(kind) and kind.__module__ == module.__name__]
    return next(kind for kind in kinds if issubclass(kind, Family))


def load_transformers(
    settings: TransformersConfig, sampling: SamplingConfig, device: torch.device, dtype: torch.dtype
) -> Transformers:
    """Load a target; what makes its pixels stays in float32.

    Args:
        settings: which one.
        sampling: its guidance becomes part of the target.
        device, dtype: of the decoder.

    Raises:
        CheckpointError: the folder is not here or incomplete, or its weights do not fit its config.json.
    """
    path = checkpoints.locate(settings.checkpoint)
    kind = family_class(settings.family)
    model = SHELF.get(path, ("transformers", str(device), dtype), lambda: load_model(path, dtype).to(device))
    guidance = Guidance(sampling.guidance_scale, sampling.guidance_interval)
    family = kind(model, settings)
    if family.vocab != settings.vocab:
        raise CheckpointError(
            f"model.vocab={settings.vocab}, and {settings.checkpoint} has {family.vocab} image tokens: set "
            f"model.vocab={family.vocab}."
        )
    return Transformers(family, guidance, settings.prompt_tokens, _processor(path), settings.name)


def load_model(path: Path, dtype: torch.dtype) -> nn.Module:
    """The model of a folder that `save_pretrained` wrote, in one file or in several, on the CPU.

    Raises:
        CheckpointError: see `load_transformers`.
    """
    import transformers

    try:
        config = transformers.AutoConfig.from_pretrained(path, local_files_only=True)
        named = getattr(transformers, (config.architectures or [""])[0], None)
        kind: Any = named or transformers.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING[type(config)]
        model, told = kind.from_pretrained(
            path,
            config=config,
            local_files_only=True,
            dtype=dtype,
            output_loading_info=True,
            attn_implementation="sdpa",
        )
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise CheckpointError(
            f"{path} cannot be loaded by transformers ({str(error).splitlines()[0]}). Fetch the whole folder again: "
            "config.json, the tokenizer's files, and every model*.safetensors that its index names."
        ) from error
    missing = sorted(told["missing_keys"])
    if wrong := [*missing, *map(str, told["mismatched_keys"])]:
        more = f" and {len(wrong) - checkpoints.SHOWN} more" if len(wrong) > checkpoints.SHOWN else ""
        raise CheckpointError(
            f"{path} does not fit its own config.json: missing or of another shape: "
            f"{', '.join(wrong[: checkpoints.SHOWN])}{more}. Fetch the folder again."
        )
    painter: Any = getattr(model.base_model, "vqmodel", None)
    if painter is not None and dtype != torch.float64:
        painter.float()
    ready: nn.Module = model.eval().requires_grad_(False)
    return ready


def _processor(path: Path) -> Any:
    """What turns captions into token ids; None where the folder has no tokenizer (prompts are then token ids)."""
    from transformers import AutoProcessor

    place = next((place for place in (path, path.parent / "processor") if list(place.glob("tokenizer*"))), None)
    if place is None:
        return None
    try:
        return AutoProcessor.from_pretrained(place, local_files_only=True)
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{place} has no processor that transformers can load ({str(error).splitlines()[0]}). Fetch "
            "processor_config.json, preprocessor_config.json, chat_template.jinja and the tokenizer's files."
        ) from error
