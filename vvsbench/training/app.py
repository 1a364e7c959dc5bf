"""`vvsbench train PART key=value ...`: a Hydra composition per part of a zoo, and the card of what was trained.

Settings are checked before torch is imported, so a misspelt key is answered at once.
"""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, cast

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from vvsbench import composition, config
from vvsbench.errors import ConfigError
from vvsbench.explaining import EXPECTED, explained
from vvsbench.training import settings as schema
from vvsbench.training.settings import LoopSettings

if TYPE_CHECKING:
    from vvsbench.training.loop import Task

PARTS: dict[str, type[LoopSettings]] = {
    "tokenizer": schema.TokenizerSettings,
    "autoencoder": schema.AutoencoderSettings,
    "classifier": schema.ClassifierSettings,
    "target": schema.TargetSettings,
    "drafter": schema.DrafterSettings,
    "small_ar": schema.SmallARSettings,
    "mar": schema.MARSettings,
    "mar_draft": schema.MARDraftSettings,
    "causal": schema.CausalSettings,
    "causal_draft": schema.CausalDraftSettings,
    "clip": schema.ClipSettings,
    "gates": schema.GatesSettings,
    "card": schema.CardSettings,
}
"""What can be trained, in the order in which the parts need each other, and at the end what describes them."""

USAGE = f"""usage: vvsbench train PART [key=value ...] [--cfg]

Trains one part of a zoo, or goes on where an interrupted training stopped. Finished files are never
overwritten unless overwrite=true is given. --cfg prints the settings and trains nothing.

PART is one of {", ".join(PARTS)}; a target and a small_ar need a tokenizer in the same folder,
a drafter tokenizer and target, mar, causal and their drafts an autoencoder, the card all of them; gates takes what is
there. scenes/PART is the part of the second zoo, which is in the regime of real models.
Common keys: folder=... steps=... batch_size=... seed=... device=cpu|cuda overwrite=true

A drafter for another model learns from images that the model drew:
vvsbench train drafter model=NAME data=outputs/cells/STUDY folder=... [loss=guided|published]"""


def names() -> list[str]:
    """The parts of the tiny zoo, and those of the other zoos as ZOO/PART."""
    others = (config.folder("conf") / "train").glob("*/*.yaml")
    order = list(PARTS)
    return order + [
        f"{file.parent.name}/{file.stem}" for file in sorted(others, key=lambda file: order.index(file.stem))
    ]


def composed(part: str, overrides: Sequence[str]) -> LoopSettings:
    """Settings of one training.

    Args:
        part: one of `names()`.
        overrides: key=value, as on the command line.

    Raises:
        ConfigError: an unknown part, key, or a value of the wrong type or out of range.
    """
    if part not in (there := names()):
        near = difflib.get_close_matches(part, there, 1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise ConfigError([f"train {part}: there is no such part; choose one of {', '.join(there)}.{hint}"])
    kind = part.rpartition("/")[2]
    own, target = _parted(kind, overrides)
    known = {entry.name for entry in fields(PARTS[kind])}
    if found := [_unknown(key, known) for key in map(_key, own) if key not in known]:
        raise ConfigError(found)
    store = ConfigStore.instance()
    for name, node in PARTS.items():
        store.store(group="schema/train", name=name, node=node)
    try:
        with initialize_config_dir(str(config.folder("conf")), version_base="1.3", job_name="vvsbench"):
            chosen = compose("train", overrides=[f"train@_global_={part}", *own])
        made = cast(LoopSettings, OmegaConf.to_object(chosen))
    except EXPECTED as error:
        raise explained(error) from error
    if isinstance(made, schema.DrafterSettings):
        made.target += target
        composition.composed(made.target)  # a misspelt model is answered at once
    if found := made.problems():
        raise ConfigError(found)
    return made


def _parted(part: str, overrides: Sequence[str]) -> tuple[list[str], list[str]]:
    """The training's own settings, and those of the model that a drafter is trained for."""
    target = [
        word for word in overrides if part == "drafter" and re.fullmatch(r"\+{0,2}model(\..+)?", word.split("=")[0])
    ]
    return [word for word in overrides if word not in target], target


def _key(override: str) -> str:
    return override.split("=", 1)[0].lstrip("+~")


def _unknown(key: str, known: set[str]) -> str:
    near = difflib.get_close_matches(key, known, 1)
    hint = f" Did you mean {near[0]}?" if near else ""
    return f"{key}: there is no such setting.{hint} Choose from: {', '.join(sorted(known - {'part'}))}."


def build(settings: LoopSettings) -> Task:
    """The task of a training; imports torch."""
    if isinstance(settings, schema.TokenizerSettings):
        from vvsbench.training.tokenizer import TokenizerTask

        return TokenizerTask(settings)
    if isinstance(settings, schema.AutoencoderSettings):
        from vvsbench.training.autoencoder import AutoencoderTask

        return AutoencoderTask(settings)
    if isinstance(settings, schema.ClassifierSettings):
        from vvsbench.training.classifier import ClassifierTask

        return ClassifierTask(settings)
    if isinstance(settings, schema.TargetSettings):
        from vvsbench.training.target import TargetTask

        return TargetTask(settings)
    if isinstance(settings, schema.DrafterSettings):
        from vvsbench.training.drafter import DrafterTask

        return DrafterTask(settings)
    if isinstance(settings, schema.MARSettings):
        from vvsbench.training.mar import MARTask

        return MARTask(settings)
    if isinstance(settings, schema.CausalSettings):
        from vvsbench.training.causal import CausalTask

        return CausalTask(settings)
    if isinstance(settings, schema.ClipSettings):
        from vvsbench.training.clip import ClipTask

        return ClipTask(settings)
    raise TypeError(f"nothing trains {type(settings).__name__}")


def main(argv: Sequence[str]) -> int:
    """Run `vvsbench train`.

    Args:
        argv: the part's name, then overrides.

    Returns:
        0 when the training is finished, 130 when it was interrupted and can go on.

    Raises:
        UserError: wrong settings, something missing, or a finished file in the way.
    """
    words = [word.removeprefix("part=") for word in argv if not word.startswith("-")]
    flags = {word for word in argv if word.startswith("-")}
    if unknown := sorted(flags - {"-h", "--help", "--cfg"}):
        raise ConfigError([f"{unknown[0]} is no option of vvsbench train; see vvsbench train --help."])
    if "-h" in flags or "--help" in flags or not words:
        print(USAGE)
        return 0 if flags else 2
    settings = composed(words[0], words[1:])
    if "--cfg" in flags:
        print(OmegaConf.to_yaml(OmegaConf.structured(settings)), end="")
        return 0
    if isinstance(settings, schema.CardSettings):
        from vvsbench.training import card

        card.write(Path(settings.folder), settings)
        return 0
    if isinstance(settings, schema.GatesSettings):
        from vvsbench.training import gates

        gates.write(Path(settings.folder), settings)
        return 0
    from vvsbench.training import loop

    loop.guard(settings)
    try:
        loop.train(build(settings), settings)
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
