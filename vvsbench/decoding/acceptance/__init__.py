"""Acceptance rules, one small file each: which part of a verified tree becomes image, and which token follows it.

Importing this package loads no torch, because the rules' settings lie in it; asking it for a rule does.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vvsbench.decoding.acceptance.base import AcceptanceRule, Verdict
    from vvsbench.decoding.acceptance.lantern import GreedyLantern, Lantern, Relaxation
    from vvsbench.decoding.acceptance.match import Match
    from vvsbench.decoding.acceptance.sequential import Sequential

__all__ = ["AcceptanceRule", "GreedyLantern", "Lantern", "Match", "Relaxation", "Sequential", "Verdict"]

_HOME = {
    "AcceptanceRule": "base",
    "Verdict": "base",
    "GreedyLantern": "lantern",
    "Lantern": "lantern",
    "Relaxation": "lantern",
    "Match": "match",
    "Sequential": "sequential",
}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Import a rule, and torch with it, when it is asked for."""
        if name not in _HOME:
            raise AttributeError(f"module {__name__} has no attribute {name}")
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
