"""What a run says: a progress bar on a terminal, one line per finished cell anywhere, warnings by name."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator

import rich.console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from vvsbench.runs.record import CellRecord
from vvsbench.terminal import Terminal

log = logging.getLogger(__name__)


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

    def finished(self, record: CellRecord, what: str) -> None:
        """The one line of a cell."""
        compression, cost = (record.summaries.get(name) for name in ("step_compression", "cost"))
        pace = f"; {compression.mean:.2f} tokens per forward" if compression else ""
        price = f", {cost.mean:.1f} target calls of computation" if cost else ""
        text = f"{record.label:<12} {record.key}  {what}{pace}{price}"
        log.info("%s", text)
        self.said.append(text)
        self._out.print(text)

    def show(self, what: rich.console.RenderableType) -> None:
        """A result of several lines."""
        self._out.print(what)

    @contextlib.contextmanager
    def working(self, text: str) -> Iterator[None]:
        """Show that something without a measure of progress is going on; silent when not on a terminal."""
        log.info("%s", text)
        if not self._bars:
            yield
            return
        with self._err.status(text):
            yield

    @contextlib.contextmanager
    def drawing(self, name: str, count: int, done: int) -> Iterator[Callable[[int], None]]:
        """Progress over the images of a cell; silent when not on a terminal.

        Args:
            name: of the cell.
            count: images in all.
            done: images that are there already.

        Yields:
            A function to be told how many more are drawn.
        """
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=self._err, transient=True, disable=not self._bars) as bar:
            task = bar.add_task(f"{name:<12}", total=count, completed=done)
            yield lambda images: bar.advance(task, images)
