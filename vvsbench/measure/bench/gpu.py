"""What `make bench-gpu` measures on one large GPU: models of the real sizes in bfloat16, their weights random.

What a step costs does not depend on what the weights say, and how many tokens a round accepts is scripted. So the gain
of a drafter of any quality is known before one is trained.
"""

from __future__ import annotations

import functools
import statistics
from collections.abc import Callable
from dataclasses import dataclass

import torch

from vvsbench.axes import EngineKind
from vvsbench.composition import composed
from vvsbench.decoding import engine as engines
from vvsbench.decoding.base import Decoder
from vvsbench.decoding.masked import Masked
from vvsbench.decoding.phases import Phase
from vvsbench.drafting.structures import StructureConfig
from vvsbench.measure.bench import loops, random_models
from vvsbench.measure.bench.ceiling import ceiling
from vvsbench.measure.bench.loops import Size
from vvsbench.measure.bench.report import Row, Verdict, columns
from vvsbench.measure.bench.scripted import Bursts, Scripted, rate_for, tokens_per_round
from vvsbench.measure.bench.sections import Found, OutOfTime, Plan, Task
from vvsbench.measure.bench.timing import WARM_UP, Taken, compared, ratio
from vvsbench.measure.clock import Stopwatch
from vvsbench.measure.phases import PhaseClock
from vvsbench.measure.statistics import Interval, median
from vvsbench.models.guidance import Guidance
from vvsbench.models.latents import LatentGuidance
from vvsbench.models.loading import transformer_config
from vvsbench.models.mar import MAR
from vvsbench.models.protocols import Block
from vvsbench.models.settings import LlamaGenConfig, MARConfig
from vvsbench.sampling import Sampling

XL, B, MAR_B, MAR_H = "LlamaGen-XL", "LlamaGen-B", "MAR-B", "MAR-H"
_NANO = ("model.dim=32", "model.layers=1", "model.heads=2", "model.vocab=64", "model.grid=8")
_NANO_MAR = (
    *(f"model.{part}_{size}" for part in ("encoder", "decoder") for size in ("dim=32", "depth=1", "heads=2")),
    *("model.grid=4", "model.buffer=4", "model.head_depth=1", "model.head_width=32", "model.head_steps=4"),
)
SIZES: dict[str, dict[str, tuple[str, ...]]] = {
    "real": {
        XL: ("model=llamagen_t2i_xl_512",),
        B: ("model=llamagen_b_384",),
        MAR_B: ("model=mar_base",),
        MAR_H: ("model=mar_huge",),
    },
    "nano": {
        XL: ("model=llamagen_t2i_xl_512", *_NANO, "model.caption_tokens=6", "model.caption_dim=8", "sampling.top_k=16"),
        B: ("model=llamagen_b_384", *_NANO),
        MAR_B: ("model=mar_base", *_NANO_MAR),
        MAR_H: ("model=mar_huge", *_NANO_MAR),
    },
}
PAPER = (2.24, 2.86)
"""Tokens per target forward of EAGLE-2 and of VVS (arXiv 2511.13587), at which the target for seconds is set."""
INTERVAL = 3
AR_STEPS = 16
"""Of MAR: a quarter of the usual number, each with four times the tokens, whose costs are those of reading weights."""
DEEP = "dynamic tree of 59, 5 levels"


@dataclass(frozen=True)
class Settings:
    """How much `make bench-gpu` does.

    Attributes:
        sizes: key of `SIZES`.
        device, dtype: of the models.
        engines: that `ar` runs under; the last is that of everything else.
        rounds: interleaved rounds of a comparison, at most.
        warm_up: unseen rounds before them.
        parts: of an image, each with a window in its middle.
        steps: of a window.
        reductions: tokens per target forward of the curves.
        widths: tokens of the blocks whose forwards are compared.
        calls: of a forward that is timed by itself.
        batch: the larger batch size.
    """

    sizes: str
    device: str
    dtype: str
    engines: tuple[EngineKind, ...]
    rounds: int = 5
    warm_up: int = WARM_UP
    parts: int = 3
    steps: int = 24
    reductions: tuple[float, ...] = (*PAPER, 1.5, 4.5)
    widths: tuple[int, ...] = (1, 2, 4, 8, 16, 27, 32, 59, 64, 128)
    calls: int = 20
    batch: int = 16

    @property
    def best(self) -> EngineKind:
        """The engine that should be the fastest."""
        return self.engines[-1]


