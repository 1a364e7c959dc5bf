"""What a run in Weights & Biases holds of one cell: of the stage that drew its images, and of the one that timed it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from vvsbench.analysis import diagnostics, pictures
from vvsbench.analysis.estimate import estimate
from vvsbench.analysis.frame import COSTS, DRAFTING, METRICS
from vvsbench.analysis.tables import RATIOS
from vvsbench.runs.record import CellRecord
from vvsbench.runs.speed_record import SpeedRecord
from vvsbench.runs.store import SPEED_REPEATS, StoredCell

REPEAT = "timing/repeat_seconds_per_image"
"""Seconds of every timed repeat, over `repeat`; no number of the summary, which has the mean or median."""
RELATIVE = (
    *RATIOS,
    "changed_tokens",
    "token_distance",
    "pixel_change",
    *(f"{name}_change" for name in METRICS),
)
"""Quantities against the baseline."""
TIMES = (
    "images_per_second",
    "seconds_per_image",
    "device_seconds_per_image",
    "speed_up",
    "compression",
    "round_cost",
    "floor_share",
    "paint_seconds",
    "first_seconds",
    "load_seconds",
    "rounds",
)
"""Of a speed record, see `vvsbench.analysis.speed`."""


def drawn(cell: StoredCell, row: pd.Series[Any]) -> dict[str, Any]:
    """What identifies the run of a cell's images.

    Args:
        cell: its record.
        row: of the study's frame.
    """
    record = cell.record
    gpu = record.provenance.hardware.get("gpu") or "cpu"
    return _identity(record, "images", str(row["label"]), [gpu, row.get("protocol"), record.guarantee])


def timed(record: SpeedRecord) -> dict[str, Any]:
    """What identifies the run of a cell's times."""
    device = record.measured.device if record.measured else None
    return _identity(record, "speed", record.label, [device, record.config["engine"]])


def _identity(record: CellRecord | SpeedRecord, stage: str, label: str, tags: list[Any]) -> dict[str, Any]:
    """The study is part of the id: two studies may share a cell, and a run over there is in one group only."""
    config, git = record.config, record.provenance.git
    state = "no checkout" if git is None else "dirty" if git.dirty else "clean"
    origin = {"key": record.key, "provenance": record.provenance.model_dump(), "label": label}
    return {
        "id": f"{record.study}-{record.key}-{stage}",
        "name": f"{config['model']['name']}/{label}/b{config['batch_size']}",
        "job_type": stage,
        "config": {**config, **origin},
        "tags": [str(tag)[:64] for tag in (*tags, config["dtype"], state) if tag],  # longer ones are refused
    }


def log_images(wandb: Any, run: Any, cell: StoredCell, row: pd.Series[Any]) -> None:
    """Fill a run with a cell's numbers, its images, and how its drafts fared.

    Args:
        wandb: the module.
        run: that is open.
        cell: its record.
        row: of the study's frame.
    """
    _define(run)
    for number, entry in enumerate(cell.repeats.to_dict("records")):
        run.log({"repeat": number, REPEAT: entry["seconds"] / entry["images"]})
    lengths = diagnostics.shares(cell.trace["accepted"])
    content = {
        "tables/repeats": table(wandb, cell.repeats),
        "tables/accepted": wandb.Table(
            columns=["drafts accepted", "share of verified steps"],
            data=[[number, float(share)] for number, share in enumerate(lengths)],
        ),
    }
    if cell.has_images:  # records are often copied without them
        chosen = pictures.choose(cell.trace)
        images = pictures.pick(cell, chosen.indices)
        content["samples"] = [
            wandb.Image(image.transpose(1, 2, 0), caption=f"{index}: {prompt}")
            for index, prompt, image in zip(chosen.indices, chosen.prompts, images, strict=True)
        ]
    run.log(content)
    run.summary.update(numbers(row))


def log_speed(wandb: Any, run: Any, folder: Path, row: pd.Series[Any]) -> None:
    """Fill a run with a cell's times.

    Args:
        wandb: the module.
        run: that is open.
        folder: of the cell.
        row: of `vvsbench.analysis.speed.Speeds`.
    """
    _define(run)
    repeats = pd.read_parquet(folder / SPEED_REPEATS)
    for entry in repeats[repeats["decoder"] == "own"].to_dict("records"):
        run.log({"repeat": entry["round"], REPEAT: entry["seconds"]})
    run.log({"tables/repeats": table(wandb, repeats)})
    run.summary.update(times(row))


def _define(run: Any) -> None:
    run.define_metric("repeat", hidden=True, summary="none")
    run.define_metric(REPEAT, step_metric="repeat", summary="none")


def numbers(row: pd.Series[Any]) -> dict[str, float]:
    """A cell's numbers and intervals under the names they have in Weights & Biases.

    Args:
        row: of a study's frame.
    """
    places = {name: f"trace/{name}" for name in (*COSTS, *DRAFTING)}
    places |= {name: f"quality/{name}" for name in METRICS}
    places |= {name: f"against_baseline/{name}" for name in RELATIVE}
    found = _placed(row, places | {"seconds_per_image": "timing/seconds_per_image"})
    if "equal_images" in row and pd.notna(row["equal_images"]):
        found["against_baseline/equal_images"] = int(row["equal_images"])
    return found


def quality(row: pd.Series[Any], protocol: str) -> dict[str, float]:
    """What a cell is worth under a further protocol, under names of its own.

    Args:
        row: of the study's frame of that protocol.
        protocol: its name.
    """
    return _placed(row, {name: f"quality/{protocol}/{name}" for name in METRICS})


def times(row: pd.Series[Any]) -> dict[str, float]:
    """A cell's times and intervals under the names they have in Weights & Biases.

    Args:
        row: of `vvsbench.analysis.speed.Speeds`.
    """
    phases = [str(name) for name in row.index if str(name).startswith("phase_")]
    places = {name: f"timing/{name}" for name in (*TIMES, *phases)}
    places |= {"gpu_gib": "memory/gpu_gib", "process_gib": "memory/process_gib", "joules": "energy/joules_per_image"}
    return _placed(row, places)


def _placed(row: pd.Series[Any], places: Mapping[str, str]) -> dict[str, float]:
    """The numbers that a row has, with their intervals."""
    found: dict[str, float] = {}
    for name, place in places.items():
        if (value := estimate(row, name)) is None:
            continue
        found[place] = value.value
        if value.low is not None and value.high is not None:
            found |= {f"{place}_low": value.low, f"{place}_high": value.high}
    return found


def table(wandb: Any, rows: pd.DataFrame) -> Any:
    """A table of numbers and texts only, which is what one over there holds; empty columns are left out.

    Args:
        wandb: the module.
        rows: without an index that matters.
    """
    full = rows.dropna(axis="columns", how="all")
    floats: dict[Any, type] = {name: float for name in full.columns if full[name].dtype.kind == "f"}
    return wandb.Table(dataframe=full.convert_dtypes().astype(floats))
