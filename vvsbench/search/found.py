"""What a search leaves on disk: its trials, and the settings of its front as options that a run can name.

    OUTPUT_ROOT/search/STUDY/
      front.json     every trial with its objectives, and where they come from
      decoder/       an option per setting of the front: decoder=NAME is all that was searched
      schedule/      its schedule alone, for another decoder: schedule@decoder.schedule=NAME
      study/         STUDY_confirm: the study's own cells and the front once more, under another seed

The folder is on Hydra's search path (`vvsbench.catalog.folders`). Options are named after the keys of their cells, so a
name never changes its meaning, and a longer search adds to them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from vvsbench.analysis.estimate import Estimate
from vvsbench.composition import composed, plain, typed
from vvsbench.config import RunConfig, StudyConfig
from vvsbench.runs import files, provenance
from vvsbench.search.objectives import directions
from vvsbench.search.trials import Search, Trial

SHARED = ("model", "sampling", "prompts", "metrics", "logger")
"""Groups that all cells of a search share."""
OWN = ("study", "decoder", "search", "seed")
"""Settings that a confirmation has of its own."""
KEPT = ("baseline", "families", "x", "cost", "front")
"""Settings of a study that its confirmation keeps."""


def folder(run: RunConfig) -> Path:
    """Where what a search found goes.

    Args:
        run: settings of any of its trials.
    """
    return Path(run.output_root) / "search" / run.study.name


def confirmation(run: RunConfig) -> str:
    """Name of the study that confirms a search."""
    return f"{run.study.name}_confirm"


class Member:
    """A setting of the front.

    Args:
        trial: that was measured.
        cfg: its composed settings.
    """

    def __init__(self, trial: Trial, cfg: DictConfig) -> None:
        self.trial, self.run = trial, typed(cfg)
        self.choices: dict[str, str] = OmegaConf.to_container(cfg.hydra.runtime.choices)  # type: ignore[assignment]
        """The chosen option of every group, as Hydra names them."""

    @property
    def name(self) -> str:
        """Of its options: the study and the beginning of the cell's key."""
        assert self.trial.folder is not None
        return re.sub(r"\W+", "_", f"{self.run.study.name}_{self.trial.folder.name.rsplit('-', 1)[-1][:6]}")

    @property
    def cell(self) -> list[str]:
        """Its overrides, the decoder's name among them."""
        own = self.trial.overrides
        return list(own) if any(word.startswith("decoder=") for word in own) else [f"decoder={self.decoder}", *own]

    @property
    def decoder(self) -> str:
        """The option that its decoder is made from."""
        return str(self.choices["decoder"])

    @property
    def schedule(self) -> str:
        """The option that its schedule is made from; empty for a decoder without one."""
        return str(self.choices.get("schedule@decoder.schedule") or "")


def save(search: Search, front: Sequence[Member], own: Sequence[list[str]]) -> None:
    """Write everything about a search that is over.

    Args:
        search: the search.
        front: what it found.
        own: the overrides of the study's own cells.
    """
    root = folder(front[0].run)
    for member in front:
        files.write(root / "decoder" / f"{member.name}.yaml", _decoder(member, search).encode())
        if member.schedule:
            files.write(root / "schedule" / f"{member.name}.yaml", _schedule(member, search).encode())
    name = confirmation(front[0].run)
    files.write(root / "study" / f"{name}.yaml", _confirmation(name, front, own, search).encode())
    files.write(root / "front.json", (json.dumps(_everything(front, search), indent=2) + "\n").encode())


def _about(member: Member, search: Search) -> str:
    """One line: where a setting comes from, and what it was worth there."""
    worth = ", ".join(f"{name} {_short(value)}" for name, value in member.trial.values.items())
    run = member.run
    return (
        f"# Found by trial {member.trial.number + 1} of {len(search.trials)} of study={run.study.name}: {worth} "
        f"(seed {run.seed}, {run.count} images, on which it was chosen).\n"
    )


