"""Every combination of the grid that promises the target's own distribution, and the test of that promise.

Matching returns the tokens of `ar`, whatever is proposed and however verification is delayed. So it is compared with
`ar` image by image, which is the stronger test: two decoders that differ in no more than a share f of the images lie
within total variation f of each other. The sequential rule spends other randomness than `ar`, so its samples are tested
against the enumerated law; a small batch must then return the images of a large one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from vvsbench.axes import Candidates, Features, Guarantee, Recheck, Selector, Truncation
from vvsbench.certify import law
from vvsbench.certify.drawing import sample
from vvsbench.certify.toys import JOINT, SAMPLINGS, STATIC, STRUCTURES, Toy, source, sources, structure, vanilla
from vvsbench.certify.toys import law as law_of
from vvsbench.decoding.acceptance import AcceptanceRule, Match, Sequential
from vvsbench.decoding.autoregressive import Autoregressive
from vvsbench.decoding.schedule import Accepting, Always, Budget, Confident, Dynamic, Rows, Schedule, Uniform
from vvsbench.decoding.settings import SkipConfig
from vvsbench.decoding.speculative import Grid, Speculative

TOY = Toy(vocab=4, tokens=4)
"""For tests of the law: few outcomes, so that a deviation stands out, but tokens enough for a third sibling to matter:
with three tokens nothing is left to go wrong after two rejections."""
LONG = Toy(vocab=3, tokens=7, seed=3)
"""For skips: long enough for several, and for some to be taken back."""
SMALL_BATCH, LARGE_BATCH = 7, 5_000
SMALL_IMAGES = 3 * SMALL_BATCH
"""Images that are drawn again in small batches."""
IN_SMALL_BATCHES = ("plain",)
"""Sampling settings for which they are: filters act on every node for itself, whatever the batch."""

RULES: dict[str, Callable[[], AcceptanceRule]] = {"match": Match, "sequential": Sequential}

_taken_back = partial(SkipConfig, recheck=Recheck.rollback)
SKIPS: dict[str, tuple[Schedule, SkipConfig]] = {
    "uniform": (Uniform(interval=2, first_tokens=0), _taken_back()),
    "dynamic": (
        Dynamic(threshold=0.0, first_tokens=0),
        _taken_back(selector=Selector.central, truncation=Truncation.fixed, in_a_row=2),
    ),
    "confident": (
        Confident(chance=0.1, first_tokens=0),
        _taken_back(selector=Selector.best, truncation=Truncation.hits, least_hits=0.2, in_a_row=3),
    ),
    "accepting": (Accepting(least=1, window=1, first_tokens=0), _taken_back(repair=True, features=Features.drafted)),
    "rows": (
        Rows(interval=2, first_row=1, first_tokens=0),
        _taken_back(selector=Selector.first, truncation=Truncation.none),
    ),
    "budget": (
        Budget(compression=5.0, first_tokens=0),
        _taken_back(selector=Selector.first, truncation=Truncation.hits, least_hits=0.1, in_a_row=2),
    ),
}
"""Schedules whose skips are taken back, each with another way to choose, cut and remember what is committed."""


@dataclass(frozen=True)
class Combination:
    """A point of the grid.

    Attributes:
        structure, source, candidates, rule, sampling: by name.
        schedule: a name in `SKIPS`, or "always".
    """

    structure: str
    source: str
    candidates: Candidates
    rule: str
    sampling: str
    schedule: str = "always"

    @property
    def toy(self) -> Toy:
        """What it is tested on."""
        return TOY if self.schedule == "always" else LONG

    @property
    def label(self) -> str:
        """The schedule, with its setting and what becomes of skipped tokens."""
        if self.schedule == "always":
            return self.schedule
        schedule, skip = SKIPS[self.schedule]
        return ", ".join([" ".join([schedule.name, *schedule.label]), *skip.label])

    def build(self) -> Autoregressive | Speculative:
        """The decoder."""
        schedule, skip = SKIPS.get(self.schedule, (Always(), SkipConfig()))
        tree = structure(self.structure, self.toy.vocab)
        grid = Grid(tree, self.candidates, RULES[self.rule](), schedule, skip)
        return Speculative(
            self.toy.target, source(self.toy, self.source, self.structure), grid, SAMPLINGS[self.sampling]
        )


def combinations() -> Iterator[Combination]:
    """Every one that is exact."""
    for candidates in Candidates:
        for shape in _shapes(candidates):
            for drafter in sources(shape):
                for setting in SAMPLINGS:
                    for schedule in ("always", *SKIPS):
                        yield Combination(shape, drafter, candidates, "match", setting, schedule)
                    if candidates is not Candidates.shared_noise:
                        yield Combination(shape, drafter, candidates, "sequential", setting)


def _shapes(candidates: Candidates) -> Sequence[str]:
    """Structures that candidates are certified with; those that change from step to step are a window's.

    A joint tree proposes a token twice where both of its parts do, which only shared noise forgives.
    """
    if candidates in (Candidates.redrawn, Candidates.retained):
        return ["window"]
    if candidates is Candidates.top_k:
        return [shape for shape in STRUCTURES if shape != JOINT]
    return STATIC if candidates.drawn else STRUCTURES


@dataclass(frozen=True)
class Size:
    """How much is drawn.

    Attributes:
        law: images for a test of the law.
        identity: images for a comparison with `ar`.
        every: one combination in so many is tested.
    """

    law: int
    identity: int
    every: int = 1


@dataclass
class Exact:
    """A combination and its test.

    Attributes:
        structure, source, candidates, rule, schedule, sampling: what was tested.
        batch: images at a time.
        draws: images.
        test: `law`: against the enumerated law. `ar`: equal to `ar`, image by image. `batch`: equal to the same images
            of the large batch.
        p_value: of the images against the enumerated law; where they are compared image by image it decides nothing.
        passed: whether the test stands, and the decoder promises to be exact.
    """

    structure: str
    source: str
    candidates: str
    rule: str
    schedule: str
    batch: int
    sampling: str
    draws: int
    test: str
    p_value: float
    passed: bool


def certificates(size: Size, alpha: float) -> list[Exact]:
    """Test everything.

    Args:
        size: how much is drawn.
        alpha: the chance that any test of a law raises a false alarm although all are exact.
    """
    found = [_vanilla(name, size) for name in SAMPLINGS]
    for combination in list(combinations())[:: size.every]:
        found += list(_certified(combination, size))
    tested = [one for one in found if one.test == "law"]
    for one, stands in zip(tested, law.holm([one.p_value for one in tested], alpha), strict=True):
        one.passed &= stands
    return found


def _vanilla(name: str, size: Size) -> Exact:
    sampling = SAMPLINGS[name]
    promised = Autoregressive(TOY.target, sampling).guarantee is Guarantee.exact
    outcomes = vanilla(TOY, sampling, size.law)
    p_value = law.p_value(outcomes, law_of(TOY, sampling), TOY.tokens)
    return Exact("none", "none", "none", "ar", "always", LARGE_BATCH, name, size.law, "law", p_value, promised)


def _certified(one: Combination, size: Size) -> Iterator[Exact]:
    """Test a combination in a large batch and in small ones."""
    decoder, toy, sampling = one.build(), one.toy, SAMPLINGS[one.sampling]
    promised = decoder.guarantee is Guarantee.exact
    identical = one.rule == "match" or sampling.greedy
    draws = size.identity if identical else size.law
    large = sample(decoder, draws, LARGE_BATCH).outcomes
    samples = [(large, LARGE_BATCH)]
    if one.sampling in IN_SMALL_BATCHES:
        samples.append((sample(decoder, SMALL_IMAGES, SMALL_BATCH).outcomes, SMALL_BATCH))
    expected = vanilla(toy, sampling, draws) if identical else large
    for outcomes, batch in samples:
        alike = torch.equal(outcomes, expected[: len(outcomes)])
        yield Exact(
            structure=one.structure,
            source=one.source,
            candidates=one.candidates.value,
            rule=one.rule,
            schedule=one.label,
            batch=min(batch, len(outcomes)),
            sampling=one.sampling,
            draws=len(outcomes),
            test="ar" if identical else "law" if outcomes is large else "batch",
            p_value=law.p_value(outcomes, law_of(toy, sampling), toy.tokens),
            passed=promised and alike,
        )


def power(alpha: float, size: Size) -> dict[str, Any]:
    """What the tests would have found, with probability 0.99.

    Returns:
        The least total variation that the test of a law sees, by sampling setting, and the share of images by which a
        decoder may differ from `ar` unseen.
    """
    sequential = [one for one in list(combinations())[:: size.every] if one.rule == "sequential"]
    tests = len(SAMPLINGS) + sum(not SAMPLINGS[one.sampling].greedy for one in sequential)
    seen = {
        name: law.detectable(law_of(TOY, sampling), size.law, alpha / tests)
        for name, sampling in SAMPLINGS.items()
        if not sampling.greedy
    }
    return {"law_tests": tests, "law_tv": seen, "identity_tv": law.differing(size.identity)}
