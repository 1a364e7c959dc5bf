"""Where the time of a decoder goes: `make bench`.

Images per second of `ar`, `sd` and `vvs` on the tiny zoo at batch 1 and 16, their speed-up over `ar` at the same batch
size, and the share of the time that is spent outside the networks (noise, sampling, trees, masks, acceptance,
bookkeeping): what a decoding loop costs on top of the models it calls. Rounds of all decoders are interleaved, so
that a machine that slows down slows all of them; figures are medians over the rounds.

The forwards are timed by hooks on the networks and on the target's output layer. On a GPU each hook waits for the
device, which the total therefore includes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from vvsbench import decoding
from vvsbench.composition import composed
from vvsbench.decoding.base import Decoder
from vvsbench.decoding.speculative import Speculative
from vvsbench.drafting.eagle import EagleSource
from vvsbench.measure.clock import Stopwatch
from vvsbench.models.llamagen import LlamaGen

CELLS = {
    "ar": ["decoder=ar"],
    "sd": ["decoder=sd"],
    "sd top-k": ["decoder=sd", "structure@decoder.structure=dynamic", "decoder.structure.nodes=27"],
    "vvs i=2": ["decoder=vvs", "decoder.schedule.interval=2"],
}
BATCHES = (1, 16)


@dataclass
class Result:
    """One line of the table.

    Attributes:
        images_per_second: median over the rounds.
        speedup: over `ar` at the same batch size, median of the ratios within the rounds.
        outside: share of the time outside the networks.
        step_compression: image tokens per target forward, prefill included.
    """

    decoder: str
    batch: int
    images_per_second: float
    speedup: float
    outside: float
    step_compression: float


class NetworkClock:
    """Adds up the time spent inside some modules, none of which calls another."""

    def __init__(self, device: torch.device) -> None:
        self.watch, self.seconds = Stopwatch(device), 0.0

    def _enter(self, module: nn.Module, arguments: Any) -> None:
        self.watch.__enter__()

    def _leave(self, module: nn.Module, arguments: Any, output: Any) -> None:
        self.watch.__exit__(None, None, None)
        self.seconds += self.watch.seconds

    @contextmanager
    def watching(self, modules: Sequence[nn.Module]) -> Iterator[None]:
        """Time the forwards of these modules."""
        with ExitStack() as hooks:
            for module in modules:
                hooks.callback(module.register_forward_pre_hook(self._enter).remove)
                hooks.callback(module.register_forward_hook(self._leave).remove)
            yield


def networks(decoder: Decoder) -> list[nn.Module]:
    """The modules whose time is model time: the target, its output layer, the drafter and the layer at its entrance."""
    target = decoder.target
    assert isinstance(target, LlamaGen)
    found: list[nn.Module] = [target.transformer, target.transformer.output]
    if not isinstance(decoder, Speculative):
        return found
    assert isinstance(decoder.source, EagleSource)
    return [*found, decoder.source.head, decoder.source.head.fc]


def once(decoder: Decoder, batch: int, first: int) -> tuple[float, float, float]:
    """Generate one batch: seconds, share outside the networks, step compression."""
    images = range(first, first + batch)
    conditions = decoder.target.conditions([image % 64 for image in images])
    inside, watch = NetworkClock(decoder.target.device), Stopwatch(decoder.target.device)
    with inside.watching(networks(decoder)), watch:
        _, trace = decoder.generate(conditions, images, seed=0)
    compression = statistics.mean(row["step_compression"] for row in trace.rows())
    return watch.seconds, 1 - inside.seconds / watch.seconds, compression


def bench(rounds: int, device: torch.device) -> list[Result]:
    """Measure every cell at every batch size."""
    decoders = {name: decoding.build(composed(cell), device, torch.float32) for name, cell in CELLS.items()}
    results = []
    for batch in BATCHES:
        for decoder in decoders.values():
            once(decoder, batch, 0)
        taken: dict[str, list[tuple[float, float, float]]] = {name: [] for name in decoders}
        for index in range(rounds):
            order = list(decoders) if index % 2 == 0 else list(reversed(decoders))
            for name in order:
                taken[name].append(once(decoders[name], batch, (index + 1) * batch))
        for name, runs in taken.items():
            ratios = [base[0] / run[0] for base, run in zip(taken["ar"], runs, strict=True)]
            seconds, outside, compression = (statistics.median(column) for column in zip(*runs, strict=True))
            results.append(Result(name, batch, batch / seconds, statistics.median(ratios), outside, compression))
    return results


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table, and write it as JSON where --json says."""
    parser = argparse.ArgumentParser(prog="python -m vvsbench.measure.bench", description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    chosen = parser.parse_args(argv)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    results = bench(chosen.rounds, device)
    table = Table(title=f"tiny zoo on {device.type}, {torch.get_num_threads()} threads, {chosen.rounds} rounds")
    for heading in ("decoder", "batch", "images/s", "speed-up over ar", "outside the networks", "step compression"):
        table.add_column(heading, justify="left" if heading == "decoder" else "right")
    for row in results:
        table.add_row(
            row.decoder,
            str(row.batch),
            f"{row.images_per_second:.1f}",
            f"{row.speedup:.2f}x",
            f"{row.outside:.1%}",
            f"{row.step_compression:.2f}",
        )
    Console().print(table)
    if chosen.json:
        chosen.json.parent.mkdir(parents=True, exist_ok=True)
        chosen.json.write_text(json.dumps([asdict(row) for row in results], indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
