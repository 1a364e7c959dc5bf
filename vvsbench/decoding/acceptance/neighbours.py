"""Which codes of a codebook lie near each other: the table that LANTERN borrows by.

The authors keep the full order of all codes. Only the nearest few are ever looked at, so only those are kept; 16384
codes with 1001 neighbours each take ten seconds on one core, and are computed once per codebook.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from torch import Tensor

from vvsbench import derived

LAYOUT = "1"
"""Version of the table's computation and of its file; part of the file's name."""
CHUNK = 256
"""Codes whose distances to all others are held at a time."""


def nearest(codebook: Tensor, count: int, normalised: bool) -> Tensor:
    """The nearest other codes of every code, nearest first, int32 [V, count] on the CPU.

    Equally near codes come in the order of their numbers. The differences are taken in double precision, without the
    matrix product that is faster and rounds, so that the order is the same on every machine.

    Args:
        codebook: rows [V, C] as stored.
        count: neighbours per code, at most V - 1.
        normalised: compare rows of unit length, as the tokenizer decodes them; the authors compare raw rows.
    """
    rows = codebook.detach().cpu().double()
    rows = torch.nn.functional.normalize(rows, dim=-1) if normalised else rows
    found = []
    for start in range(0, len(rows), CHUNK):
        own = torch.arange(start, min(start + CHUNK, len(rows)))
        distance = torch.cdist(rows[own], rows, compute_mode="donot_use_mm_for_euclid_dist")
        distance.scatter_(1, own[:, None], float("inf"))
        found.append(_smallest(distance, count).int())
    return torch.cat(found)


def _smallest(values: Tensor, count: int) -> Tensor:
    """Places int64 [N, count] of the smallest values of each row [N, V], smallest first, equal ones by place.

    `topk` leaves the order of equal values open, and sorting whole rows takes several times as long: so only rows with
    equal values on both sides of the cut are sorted as a whole.
    """
    places = values.topk(count, largest=False).indices.sort(1).values
    kept = values.gather(1, places)
    places = places.gather(1, kept.sort(dim=1, stable=True).indices)
    tied = (values <= kept.amax(1, keepdim=True)).sum(1) > count
    places[tied] = values[tied].sort(dim=1, stable=True).indices[:, :count]
    return places


def kept_nearest(codebook: Tensor, count: int, normalised: bool, cache: Path | None) -> Tensor:
    """Like `nearest`, but read from the cache if the table of this codebook is there.

    Args:
        codebook, count, normalised: see `nearest`.
        cache: folder for derived arrays; None keeps nothing.
    """
    if cache is None:
        return nearest(codebook, count, normalised)
    rows = codebook.detach().cpu().float().contiguous().numpy()
    digest = hashlib.sha256(f"{LAYOUT}|{rows.shape}|{count}|{normalised}|".encode() + rows.tobytes()).hexdigest()
    file = cache / f"neighbours-{digest[:20]}.safetensors"
    kept = derived.read(file, ["neighbours"])
    if kept is None:
        kept = {"neighbours": nearest(codebook, count, normalised).numpy()}
        derived.write(file, kept)
    return torch.from_numpy(kept["neighbours"])
