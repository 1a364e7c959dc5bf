"""From a sweep to a search: what is open in it, what is checked first, and what runs before the trials."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import OmegaConf

from vvsbench.composition import typed
from vvsbench.config import RunConfig
from vvsbench.errors import ConfigError
from vvsbench.runs import app
from vvsbench.runs.job import Outcome
from vvsbench.runs.speed import baseline_decoder, of_decoder
from vvsbench.search import found, shown
from vvsbench.search.objectives import objectives
from vvsbench.search.space import Space, space
from vvsbench.search.trials import Search, State, Trial

if TYPE_CHECKING:
    from hydra_plugins.vvsbench_cells.sweeper import CellsSweeper


def search(cells: CellsSweeper, overrides: Sequence[Override], parser: OverridesParser) -> list[Outcome]:
    """Run a study's own cells, then the trials; save and show the front.

    Args:
        cells: composes and launches cells.
        overrides: of the command line.
        parser: of overrides.

    Returns:
        How every cell ended.

    Raises:
        UserError: the search is wrong, no trial was possible, or a cell failed while it ran.
    """
    assert cells.config is not None
    common = [_word(one) for one in overrides if not _varies(one)]
    written: list[list[str]] = OmegaConf.to_container(cells.config.search.space)  # type: ignore[assignment]
    tried = space(parser, written, [one for one in overrides if _varies(one)])
    study = typed(cells.load(common))

    def job(trial: Sequence[str]) -> list[str]:
        return [*common, *trial]

    own: list[list[str]] = OmegaConf.to_container(cells.config.study.cells)  # type: ignore[assignment]
    if not own and (baseline := baseline_decoder(study, common)):  # what fits the target, if none was named
        own = [baseline]
        common.append(f"study.baseline={baseline[0].removeprefix('decoder=')}")
    own_runs = app.check(cells.loads([job(cell) for cell in own]), cells.here)
    wrong = _wrong(tried, lambda trial: _examined(cells, job(trial))[1])
    app.check(cells.loads([job(trial) for trial in wrong]), cells.here)
    made = Search(study.search, objectives(study), tried)
    ran = cells.outcomes([job(cell) for cell in own], own_runs)

    def launch(batch: Sequence[Trial], before: int) -> list[Outcome]:
        runs = [trial.run for trial in batch if trial.run is not None]
        return cells.outcomes([job(trial.overrides) for trial in batch], runs, len(own) + before)

    made.run(lambda trial: _examined(cells, job(trial)), launch)
    if made.count(State.impossible) == len(made.trials):
        raise ConfigError([f"none of {len(made.trials)} trials was possible; the first: {made.trials[0].why}"])
    if made.front:
        front = [found.Member(trial, cells.load(job(trial.overrides))) for trial in made.front]
        found.save(made, front, own)
        shown.show(made, front, ran)
    return app.finish([*ran, *made.outcomes])


def _varies(override: Override) -> bool:
    """Whether an override is the trials' and not the study's."""
    return override.is_sweep_override() or of_decoder(override.get_key_element())


def _word(override: Override) -> str:
    return f"{override.get_key_element()}={override.get_value_element_as_str()}"


def _wrong(tried: Space, problems: Callable[[list[str]], list[str]]) -> list[list[str]]:
    """Trials at the ends of the space that cannot run whatever else they are set to.

    Settings that only contradict each other are found when a trial has them both, and do not stop a search.
    """
    probes = [pair for alternative in tried.alternatives for pair in alternative.probes()]
    return [one for one, other in probes if problems(one) and (one == other or problems(other))]


def _examined(cells: CellsSweeper, overrides: list[str]) -> tuple[RunConfig | None, list[str]]:
    ((_, load),) = cells.loads([overrides])
    return app.examined(load, cells.here)
