"""The loops that the benches compare, each as seconds per step: the reference, `ar`, and speculative rounds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from vvsbench.axes import Candidates, EngineKind
from vvsbench.decoding import engine as engines
from vvsbench.decoding.acceptance import AcceptanceRule
from vvsbench.decoding.autoregressive import Autoregressive
from vvsbench.decoding.base import Decoder
from vvsbench.decoding.engine import Engine
from vvsbench.decoding.schedule import Always, Schedule, Uniform
from vvsbench.decoding.settings import SkipConfig
from vvsbench.decoding.speculative import Grid, Speculative
from vvsbench.drafting.structures import ChainConfig, DynamicConfig, FittedConfig, StructureConfig
from vvsbench.measure.bench.random_models import Late, LateEagle
from vvsbench.measure.bench.reference import Reference
from vvsbench.measure.bench.timing import Taken, generated
from vvsbench.measure.clock import Stopwatch
from vvsbench.models.llamagen import LlamaGen
from vvsbench.models.protocols import ModelSpec
from vvsbench.sampling import Sampling

HIT_RATES = (0.45, 0.14, 0.08, 0.06, 0.05, 0.04, 0.03, 0.02, 0.02, 0.02)
"""Shape the fitted tree; what is accepted of it is scripted."""


@dataclass(frozen=True)
class Size:
    """A target with an EAGLE head, at one size.

    Attributes:
        places: image tokens before each window that is timed.
        tokens: image tokens of a window.
    """

    name: str
    target: LlamaGen
    source: LateEagle | None
    sampling: Sampling
    places: tuple[int, ...]
    tokens: int

    @classmethod
    def windows(cls, name: str, models: tuple[Late, LateEagle], sampling: Sampling, tokens: int, parts: int) -> Size:
        """Models of random weights, timed in windows of so many tokens in the middle of each part of an image."""
        target, source = models
        whole = target.whole.tokens
        tokens = min(tokens, whole // parts)
        places = tuple((2 * part + 1) * whole // (2 * parts) - tokens // 2 for part in range(parts))
        return cls(name, target, source, sampling, places, tokens)

    @property
    def whole(self) -> ModelSpec:
        """What a whole image of the target is."""
        return self.target.whole if isinstance(self.target, Late) else self.target.spec

    @property
    def context(self) -> float:
        """Mean positions before a timed step."""
        return self.target.spec.prefix + sum(self.places) / len(self.places) + self.tokens / 2

    def ar(self, kind: EngineKind) -> Decoder:
        """Vanilla decoding under an engine."""
        engine = engines.make(kind, self.target.device)
        return Autoregressive(self._run_by(engine), self.sampling, engine)

    def speculative(
        self,
        kind: EngineKind,
        structure: StructureConfig,
        rule: AcceptanceRule,
        schedule: Schedule | None = None,
        in_a_row: int = 1,
    ) -> Decoder:
        """Speculative decoding under an engine; without a schedule every step is verified."""
        engine = engines.make(kind, self.target.device)
        target = self._run_by(engine)
        assert isinstance(target, Late)
        assert self.source is not None
        grid = Grid(
            structure=structure.build(HIT_RATES, target.device),
            candidates=structure.candidates,
            rule=rule,
            schedule=schedule or Always(name="always"),
            skip=SkipConfig(in_a_row=in_a_row),
        )
        return Speculative(target, LateEagle(self.source.head, target), grid, self.sampling, engine)

    def _run_by(self, engine: Engine) -> LlamaGen:
        if not isinstance(self.target, Late):
            return self.target
        twin = self.target.run_by(engine)
        twin.window(self.tokens)
        return twin

    def taken(self, decoder: Decoder, rows: int = 1, images: int = 0, *, inside: bool = False) -> Taken:
        """What all windows took together (see `generated`)."""
        parts = []
        for place in self.places:
            if isinstance(decoder.target, Late):
                decoder.target.window(self.tokens, place)
            parts.append(generated(decoder, rows, images, inside=inside))
        return Taken.sum(parts)

    def reference(self, batch: int = 1) -> Callable[[], Taken]:
        """The reference loop: each call runs it over all windows."""
        loop = Reference(self.target, self.sampling)
        steps = self.tokens - 1

        def run() -> Taken:
            conditions, parts = self.target.conditions([image % 10 for image in range(batch)]), []
            for place in self.places:
                logits = loop.start(conditions)
                with Stopwatch(self.target.device) as watch:
                    loop.decode(logits, place, self.tokens)
                parts.append(Taken(watch.seconds, watch.seconds, steps, steps, 0, 1.0))
            return Taken.sum(parts)

        return run


def chain() -> StructureConfig:
    """One candidate per level, five levels."""
    return ChainConfig()


def fitted(nodes: int = 27) -> StructureConfig:
    """The static tree that `decoder=sd` has."""
    return FittedConfig(nodes=nodes)


def dynamic(depth: int, nodes: int = 59) -> StructureConfig:
    """EAGLE-2's tree; the published drafters' "depth 4" is five levels."""
    return DynamicConfig(depth=depth, nodes=nodes, candidates=Candidates.top_k)


def every(interval: int) -> Schedule:
    """One step in so many is skipped."""
    return Uniform(interval=interval)
