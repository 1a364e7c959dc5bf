"""Other sizes of a study: `size=smoke` runs the cells of a paper's table on the tiny zoo, through the very same file.

A study's file says under `study.sizes` what every other size puts in place of its own lines. Here that becomes a study
of its own that inherits from the file, as one written by hand would, so that nothing behind it knows of sizes: its
cells lie in a folder named after both, and its report is that of any study.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from vvsbench import catalog
from vvsbench.config import GROUPS
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
    file = _file(study)
    sizes = (file.get("study") or {}).get("sizes") or {}
    if size not in sizes:
        if size == AS_WRITTEN:
            return rest
        choices = ", ".join(dict.fromkeys([AS_WRITTEN, *sizes]))
        raise ConfigError([f"size={size}: study={study} has no such size. Choose from: {choices}."])
    name = f"{study}_{size}"
    node = _derived(study, name, file, sizes[size])
    ConfigStore.instance().store(group="study", name=name, node=node, package="_global_", provider="vvsbench")
    return [f"study={name}" if word == f"study={study}" else word for word in rest]


def _file(study: str) -> Mapping[str, Any]:
    """A study's file as it is written; the schema checks it when the study is composed."""
    for folder, _ in catalog.folders():
        if (path := folder / "study" / f"{study}.yaml").is_file():
            return yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    raise ConfigError([f"study={study}: there is no such study. Choose from: {', '.join(catalog.names('study'))}."])


def _derived(study: str, name: str, file: Mapping[str, Any], size: Mapping[str, Any]) -> dict[str, Any]:
    """The file that one would write by hand for this size; cells that coincide in it are one.

    Args:
        study: whose file it inherits from.
        name: of the derived study.
        file: what that says.
        size: what this size changes: see `vvsbench.config.SizeConfig`.
    """
    settings = [(key, value) for key, _, value in (word.partition("=") for word in size.get("settings") or [])]
    instead = dict(size.get("instead") or {})
    chosen = {key: value for key, value in settings if key.split("@")[0] in GROUPS}
    node: Any = OmegaConf.create({"defaults": [study, *({f"override /{k}": v} for k, v in chosen.items()), "_self_"]})
    for key, value in settings:
        if key not in chosen:
            OmegaConf.update(node, key, yaml.safe_load(value), force_add=True)
    cells = [tuple(instead.get(word, word) for word in cell) for cell in file["study"]["cells"]]
    written = _written(file)
    stands_for = instead | {f"{key}={written[key]}": f"{key}={value}" for key, value in settings if key in written}
    node["study"] = {"name": name, "cells": [list(cell) for cell in dict.fromkeys(cells)], "stands_for": stands_for}
    found: Any = OmegaConf.to_container(node)
    return dict(found)


def _written(file: Mapping[str, Any]) -> dict[str, str]:
    """What a study's file chooses of each group, and sets for the whole study."""
    groups = [item for item in file.get("defaults") or [] if isinstance(item, Mapping)]
    chosen = {str(key).removeprefix("override /"): str(name) for item in groups for key, name in item.items()}
    return chosen | {key: str(value) for key, value in file.items() if not isinstance(value, Mapping | list)}