def settings(sizes: str, device: str) -> Settings:
    """Those of a size on a device."""
    kinds = (EngineKind.eager, EngineKind.compiled, EngineKind.graphed) if device == "cuda" else (EngineKind.eager,)
    if sizes == "nano":
        small = {"rounds": 1, "warm_up": 0, "parts": 1, "steps": 8, "calls": 1, "batch": 2}
        return Settings(sizes, device, "float32", kinds, **small, reductions=PAPER, widths=(1, 27))
    return Settings(sizes, device, "bfloat16", kinds)


def plans(settings: Settings) -> list[Plan]:
    """The sections, the most telling first."""
    windows = f"{settings.parts} windows of {settings.steps} steps spread over an image"
    rounds = "acceptance is scripted; an ar step is that of the same rounds"
    found = [
        Plan("ceiling", "what this machine can do at best", ceilings, 2, group=XL),
        Plan("ar XL", f"ar against its floor and the reference loop: {XL}", vanilla, 6, windows, (XL,), XL),
        Plan("rounds XL", f"what a step costs, in ar steps: {XL}", rounds_of, 6, rounds, (XL,), XL),
        Plan("curves XL", f"from tokens per target forward to seconds: {XL}", curves, 5, rounds, (XL,), XL),
        Plan("batch XL", f"images per second at batch {settings.batch} over batch 1: {XL}", batches, 3, "", (XL,), XL),
        Plan("widths XL", f"cost of a forward, in forwards of one token: {XL}", widths, 2, "", (XL,), XL),
        Plan("ar B", f"ar against its floor and the reference loop: {B}", vanilla, 3, windows, (B,), B),
        Plan("rounds B", f"what a step costs, in ar steps: {B}", rounds_of, 3, rounds, (B,), B),
    ]
    found += [
        Plan(name, f"an AR step of {name}, {AR_STEPS} AR steps", masked, 3, "", (name,), name)
        for name in (MAR_B, MAR_H)
    ]
    return found


@functools.cache
def loaded(settings: Settings, name: str) -> Size:
    """A LlamaGen of random weights with its preset's sampling."""
    cfg = composed(list(SIZES[settings.sizes][name]))
    assert isinstance(cfg.model, LlamaGenConfig)
    guidance = Guidance(cfg.sampling.guidance_scale, cfg.sampling.guidance_interval)
    config, device = transformer_config(cfg.model), torch.device(settings.device)
    models = random_models.llamagen(config, guidance, name, device, getattr(torch, settings.dtype))
    return Size.windows(name, models, Sampling(top_k=cfg.sampling.top_k), settings.steps, settings.parts)


def ceilings(task: Task) -> Found:
    """Rates of the device, and what they allow a step of each model."""
    chosen: Settings = task.settings
    top = ceiling(torch.device(chosen.device), getattr(torch, chosen.dtype))
    yield {"what": "memory, copied", "value": top.copy / 1e9, "unit": "GB/s"}
    yield {"what": "memory, read", "value": top.read / 1e9, "unit": "GB/s"}
    yield {"what": f"matrix product, {chosen.dtype}", "value": top.matrix / 1e12, "unit": "TFLOP/s"}
    for name in (XL, B):
        size = loaded(chosen, name)
        weights, cache = size.whole.weight_bytes / 1e6, size.context * size.whole.cache_bytes_per_token / 1e6
        yield {
            "what": f"{name}: floor of an ar step, {weights:.0f} MB of weights and {cache:.0f} MB of cache",
            "value": 1e3 * top.floor(size.whole, size.context),
            "unit": "ms",
        }


