"""Which of several cells are best, as far as error bars tell: on the front, dominated, or it cannot be told.

One rule for every front of this package. It reads the differences of a cell and another one, each with its 95 %
interval, paired wherever the two can be paired:

- the other one *dominates* a cell when it is at least as good on every axis and better on one, beyond the intervals;
- it *cannot* dominate a cell that is better on some axis beyond the interval, nor one that it ties with exactly;
- else it *may*.

A cell that some other one dominates is dominated; one that none may dominate is on the front; of the rest it cannot be
told. Intervals hold pair by pair, with no allowance for the number of pairs.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

from vvsbench.analysis.estimate import Estimate

Name = TypeVar("Name", bound=Hashable)


class Place(StrEnum):
    """Where a cell lies among others; the words that every form of a report uses."""

    front = "on the front"
    dominated = "dominated"
    unknown = "cannot be told"


class Relation(StrEnum):
    """What another cell is to one: it dominates it, ties with it exactly on every axis, may dominate it, or cannot."""

    dominates = "dominates"
    ties = "ties"
    may = "may dominate"
    cannot = "cannot dominate"


def relation(differences: Iterable[Estimate | None]) -> Relation:
    """What another cell is to this one.

    Args:
        differences: per axis, this cell's value less the other's, less being better; None where they cannot be
            compared. No more of them are taken than the answer needs.
    """
    found = []
    for difference in differences:
        if difference is not None and difference.high is not None and difference.high < 0:
            return Relation.cannot
        found.append(difference)
    lows = [None if one is None else one.low for one in found]
    if any(low is None or low < 0 for low in lows):
        return Relation.may
    if any(low is not None and low > 0 for low in lows):
        return Relation.dominates
    return Relation.ties if all(one is not None and one.exact for one in found) else Relation.may


@dataclass(frozen=True)
class Placing(Generic[Name]):
    """Where a cell lies.

    Attributes:
        place: among the others.
        by: those that dominate it.
    """

    place: Place
    by: tuple[Name, ...] = ()


def placing(others: Mapping[Name, Relation]) -> Placing[Name]:
    """Where a cell lies among others.

    Args:
        others: what each of them is to it.
    """
    by = tuple(name for name, found in others.items() if found is Relation.dominates)
    if by:
        return Placing(Place.dominated, by)
    return Placing(Place.unknown if Relation.may in others.values() else Place.front)
