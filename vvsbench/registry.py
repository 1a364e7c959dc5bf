"""What other packages add to the grid: found by entry point, typed, and imported only when a run is composed.

A plug-in is a dataclass. Its fields are its settings, so a misspelt one is caught like any other, and its methods are
the method. It must not import torch when it is imported: settings are read before torch is.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass, is_dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Generic, TypeVar, cast

from vvsbench.errors import UserError

T = TypeVar("T")


class PluginError(UserError):
    """An installed plug-in cannot be used."""


@dataclass(frozen=True)
class Plugin(Generic[T]):
    """One addition.

    Attributes:
        kind: the dataclass.
        origin: the package that brings it.
    """

    name: str
    kind: type[T]
    origin: str

    @property
    def summary(self) -> str:
        """The first line of what it says about itself."""
        return (inspect.getdoc(self.kind) or "").split("\n", 1)[0]

    @property
    def source(self) -> str:
        """The code of its module, which is part of what a result depends on."""
        return inspect.getsource(inspect.getmodule(self.kind) or self.kind)


@dataclass(frozen=True)
class Registry(Generic[T]):
    """The additions to one axis.

    Attributes:
        group: of the entry points, e.g. "vvsbench.schedules".
        base: every addition derives from it.
    """

    group: str
    base: type[T]

    def __iter__(self) -> Iterator[Plugin[T]]:
        """All of them.

        Raises:
            PluginError: one cannot be imported, or is of another kind.
        """
        for entry in sorted(entry_points(group=self.group)):
            origin = entry.dist.name if entry.dist else entry.value
            yield Plugin(entry.name, self._loaded(entry, origin), origin)

    def _loaded(self, entry: EntryPoint, origin: str) -> type[T]:
        try:
            kind = entry.load()
        except (ImportError, AttributeError) as error:
            raise PluginError(f"plug-in {entry.name} of package {origin} cannot be imported: {error}") from error
        if not (isinstance(kind, type) and issubclass(kind, self.base) and is_dataclass(kind)):
            wanted = f"a dataclass derived from {self.base.__module__}.{self.base.__name__}"
            raise PluginError(f"plug-in {entry.name} of package {origin} must be {wanted}.")
        return cast(type[T], kind)
