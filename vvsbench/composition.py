"""From a command line to settings: composed by Hydra, typed, checked, and named by a key."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from vvsbench import catalog, config, identity, workers
from vvsbench.config import RunConfig
from vvsbench.errors import ConfigError
from vvsbench.explaining import EXPECTED, explained, unknown_key
from vvsbench.validation import validate


def prepare() -> None:
    """Register the schema and the resolvers that conf/run.yaml uses."""
    config.register()
    OmegaConf.register_new_resolver("help_groups", _help_groups, replace=True)
    OmegaConf.register_new_resolver("cell_key", _cell_key, replace=True)
    OmegaConf.register_new_resolver("sweep_if", lambda trials: "MULTIRUN" if trials else None, replace=True)
    OmegaConf.register_new_resolver("log_name", workers.log_name, replace=True)
    OmegaConf.register_new_resolver("workers", _workers, replace=True)


def composed(overrides: Sequence[str]) -> RunConfig:
    """Settings of one cell.

    Args:
        overrides: as on the command line.

    Raises:
        ConfigError: a key, value or option that does not exist.
    """
    prepare()
    try:
        with _hydra():
            return typed(compose("run", overrides=list(overrides)))
    except EXPECTED as error:
        raise explained(error) from error


def _hydra() -> AbstractContextManager[object]:
    """Where settings are composed: the app that is running, or one for the moment."""
    if GlobalHydra.instance().is_initialized():
        return nullcontext()
    return initialize_config_dir(str(config.folder("conf")), version_base="1.3", job_name="vvsbench")


def typed(cfg: DictConfig) -> RunConfig:
    """Dataclasses out of Hydra's container.

    Raises:
        ConfigError: a mandatory value is missing.
    """
    own = _without_hydra(cfg)
    if extra := sorted(_unknown_keys(own)):
        raise ConfigError([unknown_key(key) for key in extra])
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


def _workers(*, _root_: DictConfig) -> int:
    return workers.fitting(str(_root_.device), int(_root_.threads))


def _help_groups() -> str:
    return "\n".join(f"{name}: {', '.join(catalog.names(name))}" for name in config.GROUPS if catalog.names(name))
