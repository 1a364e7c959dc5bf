"""The settings of cells, compared: which belong together, what tells two apart, and which the study still lacks."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from vvsbench.identity import WITHOUT_EFFECT


def unmet(declared: Sequence[Sequence[str]], configs: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """The declared cells without a record, for every setting that the command line gave the whole study.

    A study that was run with seed=0 and with seed=1 lacks whatever one of them lacks.

    Args:
        declared: the overrides of each cell.
        configs: the resolved settings of the records.

    Returns:
        Overrides of each cell that is missing, those of its setting in front.
    """
    own = {override.lstrip("+").split("=")[0].split(".")[0] for cell in declared for override in cell}
    varied = [key for key, value in configs[0].items() if not isinstance(value, Mapping)] if configs else []
    varied = [key for key in varied if key not in own and key not in WITHOUT_EFFECT]
    groups: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for config in configs:
        groups.setdefault(tuple(str(config.get(key)) for key in varied), []).append(config)
    found: list[list[str]] = []
    for values, members in groups.items() or [((), [])]:
        same = {key: {other[index] for other in groups} for index, key in enumerate(varied)}
        named = [f"{key}={value}" for key, value in zip(varied, values, strict=True) if len(same[key]) > 1]
        found += [[*named, *overrides] for overrides in missing(declared, members)]
    return found


def missing(declared: Sequence[Sequence[str]], configs: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """The declared cells that no record answers to.

    Args:
        declared: the overrides of each cell, as in a study's file.
        configs: the resolved settings of the records. Each answers to one declaration, the most specific that it fits.
    """
    left = list(configs)
    unmet = []
    for overrides in sorted(declared, key=len, reverse=True):
        match = next((config for config in left if all(fits(config, text) for text in overrides)), None)
        if match is None:
            unmet.append(list(overrides))
        else:
            left.remove(match)
    return [list(overrides) for overrides in declared if list(overrides) in unmet]


def firsts(
    configs: Sequence[Mapping[str, Any]], settings: Sequence[str], declared: Sequence[Sequence[str]]
) -> dict[str, Any]:
    """The decoder's settings of the cell that is declared first, by what it shares with those it is compared with.

    Args:
        configs: the resolved settings of some cells, in the order in which they were started; that decides between
            cells that are not declared.
        settings: what each of them shares with others, see `shared`.
        declared: the overrides of each cell of the study.
    """
    turns = sorted(range(len(configs)), key=lambda number: _turn(configs[number], declared))
    found: dict[str, Any] = {}
    for number in turns:
        found.setdefault(settings[number], configs[number]["decoder"])
    return found


def _turn(config: Mapping[str, Any], declared: Sequence[Sequence[str]]) -> int:
    """Number of the most specific declaration that a cell fits; one past the last for a cell that fits none."""
    fitting = [number for number, overrides in enumerate(declared) if all(fits(config, text) for text in overrides)]
    return max(fitting, key=lambda number: len(declared[number]), default=len(declared))


def fits(config: Mapping[str, Any], override: str) -> bool:
    """Whether resolved settings are as an override says; of a group, whether that option is chosen."""
    path, _, wanted = override.lstrip("+").partition("=")
    found = setting(config, path.split("@")[-1])
    plain = wanted.strip("'\"")
    if found is ABSENT:
        return False
    try:
        return str(found).lower() == plain.lower() or bool(found == yaml.safe_load(plain))
    except yaml.YAMLError:
        return False


ABSENT = object()
"""What `setting` returns for a name that a configuration does not have."""


def setting(config: Mapping[str, Any], path: str) -> Any:
    """A setting by its dotted name; of a group the name of the chosen option.

    Args:
        config: resolved settings.
        path: for example "decoder.schedule.name".

    Returns:
        Its value, or `ABSENT`.
    """
    node: Any = config
    for part in path.split("."):
        if not isinstance(node, Mapping) or part not in node:
            return ABSENT
        node = node[part]
    return node.get("name", node.get("kind")) if isinstance(node, Mapping) else node


def families(configs: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> list[str]:
    """The family of each cell: those whose settings agree in all of `keys`.

    A cell without one of the settings is named by those that it has. A name is as short as it can be without standing
    for two families: "sd", but "vvs uniform" where there is a "vvs dynamic".

    Args:
        configs: resolved settings of the cells.
        keys: dotted names of settings.
    """
    values = [_values(config, keys) or (str(config["decoder"]["name"]),) for config in configs]
    every = set(values)
    return [_shortest(one, every) for one in values]


def _values(config: Mapping[str, Any], keys: Sequence[str]) -> tuple[str, ...]:
    found = []
    for key in keys:
        value, last = setting(config, key), key.rsplit(".", 1)[-1]
        if value is not ABSENT and value is not None:
            found.append(str(value) if isinstance(value, str) else f"{last}={value}")
    return tuple(found)


def _shortest(one: tuple[str, ...], every: set[tuple[str, ...]]) -> str:
    for length in range(1, len(one)):
        if sum(other[:length] == one[:length] for other in every) == 1:
            return " ".join(one[:length])
    return " ".join(one)


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
