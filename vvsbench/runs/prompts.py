"""What each image of a set is drawn from: class ids or captions, cycled in order."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vvsbench.config import PromptKind, RunConfig
from vvsbench.errors import UserError


class PromptsError(UserError):
    """The captions file cannot be used."""


def prompts(cfg: RunConfig) -> list[int] | list[str]:
    """The prompts of a run; image i is drawn from number i modulo their number.

    Raises:
        PromptsError: the captions file is unreadable or empty.
    """
    if cfg.prompts.kind == PromptKind.classes:
        return cfg.prompts.classes or list(range(cfg.model.classes))
    return read_captions(Path(str(cfg.prompts.file)))


def read_captions(path: Path) -> list[str]:
    """Captions of a .txt file (one a line, empty lines skipped), a .json list of strings, or COCO's annotations.

    Raises:
        PromptsError: it is none of these, or holds nothing.
    """
    try:
        text = path.read_text(encoding="utf-8")
        lines = json.loads(text) if path.suffix == ".json" else [line.strip() for line in text.splitlines()]
        lines = longest(lines["annotations"]) if isinstance(lines, dict) else lines
    except (OSError, ValueError) as error:
        raise PromptsError(f"prompts.file={path} cannot be read ({error}).") from error
    except (KeyError, TypeError):
        lines = None
    if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
        raise PromptsError(f"prompts.file={path} must hold a JSON list of strings, or be COCO's captions_*.json.")
    captions = [line for line in lines if line]
    if not captions:
        raise PromptsError(f"prompts.file={path} holds no caption.")
    return captions


def longest(annotations: list[dict[str, Any]]) -> list[str]:
    """The longest caption of every picture (of equals the first), in the order in which the pictures first appear.

    LANTERN and VVS prompt with COCO val2017 so.

    Args:
        annotations: of COCO, each with `image_id` and `caption`.
    """
    chosen: dict[Any, str] = {}
    for one in annotations:
        chosen[one["image_id"]] = max(chosen.get(one["image_id"], ""), one["caption"], key=len)
    return list(chosen.values())


def texts(cfg: RunConfig, chosen: list[int] | list[str]) -> list[str]:
    """What each prompt says in words: the caption, the class's name where it has one, else the class id."""
    if cfg.model.class_names is not None:
        from vvsbench.training.data import data_set

        names = data_set(cfg.model.class_names).CLASS_NAMES
        return [names[int(label)] for label in chosen]
    return [str(prompt) for prompt in chosen]


def have_words(cfg: RunConfig) -> bool:
    """Whether the prompts are captions that a text metric can be taken of."""
    return cfg.prompts.kind == PromptKind.captions or cfg.model.class_names is not None
