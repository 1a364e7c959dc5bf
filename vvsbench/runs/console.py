"""What a run says: progress, and of a finished cell what it cost and how good it is; warnings by name.

On a terminal progress is a bar. Where there is none (a batch job, a pipe, one of several workers) it is lines: one for
every image file that is written, and one a minute while none is. The cell's log has these lines everywhere.
"""

from __future__ import annotations

import contextlib
import logging
import math
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import rich.console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from vvsbench.runs.record import CellRecord, QualityRecord
from vvsbench.terminal import Terminal

log = logging.getLogger(__name__)

MINUTE = 60.0
"""Seconds between two signs of life."""
WIDTH = 80
"""Letters of a line."""
Advance = Callable[[int], None]
Wrote = Callable[[str], None]
ACRONYM = 4
"""Letters up to which a metric's name is an acronym: FID, CLIP."""


class Drawing:
    """The progress of a cell whose images are being drawn.

    Args:
        name: of the cell.
        count: images in all.
        done: images that were there before.
    """

    def __init__(self, name: str, count: int, done: int) -> None:
        self.name, self.count, self.done = name, count, done
        self._before, self._started = done, time.monotonic()

    def __str__(self) -> str:
        drawn, taken = self.done - self._before, time.monotonic() - self._started
        text = f"{self.name}: {self.done} of {self.count} images"
        if not drawn or self.done >= self.count:
            return f"{text} after {duration(taken)}"
        return f"{text}, about {duration(taken / drawn * (self.count - self.done))} left"


class Console:
    """Speaks to the user: results on standard output, everything else on standard error and in the cell's log.

    Args:
        bars: whether to show progress on a terminal; several processes on one would write over each other.

    Attributes:
        said: the lines of the cells that were finished.
    """

    def __init__(self, bars: bool = True) -> None:
        self.said: list[str] = []
        self._out = Terminal(soft_wrap=True)
        self._err = Terminal(stderr=True, soft_wrap=True)
        self._bars = bars and self._err.is_terminal

    def say(self, text: str) -> None:
        """Tell what is going on."""
        log.info("%s", text)
        self._err.print(text)

    def warn(self, text: str) -> None:
        """Tell what was wrong and is being mended."""
        log.info("warning: %s", text)
        self._err.print(f"warning: {text}", style="yellow")

    def finished(self, record: CellRecord, what: str, quality: QualityRecord | None = None) -> None:
        """What was done with a cell, and below it what the cell costs and how good its images are.

        Args:
            record: of the cell.
            what: was done.
            quality: its metrics under the protocol that was asked for.
        """
        self._tell(f"{record.label:<12} {record.key}  {what}")
        for line in _lines([*_costs(record), *_metrics(quality)]):
            self._tell(line)

    def _tell(self, text: str) -> None:
        log.info("%s", text)
        self.said.append(text)
        self._out.print(text)

    def show(self, what: rich.console.RenderableType) -> None:
        """A result of several lines."""
        self._out.print(what)

    def _progress(self, text: str) -> None:
        """A line of progress: into the log, and where no bar shows it, to standard error."""
        log.info("%s", text)
        if not self._bars:
            self._err.print(text)

    @contextlib.contextmanager
    def _alive(self, text: Callable[[], str]) -> Iterator[None]:
        """Say something every minute for as long as this lasts."""
        over = threading.Event()

        def tell() -> None:
            while not over.wait(MINUTE):
                self._progress(text())

        thread = threading.Thread(target=tell, name="progress", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    @contextlib.contextmanager
    def working(self, text: str) -> Iterator[None]:
        """Show that something without a measure of progress is going on."""
        started = time.monotonic()
        self._progress(text)
        with self._alive(lambda: f"{text}, for {duration(time.monotonic() - started)} so far"):
            if not self._bars:
                yield
                return
            with self._err.status(text):
                yield

    @contextlib.contextmanager
    def drawing(self, name: str, count: int, done: int) -> Iterator[tuple[Advance, Wrote]]:
        """Progress over the images of a cell.

        Args:
            name: of the cell.
            count: images in all.
            done: images that are there already.

        Yields:
            A function to be told how many more are drawn, and one to be told that a file is written and which.
        """
        so_far = Drawing(name, count, done)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with (
            self._alive(lambda: str(so_far)),
            Progress(*columns, console=self._err, transient=True, disable=not self._bars) as bar,
        ):
            task = bar.add_task(f"{name:<12}", total=count, completed=done)

            def advance(images: int) -> None:
                so_far.done += images
                bar.advance(task, images)

            yield advance, lambda file: self._progress(f"{so_far} ({file})")


def _costs(record: CellRecord) -> Iterator[str]:
    """What a cell costs in counts, with their intervals."""
    for name, unit in (("step_compression", "tokens per forward"), ("cost", "target calls")):
        if found := record.summaries.get(name):
            yield f"{written(found.mean, found.low, found.high)} {unit}"


def _metrics(quality: QualityRecord | None) -> Iterator[str]:
    """The metrics of a cell, with their intervals."""
    for one in quality.values if quality else ():
        name = one.name.upper() if len(one.name) <= ACRONYM else one.name
        yield f"{name} {written(one.value, one.low, one.high)}"
    if quality:
        yield f"(protocol {quality.protocol} {quality.version})"


def written(value: float, low: float | None, high: float | None) -> str:
    """A number with its interval, if it has one, to two digits of half its width."""
    half = 0.0 if low is None or high is None else (high - low) / 2
    if low is None or high is None or not half > 0:
        return f"{value:.4g}"
    digits = max(0, 1 - math.floor(math.log10(half)))
    return f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def _lines(numbers: Sequence[str]) -> list[str]:
    """Numbers below their cell, in lines of a terminal's width, none of them broken."""
    whole = "   ".join(text.replace(" ", "\N{NO-BREAK SPACE}") for text in numbers)
    broken = textwrap.wrap(whole, WIDTH, initial_indent="    ", subsequent_indent="    ", break_long_words=False)
    return [line.replace("\N{NO-BREAK SPACE}", " ") for line in broken]


def duration(seconds: float) -> str:
    """A time in the units in which one thinks of it."""
    if seconds < 90:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
