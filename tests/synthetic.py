"""A made-up study on disk, in the exact layout of real runs: plausible numbers that come from no model.

For tests of what reads records (analysis, tracking). The images are flat shapes on noise; the baseline's tokens are
random, an exact decoder copies them and a skipping one changes some.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from vvsbench import identity
from vvsbench.analysis.frame import StudyFrame, frames
from vvsbench.quality import intervals
from vvsbench.runs import files, shards, store, tables
from vvsbench.runs.record import CellRecord, Git, Jackknife, MetricValue, Provenance, QualityRecord, packed
from vvsbench.runs.speed_record import Interval, Measured, Memory, Moment, SpeedRecord, Subject

GRID, SIDE, DEPTH, CHANNELS = 8, 32, 5, 4
TOKENS = GRID * GRID
COLOURS = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink")
RGB = (
    (222, 31, 36),
    (247, 128, 13),
    (250, 222, 41),
    (41, 168, 61),
    (41, 204, 214),
    (36, 77, 224),
    (133, 46, 189),
    (250, 133, 189),
)
SHAPES = ("circle", "square", "ring", "cross")
CELLS = (
    ["decoder=ar"],
    ["decoder=sd"],
    ["decoder=eagle2"],
    ["decoder=vvs", "decoder.schedule.interval=2"],
    ["decoder=vvs", "decoder.schedule.interval=3"],
    ["decoder=vvs", "decoder.schedule.interval=4"],
    ["decoder=vvs", "decoder.schedule.interval=5"],
)
HARDWARE = {"cpu": "Invented Processor 9000", "cores": 2, "memory_gib": 7.8, "gpu": None, "driver": None}


@dataclass
class Recipe:
    """How one invented cell behaves.

    Attributes:
        accept: chance that one more drafted token is accepted.
        interval: of the skips, 0 for none.
        seconds: per image.
        harm: how much worse its FID is than the baseline's, in FID.
        changes: of the settings.
        study: more about its study.
        keeps: whether its quality record keeps what pairs are made from, as records of the first version do not.
        flips: images that differ from the baseline's; None for all or none, as the guarantee says.
        cost: in target calls, of a decoder of continuous tokens; 0 for one of a codebook's.
    """

    label: str
    decoder: dict[str, Any]
    guarantee: str = "exact"
    accept: float = 0.0
    interval: int = 0
    seconds: float = 0.2
    harm: float = 0.0
    hardware: dict[str, Any] = field(default_factory=lambda: dict(HARDWARE))
    status: str = "ok"
    stale: bool = False
    keeps: bool = True
    flips: int | None = None
    cost: float = 0.0
    changes: dict[str, Any] = field(default_factory=dict)
    study: dict[str, Any] = field(default_factory=dict)


def _speculative(name: str, interval: int = 0, candidates: str = "shared_noise") -> dict[str, Any]:
    schedule: dict[str, Any] = {"name": "always"}
    if interval:
        schedule = {"name": "uniform", "interval": interval, "offset": 1, "first_tokens": 5}
    return {
        "name": name,
        "drafter": {"name": "tiny", "checkpoint": "zoo:drafter.safetensors", "dim": 256},
        "structure": {
            "name": "fitted" if candidates == "shared_noise" else "dynamic",
            "candidates": candidates,
            "depth": DEPTH,
            "nodes": 27,
        },
        "acceptance": {"name": "match"},
        "schedule": schedule,
        "skip": {"selector": "random", "truncation": "dynamic"},
    }


def recipes() -> list[Recipe]:
    """The seven cells of the demo, invented."""
    return [
        Recipe("ar", {"name": "ar"}, seconds=0.105),
        Recipe("sd", _speculative("sd"), accept=0.68, seconds=0.071),
        Recipe("eagle2", _speculative("eagle2", candidates="top_k"), accept=0.30, seconds=0.118),
        *(
            Recipe(f"vvs i={interval}", _speculative("vvs", interval), "none", 0.66, interval, seconds, harm)
            for interval, seconds, harm in ((2, 0.049, 9.4), (3, 0.054, 5.8), (4, 0.058, 4.1), (5, 0.0605, 1.6))
        ),
    ]


LATENT = {
    **{"name": "tiny_mar", "condition": "label", "grid": GRID, "channels": CHANNELS, "classes": 64},
    **{"encoder_dim": 128, "encoder_depth": 4, "decoder_dim": 128, "decoder_depth": 4},
    **{"head_depth": 3, "head_width": 192, "head_steps": 25},
}
CONTINUOUS = {
    "title": "Fewer steps or a draft",
    "baseline": "masked",
    "cost": "equivalents",
    "front": "masked",
    "families": ["decoder.name", "decoder.mode"],
    "cells": [
        ["decoder=masked", "decoder.ar_steps=64", "decoder.head_steps=25"],
        ["decoder=masked", "decoder.ar_steps=16", "decoder.head_steps=25"],
        ["decoder=masked", "decoder.ar_steps=4", "decoder.head_steps=10"],
        ["decoder=csd", "decoder.mode=exact"],
        ["decoder=csd", "decoder.mode=released"],
    ],
}


def masked(ar_steps: int, head_steps: int, cost: float, harm: float) -> Recipe:
    """An invented cell of the plain decoder of continuous tokens."""
    decoder = {"name": "masked", "ar_steps": ar_steps, "head_steps": head_steps, "order": None, "last_noise": False}
    return _continuous(f"masked {ar_steps} x {head_steps}", decoder, cost, harm)


def csd(mode: str, cost: float, harm: float, accept: float = 0.3) -> Recipe:
    """An invented cell of continuous speculative decoding."""
    decoder = {"name": "csd", "mode": mode, "length": 4, "prefill": 0.05, "aligned": True, "tolerance": 0.0}
    return _continuous(f"csd {mode}", decoder, cost, harm, accept)


def _continuous(label: str, decoder: dict[str, Any], cost: float, harm: float, accept: float = 0.0) -> Recipe:
    return Recipe(
        *(label, decoder, "none", accept),
        **{"seconds": cost / 100, "harm": harm, "cost": cost, "flips": 0 if harm == 0 else None},
        **{"changes": {"model": dict(LATENT)}, "study": dict(CONTINUOUS)},  # type: ignore[arg-type]
    )


def continuous() -> list[Recipe]:
    """Five cells of continuous tokens: three of the plain decoder, a draft that is worth nothing and one that is."""
    return [
        masked(64, 25, 80.0, 0.0),
        masked(16, 25, 24.0, 6.0),
        masked(4, 10, 5.0, 40.0),
        csd("exact", 85.0, 9.0, accept=0.02),
        csd("released", 15.0, 5.0),
    ]


def write(root: Path, count: int = 64, study: str = "demo", cells: list[Recipe] | None = None) -> list[Path]:
    """Write a study below an output root.

    Returns:
        The cells' folders.
    """
    return [_write_cell(root, study, count, number, recipe) for number, recipe in enumerate(cells or recipes())]


def write_speed(folder: Path, seconds: float, rounds: int = 6) -> SpeedRecord:
    """Time a written cell, in turn with a baseline that takes twice as long."""
    record = store.read_record(folder)
    assert record is not None
    rows = [
        {"round": number, "decoder": name, "images": 16, "first": 16 * number, "seconds": taken, "device_seconds": None}
        for number in range(rounds)
        for name, taken in (("own", seconds * (1 + number / 100)), ("baseline", 2 * seconds))
    ]
    content = tables.to_parquet(pd.DataFrame(rows))
    files.write(folder / store.SPEED_REPEATS, content)
    timed = SpeedRecord(
        status="ok",
        study=record.study,
        label=record.label,
        key=record.key,
        speed_key="0",
        config={**record.config, "engine": "eager"},
        provenance=record.provenance,
        measured=Measured(
            device=str(HARDWARE["cpu"]),
            cores=2,
            threads=1,
            own=_subject(record.label, seconds, rounds),
            baseline=_subject("ar", 2 * seconds, rounds),
            speed_up=Interval(value=2.0, low=1.9, high=2.1, n=rounds),
            paint_seconds_per_image=Interval(value=0.001, low=0.001, high=0.001, n=rounds),
            memory=Memory(allocated=None, reserved=None, process=2**30),
            phases={"verify": 0.6, "draft": 0.3, "host": 0.1},
            ending="rounds",
            before=Moment(),
            after=Moment(),
            seconds=9.0,
        ),
        files={store.SPEED_REPEATS: files.digest(content)},
        started="2026-01-01T11:00:00.000+00:00",
    )
    files.write(folder / store.SPEED, timed.model_dump_json().encode())
    return timed


def _subject(label: str, seconds: float, rounds: int) -> Subject:
    times = Interval(value=seconds, low=seconds * 0.9, high=seconds * 1.1, n=rounds)
    counts = {"target_forwards": 200 * seconds, "prefill_forwards": 1.0}
    return Subject(label=label, seconds_per_image=times, load_seconds=1.0, first_seconds=2.0, counts=counts)


def _config(root: Path, study: str, count: int, recipe: Recipe) -> dict[str, Any]:
    config = {
        "study": {
            "name": study,
            "title": "Skipping verification on the tiny model",
            "baseline": "ar",
            "cells": [list(cell) for cell in CELLS],
            **recipe.study,
        },
        "model": {
            "name": "tiny",
            "condition": "label",
            "dim": 256,
            "layers": 4,
            "grid": GRID,
            "vocab": 1024,
        },
        "decoder": recipe.decoder,
        "sampling": {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "guidance_scale": 3.0, "guidance_interval": -1},
        "prompts": {"kind": "classes", "classes": [], "file": None},
        "metrics": {"name": "tiny", "version": "v1", "reference": {"kind": "shapes", "count": 2048}},
        "logger": {"name": "none", "project": "vvsbench", "mode": "online"},
        "count": count,
        "batch_size": 16,
        "shard_size": 64,
        "seed": 0,
        "dtype": "fp32",
        "device": "cpu",
        "output_root": str(root),
    }
    return config | recipe.changes


def _write_cell(root: Path, study: str, count: int, number: int, recipe: Recipe) -> Path:
    config = _config(root, study, count, recipe)
    key = files.digest(repr((recipe, count)).encode())[:12]
    folder = root / "cells" / study / f"{recipe.decoder['name']}-{key}"
    rng = np.random.default_rng(number + 1)
    row = _latent_row if recipe.cost else _trace_row
    rows = [row(recipe, image, rng) for image in range(count)]
    tokens = _tokens(recipe, count)
    images = np.stack([_image(image, tokens[image]) for image in range(count)])
    digests, times = [], []
    for where in shards.ranges(count, 64):
        chosen = slice(where.first, where.end)
        batches = [
            _time(recipe, batch, rng)
            for batch in (range(first, min(first + 16, where.end)) for first in range(where.first, where.end, 16))
        ]
        shard = shards.Shard(where.first, images[chosen], tokens[chosen], rows[chosen])
        digests.append(shards.write(folder, where, shard, batches))
        times += batches
    trace, repeats = tables.trace_frame(rows), tables.repeats_frame(times)
    for name, table in ((tables.TRACE, trace), (tables.REPEATS, repeats)):
        files.write(folder / name, tables.to_parquet(table))
    record = CellRecord(
        status=recipe.status,  # type: ignore[arg-type]
        error=None if recipe.status in ("ok", "started") else "stopped by the user",
        study=study,
        label=recipe.label,
        key=key,
        config=config,
        provenance=_provenance(recipe, config),
        count=count,
        done=count,
        guarantee=recipe.guarantee,  # type: ignore[arg-type]
        image_digest=files.digest("\n".join(digests).encode()),
        summaries=tables.summaries(trace, repeats),
        timing={"load_seconds": 0.8, "first_image_seconds": 2.1, "total_seconds": recipe.seconds * count + 3},
        started=_moment(number, 0),
        finished=_moment(number, 40),
    )
    store.write_record(folder, record)
    files.write(folder / store.QUALITY / "tiny.json", _quality(recipe, record).model_dump_json(indent=2).encode())
    return folder


def _moment(number: int, second: int) -> str:
    """A time of day for every cell, in the order in which they are written."""
    return f"2026-01-01T{10 + number // 60:02d}:{number % 60:02d}:{second:02d}.000+00:00"


def _provenance(recipe: Recipe, config: dict[str, Any]) -> Provenance:
    return Provenance(
        code_digest="0" * 64 if recipe.stale else identity.code_digest(config),
        weights={f"absent-{name}.safetensors": files.digest(name.encode()) for name in ("target", "tokenizer")},
        git=Git(commit="0123456789abcdef0123456789abcdef01234567", dirty=False, branch="main"),
        versions={"python": "3.11.0", "torch": "2.15.0", "numpy": "2.4.6"},
        hardware=recipe.hardware,
        host="Linux-invented-x86_64",
        command="vvsbench run study=demo",
    )


def _trace_row(recipe: Recipe, image: int, rng: np.random.Generator) -> dict[str, Any]:
    """Walk through one image: steps that verify accept a geometric number of drafts, every interval-th step skips."""
    caption = f"a {COLOURS[image % 8]} {SHAPES[image // 8 % 4]}"
    origin, accepted, skipped, steps = [0], [], [], 0
    while len(origin) < TOKENS:
        left = TOKENS - len(origin)
        if recipe.interval and len(origin) > 5 and steps % recipe.interval == 1:
            taken = min(int(rng.integers(1, 4)), left)
            skipped.append(taken)
            origin += [2] * taken
        else:
            # drafts do worse in the middle of the image, where the object is
            row, column = divmod(len(origin), GRID)
            centre = np.exp(-((row - 3.5) ** 2 + (column - 3.5) ** 2) / 6)
            taken = 0
            while taken < min(DEPTH, left - 1) and rng.random() < recipe.accept - 0.18 * centre * (recipe.accept > 0):
                taken += 1
            accepted.append(taken)
            origin += [1] * taken + [0]
        steps += 1
    drafts = 0 if recipe.decoder["name"] == "ar" else steps
    return {
        "image": image,
        "prompt": caption,
        "target_forwards": len(accepted),
        "prefill_forwards": 1,
        "draft_forwards": drafts * DEPTH,
        "target_positions": len(accepted) * (27 if drafts else 1),
        "draft_positions": drafts * 26,
        "verified_steps": len(accepted),
        "skipped_steps": len(skipped),
        "step_compression": TOKENS / (len(accepted) + 1),
        "accepted": accepted,
        "skipped": skipped,
        "origin": origin[:TOKENS],
    }


def _latent_row(recipe: Recipe, image: int, rng: np.random.Generator) -> dict[str, Any]:
    """Rounds of four drafts, each kept by chance; the plain decoder drafts none."""
    decoder = recipe.decoder
    steps, heads = decoder.get("ar_steps", TOKENS // 4), decoder.get("head_steps", 25)
    row: dict[str, Any] = {
        "image": image,
        "prompt": f"a {COLOURS[image % 8]} {SHAPES[image // 8 % 4]}",
        "target_forwards": steps,
        "prefill_forwards": 0,
        "draft_forwards": 0,
        "target_positions": steps * TOKENS,
        "draft_positions": 0,
        "verified_steps": 0,
        "skipped_steps": 0,
        "step_compression": TOKENS / steps,
        "accepted": [],
        "skipped": [],
        "agreed": [],
        "rolled_back": 0,
        "origin": [0] * TOKENS,
        "target_head_evaluations": TOKENS * heads,
        "draft_head_evaluations": 0,
        "cost": recipe.cost,
        "drafted": 0,
        "kept": math.nan,
        "kept_relaxed": math.nan,
        "distance": math.nan,
        "fallback": 0,
    }
    if decoder["name"] == "masked":
        return row
    kept = rng.random((TOKENS // 4, 4)) < recipe.accept
    return row | {
        "draft_forwards": TOKENS,
        "draft_positions": TOKENS * TOKENS,
        "draft_head_evaluations": TOKENS * heads,
        "verified_steps": len(kept),
        "accepted": kept.sum(axis=1).tolist(),
        "origin": kept.ravel().astype(int).tolist(),
        "rolled_back": 0 if decoder["mode"] == "released" else int((~kept.all(axis=1)).sum()),
        "cost": recipe.cost + float(rng.normal(0, 0.01)),
        "drafted": TOKENS,
        "kept": float(kept.mean()) / 10,
        "kept_relaxed": float(kept.mean()),
        "distance": float(rng.normal(0.8, 0.05)),
        "fallback": int(rng.random() < 0.1),
    }


def _tokens(recipe: Recipe, count: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    if recipe.cost:
        tokens = rng.normal(size=(count, TOKENS, CHANNELS))
        apart = np.random.default_rng(int(recipe.cost)).normal(size=tokens.shape)
        return (tokens + bool(recipe.harm) * 0.5 * apart).astype(np.float32)
    tokens = rng.integers(0, 1024, size=(count, TOKENS), dtype=np.int32)
    flips = recipe.flips if recipe.flips is not None else 0 if recipe.guarantee == "exact" else count
    changed = np.random.default_rng(recipe.interval).random(tokens.shape) < 0.6
    changed[:, :6] = False
    changed[flips:] = False
    return np.where(changed, (tokens + 1) % 1024, tokens).astype(np.int32)


def _image(image: int, tokens: np.ndarray) -> np.ndarray:
    """A flat shape on noise; the tokens decide texture and place, so that equal tokens make equal images."""
    rng = np.random.default_rng(int(np.abs(tokens).sum() * (1 if tokens.ndim == 1 else 1000)))
    y, x = np.mgrid[0:SIDE, 0:SIDE].astype(float)
    centre = SIDE / 2 + rng.uniform(-4, 4, size=2)
    radius = SIDE * rng.uniform(0.24, 0.36)
    dx, dy = np.abs(x - centre[0]), np.abs(y - centre[1])
    distance = np.hypot(dx, dy)
    inside = {
        "circle": distance < radius,
        "square": np.maximum(dx, dy) < radius * 0.9,
        "ring": (distance < radius) & (distance > radius * 0.55),
        "cross": (np.minimum(dx, dy) < radius * 0.33) & (np.maximum(dx, dy) < radius),
    }[SHAPES[image // 8 % 4]]
    ground = 120 + 40 * np.sin(x / rng.uniform(3, 9) + rng.uniform(0, 6)) + rng.normal(0, 6, size=x.shape)
    pixels = np.repeat(ground[None], 3, axis=0) * np.array([0.8, 0.85, 0.9])[:, None, None]
    pixels[:, inside] = np.array(RGB[image % 8])[:, None] + rng.normal(0, 8, size=(3, int(inside.sum())))
    return np.clip(pixels, 0, 255).astype(np.uint8)


def _time(recipe: Recipe, batch: range, rng: np.random.Generator) -> dict[str, Any]:
    seconds = recipe.seconds * len(batch) * float(rng.lognormal(0, 0.06))
    return {
        "repeat": 0,
        "first": batch.start,
        "images": len(batch),
        "seconds": seconds,
        "decode_seconds": 0.02 * len(batch),
        "warm": True,
    }


def _quality(recipe: Recipe, record: CellRecord) -> QualityRecord:
    harm = recipe.harm / 10

    def value(name: str, best: float, slope: float, half: float, higher: bool) -> MetricValue:
        middle = best + slope * harm
        return MetricValue(
            name=name,
            value=middle,
            low=middle - half,
            high=middle + half,
            n=record.count,
            higher_is_better=higher,
            interval="invented for a test",
            **_kept(recipe, record.count, name, middle, half),
        )

    return QualityRecord(
        protocol="tiny",
        version="v1",
        key=files.digest(record.image_digest.encode())[:12],
        image_digest=record.image_digest,
        reference_digest=files.digest(b"reference"),
        reference_count=2048,
        groups=packed(intervals.membership(_dealt(record.count), record.count), "int16") if recipe.keeps else "",
        values=[
            value("fid", 18.6, 10.0, 1.3, False),
            value("is", 41.2, -9.0, 1.1, True),
            value("kid", 0.0062, 0.009, 0.0013, False),
            value("precision", 0.71, -0.16, 0.055, True),
            value("recall", 0.64, -0.05, 0.05, True),
            value("clip", 28.4, -1.3, 0.35, True),
            value("accuracy", 0.902, -0.21, 0.037, True),
        ],
        seconds=3.2,
        versions={"torch": "2.15.0"},
    )


def _dealt(count: int) -> list[np.ndarray]:
    return intervals.partitions(np.zeros(count, dtype=np.int64), 8)


def _kept(recipe: Recipe, count: int, name: str, middle: float, half: float) -> dict[str, Any]:
    """What pairs are made from: luck that all decoders share, and luck of its own where a decoder's images differ."""
    if not recipe.keeps:
        return {}
    shared = np.random.default_rng(len(name))
    own = np.random.default_rng([len(name), recipe.interval, *([int(recipe.cost)] if recipe.cost else [])])
    differs = bool(recipe.flips if recipe.flips is not None else recipe.guarantee != "exact")
    if name in ("precision", "accuracy"):
        return {"each": packed(shared.permutation(count) < round(middle * count), "float32")}
    luck = 3 * half * shared.normal(size=count) + differs * 1.4 * half * own.normal(size=count)
    luck = (luck - luck.mean()) * np.sqrt(count) / 2
    if name == "clip":
        return {"each": packed(middle + luck, "float32")}
    found = intervals.jackknife(lambda chosen: middle + luck[chosen].mean(), np.zeros(count, dtype=np.int64), 8)
    return {"jackknife": Jackknife(replicates=found.values.tolist(), share=found.share)}


def frame(study: str, root: Path) -> StudyFrame:
    """A study under the protocol that its report shows first."""
    return frames(study, root)[0]


def score_again(folder: Path) -> None:
    """Score a cell under a second protocol, whose numbers are twice as large."""
    found = json.loads((folder / "quality" / "tiny.json").read_text())
    values = [value | {"value": 2 * value["value"]} for value in found["values"]]
    other = found | {"protocol": "vgg-pr", "version": "v3", "values": values}
    (folder / "quality" / "vgg-pr.json").write_text(json.dumps(other))
