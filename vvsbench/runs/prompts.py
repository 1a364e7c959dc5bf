"""What each image of a set is drawn from: its class id, in a cycle, or its caption, of which there is one for each.

A caption that is lost moves all that follow to the wrong image, and every score of images against captions with them.
So nothing is passed over here: a file has one caption for every image, or it is refused with the line.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vvsbench.config import PromptKind, RunConfig
from vvsbench.errors import UserError


class PromptsError(UserError):
    """The captions file cannot be used."""


def prompts(cfg: RunConfig) -> list[int] | list[str]:
    """The prompts of a run; image i is drawn from number i modulo their number.

    Raises:
        PromptsError: the captions file cannot be used.
    """
    if cfg.prompts.kind == PromptKind.classes:
        return cfg.prompts.classes or list(range(cfg.model.classes))
    return read_captions(Path(str(cfg.prompts.file)))


def read_captions(path: Path) -> list[str]:
    """Captions of a .txt file (one a line), a .json list of strings, or COCO's annotations.

    Lines end with a line feed and with nothing else; a carriage return before it, a byte-order mark and blank lines at
    the end of the file are no part of the captions.

    Raises:
        PromptsError: it is none of these, holds nothing, or one caption is blank.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
        found = json.loads(text) if path.suffix == ".json" else _lines(text)
        found = longest(found["annotations"]) if isinstance(found, dict) else found
    except (OSError, ValueError, RecursionError) as error:
        raise PromptsError(f"the captions in {path} cannot be read ({error}).") from error
    except (KeyError, TypeError):
        found = None
    if not isinstance(found, list) or not all(isinstance(caption, str) for caption in found):
        raise PromptsError(f"{path} must hold a JSON list of strings, or be COCO's captions_*.json.")
    captions = [caption.strip() for caption in found]
    if not captions:
        raise PromptsError(f"{path} holds no caption.")
    if "" in captions:
        raise PromptsError(
            f"{_which(path)} {captions.index('') + 1} of {path} is blank. The captions behind it would belong to the "
            "wrong images: write one there, or take the line out if no image belongs to it."
        )
    return captions


def _lines(text: str) -> list[str]:
    """The lines of a text, without the blank ones at its end."""
    return text.rstrip().split("\n") if text.strip() else []


def _which(path: Path) -> str:
    return "caption" if path.suffix == ".json" else "line"


def enough(captions: Sequence[str], path: Path, count: int) -> None:
    """Check that there is a caption for every image of a set.

    Raises:
        PromptsError: there is not.
    """
    if len(captions) < count:
        raise PromptsError(
            f"{path} has captions for {len(captions)} of {count} images ({_which(path)} {len(captions) + 1} is missing)"
            f": write the others, or take no more than {len(captions)} images."
        )


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
