"""Networks that were loaded before: the cells of a study follow each other in one process, over the same weights.

What is kept is what the last decoder was made of, and no more: as soon as the next one needs something that is not
here, everything that it has not asked for is dropped before the new weights are read. So two decoders over one target
share its weights, and the memory of a study is that of its largest cell.

A network on the shelf belongs to everyone: nobody may change it, and hooks must be removed.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


class Shelf:
    """Remembers what was loaded, by its files and by what was made of them."""

    def __init__(self) -> None:
        self._held: dict[Hashable, Any] = {}
        self._asked: set[Hashable] = set()

    @contextmanager
    def decoder(self) -> Iterator[None]:
        """Surrounds the making of one decoder; what it asks for belongs together."""
        self._asked.clear()
        yield

    def get(self, source: Path, made: Hashable, load: Callable[[], T]) -> T:
        """What `load` returns, or returned before.

        Args:
            source: file or folder that it reads; once that is changed, it is read again.
            made: what tells apart what can be made of the same source: sizes, number format, device.
            load: reads the source.
        """
        key = (_state(source), made)
        if key not in self._held:
            self._drop()
            self._held[key] = load()
        self._asked.add(key)
        found: T = self._held[key]
        return found

    def _drop(self) -> None:
        """Forget what the present decoder has not asked for, before more is loaded."""
        if self._held.keys() <= self._asked:
            return
        self._held = {key: value for key, value in self._held.items() if key in self._asked}
        gc.collect()  # decoders refer to themselves in circles, and hold weights


SHELF = Shelf()
"""The one of this process."""


def _state(source: Path) -> tuple[tuple[str, int, int], ...]:
    """Name, size and modification time of a file or of a folder's files; nothing for what is no file (a hub's name)."""
    files = sorted(source.rglob("*")) if source.is_dir() else [source]
    stats = [(file, file.stat()) for file in files if file.is_file()]
    return tuple((str(file.resolve()), stat.st_size, stat.st_mtime_ns) for file, stat in stats)
