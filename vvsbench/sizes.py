"""Other sizes of a study: `size=smoke` runs the cells of a paper's table on the tiny zoo, through the very same file.

A study's file says under `study.sizes` what every other size puts in place of its own lines. Here that becomes a study
of its own that inherits from the file, as one written by hand would, so that nothing behind it knows of sizes: its
cells lie in a folder named after both, and its report is that of any study.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from vvsbench.composition import composed
from vvsbench.config import GROUPS, RunConfig, SizeConfig
from vvsbench.errors import ConfigError

AS_WRITTEN = "full"
"""The size that a study's file has by itself, where it names no other so."""


def sized(overrides: Sequence[str]) -> list[str]:
    """Overrides without `size=NAME`: the study that they name becomes that size of it.

    Args:
        overrides: as on the command line, flags included.

    Raises:
        ConfigError: no study is named, or it has no such size.
    """
    asked = [word for word in overrides if word.startswith("size=")]
    if not asked:
        return list(overrides)
    rest = [word for word in overrides if word not in asked]
    size = asked[-1].removeprefix("size=")
    study = next((word.removeprefix("study=") for word in rest if word.startswith("study=")), "")
    if not study or "," in study:
        raise ConfigError([f"size={size}: is a size of one study; write study=NAME size={size}."])
    written = composed([f"study={study}"])
    if size not in written.study.sizes:
        if size == AS_WRITTEN:
            return rest
        choices = ", ".join(dict.fromkeys([AS_WRITTEN, *written.study.sizes]))
        raise ConfigError([f"size={size}: study={study} has no such size. Choose from: {choices}."])
    name = f"{study}_{size}"
    node = _derived(study, name, written, written.study.sizes[size])
    ConfigStore.instance().store(group="study", name=name, node=node, package="_global_", provider="vvsbench")
    return [f"study={name}" if word == f"study={study}" else word for word in rest]


def _derived(study: str, name: str, written: RunConfig, size: SizeConfig) -> dict[str, Any]:
    """The file that one would write by hand for this size.

    Args:
        study: whose file it inherits from.
        name: of the derived study.
        written: the settings that the file gives by itself.
        size: what it changes.
    """
    chosen = {key: value for key, value in map(_split, size.settings) if key.split("@")[0] in GROUPS}
    node: Any = OmegaConf.create({"defaults": [study, *({f"override /{k}": v} for k, v in chosen.items()), "_self_"]})
    for key, value in map(_split, size.settings):
        if key not in chosen:
            OmegaConf.update(node, key, yaml.safe_load(value), force_add=True)
    cells = [[size.instead.get(word, word) for word in cell] for cell in written.study.cells]
    stands_for = dict(size.instead)
    for key, value in map(_split, size.settings):
        if (old := _named(written, key)) is not None:
            stands_for[f"{key}={old}"] = f"{key}={value}"
    node["study"] = {"name": name, "cells": cells, "stands_for": stands_for}
    found: Any = OmegaConf.to_container(node)
    return dict(found)


def _named(written: RunConfig, key: str) -> str | None:
    """What an override of a study's file would say of a setting of the whole study; None of one deeper down."""
    value = getattr(written, key, None)
    return None if value is None else str(getattr(value, "name", value))


def _split(override: str) -> tuple[str, str]:
    key, _, value = override.partition("=")
    return key, value
