"""Every rule and schedule that does not keep the target's distribution, and how far off it is.

LANTERN's rules are measured where there are neighbours to borrow from, skips where there is room for several: on a
shallow tree and with a drafter that is only fair. It is fed by the target's features, so that stale ones mislead it. At
temperature 0 there is nothing to measure: the target has one outcome, and a decoder draws it or does not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from vvsbench.axes import Candidates, Features, Guarantee, Recheck, Residual, Selector, Truncation
from vvsbench.certify.distance import total_variation
from vvsbench.certify.drawing import sample
from vvsbench.certify.toys import CPU, HIT_RATES, FeatureFed, Toy, source, structure, vanilla
from vvsbench.certify.toys import law as law_of
from vvsbench.decoding.acceptance.settings import (
    AcceptanceConfig,
    CoolSDConfig,
    GSDConfig,
    LanternConfig,
    MatchConfig,
    SequentialConfig,
)
from vvsbench.decoding.schedule import Accepting, Always, Budget, Confident, Dynamic, Rows, Schedule, Uniform
from vvsbench.decoding.settings import SkipConfig
from vvsbench.decoding.speculative import Grid, Speculative
from vvsbench.drafting.structures import FittedConfig
from vvsbench.sampling import Sampling

NEIGHBOURS = Toy(vocab=5, tokens=4)
"""For rules that borrow from neighbours."""
SKIPPED = Toy(vocab=3, tokens=8, seed=3, spread=1.2)
"""For skips."""
SHALLOW = FittedConfig(depth=2, nodes=5)
"""The tree that they are measured on: with a deeper one the toy would end after its first skip."""
BATCH = 5_000
SHARPNESS = 2.0
"""Of the good drafter."""
PLAIN, FILTERED = Sampling(), Sampling(temperature=0.8, top_k=3)
WORDS = {PLAIN: "plain", FILTERED: "temperature 0.8, top-k 3"}
BOUNDS = (0.0, 0.05, 0.2, 0.5, 1.5, 3.0)
"""LANTERN's delta, and above 1 LANTERN++'s lambda; at 0 nothing is borrowed."""


@dataclass(frozen=True)
class Setting:
    """A decoder to be measured.

    Attributes:
        rule, candidates, schedule, skip, sampling: its parts; the tree is the fitted one.
        toy: what it is measured on.
    """

    rule: AcceptanceConfig
    candidates: Candidates
    toy: Toy
    schedule: Schedule = field(default_factory=Always)
    skip: SkipConfig = field(default_factory=SkipConfig)
    sampling: Sampling = PLAIN

    @property
    def decoder(self) -> str:
        """In words: rule and schedule."""
        return " + ".join([self.rule.name, *([self.schedule.name] if self.schedule.ever_skips else [])])

    @property
    def label(self) -> str:
        """In words: what the parts are set to."""
        words = [self.candidates.value.replace("_", " ").replace("top k", "top-k"), *self.rule.label]
        return ", ".join(words + self.schedule.label + (self.skip.label if self.schedule.ever_skips else []))

    def build(self) -> Speculative:
        """The decoder."""
        target, deep = self.toy.target, self.toy is NEIGHBOURS
        tree = structure("fitted", self.toy.vocab) if deep else SHALLOW.build(HIT_RATES, CPU)
        drafter = source(self.toy, "good" if deep else "fair", kind=FeatureFed)
        rule = self.rule.build(target, self.sampling)
        grid = Grid(tree, self.candidates, rule, self.schedule, self.skip, sharpness=SHARPNESS)
        return Speculative(target, drafter, grid, self.sampling)


def settings() -> Iterator[Setting]:
    """All of them."""
    for candidates in (Candidates.top_k, Candidates.sampled):
        yield from _lantern(candidates)
        yield from (Setting(CoolSDConfig(delta=delta), candidates, NEIGHBOURS) for delta in (0.3, 1.1, 2.0))
        yield from (
            Setting(GSDConfig(size=size, distance=1.0), candidates, NEIGHBOURS, sampling=sampling)
            for size in (1, 2, 4)
            for sampling in (PLAIN, FILTERED)
        )
    for candidates in (Candidates.shared_noise, Candidates.top_k):
        yield Setting(MatchConfig(), candidates, SKIPPED)
        for schedule in _schedules():
            yield Setting(MatchConfig(), candidates, SKIPPED, schedule)
    for skip in _skips():
        yield Setting(MatchConfig(), Candidates.shared_noise, SKIPPED, _uniform(2), skip)
    for often in (1, 2):
        best = SkipConfig(Selector.best, Truncation.hits, least_hits=0.3, in_a_row=often)
        yield Setting(MatchConfig(), Candidates.shared_noise, SKIPPED, Confident(chance=0.2, first_tokens=1), best)
    for rule in (SequentialConfig(), LanternConfig(k=2, delta=0.2)):
        for interval in (2, 3):
            yield Setting(rule, Candidates.top_k, SKIPPED, _uniform(interval))


def _lantern(candidates: Candidates) -> Iterator[Setting]:
    for bound in BOUNDS:
        yield Setting(LanternConfig(k=1, delta=bound), candidates, NEIGHBOURS)
        for residual in Residual:
            yield Setting(LanternConfig(k=4, delta=bound, residual=residual), candidates, NEIGHBOURS)
    for bound in (0.2, 3.0):
        for residual in Residual:
            rule = LanternConfig(k=4, delta=bound, residual=residual)
            yield Setting(rule, candidates, NEIGHBOURS, sampling=FILTERED)


def _uniform(interval: int) -> Uniform:
    """The last step of every interval: the toy is too short to tell intervals apart that begin with a skip."""
    return Uniform(interval=interval, offset=interval - 1, first_tokens=1)


def _schedules() -> Iterator[Schedule]:
    yield from (_uniform(interval) for interval in (2, 3, 5))
    yield from (Dynamic(threshold=value, stride=1, first_tokens=1) for value in (-0.4, 0.0, 0.2, 0.4))
    yield from (Confident(chance=value, first_tokens=1) for value in (0.05, 0.2, 0.5))
    yield from (Accepting(least=value, window=1, first_tokens=1) for value in (1, 2))
    yield from (Rows(interval=2, first_row=value, first_tokens=1) for value in (1, 2))
    yield from (Budget(compression=value, first_tokens=1) for value in (2.0, 2.5, 3.0, 4.0))


def _skips() -> Iterator[SkipConfig]:
    for selector in Selector:
        for truncation in Truncation:
            if (selector, truncation) != (SkipConfig.selector, SkipConfig.truncation):
                yield SkipConfig(selector, truncation, length=1, least_hits=0.3)
    yield SkipConfig(features=Features.drafted)
    yield SkipConfig(staleness=1)
    yield SkipConfig(recheck=Recheck.rollback)


@dataclass
class Relaxed:
    """A decoder's distance to the target.

    Attributes:
        decoder, setting, sampling: in words.
        promises: what the decoder says of itself.
        tv, low, high: total variation with its interval, see `vvsbench.certify.distance`.
        tokens_per_forward: on the toy, prefill included.
        toy: its size.
        draws: images.
    """

    decoder: str
    setting: str
    sampling: str
    promises: str
    tv: float
    low: float
    high: float
    tokens_per_forward: float
    toy: str
    draws: int


def certificates(draws: int, every: int = 1) -> list[Relaxed]:
    """Measure every so many-th setting, with so many images each."""
    return [_measured(setting, draws) for setting in list(settings())[::every]]


def _measured(setting: Setting, draws: int) -> Relaxed:
    decoder, toy, sampling = setting.build(), setting.toy, setting.sampling
    drawn = sample(decoder, draws, BATCH)
    found = total_variation(drawn.outcomes, vanilla(toy, sampling, draws), law_of(toy, sampling))
    return Relaxed(
        decoder=setting.decoder,
        setting=setting.label,
        sampling=WORDS[sampling],
        promises=Guarantee(decoder.guarantee).value,
        tv=found.tv,
        low=found.low,
        high=found.high,
        tokens_per_forward=drawn.tokens_per_forward,
        toy=toy.size,
        draws=draws,
    )
