"""From a command line to settings, and from Hydra's errors to one line that names the key and the choices."""

from __future__ import annotations

import copy
import dataclasses
import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from vvsbench import catalog, config, identity
from vvsbench.config import RunConfig
from vvsbench.decoding.schedule import SCHEDULES
from vvsbench.errors import ConfigError, UserError
from vvsbench.validation import validate

EXPECTED = (HydraException, OmegaConfBaseException)
"""What a wrong override raises, somewhere in Hydra or OmegaConf."""


def prepare() -> None:
    """Register the schema and the resolvers that conf/run.yaml uses."""
    config.register()
    OmegaConf.register_new_resolver("help_groups", _help_groups, replace=True)
    OmegaConf.register_new_resolver("cell_key", _cell_key, replace=True)


def composed(overrides: Sequence[str]) -> RunConfig:
    """Settings of one cell.

    Args:
        overrides: as on the command line.

    Raises:
        ConfigError: a key, value or option that does not exist.
    """
    prepare()
    try:
        with initialize_config_dir(str(config.folder("conf")), version_base="1.3", job_name="vvsbench"):
            return typed(compose("run", overrides=list(overrides)))
    except EXPECTED as error:
        raise explained(error) from error


def typed(cfg: DictConfig) -> RunConfig:
    """Dataclasses out of Hydra's container.

    Raises:
        ConfigError: a mandatory value is missing.
    """
    own = _without_hydra(cfg)
    if extra := sorted(_unknown_keys(own)):
        raise ConfigError([f"{key}: there is no such setting. {_choices(key, _keys_near(key))}" for key in extra])
    if missing := sorted(OmegaConf.missing_keys(own)):
        raise ConfigError([f"{key} has no value; set it with {key}=..." for key in missing])
    run = OmegaConf.to_object(own)
    assert isinstance(run, RunConfig)
    return run


def _unknown_keys(node: DictConfig, prefix: str = "") -> Iterator[str]:
    """Keys that were forced in with `+key=value` and that no dataclass knows."""
    kind = OmegaConf.get_type(node)
    known = {field.name for field in dataclasses.fields(kind)} if dataclasses.is_dataclass(kind) else set(node)
    for key in map(str, node):
        if key not in known:
            yield f"{prefix}{key}"
        elif not OmegaConf.is_missing(node, key) and OmegaConf.is_dict(node[key]):
            yield from _unknown_keys(node[key], f"{prefix}{key}.")


def plain(cfg: DictConfig | RunConfig) -> dict[str, Any]:
    """Settings as nested dicts, lists, strings and numbers, for JSON and for the key."""
    node = _without_hydra(cfg) if isinstance(cfg, DictConfig) else OmegaConf.structured(cfg)
    container = OmegaConf.to_container(node, resolve=True, enum_to_str=True)
    assert isinstance(container, dict)
    return {str(key): value for key, value in container.items()}


def _without_hydra(cfg: DictConfig) -> DictConfig:
    own = copy.deepcopy(cfg)
    with read_write(own), open_dict(own):
        own.pop("hydra", None)
    return own


def _cell_key(*, _root_: DictConfig) -> str:
    """The key of a cell. A cell with a problem has none, so it never gets a folder either."""
    run = typed(_root_)
    if problems := validate(run):
        raise ConfigError(problems)
    return identity.cell_key(plain(run))


def _help_groups() -> str:
    return "\n".join(f"{name}: {', '.join(options(name))}" for name in config.GROUPS if options(name))


def options(group: str) -> list[str]:
    """Names that may be chosen in a group."""
    return sorted(option.name for option in catalog.options(group))


def explained(error: BaseException) -> UserError:
    """Turn an error of Hydra or OmegaConf into one line that names the key and the choices."""
    chain = list(_chain(error))
    for one in chain:
        if isinstance(one, UserError):
            return one
    text = "\n".join(str(one) for one in chain)
    for explain in (_unknown_option, _unknown_key, _wrong_value, _missing_value):
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
    return f"{group}={name}: there is no such {group}. {_choices(name, options(group))}"


def _unknown_key(text: str) -> str | None:
    found = re.search(r"Could not override '([^']+)'", text) or re.search(r"full_key: (\S+)", text)
    if found is None or not re.search(r"not in|Could not override|is not in struct", text):
        return None
    key = found.group(1)
    known = _keys_near(key)
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
    """Every key of a run with the richest decoder and all schedules, as nested dicts."""
    run = OmegaConf.structured(RunConfig)
    run.model = config.ModelConfig
    run.decoder = config.SpeculativeConfig
    run.decoder.drafter = config.DrafterConfig
    tree: Any = OmegaConf.to_container(run)
    tree["decoder"]["acceptance"] = {field.name: None for field in dataclasses.fields(config.LanternConfig)}
    tree["decoder"]["schedule"] = {field.name: None for kind in SCHEDULES for field in dataclasses.fields(kind)}
    assert isinstance(tree, dict)
    return tree


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


def _choices(wrong: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(wrong, known, n=1)
    hint = f"Did you mean {near[0]}? " if near else ""
    return f"{hint}Choose from: {', '.join(sorted(known))}."


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "the settings cannot be composed")
