"""What `make bench` measures, on any machine: the baseline against the loop of published code, and where time goes.

LlamaGen-B's weights are random and its images are timed in windows of steps, the reference's in the same ones, so that
the whole takes minutes on two cores. The tiny zoo's images are drawn whole.
"""

from __future__ import annotations

import functools
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vvsbench import decoding
from vvsbench.axes import EngineKind
from vvsbench.composition import composed
from vvsbench.config import RunConfig
from vvsbench.decoding.autoregressive import Autoregressive
from vvsbench.decoding.base import Decoder
from vvsbench.measure.bench import loops, random_models
from vvsbench.measure.bench.ceiling import ceiling
from vvsbench.measure.bench.loops import Size
from vvsbench.measure.bench.report import Row, Verdict, columns
from vvsbench.measure.bench.scripted import Scripted, rate_for
from vvsbench.measure.bench.sections import Found, Plan, Task
from vvsbench.measure.bench.timing import Taken, compared, generated, ratio
from vvsbench.measure.kernels import per_step
from vvsbench.measure.memory import process_peak
from vvsbench.measure.statistics import median, median_ratio
from vvsbench.models.guidance import Guidance
from vvsbench.models.llamagen import LlamaGen
from vvsbench.models.loading import transformer_config
from vvsbench.models.settings import LlamaGenConfig
from vvsbench.runs import drawing, shards
from vvsbench.sampling import Sampling

DTYPE = torch.float32
PAPER = 2.24
"""Tokens per target forward at which rounds are scripted (VVS, arXiv 2511.13587)."""
ZOO = {
    "ar": ["decoder=ar"],
    "sd": ["decoder=sd"],
    "sd top-k": ["decoder=sd", "structure@decoder.structure=dynamic", "decoder.structure.nodes=27"],
    "vvs i=2": ["decoder=vvs", "decoder.schedule.interval=2"],
}


@dataclass(frozen=True)
class Settings:
    """How much `make bench` does.

    Attributes:
        rounds: interleaved rounds of each comparison, at most.
        large: overrides of the LlamaGen-B sizes, by name.
        warm_up: unseen rounds before them.
        parts: of an image, each with a window in its middle.
        steps: of a window.
        batches: of the zoo's decoders.
        counts: images of the sets whose cost is compared, ascending.
        few: the count that the last one is compared with: a whole file of images, many batches.
    """

    rounds: int = 5
    warm_up: int = 1
    large: tuple[tuple[str, tuple[str, ...]], ...] = (
        ("LlamaGen-B, 24 x 24", ("model=llamagen_b_384",)),
        ("LlamaGen-B, 32 x 32", ("model=llamagen_b_384", "model.grid=32")),
    )
    parts: int = 4
    steps: int = 12
    batches: tuple[int, ...] = (1, 16)
    counts: tuple[int, ...] = (1, 16, 64, 256)
    few: int = 64


def plans(settings: Settings) -> list[Plan]:
    """The sections, in order; compiling takes longest and may run out of time, so it comes last."""
    windows = f"{settings.parts} windows of {settings.steps} steps spread over an image, in all loops alike"
    against, eager, compiled = "against the reference loop", (EngineKind.eager,), (EngineKind.compiled,)
    first, *_ = settings.large
    return [
        Plan("ceiling", "what this machine can do at best", ceilings, 1, group="large"),
        *(
            Plan(f"baseline {name}", f"ar {against}: {name}", baseline_large, 4, windows, (overrides, eager), "large")
            for name, overrides in settings.large
        ),
        Plan(
            "host",
            "share of a step outside the networks",
            host,
            4,
            "eager; timing the networks is part of it",
            (),
            "large",
        ),
        Plan("baseline tiny", f"ar {against}: tiny zoo, whole images", baseline_tiny, 3, "", (eager,), "tiny"),
        Plan("kernels", "operations per step on the tiny zoo: the same on any machine", kernels, 1, group="tiny"),
        Plan("zoo", "decoders on the tiny zoo", zoo, 4, "eager; timing the networks is part of it", (), "tiny"),
        Plan(
            "flat", "cost per image as images grow in number: ar on the tiny zoo, as in a run", flat, 4, "", (), "flat"
        ),
        Plan("compiled tiny", f"compiled ar {against}: tiny zoo", baseline_tiny, 4, "", (compiled,), "compiled tiny"),
        Plan(
            "compiled large",
            f"compiled ar {against}: {first[0]}",
            baseline_large,
            6,
            windows,
            (first[1], compiled),
            "compiled large",
        ),
    ]


