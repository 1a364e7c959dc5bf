"""The settings of cells, compared: which belong together, what tells two apart, and which the study still lacks."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from vvsbench.identity import WITHOUT_EFFECT


def missing(declared: Sequence[Sequence[str]], configs: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """The declared cells that no record answers to.

    Args:
        declared: the overrides of each cell, as in a study's file.
        configs: the resolved settings of the records. Each answers to one declaration, the most specific that it fits.
    """
    left = list(configs)
    unmet = []
    for overrides in sorted(declared, key=len, reverse=True):
        match = next((config for config in left if all(_fits(config, text) for text in overrides)), None)
        if match is None:
            unmet.append(list(overrides))
        else:
            left.remove(match)
    return [list(overrides) for overrides in declared if list(overrides) in unmet]


def _fits(config: Mapping[str, Any], override: str) -> bool:
    path, _, wanted = override.lstrip("+").partition("=")
    node: Any = config
    for part in path.split("@")[-1].split("."):
        if not isinstance(node, Mapping) or part not in node:
            return False
        node = node[part]
    if isinstance(node, Mapping):
        node = node.get("name")
    return str(node).lower() == wanted.strip("'\"").lower()


def shared(config: Mapping[str, Any]) -> str:
    """Everything that cells must share to be compared: their settings but for the decoder."""
    kept = {key: value for key, value in config.items() if key not in WITHOUT_EFFECT and key != "decoder"}
    return json.dumps(kept, sort_keys=True)


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """A settings tree as dotted names to text."""
    found: dict[str, str] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = str(value)
    return found


def differences(one: Mapping[str, str], every: Sequence[Mapping[str, str]]) -> str:
    """What is said in `one` and not the same in all of `every`, as "count=64 seed=1"."""
    varying = [name for name in one if len({other.get(name) for other in every}) > 1]
    return " ".join(f"{name.rsplit('.', 1)[-1]}={one[name]}" for name in varying)