def vanilla(task: Task, name: str) -> Found:
    """`ar` under every engine and the reference loop, at both batch sizes."""
    chosen: Settings = task.settings
    size = loaded(chosen, name)
    top = ceiling(size.target.device, size.target.dtype)
    for batch in (1, chosen.batch):
        work: dict[str, Callable[[], Taken]] = {"reference": size.reference(batch)}
        for kind in chosen.engines:
            work[f"ar, {kind.value}"] = functools.partial(size.taken, size.ar(kind), batch)
        once = {each for each in work if not each.endswith(EngineKind.graphed.value)}
        taken = compared(work, chosen.rounds, _part(task, 2 if batch == 1 else 1), chosen.warm_up, once)
        floor = top.floor(size.whole, size.context, batch)
        for loop, runs in taken.items():
            own, faster = median([one.per_step / floor for one in runs]), ratio(taken["reference"], runs)
            row: Row = {"batch": batch, "loop": loop, "ms per step": 1e3 * own.value * floor}
            yield row | {"times its floor": own.value} | columns("speed-up", faster)
        if batch == 1 and name == XL:
            yield Verdict.of("ar_over_floor", f"ar, {chosen.best.value}", median([o.per_step / floor for o in runs]))
            yield Verdict.of("ar_over_reference_gpu", f"ar, {chosen.best.value}", faster)


def structures() -> dict[str, StructureConfig]:
    """What is drafted: name to structure."""
    return {
        "chain of 5": loops.chain(),
        "fitted tree of 27": loops.fitted(),
        "dynamic tree of 59, 4 levels": loops.dynamic(4),
        DEEP: loops.dynamic(5),
    }


def rounds_of(task: Task, name: str) -> Found:
    """A verified round of every structure, and a skipped step."""
    chosen: Settings = task.settings
    size, kind = loaded(chosen, name), chosen.best
    rule = Scripted(rate_for(PAPER[0], 5))
    decoders: dict[str, Decoder] = {"ar": size.ar(kind)}
    decoders |= {each: size.speculative(kind, structure, rule) for each, structure in structures().items()}
    for skips in (1, 2):
        decoders[f"{skips} skips"] = size.speculative(kind, loops.dynamic(5), rule, Bursts(skipped=skips), in_a_row=2)
    work = {each: functools.partial(size.taken, decoder) for each, decoder in decoders.items()}
    taken = compared(work, chosen.rounds, lambda: task.left, chosen.warm_up)
    base = [one.per_step for one in taken["ar"]]
    for each, structure in structures().items():
        cost = median([run.seconds / run.verified / step for run, step in zip(taken[each], base, strict=True)])
        row: Row = {"step": f"verified, {each}", "ms": 1e3 * cost.value * statistics.median(base)}
        yield row | {"its floor": _round_floor(size, structure)} | columns("ar steps", cost)
        if name == XL and each != "chain of 5":
            yield Verdict.of("round_dynamic" if "dynamic" in each else "round_static", each, cost)
    skip = median(
        [
            (two.seconds / two.verified - one.seconds / one.verified) / step
            for one, two, step in zip(taken["1 skips"], taken["2 skips"], base, strict=True)
        ]
    )
    row = {"step": f"skipped, {DEEP}: what one more costs", "ms": 1e3 * skip.value * statistics.median(base)}
    yield row | columns("ar steps", skip)
    if name == XL:
        yield Verdict.of("skipped_step", DEEP, skip)


