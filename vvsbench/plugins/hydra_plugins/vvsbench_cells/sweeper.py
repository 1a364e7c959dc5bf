"""Run the cells of a study, which are a union, crossed with the command line's own lists, which are a product.

Hydra's basic sweeper knows products only: ar, sd and vvs at four intervals cannot be written as one. Here a study lists
the overrides of each cell (`study.cells`). All cells are composed and checked before the first one runs, and one that
fails does not stop the others.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

if TYPE_CHECKING:
    from vvsbench.config import RunConfig
    from vvsbench.runs.job import Outcome

# A dict and no dataclass: Hydra runs this module without a name of its own, which dataclasses need.
SETTINGS = {"_target_": "hydra_plugins.vvsbench_cells.sweeper.CellsSweeper", "max_batch_size": None}
ConfigStore.instance().store(group="hydra/sweeper", name="cells", node=SETTINGS, provider="vvsbench")


class CellsSweeper(Sweeper):
    """Hands every cell of a study to the launcher.

    Args:
        max_batch_size: jobs per call of the launcher; None for all at once.
    """

    def __init__(self, max_batch_size: int | None = None) -> None:
        self.max_batch_size = max_batch_size
        self.config: DictConfig | None = None
        self.hydra_context: HydraContext | None = None
        self.launcher: Launcher | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Called by Hydra before `sweep`."""
        from vvsbench.runs import launching

        chosen = str(config.hydra.runtime.choices["hydra/launcher"])
        launching.check_installed(chosen, str(config.hydra.launcher._target_))
        self.config, self.hydra_context = config, hydra_context
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        """Check every cell, then run them.

        Args:
            arguments: the overrides of the command line.

        Returns:
            What each job returned, in order.

        Raises:
            vvsbench.errors.UserError: a cell is wrong, or one of them failed while it ran.
        """
        from vvsbench.runs import app

        assert self.config is not None
        assert self.hydra_context is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        parsed = parser.parse_overrides(arguments)
        if self.config.search.trials or self.config.search.space:
            from vvsbench.search.sweep import search

            return search(self, parsed, parser)
        combined = combinations(parsed)
        cells: list[list[str]] = OmegaConf.to_container(self.config.study.cells) or [[]]  # type: ignore[assignment]
        jobs = crossed(cells, combined, study=str(self.config.study.name))
        runs = app.check(self.loads(jobs), self.here)
        wanted = app.chosen(runs)
        return app.finish(self.outcomes(list(itertools.compress(jobs, wanted)), list(itertools.compress(runs, wanted))))

    @property
    def here(self) -> bool:
        """Whether cells run on this machine, or on one that may have other devices."""
        from vvsbench.runs import launching

        assert self.config is not None
        return not launching.elsewhere(str(self.config.hydra.launcher._target_))

    def load(self, overrides: Sequence[str]) -> DictConfig:
        """Compose a cell."""
        assert self.hydra_context is not None
        assert self.config is not None
        return self.hydra_context.config_loader.load_sweep_config(self.config, list(overrides))

    def loads(self, jobs: Sequence[Sequence[str]]) -> list[tuple[Sequence[str], Callable[[], DictConfig]]]:
        """The overrides of cells, each with what composes it."""
        return [(overrides, partial(self.load, overrides)) for overrides in jobs]

    def outcomes(self, jobs: Sequence[list[str]], runs: Sequence[RunConfig], before: int = 0) -> list[Outcome]:
        """Have the launcher run cells.

        Args:
            jobs: the overrides of each.
            runs: the settings of each.
            before: how many have run before them.
        """
        from vvsbench.runs import launching

        assert self.config is not None
        assert self.launcher is not None
        Path(str(self.config.hydra.sweep.dir)).mkdir(parents=True, exist_ok=True)
        outcomes: list[Outcome] = []
        size = self.max_batch_size or max(1, len(jobs))
        for first in range(0, len(jobs), size):
            part = slice(first, first + size)
            outcomes += launching.launched(self.launcher, jobs[part], runs[part], before + first)
        return outcomes


def combinations(overrides: Sequence[Override]) -> list[list[str]]:
    """Every combination of the values that the command line lists, as overrides.

    Raises:
        vvsbench.errors.ConfigError: a range without end points to list, such as interval(0,1).
    """
    from vvsbench.errors import ConfigError

    choices = []
    for override in overrides:
        key = override.get_key_element()
        if not override.is_sweep_override():
            choices.append([f"{key}={override.get_value_element_as_str()}"])
        elif override.is_discrete_sweep():
            choices.append([f"{key}={value}" for value in override.sweep_string_iterator()])
        else:
            raise ConfigError(
                [
                    f"{override.input_line}: only lists and ranges of values can all be run: {key}=1,2,3. "
                    "To search an interval say how often: search.trials=20."
                ]
            )
    return [list(combination) for combination in itertools.product(*choices)]


def crossed(cells: Sequence[Sequence[str]], chosen: Sequence[Sequence[str]], study: str) -> list[list[str]]:
    """Every cell with every combination of the command line's values, without repeats.

    Args:
        cells: the overrides of each cell.
        chosen: the combinations of the command line's overrides.
        study: its name, for the message.

    Raises:
        vvsbench.errors.ConfigError: the command line sets what the cells set.
    """
    from vvsbench.errors import ConfigError

    clashes = sorted({_key(a) for cell in cells for a in cell} & {_key(b) for job in chosen for b in job})
    if clashes:
        raise ConfigError(
            [
                f"{key}: the cells of study={study} set it themselves; leave it out, or leave out the study."
                for key in clashes
            ]
        )
    jobs = [[*job, *cell] for job in chosen for cell in cells]
    return [list(job) for job in dict.fromkeys(tuple(job) for job in jobs)]


def _key(override: str) -> str:
    return override.split("=", 1)[0].lstrip("+~")
