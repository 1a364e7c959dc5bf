"""The certificates as tables on the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from vvsbench.certify.controls import Control
from vvsbench.certify.exact import Exact
from vvsbench.certify.relaxed import Relaxed


def show(console: Console, exact: Sequence[Exact], controls: Sequence[Control], relaxed: Sequence[Relaxed]) -> None:
    """Print everything, exact combinations one line per rule, candidates, structure and test."""
    console.print(_exact(exact))
    for one in exact:
        if not one.passed:
            console.print(f"[red]failed[/]: {one}")
    console.print(_controls(controls))
    console.print(_relaxed(relaxed))


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
        table.add_row(one.name, one.what, one.promises, f"{one.p_value:.0e}", "yes" if one.caught else "[red]no[/]")
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


def _table(title: str, words: Sequence[str], numbers: Sequence[str]) -> Table:
    table = Table(title=title)
    for word in words:
        table.add_column(word)
    for number in numbers:
        table.add_column(number, justify="right")
    return table
