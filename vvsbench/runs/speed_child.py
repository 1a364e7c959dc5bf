"""The measured process: `python -m vvsbench.runs.speed_child JOB RESULT`, started by `vvsbench.runs.speed`.

The order is part of the result. The cell is loaded and warmed up alone, so that the peak of memory is its own; then the
baseline, over the same weights where the target is the same; then what the machine can do, for the floors; then the
timed repeats, with nothing else in between; then the slower passes, for energy and for the phases.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from vvsbench.composition import composed
from vvsbench.config import RunConfig
from vvsbench.errors import UserError
from vvsbench.measure import isolation, memory
from vvsbench.measure.gpu import Gpu
from vvsbench.measure.rates import rates
from vvsbench.measure.repeats import Limits, interleaved
from vvsbench.measure.roofline import Rates
from vvsbench.measure.statistics import Interval, median, median_ratio
from vvsbench.runs import files, provenance
from vvsbench.runs.console import Console
from vvsbench.runs.failures import OutOfMemoryError, understood
from vvsbench.runs.speed_record import Measured, Memory, Moment
from vvsbench.runs.speed_subject import Repeat, Subject, recorded

OWN, BASELINE = "own", "baseline"
ENERGY_SECONDS = 3.0
"""A counter of energy moves every tenth of a second or so: below some seconds it says little."""
FORMATS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "fp64": torch.float64}


def main(argv: Sequence[str]) -> int:
    """Measure what the first file says, and write to the second what came of it."""
    isolation.end_with_parent()
    job = json.loads(Path(argv[0]).read_text(encoding="utf-8"))
    files.write(Path(argv[1]), json.dumps(answer(job, Console())).encode())
    return 0


def answer(job: Mapping[str, Any], console: Console) -> dict[str, Any]:
    """Measure, and turn whatever goes wrong into a status.

    Args:
        job: `overrides` of the cell and `baseline`, those of its baseline or None.
        console: says what is going on.

    Returns:
        status; with ok `measured` and `repeats`, else `error` and, of a bug, its `traceback`.
    """
    cfg = composed(job["overrides"])
    try:
        measured, repeats = measure(cfg, composed(job["baseline"]) if job["baseline"] else None, console)
    except Exception as error:
        reason = understood(error, f"batch_size={cfg.batch_size}, dtype={cfg.dtype}", "batch_size")
        if isinstance(reason, OutOfMemoryError):
            return {"status": "out_of_memory", "error": str(reason)}
        if isinstance(reason, UserError):
            return {"status": "failed", "error": str(reason)}
        text = f"unexpected {type(error).__name__}: {error}"
        return {"status": "failed", "error": text, "traceback": traceback.format_exc()}
    return {"status": "ok", "measured": measured.model_dump(), "repeats": repeats}


def measure(cfg: RunConfig, baseline: RunConfig | None, console: Console) -> tuple[Measured, list[dict[str, Any]]]:
    """Time a cell.

    Args:
        cfg: its settings.
        baseline: those of what it is timed in turn with.
        console: says what is going on.

    Returns:
        What was measured, and a row per timed repeat.
    """
    began = time.perf_counter()
    torch.set_num_threads(cfg.threads or torch.get_num_threads())
    label = cfg.decoder.label(cfg.model)
    with console.working(f"{label}: loading and warming up"):
        own = Subject.load(cfg)
    device = own.decoder.target.device
    peak, gpu = memory.peak(device), Gpu.of(device)
    subjects = {OWN: own}
    if baseline:
        with console.working(f"{baseline.decoder.label(baseline.model)}: loading and warming up"):
            subjects = {BASELINE: Subject.load(baseline), OWN: own}
    working_bytes = max(one.working_bytes for one in subjects.values())
    reached = rates(device, FORMATS[cfg.dtype], working_bytes)
    for one in subjects.values():
        _say_floor(one, reached, console)
    before, rows = _moment(gpu), list[dict[str, Any]]()

    def timed(name: str, number: int) -> Repeat:
        repeat = subjects[name].draw(number + 1)
        rows.append(_row(name, number, subjects[name], repeat, gpu))
        return repeat

    runs = {name: (lambda number, name=name: timed(name, number)) for name in subjects}
    with console.working(f"{label}: timing"):
        rounds = interleaved(runs, _wanted, Limits(cfg.speed.width, cfg.speed.rounds, cfg.speed.seconds))
    after = _moment(gpu)
    reached = reached.best(rates(device, FORMATS[cfg.dtype], working_bytes))  # something may have disturbed the first
    taken = rounds.taken
    with console.working(f"{label}: energy and phases"):
        joules, phases = _energy(own, gpu), own.phases()
    return (
        Measured(
            device=torch.cuda.get_device_name(device) if gpu else str(provenance.hardware()["cpu"]),
            cores=int(provenance.hardware()["cores"] or 1),
            threads=torch.get_num_threads(),
            own=own.described(taken[OWN], reached),
            baseline=subjects[BASELINE].described(taken[BASELINE], reached) if baseline else None,
            speed_up=recorded(_wanted(taken)) if baseline else None,
            paint_seconds_per_image=recorded(median([repeat.paint_seconds for repeat in taken[OWN]])),
            bytes_per_second=reached.bytes_per_second,
            flops_per_second=reached.flops_per_second,
            memory=Memory(allocated=peak.allocated, reserved=peak.reserved, process=peak.process),
            joules_per_image=joules,
            phases=phases,
            ending=rounds.ending.value,
            before=before,
            after=after,
            slowed_by=sorted({name for row in rows for name in row["slowed_by"].split(", ") if name}),
            seconds=time.perf_counter() - began,
        ),
        rows,
    )


def _wanted(taken: Mapping[str, Sequence[Repeat]]) -> Interval:
    """What the repeats are to make sure of: the speed-up, or without a baseline the time."""
    own = [repeat.seconds for repeat in taken[OWN]]
    if BASELINE not in taken:
        return median(own)
    return median_ratio([repeat.seconds for repeat in taken[BASELINE]], own)


def _say_floor(subject: Subject, reached: Rates, console: Console) -> None:
    """The least time that the machine could need, before any time is known."""
    label, work = subject.cfg.decoder.label(subject.cfg.model), subject.work
    if work is None:
        console.say(f"{label}: its model tells nothing of its sizes, so there is no floor to hold it against")
        return
    console.say(
        f"{label}: floor {work.floor(reached):.3g} s per image; {work.bytes / 1e9:.3g} GB read at "
        f"{reached.bytes_per_second / 1e9:.3g} GB/s, {work.flops / 1e9:.3g} GFLOP at "
        f"{reached.flops_per_second / 1e9:.3g} GFLOP/s"
    )


def _moment(gpu: Gpu | None) -> Moment:
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    if gpu is None:
        return Moment(load_average=load)
    return Moment(load_average=load, strangers=gpu.strangers(), **vars(gpu.state()))


def _row(name: str, number: int, subject: Subject, repeat: Repeat, gpu: Gpu | None) -> dict[str, Any]:
    """A line of speed.parquet."""
    state = gpu.state() if gpu else None
    return {
        "round": number,
        "decoder": name,
        "images": subject.images,
        **vars(repeat),
        "sm_mhz": state.sm_mhz if state else None,
        "slowed_by": ", ".join((state.slowed_by if state else None) or []),
    }


def _energy(own: Subject, gpu: Gpu | None) -> float | None:
    """Joules per image, of a pass of its own; None where the GPU does not count them."""
    before = gpu.joules() if gpu else None
    if gpu is None or before is None:
        return None
    until, images, number = time.perf_counter() + ENERGY_SECONDS, 0, 0
    while time.perf_counter() < until:
        own.draw(number := number + 1)
        images += own.images
    after = gpu.joules()
    return None if after is None else (after - before) / images


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