@functools.cache
def large(overrides: tuple[str, ...], steps: int, parts: int) -> Size:
    """A LlamaGen of random weights with its preset's sampling."""
    cfg = composed(list(overrides))
    assert isinstance(cfg.model, LlamaGenConfig)
    guidance = Guidance(cfg.sampling.guidance_scale, cfg.sampling.guidance_interval)
    config = transformer_config(cfg.model)
    models = random_models.llamagen(config, guidance, cfg.model.name, torch.device("cpu"), DTYPE)
    return Size.windows(cfg.model.name, models, Sampling(top_k=cfg.sampling.top_k), steps, parts)


def tiny(*overrides: str) -> Decoder:
    """A decoder of the tiny zoo."""
    return decoding.build(composed(["model=tiny", *overrides]), torch.device("cpu"), DTYPE)


def ceilings(task: Task) -> Found:
    """Rates of the machine, and what they allow an ar step."""
    settings: Settings = task.settings
    top = ceiling(torch.device("cpu"), DTYPE)
    yield {"what": "memory, copied", "value": top.copy / 1e9, "unit": "GB/s"}
    yield {"what": "memory, read", "value": top.read / 1e9, "unit": "GB/s"}
    yield {"what": "matrix product, fp32", "value": top.matrix / 1e9, "unit": "GFLOP/s"}
    for name, overrides in settings.large:
        size = large(overrides, settings.steps, settings.parts)
        spec = size.whole
        weights, cache = spec.weight_bytes / 1e6, size.context * spec.cache_bytes_per_token / 1e6
        yield {
            "what": f"{name}: floor of an ar step, {weights:.0f} MB of weights and {cache:.0f} MB of cache",
            "value": 1e3 * top.floor(spec, size.context),
            "unit": "ms",
        }


def baseline_tiny(task: Task, kinds: tuple[EngineKind, ...]) -> Found:
    """The zoo's target, drawn whole by every loop."""
    for batch in task.settings.batches:
        decoders = {kind: tiny("decoder=ar", f"engine={kind.value}") for kind in kinds}
        first = next(iter(decoders.values()))
        assert isinstance(first, Autoregressive)
        assert isinstance(first.target, LlamaGen)
        size = Size("tiny", first.target, None, first.sampling, (0,), first.target.spec.tokens)
        yield from _against_reference(task, size, decoders, batch)


def baseline_large(task: Task, overrides: tuple[str, ...], kinds: tuple[EngineKind, ...]) -> Found:
    """LlamaGen-B, one image at a time."""
    size = large(overrides, task.settings.steps, task.settings.parts)
    yield from _against_reference(task, size, {kind: size.ar(kind) for kind in kinds}, 1)


def _against_reference(task: Task, size: Size, decoders: dict[EngineKind, Decoder], batch: int) -> Found:
    """The reference loop and `ar` under each engine, in turn."""
    work: dict[str, Callable[[], Taken]] = {"reference": size.reference(batch)}
    for kind, decoder in decoders.items():
        work[f"ar, {kind.value}"] = functools.partial(size.taken, decoder, batch)
    taken = compared(work, task.settings.rounds, lambda: task.left, task.settings.warm_up)
    floor = ceiling(size.target.device, DTYPE).floor(size.whole, size.context, batch)
    for name, runs in taken.items():
        own, faster = median([one.per_step for one in runs]), ratio(taken["reference"], runs)
        row: Row = {"batch": batch, "loop": name, "ms per step": 1e3 * own.value, "times its floor": own.value / floor}
        yield row | columns("speed-up", faster)
        if name != "reference":
            yield Verdict.of("ar_over_reference_cpu", f"{size.name}, batch {batch}, {name}", faster)


