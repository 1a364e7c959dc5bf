"""The certificates as tables on the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from vvsbench.certify.continuous.proofs import Continuous, ContinuousControl
from vvsbench.certify.controls import Control
from vvsbench.certify.exact import Exact
from vvsbench.certify.relaxed import Relaxed


@dataclass
class Found:
    """All certificates.

    Attributes:
        exact, controls, relaxed: of discrete decoders.
        continuous, continuous_controls: of continuous ones.
    """

    exact: list[Exact]
    controls: list[Control]
    relaxed: list[Relaxed]
    continuous: list[Continuous]
    continuous_controls: list[ContinuousControl]

    @property
    def failed(self) -> list[Exact | Continuous]:
        """What promises to be exact and is not."""
        kept: list[Exact | Continuous] = [*self.exact, *self.continuous]
        return [one for one in kept if not one.passed]

    @property
    def missed(self) -> list[Control | ContinuousControl]:
        """Controls that were not caught."""
        wrong: list[Control | ContinuousControl] = [*self.controls, *self.continuous_controls]
        return [one for one in wrong if not one.caught]


def show(console: Console, found: Found) -> None:
    """Print everything, exact combinations one line per rule, candidates, structure and test."""
    console.print(_exact(found.exact))
    for failed in found.failed:
        console.print(f"[red]failed[/]: {failed}")
    console.print(_controls(found.controls))
    console.print(_relaxed(found.relaxed))
    console.print(_continuous(found.continuous))
    console.print(_continuous_controls(found.continuous_controls))


def _exact(found: Sequence[Exact]) -> Table:
    groups: dict[tuple[str, ...], list[Exact]] = {}
    for one in found:
        groups.setdefault((one.rule, one.candidates, one.structure, one.test), []).append(one)
    table = _table("Exact combinations", ["rule", "candidates", "structure", "test"], ["passed", "least p"])
    for names, members in groups.items():
        passed = sum(one.passed for one in members)
        least = f"{min(one.p_value for one in members):.2g}" if names[-1] == "law" else ""
        table.add_row(*names, f"{passed} of {len(members)}", least)
    return table


def _controls(found: Sequence[Control]) -> Table:
    table = _table("Negative controls", ["control", "what is wrong", "promises"], ["p", "caught"])
    for one in found:
        table.add_row(one.name, one.what, one.promises, f"{one.p_value:.0e}", _yes(one.caught))
    return table


def _relaxed(found: Sequence[Relaxed]) -> Table:
    numbers = ["total variation", "interval", "tokens per forward"]
    table = _table("Relaxed rules and skips", ["decoder", "setting", "sampling"], numbers)
    for one in found:
        interval = f"{one.low:.4f} to {one.high:.4f}"
        table.add_row(
            one.decoder, one.setting, one.sampling, f"{one.tv:.4f}", interval, f"{one.tokens_per_forward:.2f}"
        )
    return table


def _continuous(found: Sequence[Continuous]) -> Table:
    numbers = ["kept", "overlap", "KS", "critical", "covariance", "passed"]
    table = _table("Exact rule and decoders of continuous tokens", ["case"], numbers)
    for one in found:
        overlap = "" if one.overlap is None else f"{one.overlap:.4f}"
        figures = (f"{one.kept:.4f}", overlap, f"{one.ks:.4f}", f"{one.ks_critical:.4f}", f"{one.covariance:.4f}")
        table.add_row(f"{one.case}, {one.dtype}", *figures, _yes(one.passed))
    return table


def _continuous_controls(found: Sequence[ContinuousControl]) -> Table:
    numbers = ["kept", "fallback", "KS", "critical", "covariance", "p", "caught"]
    table = _table("Negative controls of continuous tokens", ["control"], numbers)
    for one in found:
        shares = (f"{one.kept:.3f}", f"{one.fallback:.3f}")
        figures = (f"{one.ks:.4f}", f"{one.ks_critical:.4f}", f"{one.covariance:.4f}", f"{one.p_value:.0e}")
        table.add_row(one.name, *shares, *figures, _yes(one.caught))
    return table


def _yes(fact: bool) -> str:
    return "yes" if fact else "[red]no[/]"


def _table(title: str, words: Sequence[str], numbers: Sequence[str]) -> Table:
    table = Table(title=title)
    for word in words:
        table.add_column(word)
    for number in numbers:
        table.add_column(number, justify="right")
    return table
