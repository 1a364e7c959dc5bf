"""`make bench` and `make bench-gpu`."""

from __future__ import annotations

import argparse
import datetime
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from vvsbench import config
from vvsbench.errors import UserError
from vvsbench.measure.bench import cpu, gpu, sections
from vvsbench.measure.bench.report import Report, Section, show, show_verdicts
from vvsbench.measure.gpu import Gpu
from vvsbench.measure.isolation import alone
from vvsbench.runs import provenance


def main(argv: Sequence[str] | None = None) -> int:
    """Run a bench; a missed target is news, not an error.

    Returns:
        1 if a section failed, 2 if the bench cannot run here.
    """
    chosen = _parser().parse_args(argv)
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 140)
    try:
        settings, plans, seconds = (_gpu if chosen.bench == "gpu" else _cpu)(chosen)
    except UserError as error:
        console.print(str(error), style="red")
        return error.exit_code
    report = Report(chosen.bench, _about(settings, chosen.bench))
    paths = [*([chosen.json] if chosen.json else []), *([_kept(chosen.bench)] if chosen.keep else [])]

    def done(section: Section) -> None:
        report.sections.append(section)
        show(section, console)
        for path in paths:
            report.write(path)

    _head(report, console)
    with alone(console.print):
        sections.run(plans, settings, seconds, done, isolated=True)
    show_verdicts(report.sections, console)
    for path in paths:
        console.print(f"written to {path}")
    return int(any(section.status not in ("ok", "left_out", "out_of_time") for section in report.sections))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m vvsbench.measure.bench", description=__doc__)
    parser.add_argument("bench", choices=("cpu", "gpu"), help="what `make bench` or `make bench-gpu` runs")
    parser.add_argument("--rounds", type=int, help="interleaved rounds of a comparison, at most")
    parser.add_argument("--minutes", type=float, help="for everything (default: 8, and 40 with --long)")
    parser.add_argument("--json", type=Path, help="write the results here")
    parser.add_argument(
        "--keep", action="store_true", help="write them to experiments/measured, as <machine>-<date>.json"
    )
    parser.add_argument(
        "--only", nargs="+", metavar="WORD", help="only the sections with one of these words in the name"
    )
    parser.add_argument("--long", action="store_true", help="cpu: image sets of up to 10,000 images")
    parser.add_argument("--sizes", choices=tuple(gpu.SIZES), default="real", help="gpu: nano tries the program out")
    parser.add_argument("--device", default="cuda", help="gpu: where (default: %(default)s)")
    return parser


def _cpu(chosen: argparse.Namespace) -> tuple[Any, list[sections.Plan], float]:
    """Settings, sections and seconds of `make bench`."""
    settings = cpu.Settings()
    if chosen.rounds:
        settings = replace(settings, rounds=chosen.rounds)
    if chosen.long:
        settings = replace(settings, counts=(*settings.counts, 1_000, 10_000))
    return settings, _wanted(cpu.plans(settings), chosen.only), 60 * (chosen.minutes or (40 if chosen.long else 8))


def _gpu(chosen: argparse.Namespace) -> tuple[Any, list[sections.Plan], float]:
    """The same of `make bench-gpu`.

    Raises:
        UserError: there is no GPU.
    """
    device = torch.device(chosen.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "make bench-gpu: no GPU answers here. `make bench` measures this machine; "
            "`python -m vvsbench.measure.bench gpu --sizes nano --device cpu` only tries the program out."
        )
    settings = gpu.settings(chosen.sizes, device.type)
    if chosen.rounds:
        settings = replace(settings, rounds=chosen.rounds)
    return settings, _wanted(gpu.plans(settings), chosen.only), 60 * (chosen.minutes or 8)


def _wanted(plans: list[sections.Plan], words: Sequence[str] | None) -> list[sections.Plan]:
    """The sections whose names have one of the words; all without words.

    Raises:
        UserError: none has.
    """
    found = [plan for plan in plans if not words or any(word in plan.name for word in words)]
    if not found:
        raise UserError(f"--only {' '.join(words or [])}: the sections are {', '.join(plan.name for plan in plans)}.")
    return found


def _about(settings: Any, bench: str) -> dict[str, Any]:
    """When, where and with what: the head of the document."""
    git = provenance.git_state()
    device = torch.device(getattr(settings, "device", "cpu"))
    gpu = Gpu.of(device)
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": provenance.hardware(),
        "clocks": asdict(gpu.state()) if gpu else None,
        "threads": torch.get_num_threads(),
        "versions": provenance.versions(),
        "commit": git.commit if git else None,
        "dirty": git.dirty if git else None,
        "settings": asdict(settings),
    }


def _head(report: Report, console: Console) -> None:
    """Print what is measured."""
    machine, clocks = report.about["machine"], report.about["clocks"]
    where = f"{machine['cpu']}, {machine['cores']} cores, {report.about['threads']} threads"
    if report.bench == "gpu" and machine["gpu"]:
        where = f"{machine['gpu']}, driver {machine['driver']}; {where}"
    console.print(f"[bold]make bench{'-gpu' if report.bench == 'gpu' else ''}[/bold]: {where}")
    if clocks and clocks["sm_mhz"]:
        console.print(f"clocks before: SM {clocks['sm_mhz']} MHz, memory {clocks['memory_mhz']} MHz")
    console.print()


def _kept(bench: str) -> Path:
    """experiments/measured/<machine>-<date>.json, the machine by its processor or its GPU."""
    machine = provenance.hardware()
    name = str((machine["gpu"] if bench == "gpu" else None) or f"{machine['cpu']} {machine['cores']} cores")
    slug = re.sub(r"[^a-z0-9]+", "-", re.sub(r"\((r|tm)\)", "", name.lower())).strip("-")
    return config.folder("experiments") / "measured" / f"{slug}-{datetime.date.today().isoformat()}.json"


if __name__ == "__main__":
    sys.exit(main())
