"""Other sizes of a study: `size=smoke` runs the cells of a paper's table on the tiny zoo, through the very same file.

A study's file says under `study.sizes` what every other size puts in place of its own lines. Here that becomes a study
of its own that inherits from the file, as one written by hand would, so that nothing behind it knows of sizes: its
cells lie in a folder named after both, and its report is that of any study.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
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
    name = of_size(study, size)
    if name == study:
        return rest
    file = _file(study)
    node = _derived(study, name, file, file["study"]["sizes"][size])
    ConfigStore.instance().store(group="study", name=name, node=node, package="_global_", provider="vvsbench")
    return [f"study={name}" if word == f"study={study}" else word for word in rest]


def of_size(study: str, size: str) -> str:
    """The name of a size of a study.

    Args:
        study: with a file.
        size: one that the file has, or `AS_WRITTEN` for what it has by itself.

    Raises:
        ConfigError: there is no such study, or it has no such size.
    """
    sizes = (_file(study).get("study") or {}).get("sizes") or {}
    if size in sizes:
        return f"{study}_{size}"
    if size == AS_WRITTEN:
        return study
    choices = ", ".join(dict.fromkeys([AS_WRITTEN, *sizes]))
    raise ConfigError([f"size={size}: study={study} has no such size. Choose from: {choices}."])


def size_of(name: str) -> tuple[str, str] | None:
    """The study and the size that a name stands for, as vvs_table1 and smoke of vvs_table1_smoke; None for no size."""
    for study in catalog.names("study"):
        size = name.removeprefix(f"{study}_")
        if size != name and size in ((_file(study).get("study") or {}).get("sizes") or {}):
            return study, size
    return None


def declared(name: str) -> list[list[str]] | None:
    """The overrides of each cell that a study's file declares.

    Args:
        name: of a study with a file, or of a size of one (`size_of`).

    Returns:
        None when there is neither.
    """
    if _path(name) is not None:
        return (_file(name).get("study") or {}).get("cells") or []
    if (found := size_of(name)) is None:
        return None
    file = _file(found[0])
    cells: list[list[str]] = _derived(found[0], name, file, file["study"]["sizes"][found[1]])["study"]["cells"]
    return cells


def check_files(overrides: Sequence[str]) -> None:
    """Check what no schema sees of the studies that are named: that their files are studies, and their cells apart.

    Args:
        overrides: as on the command line.

    Raises:
        ConfigError: a file holds no study, or a cell runs two settings into one.
    """
    for word in overrides:
        if word.startswith("study="):
            for name in word.removeprefix("study=").split(","):
                if (path := _path(name)) is not None:
                    _read(name, path)


def _path(study: str) -> Path | None:
    places = [folder / "study" / f"{study}.yaml" for folder, _ in catalog.folders()]
    return next((path for path in places if path.is_file()), None)


def _file(study: str) -> Mapping[str, Any]:
    """A study's file as it is written; the schema checks its types when the study is composed."""
    if (path := _path(study)) is None:
        raise ConfigError([f"study={study}: there is no such study. Choose from: {', '.join(catalog.names('study'))}."])
    return _read(study, path)


def _read(study: str, path: Path) -> Mapping[str, Any]:
    content = yaml.safe_load(path.read_bytes())
    said = content.get("study") if isinstance(content, Mapping) else None
    inherits = isinstance(content, Mapping) and any(isinstance(one, str) for one in content.get("defaults") or [])
    if not (isinstance(said, Mapping) and said.get("name")) and not inherits:
        raise ConfigError([f"study={study}: {path} says no study.name, so it is no study (docs/adding.md shows one)."])
    if wrong := list(_run_together((said or {}).get("cells"))):
        raise ConfigError([f"study={study}: {path}: {one}" for one in wrong])
    return dict(content)


def _run_together(cells: Any) -> Iterator[str]:
    """What is wrong with the form of a study's cells, one line each."""
    for cell in cells or []:
        if not isinstance(cell, list):
            yield f"study.cells: write a list for each cell, as in - [{str(cell).replace(' ', ', ')}]."
            continue
        for word in cell:
            if not isinstance(word, str) or "=" not in word:
                yield f"study.cells: {word} is no setting; write KEY=VALUE."
            elif re.search(r"\s[\w.@/+~-]+=", word):
                yield f"study.cells: {word} is two settings in one; put a comma between them."


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
