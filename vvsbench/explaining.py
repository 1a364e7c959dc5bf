"""From Hydra's and OmegaConf's errors to one line that names the key and the choices.

Their messages are good and long, and end in advice about Hydra. What a user of this command needs is which word was
wrong and what could have stood there.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from hydra.errors import HydraException, OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import MarkedYAMLError, YAMLError

from vvsbench import catalog, config
from vvsbench.config import DECODERS
from vvsbench.decoding.acceptance.settings import RULES
from vvsbench.decoding.schedule import SCHEDULES
from vvsbench.drafting.sources import DRAFTERS
from vvsbench.drafting.structures import STRUCTURES
from vvsbench.errors import ConfigError, UserError
from vvsbench.models.settings import MODELS

EXPECTED = (HydraException, OmegaConfBaseException, YAMLError)
"""What a wrong override raises, somewhere in Hydra or OmegaConf."""

INSIDE_DECODER = ("drafter", "structure", "acceptance", "schedule")
"""Groups that are mounted inside the decoder."""


def explained(error: BaseException) -> UserError:
    """Turn an error of Hydra or OmegaConf into one line that names the key and the choices."""
    chain = list(_chain(error))
    for one in chain:
        if isinstance(one, UserError):
            return one
        if isinstance(one, MarkedYAMLError) and one.problem_mark:
            return ConfigError([f"{one.problem_mark.name}, line {one.problem_mark.line + 1}: {one.problem}."])
        if isinstance(one, OverrideParseException):
            return ConfigError([_unread(one.override)])
    text = "\n".join(str(one) for one in chain)
    for explain in (_unknown_option, _unknown_setting, _wrong_value, _missing_value, _unreadable):
        if (problem := explain(text)) is not None:
            return ConfigError([problem])
    return ConfigError([_first_line(text)])


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _unknown_option(text: str) -> str | None:
    found = re.search(r"Could not find '([\w/]+)/([^'/]*)'", text)
    if found is None:
        return None
    group, name = found.groups()
    first, slash, rest = group.partition("/")
    if slash and first in config.GROUPS:  # the name has a slash in it, as a path has
        group, name = first, f"{rest}/{name}"
    path = " (a name, not a path; files are named by settings such as model.checkpoint)" if "/" in name else ""
    return f"{group}={name}: there is no such {group}{path}. {_choices(name, catalog.names(group))}"


def _unknown_setting(text: str) -> str | None:
    found = re.search(r"Could not override '([^']+)'", text) or re.search(r"full_key: (\S+)", text)
    if found is None or not re.search(r"not in|Could not override|is not in struct", text):
        return None
    return unknown_key(found.group(1))


def unknown_key(key: str) -> str:
    """What to say of a setting that does not exist, or not with the chosen decoder."""
    if key in INSIDE_DECODER:
        return f"{key}: is chosen inside the decoder; write {key}@decoder.{key}=NAME, with a decoder that has one."
    known = _keys_near(key)
    if key.split(".")[0] in INSIDE_DECODER:
        return f"{key}: is a setting inside the decoder; write decoder.{key}, with a decoder that has one."
    if key in known:
        return f"{key}: the chosen {key.split('.')[0]} has no such setting; it belongs to another one."
    return f"{key}: there is no such setting. {_choices(key, known)}"


def _keys_near(key: str) -> list[str]:
    """Settings that a misspelt key may have meant: the siblings of the deepest part that exists."""
    tree: Any = _schema()
    parts = key.split("@")[0].split(".")
    prefix: list[str] = []
    while len(parts) > 1 and isinstance(tree, Mapping) and isinstance(tree.get(parts[0]), Mapping):
        tree = tree[parts[0]]
        prefix.append(parts.pop(0))
    own = tree if isinstance(tree, Mapping) else {}
    return [".".join([*prefix, str(name)]) for name in own]


def _schema() -> dict[str, Any]:
    """Every key that some run has, as nested dicts: those of all kinds of models, decoders and their parts."""
    tree: Any = OmegaConf.to_container(OmegaConf.structured(config.RunConfig))
    tree["model"] = _united(MODELS.values())
    tree["decoder"] = _united(DECODERS.values())
    tree["decoder"]["drafter"] = {field.name: None for kind in DRAFTERS for field in dataclasses.fields(kind)}
    tree["decoder"]["acceptance"] = {field.name: None for kind in RULES for field in dataclasses.fields(kind)}
    tree["decoder"]["structure"] = {field.name: None for kind in STRUCTURES for field in dataclasses.fields(kind)}
    tree["decoder"]["schedule"] = {field.name: None for kind in SCHEDULES for field in dataclasses.fields(kind)}
    assert isinstance(tree, dict)
    return tree


def _united(kinds: Iterable[type]) -> dict[str, Any]:
    """The keys of several dataclasses; of those that they share, the keys below them too."""
    trees: list[Any] = [OmegaConf.to_container(OmegaConf.structured(kind)) for kind in kinds]
    united: dict[str, Any] = {}
    for tree in trees:
        for key, value in tree.items():
            united[key] = {**united.get(key, {}), **value} if isinstance(value, Mapping) else value
    return united


def _wrong_value(text: str) -> str | None:
    key = re.search(r"full_key: (\S+)", text)
    name = key.group(1) if key else "a setting"
    if found := re.search(r"Value '([^']*)' of type '\w+' could not be converted to (\w+)", text):
        kinds = {"Integer": "a whole number", "Float": "a number", "Boolean": "true or false"}
        return f"{name}={found.group(1)}: must be {kinds.get(found.group(2), found.group(2))}."
    if found := re.search(r"Invalid value '([^']*)', expected one of \[([^\]]*)\]", text):
        choices = [choice.strip() for choice in found.group(2).split(",")]
        return f"{name}={found.group(1)}: no such choice. {_choices(found.group(1), choices)}"
    if found := re.search(r"Cannot (?:convert|assign) .*", text):
        return f"{name}: {found.group(0)}"
    return None


def _missing_value(text: str) -> str | None:
    found = re.search(r"missing mandatory value: (\S+)", text, re.IGNORECASE)
    return f"{found.group(1)} has no value; set it with {found.group(1)}=..." if found else None


def _unreadable(text: str) -> str | None:
    """Overrides that Hydra cannot read or place, with its own reason."""
    if found := re.search(r"Ambiguous value for argument '([^']*)'", text):
        return f"{found.group(1)}: several values need a sweep: vvsbench run -m {found.group(1)}"
    if found := re.search(r"Sweep parameters '([^']*)' requires", text):
        return (
            f"{found.group(1)}: needs a sweep, vvsbench run -m, or a search, as in search.trials=20 (docs/search.md)."
        )
    if found := re.search(r"Error merging override (.*)\n(.*)", text):
        return f"{found.group(1)}: {found.group(2)}"
    if found := re.search(r"Error parsing override '(.*)'", text) or re.search(r"LexerNoViable\w+: (.*)", text):
        return _unread(found.group(1))
    return None


def _unread(word: str) -> str:
    """What to say of a word that Hydra's grammar has no place for."""
    key, _, value = word.partition("=")
    if value.startswith("["):
        return f"{word}: cannot be read; a list is written {key}=[A,B], a text with special characters in it as 'TEXT'."
    return f"{word}: cannot be read; a value with special characters is written KEY=\"'VALUE'\"."


def _choices(wrong: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(wrong, known, n=1)
    hint = f"Did you mean {near[0]}? " if near else ""
    return f"{hint}Choose from: {', '.join(sorted(known))}."


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "the settings cannot be composed")
