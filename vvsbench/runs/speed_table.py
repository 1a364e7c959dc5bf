"""What a run says of a cell that it has timed: a line per decoder, and below it what explains them."""

from __future__ import annotations

from collections.abc import Iterator

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text

from vvsbench.runs.speed_record import Interval, Measured, SpeedRecord, Subject

MIB = 2**20
SLACK = 0.5
"""By which the load average of a machine that does nothing else may exceed its cores."""
ENDINGS = {
    "narrow": "the interval is as narrow as asked for",
    "rounds": "the cap on rounds came first",
    "seconds": "the cap on seconds came first",
}


def table(record: SpeedRecord) -> Group:
    """A measured cell for a terminal.

    Raises:
        ValueError: it was not measured.
    """
    found = record.measured
    if found is None:
        raise ValueError(f"{record.label} was not measured")
    shown = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    shown.add_column("decoder", max_width=24)
    for heading in ("images/s", "s per image", "floor", "forwards"):
        shown.add_column(heading, justify="right", no_wrap=True)
    for one in (found.own, found.baseline):
        if one:
            shown.add_row(*_line(one))
    config = record.config
    how = f"{config['engine']}, {config['dtype']}, batch {config['batch_size']}"
    head = f"{record.label}  {record.key}  on {found.device}, {found.threads} of {found.cores} CPU cores, {how}"
    return Group(Text(head), shown, *(Text(line) for line in explained(found)))


def _line(one: Subject) -> list[str]:
    seconds = one.seconds_per_image
    share = "" if one.floor_share is None else f"{one.floor_share:.0%}"
    return [
        one.label,
        f"{1 / seconds.value:.4g}",
        _interval(seconds),
        share,
        f"{one.forwards:.1f}",
    ]


def explained(found: Measured) -> Iterator[str]:
    """What is to be said of the numbers, a line each."""
    if found.baseline and found.speed_up and found.compression:
        yield (
            f"{_interval(found.speed_up)} times as fast as {found.baseline.label}, with {found.compression:.3g} times "
            f"fewer target forwards: a round costs {found.round_cost:.3g} of its steps"
        )
    if found.own.floor_share is not None:
        yield "floor: the least time that this machine could need for these forwards, as a share of the time"
    rounds = found.own.seconds_per_image.n
    started = f"loaded in {found.own.load_seconds:.3g} s, first batch after {found.own.first_seconds:.3g} s more"
    yield f"{rounds} {'rounds' if rounds > 1 else 'round'}, {ENDINGS[found.ending]}; {started}"
    held = [f"process {found.memory.process / MIB:.0f} MiB"]
    if found.memory.allocated is not None and found.memory.reserved is not None:
        held += [f"GPU {found.memory.allocated / MIB:.0f} MiB in tensors, {found.memory.reserved / MIB:.0f} reserved"]
    energy = "" if found.joules_per_image is None else f"; {found.joules_per_image:.3g} J per image"
    yield f"pixels {found.paint_seconds_per_image.value:.3g} s per image; memory {', '.join(held)}{energy}"
    if found.phases:
        shares = sorted(found.phases.items(), key=lambda item: -item[1])
        yield "time: " + ", ".join(f"{name} {share:.0%}" for name, share in shares)
    yield from warnings(found)


def warnings(found: Measured) -> Iterator[str]:
    """Why the numbers may not be what an idle machine gives."""
    if found.slowed_by:
        yield f"the GPU's clocks were held down: {', '.join(found.slowed_by)}"
    load = max(found.before.load_average or 0.0, found.after.load_average or 0.0)
    if load > max(found.cores, found.threads) + SLACK:
        yield f"others used this machine too: its load average was {load:.1f}, and it has {found.cores} cores"
    strangers = sorted({pid for moment in (found.before, found.after) for pid in moment.strangers or []})
    if strangers:
        yield f"other processes computed on this GPU: {', '.join(map(str, strangers))}"


def _interval(found: Interval) -> str:
    """A number and its interval, with the digits that the interval allows."""
    if found.n == 1:
        return f"{found.value:.3g}"
    return f"{found.value:.3g} [{found.low:.3g}, {found.high:.3g}]"
