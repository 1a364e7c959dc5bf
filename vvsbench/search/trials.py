"""The trials of a search: asked of the sampler, run as cells by the launcher, told to the sampler from their records.

The sampler has a seed and learns from what lies on disk alone, so the same command makes the same trials again; those
whose cells are done cost nothing.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vvsbench.analysis.estimate import Estimate
from vvsbench.config import RunConfig
from vvsbench.errors import UserError
from vvsbench.runs.console import Console
from vvsbench.runs.job import Outcome
from vvsbench.search.objectives import NotMeasured, directions, measured
from vvsbench.search.settings import SearchConfig
from vvsbench.search.space import Space

if TYPE_CHECKING:
    from optuna import Study


class OptunaMissing(UserError):
    """A search was asked for and its sampler is not installed."""


class State(StrEnum):
    """How a trial ended: measured, failed while it ran, or made of settings that contradict each other."""

    measured = "measured"
    failed = "failed"
    impossible = "impossible"


@dataclass
class Trial:
    """One try.

    Attributes:
        number: from 0 on.
        overrides: of the decoder.
        run: its settings; None where it is impossible.
        folder: of its cell, once it has run.
        values: the objectives, where it was measured.
        why: it has none.
    """

    number: int
    overrides: list[str]
    run: RunConfig | None = None
    state: State = State.measured
    folder: Path | None = None
    values: Mapping[str, Estimate] = field(default_factory=dict)
    why: str = ""


Examine = Callable[[list[str]], tuple[RunConfig | None, list[str]]]
"""From the overrides of a trial to its settings and what is wrong with them."""
Launch = Callable[[Sequence[Trial], int], Sequence[Outcome]]
"""Runs the cells of trials that are sound, the second argument being how many have run before."""


class Search:
    """Trials over a space.

    Args:
        settings: of the search.
        names: of the objectives.
        space: what it may try.

    Raises:
        OptunaMissing: there is no sampler.
    """

    def __init__(self, settings: SearchConfig, names: Sequence[str], space: Space) -> None:
        self.settings, self.names, self.space = settings, list(names), space
        self.trials: list[Trial] = []
        self.outcomes: list[Outcome] = []
        self._optuna = optuna()
        self._study = self._new_study()

    def _new_study(self) -> Study:
        """With a sampler for few, dear trials: it models which values are good, jointly and within each alternative."""
        self._optuna.logging.set_verbosity(self._optuna.logging.WARNING)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", self._optuna.exceptions.ExperimentalWarning)
            sampler = self._optuna.samplers.TPESampler(
                seed=self.settings.seed, multivariate=True, group=True, constant_liar=True
            )
        study: Study = self._optuna.create_study(directions=directions(self.names), sampler=sampler)
        return study

    @property
    def sampler(self) -> str:
        """Which sampler it is."""
        return f"optuna {self._optuna.__version__} {type(self._study.sampler).__name__}"

    def run(self, examine: Examine, launch: Launch) -> None:
        """Make all trials, in batches of `search.parallel`.

        Args:
            examine: says what is wrong with a trial.
            launch: runs those that are sound.
        """
        while (left := self.settings.trials - len(self.trials)) > 0:
            batch = [self._ask(examine) for _ in range(min(left, self.settings.parallel))]
            self._measure([trial for _, trial in batch if trial.state is not State.impossible], launch)
            for asked, trial in batch:
                self._tell(asked, trial)

    def _ask(self, examine: Examine) -> tuple[Any, Trial]:
        """A trial, as the sampler knows it and as we do; it keeps its distance from those that are under way."""
        asked = self._study.ask()
        overrides = self.space.suggest(asked)
        run, problems = examine(overrides)
        trial = Trial(asked.number, overrides, run)
        said = f"trial {trial.number + 1} of {self.settings.trials}: {self.space.told(overrides)}"
        if problems:
            trial.state, trial.why = State.impossible, " ".join(problems)
            said += f"; impossible: {trial.why}"
        Console().say(said)
        self.trials.append(trial)
        return asked, trial

    def _measure(self, batch: Sequence[Trial], launch: Launch) -> None:
        """Run the cells of trials and read what they are worth."""
        ran = len(self.outcomes)
        outcomes = launch(batch, ran) if batch else []
        self.outcomes += outcomes
        for trial, outcome in zip(batch, outcomes, strict=True):
            assert trial.run is not None
            trial.folder = Path(outcome.root) / "cells" / outcome.study / outcome.name
            trial.why = outcome.error or ""
            try:
                trial.values = {} if trial.why else measured(trial.folder, trial.run.metrics.name, self.names)
            except (NotMeasured, UserError) as reason:
                trial.why = str(reason)
            trial.state = State.failed if trial.why else State.measured

    def _tell(self, asked: Any, trial: Trial) -> None:
        if trial.state is State.measured:
            self._study.tell(asked, [trial.values[name].value for name in self.names])
        else:
            self._study.tell(asked, state=self._optuna.trial.TrialState.FAIL)

    @property
    def front(self) -> list[Trial]:
        """The trials that no other beats in every objective, each cell once, by the first objective, worst first."""
        if not self.count(State.measured):
            return []
        cells: dict[Path | None, Trial] = {}
        for best in sorted(self._study.best_trials, key=lambda one: one.number):
            cells.setdefault(self.trials[best.number].folder, self.trials[best.number])
        upwards = directions(self.names[:1]) == ["maximize"]
        return sorted(cells.values(), key=lambda one: one.values[self.names[0]].value * (1 if upwards else -1))

    def count(self, state: State) -> int:
        """How many trials ended so."""
        return sum(trial.state is state for trial in self.trials)


def optuna() -> Any:
    """The library that samples.

    Raises:
        OptunaMissing: it is not installed.
    """
    try:
        return importlib.import_module("optuna")
    except ImportError as error:
        raise OptunaMissing(
            f"a search needs optuna, an optional extra ({error}): pip install 'vvsbench[search]'."
        ) from error