def _round_floor(size: Size, structure: StructureConfig) -> float:
    """The least that a verified round costs in ar steps: every level reads the head and the output layer again."""
    top, head = ceiling(size.target.device, size.target.dtype), size.source
    assert head is not None
    tree = structure.build(loops.HIT_RATES, size.target.device)
    read = [tensor for name, tensor in head.head.named_parameters() if "tok_embeddings" not in name]
    level = sum(tensor.nbytes for tensor in [*read, size.target.transformer.output.weight]) / top.bandwidth
    verified = top.floor(size.whole, size.context, positions=tree.nodes)
    return (verified + tree.levels * level) / top.floor(size.whole, size.context)


def curves(task: Task, name: str) -> Found:
    """`sd` and `vvs` at set numbers of tokens per target forward."""
    chosen: Settings = task.settings
    size, kind, tree = loaded(chosen, name), chosen.best, loops.dynamic(5)
    vanilla = size.ar(kind)
    for number, wanted in enumerate(chosen.reductions):
        if number and task.left <= 0:
            raise OutOfTime(f"no time was left for {wanted:g} tokens per forward and more")
        decoders = {
            "ar": vanilla,
            "sd": size.speculative(kind, tree, Scripted(rate_for(wanted, 5))),
            f"vvs i={INTERVAL}": size.speculative(kind, tree, _beside_skips(size, wanted), loops.every(INTERVAL)),
        }
        work = {each: functools.partial(size.taken, decoder) for each, decoder in decoders.items()}
        taken = compared(work, chosen.rounds, _part(task, len(chosen.reductions) - number), chosen.warm_up)
        for each in list(decoders)[1:]:
            faster, reduction = ratio(taken["ar"], taken[each]), taken[each][0].reduction
            kept = Interval(faster.value / reduction, faster.low / reduction, faster.high / reduction, faster.n)
            row: Row = {"decoder": each, "tokens per forward": reduction, "share kept": kept.value}
            yield row | columns("over ar", faster)
            if wanted in PAPER and each != "sd":
                yield Verdict.of("kept", f"{each} at {reduction:.2f} tokens per forward", kept)


def _beside_skips(size: Size, wanted: float) -> Scripted:
    """The rule whose verified rounds, together with the skips between them, give so many tokens per target forward."""
    tried = Scripted(rate_for(wanted, 5))
    seen = size.taken(size.speculative(EngineKind.eager, loops.dynamic(5), tried, loops.every(INTERVAL)))
    skips = seen.tokens - tokens_per_round(tried.rate, 5) * seen.verified
    return Scripted(rate_for(max(1.0, wanted - skips / seen.verified), 5))


def batches(task: Task, name: str) -> Found:
    """Images per second of whole queues of images, at batch 1 and the larger one."""
    chosen: Settings = task.settings
    size, kind = loaded(chosen, name), chosen.best
    rule, tree = Scripted(rate_for(PAPER[0], 5)), loops.dynamic(5)
    decoders = {
        "ar": size.ar(kind),
        "sd": size.speculative(kind, tree, rule),
        f"vvs i={INTERVAL}": size.speculative(kind, tree, rule, loops.every(INTERVAL)),
    }
    for number, (each, decoder) in enumerate(decoders.items()):
        work = {str(rows): functools.partial(size.taken, decoder, rows, 2 * rows) for rows in (1, chosen.batch)}
        taken = compared(work, chosen.rounds, _part(task, len(decoders) - number), chosen.warm_up)
        gains = [
            chosen.batch * one.whole / many.whole
            for one, many in zip(taken["1"], taken[str(chosen.batch)], strict=True)
        ]
        gain = median(gains)
        yield {"decoder": each, **columns(f"batch {chosen.batch} over batch 1", gain)}
        yield Verdict.of("batch_ar" if each == "ar" else "batch_speculative", each, gain)


