"""The tables beside a record, and the summaries in it: from the rows that the shards carry."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vvsbench.runs.record import Summary
from vvsbench.runs.recorded import LARGEST, MOST_IMAGES

TRACE = "trace.parquet"
REPEATS = "repeats.parquet"
COUNTED = (
    "target_forwards",
    "prefill_forwards",
    "draft_forwards",
    "target_positions",
    "draft_positions",
    "skipped_steps",
    "step_compression",
    "cost",
    "target_head_evaluations",
    "draft_head_evaluations",
    "drafted",
    "kept",
    "kept_relaxed",
    "distance",
    "fallback",
)
"""Columns of the trace that are summarised as they are, of the decoders that have them and the images with a value."""

RESAMPLES = 2000
CONFIDENCE = 0.95
REPEATED = {"repeat": int, "first": int, "images": int, "seconds": float, "decode_seconds": float, "warm": bool}
"""Columns of the table of batches, and their types."""
INTEGER_LISTS = ("accepted", "skipped", "agreed", "origin")


def trace_frame(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """One row per image, in image order."""
    frame = pd.DataFrame(list(rows)).sort_values("image", ignore_index=True)
    for column in set(INTEGER_LISTS) & set(frame.columns):
        frame[column] = pd.Series([np.asarray(values, dtype=np.int32) for values in frame[column]], dtype=object)
    return frame


def repeats_frame(times: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """One row per timed batch, in image order."""
    frame = pd.DataFrame(list(times), columns=list(REPEATED)).sort_values("first", ignore_index=True)
    frame["repeat"] = range(len(frame))
    return frame.astype(REPEATED)


def unsound(trace: pd.DataFrame) -> list[str]:
    """Columns of a trace that hold what no decoder counts: no numbers, or huge or negative ones."""
    found = []
    for name in (*COUNTED, "verified_steps"):
        if name in trace:
            numeric = pd.api.types.is_numeric_dtype(trace[name])
            known = trace[name].dropna().to_numpy(dtype=np.float64) if numeric else None
            if known is None or not ((known >= 0) & (known <= LARGEST)).all():
                found.append(name)
    for name in set(INTEGER_LISTS) & set(trace.columns):
        if not all(_integers(values) for values in trace[name]):
            found.append(name)
    return found + [name for name in ("draft_forwards", "target_forwards") if name not in trace]


def _integers(values: Any) -> bool:
    """Whether a list of a trace is one of small whole numbers."""
    listed = np.asarray(values)
    if listed.ndim != 1 or not (listed.dtype.kind in "iu" or not listed.size):
        return False
    return not listed.size or bool(listed.min() >= -1 and listed.max() <= MOST_IMAGES)


def to_parquet(frame: pd.DataFrame) -> bytes:
    """Bytes of a parquet file."""
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False)
    return buffer.getvalue()


def summaries(trace: pd.DataFrame, repeats: pd.DataFrame) -> dict[str, Summary]:
    """Every quantity of a cell with the interval of its mean."""
    values = {name: trace[name].dropna().to_numpy(dtype=np.float64) for name in COUNTED if name in trace}
    if "drafted" not in trace:  # a step that judges all its drafts adds no token of the target's own behind them
        steps = trace[trace["verified_steps"] > 0]
        values["accepted_length"] = np.array([float(np.mean(row)) + 1 for row in steps["accepted"]])
    warm = repeats[repeats["warm"]] if repeats["warm"].any() else repeats
    values["seconds_per_image"] = (warm["seconds"] / warm["images"]).to_numpy(dtype=np.float64)
    return {name: summary(sample) for name, sample in values.items() if len(sample)}


def summary(sample: NDArray[np.float64]) -> Summary:
    """Mean and spread of a sample, with the 95 % percentile bootstrap interval of the mean."""
    mean = float(sample.mean())
    low, high = bootstrap(sample)
    return Summary(
        mean=mean,
        std=float(sample.std(ddof=1)) if len(sample) > 1 else 0.0,
        low=low,
        high=high,
        minimum=float(sample.min()),
        maximum=float(sample.max()),
        n=len(sample),
    )


def bootstrap(sample: NDArray[np.float64]) -> tuple[float, float]:
    """95 % interval of the mean by resampling; a sample without spread has none."""
    if len(sample) < 2 or np.ptp(sample) == 0:
        return float(sample.mean()), float(sample.mean())
    from scipy import stats

    result = stats.bootstrap(
        (sample,), np.mean, n_resamples=RESAMPLES, confidence_level=CONFIDENCE, method="percentile", batch=100, rng=0
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)
