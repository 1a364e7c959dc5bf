"""Where a decoder's tokens come from and how far its drafts go, from the trace alone.

A verified step that judges one draft after the other accepts from the first depth on until one fails, so that the
counts of accepted drafts say how often each depth held once the one before it had. A step whose accepted drafts fill
the image to its end tells nothing about the next depth, and is not counted there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isqrt
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vvsbench.analysis import comparison
from vvsbench.analysis.estimate import Estimate

DRAWN, ACCEPTED, SKIPPED = 0, 1, 2
"""Values of the trace's origin: the target's own, drafted and accepted, drafted and never verified."""


@dataclass(frozen=True)
class Depth:
    """One level of the draft.

    Attributes:
        depth: 1 for the first drafted token.
        accepted: steps in which a draft of this depth was accepted.
        steps: those in which the depth before it was, and there was room for this one.
    """

    depth: int
    accepted: int
    steps: int

    @property
    def share(self) -> float:
        """How often this depth held once the one before it had."""
        return self.accepted / self.steps


@dataclass(frozen=True)
class Diagnosis:
    """What a decoder's steps did.

    Attributes:
        accepted: share of the verified steps that accepted 0, 1, ... drafts.
        kept: share of the skipped steps that kept 0, 1, ... drafts; empty without skips.
        depths: from the first level of the draft to the deepest that ever held.
        places: share of the images in which the token at each place was drafted, float64 [side, side]; None when the
            tokens do not form a square.
        never_verified: the same for tokens that no target forward looked at; None without any.
        numbers: by name, see `numbers`.
    """

    accepted: NDArray[np.float64]
    kept: NDArray[np.float64]
    depths: Sequence[Depth]
    places: NDArray[np.float64] | None
    never_verified: NDArray[np.float64] | None
    numbers: dict[str, Estimate]


def diagnose(trace: pd.DataFrame) -> Diagnosis:
    """Everything that this module knows about a cell.

    Args:
        trace: one row per image.
    """
    return Diagnosis(
        accepted=shares(trace["accepted"]),
        kept=shares(trace["skipped"]),
        depths=depths(trace),
        places=places(trace, (ACCEPTED, SKIPPED)),
        never_verified=places(trace, (SKIPPED,)),
        numbers=numbers(trace),
    )


def numbers(trace: pd.DataFrame) -> dict[str, Estimate]:
    """Quantities of a cell, each with its interval over images; those that it has none of are left out.

    Returns:
        share_drawn, share_accepted, share_skipped: of the tokens, by where they come from. tokens_per_skip: kept at a
        skipped step. agreed: share of the skipped tokens that the target would have drawn itself, of those it looked at
        afterwards. rolled_back: share of the skips whose tail was taken back.
    """
    origin = _origins(trace)
    found = {
        name: comparison.mean((origin == kind).mean(axis=1))
        for name, kind in (("share_drawn", DRAWN), ("share_accepted", ACCEPTED), ("share_skipped", SKIPPED))
    }
    skips = np.array([len(row) for row in trace["skipped"]], dtype=np.float64)
    if not skips.sum():
        return found
    found["tokens_per_skip"] = comparison.ratio(_sums(trace["skipped"]), skips)
    if "agreed" in trace:
        columns = zip(trace["skipped"], trace["agreed"], trace["origin"], strict=True)
        seen = np.array([looked_at(kept, origin) if len(agreed) else 0 for kept, agreed, origin in columns])
        if seen.sum():
            found["agreed"] = comparison.ratio(_sums(trace["agreed"]), seen.astype(np.float64))
    if "rolled_back" in trace and trace["rolled_back"].sum():
        found["rolled_back"] = comparison.ratio(trace["rolled_back"].to_numpy(dtype=np.float64), skips)
    return found


def looked_at(skipped: Sequence[int], origin: Sequence[int]) -> int:
    """Skipped tokens of an image that a later verification saw: all but those of the skips that end it.

    Args:
        skipped: tokens kept at each skip.
        origin: where every token came from.
    """
    tail = int(np.argmax(np.append(np.asarray(origin)[::-1] != SKIPPED, True)))
    left = [int(count) for count in skipped]
    while tail > 0 and left:
        tail -= left.pop()
    return sum(left)


def _sums(rows: Sequence[Any] | pd.Series[Any]) -> NDArray[np.float64]:
    return np.array([np.sum(row) for row in rows], dtype=np.float64)


def _origins(trace: pd.DataFrame) -> NDArray[np.int64]:
    """Where every token came from, [images, tokens]."""
    return np.stack([np.asarray(row, dtype=np.int64) for row in trace["origin"]])


def shares(rows: pd.Series[Any]) -> NDArray[np.float64]:
    """Share of the steps that kept 0, 1, 2, ... drafted tokens.

    Args:
        rows: a list of counts per image.
    """
    every = np.concatenate([np.asarray(row, dtype=np.int64) for row in rows])
    return np.bincount(every) / len(every) if len(every) else np.zeros(0)


def depths(trace: pd.DataFrame) -> list[Depth]:
    """How often each depth held once the one before it had; empty when no draft was ever accepted, or not in turn."""
    if not in_turn(trace):
        return []
    rows = [np.asarray(row, dtype=np.int64) for row in trace["accepted"]]
    every = np.concatenate(rows)
    if not len(every) or not every.max():
        return []
    cut = [row[-1] for row, origin in zip(rows, trace["origin"], strict=True) if origin[-1] == ACCEPTED and len(row)]
    longest = int(every.max())
    reached = np.bincount(every, minlength=longest + 1)[::-1].cumsum()[::-1]
    without_room = np.bincount(np.array(cut, dtype=np.int64), minlength=longest + 1)
    return [
        Depth(depth, int(reached[depth]), int(reached[depth - 1] - without_room[depth - 1]))
        for depth in range(1, longest + 1)
    ]


def in_turn(trace: pd.DataFrame) -> bool:
    """Whether drafts were judged one after the other up to the first that failed.

    A decoder that judges every draft by itself rejects some and still takes nothing back.
    """
    if "kept_relaxed" not in trace:
        return True
    judged = trace["kept_relaxed"].dropna()
    return bool(trace["rolled_back"].any() or (judged == 1).all())


def places(trace: pd.DataFrame, kinds: Sequence[int]) -> NDArray[np.float64] | None:
    """Share of the images in which the token at each place came from one of some origins.

    Args:
        trace: of a cell.
        kinds: `ACCEPTED`, `SKIPPED` or both.

    Returns:
        float64 [side, side]; None if no token did or the grid is not square.
    """
    found = np.isin(_origins(trace), kinds)
    side = isqrt(found.shape[1])
    if side * side != found.shape[1] or not found.any():
        return None
    share: NDArray[np.float64] = found.mean(axis=0).reshape(side, side)
    return share