def widths(task: Task, name: str) -> Found:
    """A forward of the target by itself: by the tokens of its block, by batch size, by position."""
    chosen: Settings = task.settings
    size = loaded(chosen, name)
    for batch in sorted({1, min(4, chosen.batch), chosen.batch}):
        base, row = 0.0, Row()
        for width in chosen.widths:
            if task.left <= 0:
                raise OutOfTime(f"no time was left for batch {batch}, T={width} and what follows")
            seconds = _forward(size, chosen, batch, width, size.whole.tokens // 2)
            base = base or seconds
            row |= {f"T={width}": seconds / base}
        yield {"batch": batch, "ms": 1e3 * base, **row}
    whole = size.whole.tokens
    for place in (whole // 16, whole // 4, whole // 2, whole - 2):
        yield {"batch": 1, "ms": 1e3 * _forward(size, chosen, 1, 1, place), "at token": place}


def masked(task: Task, name: str) -> Found:
    """MAR's transformer and the chain of its head, under each engine."""
    chosen: Settings = task.settings
    cfg, device = composed(list(SIZES[chosen.sizes][name])), torch.device(chosen.device)
    assert isinstance(cfg.model, MARConfig)
    network = random_models.mar(cfg.model, device, getattr(torch, chosen.dtype))
    guidance = LatentGuidance(cfg.sampling.guidance_scale, linear=True)
    for kind in (chosen.engines[0], chosen.best) if len(chosen.engines) > 1 else chosen.engines:
        if task.left <= 0:
            raise OutOfTime(f"no time was left for engine={kind.value}")
        target = MAR(network, None, guidance, 1.0, cfg.model.head_steps, 1.0, name, engines.make(kind, device))
        decoder = Masked(target, AR_STEPS, raster=False, last_noise=False, whole=False)
        for batch in (1, chosen.batch):
            yield {"engine": kind.value, "batch": batch, **_phases(decoder, batch, task)}


def _phases(decoder: Decoder, batch: int, task: Task) -> Row:
    """Milliseconds of an AR step and of its phases; the phases are of a pass of their own."""
    chosen: Settings = task.settings
    conditions, watch = decoder.target.conditions(list(range(batch))), Stopwatch(decoder.target.device)
    seconds = []
    for number in range(chosen.warm_up + chosen.rounds):
        with watch:
            decoder.generate(conditions, range(batch), seed=0)
        if number >= chosen.warm_up:
            seconds.append(watch.seconds)
            if task.left <= 0:
                break
    clock = PhaseClock(lambda: None if watch.device.type == "cpu" else torch.cuda.synchronize(watch.device))
    with clock.running():
        decoder.generate(conditions, range(batch), seed=0)
    named = {Phase.verify.value: "ms, transformer", Phase.sampling.value: "ms, head"}
    parts: Row = {
        words: 1e3 * clock.seconds[phase] / AR_STEPS for phase, words in named.items() if phase in clock.seconds
    }
    return {"ms": 1e3 * statistics.median(seconds) / AR_STEPS, **parts}


@torch.inference_mode()
def _forward(size: Size, chosen: Settings, batch: int, width: int, place: int) -> float:
    """Seconds of a forward of a block of so many tokens behind `place` committed ones."""
    engine = engines.make(chosen.best, size.target.device)
    assert isinstance(size.target, random_models.Late)
    target = size.target.run_by(engine)
    target.window(1, place)
    images = range(batch)
    state = target.start(target.conditions([image % 10 for image in images]), images, width)
    if engine.static:
        target.fix(state)
    one = torch.arange(width, device=target.device)
    visible = None if width == 1 else torch.ones(1, width, width, dtype=torch.bool, device=target.device).tril()
    block = Block(one.expand(batch, -1) % size.whole.vocab, one[None], visible)

    def call() -> None:
        engine.run("forward", target.shape(state), lambda: target.forward(state, block)[0][:, :1])

    for _ in range(1 + chosen.warm_up):
        call()
    with Stopwatch(target.device) as watch:
        for _ in range(chosen.calls):
            call()
    return watch.seconds / chosen.calls


def _part(task: Task, parts: int) -> Callable[[], float]:
    """The time of one of so many equal parts of what is left."""
    mine = task.left / parts
    return lambda: mine