def host(task: Task) -> Found:
    """What the loops cost on top of the networks that they call, at the first of the large sizes."""
    settings: Settings = task.settings
    rate = rate_for(PAPER, 5)
    name, overrides = settings.large[0]
    size = large(overrides, settings.steps, settings.parts)
    decoders = {
        "ar": size.ar(EngineKind.eager),
        "sd": size.speculative(EngineKind.eager, loops.fitted(), Scripted(rate)),
        "vvs i=2": size.speculative(EngineKind.eager, loops.fitted(), Scripted(rate), loops.every(2)),
    }
    work = {each: functools.partial(size.taken, decoder, inside=True) for each, decoder in decoders.items()}
    for decoder, taken in compared(work, settings.rounds, lambda: task.left, settings.warm_up).items():
        share = median([one.outside for one in taken])
        steps = taken[0].verified + taken[0].skipped
        yield {
            "model": name,
            "decoder": decoder,
            "share outside": share.value,
            "ms per step": 1e3 * statistics.median(one.seconds for one in taken) / steps,
            "rounds": share.n,
        }
        if decoder == "ar":
            yield Verdict.of("host_share", name, share)


def zoo(task: Task) -> Found:
    """Images per second of the zoo's decoders, their speed-up over `ar`, and where their time goes."""
    decoders = {name: tiny(*cell) for name, cell in ZOO.items()}
    for batch in task.settings.batches:
        work = {name: functools.partial(generated, decoder, batch, inside=True) for name, decoder in decoders.items()}
        taken = compared(work, task.settings.rounds, lambda: task.left, task.settings.warm_up)
        for name, runs in taken.items():
            row: Row = {
                "decoder": name,
                "batch": batch,
                "images/s": batch / statistics.median(one.whole for one in runs),
                "share outside": statistics.median(one.outside for one in runs),
                "tokens per forward": statistics.median(one.compression for one in runs),
            }
            yield row | columns("over ar", ratio(taken["ar"], runs))


def kernels(task: Task) -> Found:
    """Operations that a step dispatches, by decoder."""
    for name, cell in ZOO.items():
        yield {"decoder": name, "operations per step": per_step(tiny(*cell))}


def flat(task: Task) -> Found:
    """Image sets of growing size, in this order because a process's peak memory only ever grows."""
    settings: Settings = task.settings
    session = drawing.open_session(_set(1))
    seconds: dict[int, list[float]] = {count: [] for count in settings.counts}
    peaks: dict[int, float] = {}
    for _ in range(settings.rounds):
        if task.left < sum(count * taken[0] for count, taken in seconds.items() if taken):
            break
        for count, taken in seconds.items():
            taken.append(_drawn(session, count))
            peaks.setdefault(count, process_peak())
    for count, taken in seconds.items():
        row: Row = {"images": count, "ms per image": 1e3 * statistics.median(taken), "rounds": len(taken)}
        yield row | {"peak memory, MB": peaks[count] / 1e6}
    few, most = settings.few, settings.counts[-1]
    yield Verdict.of("time_per_image", f"{most} images over {few}", median_ratio(seconds[most], seconds[few]))
    grown = peaks[most] / peaks[few]
    yield Verdict("memory", f"{most} images over {few}", grown, grown, grown)


def _set(count: int) -> RunConfig:
    """The settings of so many images."""
    return composed(["model=tiny", "decoder=ar", f"count={count}", "metrics=none", "device=cpu"])


def _drawn(session: drawing.Session, count: int) -> float:
    """Seconds per image of a set, written to disk as a run does; the warm-up is not among them."""
    cfg = _set(count)
    wanted = shards.ranges(cfg.count, cfg.shard_size)
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        drawing.draw(cfg, session, wanted, functools.partial(_written, Path(folder)), lambda images: None)
        return (time.perf_counter() - started - session.first_image_seconds) / count


def _written(cell: Path, where: shards.ShardRange, shard: shards.Shard, times: list[dict[str, Any]]) -> None:
    shards.write(cell, where, shard, times)
