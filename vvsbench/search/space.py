"""What a search varies, in Hydra's own grammar: intervals, ranges, choices, and alternatives of these.

An alternative is a list of overrides, like a cell of a study, of which some are open; a trial first picks an
alternative and then a value for each of its open ones. So settings that only one schedule has stand beside the choice
of that schedule.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override

from vvsbench.errors import ConfigError
from vvsbench.runs.speed import of_decoder

if TYPE_CHECKING:
    from optuna import Trial

DIGITS = 4
"""Significant digits of a value out of an interval: what a person can read and type again."""


@dataclass(frozen=True)
class Interval:
    """Every number between two; whole ones where both ends are, as in `int(interval(1,9))`.

    Attributes:
        key: what it sets.
        text: as it was written. Overrides of the same text are one parameter in all alternatives.
        log: whether ratios count and not differences, as in `tag(log,interval(0.01,1))`.
    """

    key: str
    text: str
    low: float
    high: float
    log: bool

    @property
    def ends(self) -> Sequence[str]:
        """The values that have to be possible, if the others are."""
        return [str(self.low), str(self.high)]

    def suggest(self, trial: Trial) -> str:
        """A value for a trial."""
        if isinstance(self.low, int) and isinstance(self.high, int):
            return str(trial.suggest_int(self.text, self.low, self.high, log=self.log))
        value = float(f"{trial.suggest_float(self.text, self.low, self.high, log=self.log):.{DIGITS}g}")
        return str(min(max(value, self.low), self.high))


@dataclass(frozen=True)
class Listed:
    """One of some values.

    Attributes:
        key: what it sets.
        text: as it was written, see `Interval`.
        ordered: whether they are numbers in a row, so that neighbours are alike; else none is nearer than another.
    """

    key: str
    text: str
    values: tuple[str, ...]
    ordered: bool

    @property
    def ends(self) -> Sequence[str]:
        """See `Interval.ends`."""
        return [self.values[0], self.values[-1]] if self.ordered else self.values

    def suggest(self, trial: Trial) -> str:
        """See `Interval.suggest`."""
        if self.ordered:
            return self.values[trial.suggest_int(self.text, 0, len(self.values) - 1)]
        return str(trial.suggest_categorical(self.text, self.values))


Dimension = Interval | Listed
"""An override that is open."""


@dataclass(frozen=True)
class Alternative:
    """The overrides of a trial, some of them open.

    Attributes:
        fixed: overrides with a value.
        open: those without.
    """

    fixed: tuple[str, ...]
    open: tuple[Dimension, ...]

    def probes(self) -> Iterator[tuple[list[str], list[str]]]:
        """Trials in which one value at a time is at an end.

        Yields:
            Overrides with that value and the others' first ends, and the same with their last ones.
        """
        first, last = ([dimension.ends[end] for dimension in self.open] for end in (0, -1))
        yield self._set(first), self._set(first)
        for number, dimension in enumerate(self.open):
            for end in dimension.ends[1:]:
                one, other = ([*row[:number], end, *row[number + 1 :]] for row in (first, last))
                yield self._set(one), self._set(other)

    def suggest(self, trial: Trial) -> list[str]:
        """The overrides of a trial."""
        return self._set([dimension.suggest(trial) for dimension in self.open])

    def _set(self, values: Sequence[str]) -> list[str]:
        return [*self.fixed, *(f"{one.key}={value}" for one, value in zip(self.open, values, strict=True))]


@dataclass(frozen=True)
class Space:
    """All that a search may try.

    Attributes:
        alternatives: of which a trial picks one.
    """

    alternatives: tuple[Alternative, ...]

    def suggest(self, trial: Trial) -> list[str]:
        """The overrides of a trial."""
        several = len(self.alternatives) > 1
        number = trial.suggest_categorical("alternative", range(len(self.alternatives))) if several else 0
        return self.alternatives[number].suggest(trial)

    def told(self, overrides: Sequence[str]) -> str:
        """The overrides that tell a trial from others, without what all of them share."""
        shared = set.intersection(*(set(alternative.fixed) for alternative in self.alternatives))
        words = [word.removeprefix("decoder.") for word in overrides if word not in shared]
        return " ".join(re.sub(r"@[^=]*", "", word) for word in words)


def space(parser: OverridesParser, written: Sequence[Sequence[str]], added: Sequence[Override]) -> Space:
    """Read a space.

    Args:
        parser: of overrides.
        written: the alternatives of `search.space`; none stands for one that is empty.
        added: the decoder's overrides and the open ones of the command line, which belong to every alternative.

    Raises:
        ConfigError: nothing is open, or what is open cannot be searched.
    """
    own = [parser.parse_overrides(list(overrides)) for overrides in written] or [[]]
    problems = [
        problem
        for override in {o.input_line: o for o in [*sum(own, []), *added]}.values()
        for problem in _problems(override)
    ]
    for mine in own:
        both = {override.get_key_element() for override in mine} & {override.get_key_element() for override in added}
        problems += [f"{key}: search.space sets it itself; leave it out on the command line." for key in sorted(both)]
    if not any(override.is_sweep_override() for override in [*sum(own, []), *added]):
        problems.append(
            "search.trials has nothing to vary; give an override several values, as in "
            "decoder.schedule.chance=interval(0.02,0.2) or decoder.skip.in_a_row=choice(1,2)."
        )
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)))
    return Space(tuple(_alternative([*added, *mine]) for mine in own))


def _problems(override: Override) -> Iterator[str]:
    line, value = override.input_line, override.value()
    if override.is_delete():
        yield f"{line}: a search cannot leave a setting out; give it a value."
    if not of_decoder(override.get_key_element()):
        yield (
            f"{line}: a search compares cells that differ in their decoder alone, so it varies decoder, decoder.KEY "
            "and GROUP@decoder.GROUP; confirm what it finds under other settings."
        )
    if isinstance(value, IntervalSweep):
        assert value.start is not None
        assert value.end is not None
        if value.start >= value.end:
            yield f"{line}: the first end of an interval must lie below the second."
        if value.tags - {"log"}:
            yield f"{line}: the only tag that a search knows is log, as in tag(log,interval(0.01,1))."
        if "log" in value.tags and value.start <= 0:
            yield f"{line}: with the tag log both ends must lie above 0."
    elif override.is_discrete_sweep() and not list(override.sweep_string_iterator()):
        yield f"{line}: has no values; write key=range(1,5), whose end is not among them, or key=choice(1,2)."


def _alternative(overrides: Sequence[Override]) -> Alternative:
    fixed = [override for override in overrides if not override.is_sweep_override()]
    sweeps = [override for override in overrides if override.is_sweep_override()]
    return Alternative(
        tuple(f"{one.get_key_element()}={one.get_value_element_as_str()}" for one in fixed),
        tuple(_dimension(one) for one in sweeps),
    )


def _dimension(override: Override) -> Dimension:
    key, text, value = override.get_key_element(), str(override.input_line), override.value()
    if isinstance(value, IntervalSweep):
        assert value.start is not None
        assert value.end is not None
        return Interval(key, text, value.start, value.end, "log" in value.tags)
    values = dict.fromkeys(override.sweep_string_iterator())
    if override.is_range_sweep():
        return Listed(key, text, tuple(sorted(values, key=float)), ordered=True)
    return Listed(key, text, tuple(sorted(values)), ordered=False)