def _short(found: Estimate) -> str:
    ends = "" if found.low is None or found.high is None else f" [{found.low:.4g}, {found.high:.4g}]"
    return f"{found.value:.4g}{ends}"


def _decoder(member: Member, search: Search) -> str:
    """An option of the group decoder: the one that was searched, with what the trial set."""
    defaults: list[Any] = [member.decoder]
    settings: Any = OmegaConf.create()
    for override in OverridesParser.create().parse_overrides(member.trial.overrides):
        key, part = override.key_or_group, (override.package or "").removeprefix("decoder.")
        if part and part != "schedule":
            defaults.append({f"override /{key}@{part}": override.value()})
        elif not part and key != "decoder" and not (member.schedule and key.startswith("decoder.schedule.")):
            OmegaConf.update(settings, key.removeprefix("decoder."), override.value(), force_add=True)
    if member.schedule:
        defaults.append({"override /schedule@schedule": member.name})
    own: Any = OmegaConf.to_container(settings)
    return _about(member, search) + _yaml({"defaults": [*defaults, "_self_"], **own})


def _schedule(member: Member, search: Search) -> str:
    """An option of the group schedule."""
    return _about(member, search) + _yaml(
        {"defaults": [member.schedule, "_self_"], **plain(member.run)["decoder"]["schedule"]}
    )


def _confirmation(name: str, front: Sequence[Member], own: Sequence[list[str]], search: Search) -> str:
    """A study of the front under another seed, with everything else as it was in the search."""
    run = front[0].run
    groups = {group: front[0].choices[group] for group in SHARED}
    usual, mine = plain(composed([f"{group}={option}" for group, option in groups.items()])), plain(run)
    changed = {key: value for key, value in _changed(mine, usual).items() if key not in OWN}
    study = {key: mine["study"][key] for key in KEPT if mine["study"][key] != asdict(StudyConfig())[key]}
    title = f"{run.study.title or run.study.name}, under another seed"
    content = {
        "defaults": [{f"override /{group}": option} for group, option in groups.items()],
        "study": {"name": name, "title": title, **study, "cells": [*own, *(member.cell for member in front)]},
        **changed,
        "seed": run.seed + 1,
        "hydra": {"mode": "MULTIRUN"},
    }
    about = f"# What a search of {len(search.trials)} trials found in study={run.study.name}, under another seed.\n"
    return f"# @package _global_\n{about}{_yaml(content)}"


def _changed(mine: Mapping[str, Any], usual: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that are not as usual."""
    found: dict[str, Any] = {}
    for key, value in mine.items():
        other = usual.get(key)
        if isinstance(value, Mapping) and isinstance(other, Mapping):
            if inner := _changed(value, other):
                found[key] = inner
        elif value != other:
            found[key] = value
    return found


def _yaml(content: Mapping[str, Any]) -> str:
    return str(yaml.safe_dump(dict(content), sort_keys=False, default_flow_style=None, width=1000, allow_unicode=True))


def _everything(front: Sequence[Member], search: Search) -> dict[str, Any]:
    run = front[0].run
    names = {member.trial.number: member.name for member in front}
    return {
        "study": run.study.name,
        "objectives": dict(zip(search.names, directions(search.names), strict=True)),
        "seed": run.seed,
        "count": run.count,
        "protocol": run.metrics.name,
        "search": asdict(search.settings),
        "sampler": search.sampler,
        "provenance": provenance.collect(plain(run)).model_dump(),
        "front": list(names.values()),
        "trials": [_line(trial, names.get(trial.number)) for trial in search.trials],
    }


def _line(trial: Trial, name: str | None) -> dict[str, Any]:
    return {
        "number": trial.number,
        "overrides": trial.overrides,
        "state": trial.state.value,
        "why": trial.why,
        "cell": trial.folder.name if trial.folder else None,
        "objectives": {name: asdict(value) for name, value in trial.values.items()},
        "name": name,
    }
