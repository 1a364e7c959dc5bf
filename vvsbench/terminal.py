"""The terminal that verbs print to: texts are never markup, and a reader who leaves is no error."""

from __future__ import annotations

import sys
from typing import Any

import rich.console

from vvsbench.streams import silence


class Terminal(rich.console.Console):
    """A console that shows texts as they are: labels, paths and messages of others are no markup and no emoji.

    Args:
        settings: of rich's console.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(highlight=False, markup=False, emoji=False, **settings)

    def on_broken_pipe(self) -> None:
        """The reader of a pipe has left, as `head` does: the work goes on, and its words go nowhere."""
        silence(sys.stderr if self.stderr else sys.stdout)
