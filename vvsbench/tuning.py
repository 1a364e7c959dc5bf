"""`vvsbench tune`: what is the fastest lossless setting here? A table, and the words that choose its first line."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vvsbench import identity
from vvsbench.composition import composed
from vvsbench.errors import ConfigError
from vvsbench.runs import files, provenance
from vvsbench.terminal import Terminal
from vvsbench.validation import validate

if TYPE_CHECKING:
    from vvsbench.config import RunConfig
    from vvsbench.measure.tune import Choice, Costs, Shape

USAGE = """\
usage: vvsbench tune [KEY=VALUE ...]

Times rounds of a few trees on this machine, and says which lossless decoder is the fastest over ar, with which tree.
The settings are those of `vvsbench run`; model, batch_size (1 unless it is named), dtype, engine, threads and device
matter.

  vvsbench tune model=tiny
  vvsbench tune model=tiny batch_size=16 engine=compiled
"""
CURVE_SECONDS, CHECK_SECONDS = 20.0, 20.0
PROBES = 6
"""Shapes of each source that are timed for the curve."""
PARTS = ("a round", "a level that is drafted", "a node", "a node beyond the twelfth")
"""What the cost of a round is a sum of."""
SHOWN = 3
"""Shapes of each source that are timed against ar."""


@dataclass(frozen=True)
class Source:
    """Who drafts: its decoder, its rates, and the shapes that it may have."""

    decoder: str
    rates: Sequence[Any]
    shapes: list[Shape]


def main(arguments: Sequence[str]) -> int:
    """Measure, and print the table.

    Raises:
        ConfigError: a setting is wrong, or the model has no such decoders.
    """
    if {"-h", "--help"} & set(arguments):
        print(USAGE)
        return 0
    chosen = [*([] if any(word.startswith("batch_size=") for word in arguments) else ["batch_size=1"]), *arguments]
    if any(word.startswith("decoder=") for word in arguments):
        raise ConfigError(["decoder: tune tries the lossless ones itself; leave it out."])
    cfg = composed(["decoder=ar", "metrics=none", *chosen])
    if problems := validate(cfg):
        raise ConfigError(problems)
    console = Terminal(soft_wrap=True)
    found = _tuned(cfg, chosen, console)
    _show(cfg, found, console)
    return 0


def _tuned(cfg: RunConfig, chosen: Sequence[str], console: Terminal) -> list[Choice]:
    """The likeliest shapes of each source, timed against ar; the fastest first."""
    import torch

    from vvsbench.decoding import build
    from vvsbench.measure import isolation, tune
    from vvsbench.runs.speed_child import FORMATS

    device, dtype = torch.device(identity.device(cfg.device)), FORMATS[cfg.dtype]
    if cfg.threads:
        torch.set_num_threads(cfg.threads)

    def built(overrides: Sequence[str]) -> Any:
        return build(composed([*overrides, "metrics=none", *chosen]), device, dtype)

    baseline, rows, found = built(["decoder=ar"]), cfg.batch_size, []
    sources = _sources(chosen, console)
    kept: dict[str, Costs] = {}
    with isolation.alone(console.print):
        for source in sources:
            console.print(f"timing rounds of decoder={source.decoder} ...")
            probes = tune.spread(source.shapes, PROBES)
            decoders: dict[Any, Any] = {None: baseline} | {shape: built(shape.overrides) for shape in probes}
            until = time.monotonic() + CURVE_SECONDS / len(sources)
            kept[source.decoder] = tune.curve(tune.in_turn(decoders, rows, 8, until), None, probes)
            found += tune.ranked(source.shapes, source.rates, kept[source.decoder])[:SHOWN]
        console.print("timing the best of them against decoder=ar ...")
        until = time.monotonic() + CHECK_SECONDS
        checked = tune.checked(found, lambda shape: built(shape.overrides), baseline, rows, until)
    ordered = sorted(checked, key=lambda choice: -(choice.measured.value if choice.measured else 0.0))
    _keep(cfg, kept, ordered, console)
    return ordered


def _sources(chosen: Sequence[str], console: Terminal) -> list[Source]:
    """Those whose weights are here and whose rates are known."""
    from vvsbench.measure import tune

    found = []
    for decoder, shapes in (("sd", tune.fitted), ("jacobi", tune.windows)):
        cfg = composed([f"decoder={decoder}", "metrics=none", *chosen])
        rates = list(getattr(getattr(cfg.decoder, "drafter", None), "hit_rates", None) or [])
        problems = [] if rates else ["the hit rates of its drafter are not known."]
        problems += validate(cfg)
        if problems:
            console.print(f"decoder={decoder} is left out: {problems[0]}")
        else:
            found.append(Source(decoder, rates, list(shapes(rates))))
    if not found:
        raise ConfigError(["tune: no lossless decoder beside ar can run here with this model."])
    return found


def _keep(cfg: RunConfig, costs: dict[str, Costs], choices: Sequence[Choice], console: Terminal) -> None:
    """Write what was measured to a file of this model, number format, engine and batch size."""
    settings = {"model": cfg.model.name, "dtype": cfg.dtype.value, "engine": cfg.engine.value}
    document = {
        "machine": provenance.hardware(),
        "settings": settings | {"batch_size": cfg.batch_size, "threads": cfg.threads},
        "round_cost": {name: dict(zip(PARTS, own.factors, strict=True)) for name, own in costs.items()},
        "choices": [
            {
                "settings": list(choice.shape.overrides),
                "nodes": choice.shape.nodes,
                "tokens_per_round": choice.tokens,
                "round_cost": choice.cost,
                "expected": choice.speed_up,
                "measured": asdict(choice.measured) if choice.measured else None,
            }
            for choice in choices
        ],
    }
    file = Path(cfg.output_root) / "tune" / f"{'-'.join([*settings.values(), f'batch_{cfg.batch_size}'])}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    files.write(file, (json.dumps(document, indent=2) + "\n").encode())
    console.print(f"kept in {file}")


def _show(cfg: RunConfig, choices: Sequence[Choice], console: Terminal) -> None:
    """The table, and what to do with it."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("decoder", no_wrap=True)
    for heading in ("nodes", "tokens\na round", "a round in\nar steps", "over ar,\nexpected", "over ar,\nmeasured"):
        table.add_column(heading, justify="right", no_wrap=True)
    for choice in choices:
        words = " ".join(word.removeprefix("decoder.structure.") for word in choice.shape.overrides)
        table.add_row(words.removeprefix("decoder="), str(choice.shape.nodes), *_numbers(choice))
    console.print(table)
    best = choices[0]
    if best.measured is None or best.measured.low <= 1:
        console.print("None of them is faster than decoder=ar here for certain: its interval must lie above 1.")
        return
    words = " ".join([f"model={cfg.model.name}", f"batch_size={cfg.batch_size}", *best.shape.overrides])
    console.print(f"The fastest lossless setting here: vvsbench run {words}")


def _numbers(choice: Choice) -> list[str]:
    measured = choice.measured
    shown = "" if measured is None else f"{measured.value:.2f} [{measured.low:.2f}, {measured.high:.2f}]"
    return [f"{choice.tokens:.2f}", f"{choice.cost:.2f}", f"{choice.speed_up:.2f}", shown]
