"""The decoders themselves on jointly Gaussian tokens: exact ones against the law in closed form, others as controls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from vvsbench.axes import Guarantee
from vvsbench.certify.continuous.blocks import Rule, Sample, correlated
from vvsbench.certify.continuous.laws import Law, gaussian
from vvsbench.decoding.base import Decoder
from vvsbench.decoding.continuous.coupling import INNER_TEMPERATURE, exact, published
from vvsbench.decoding.continuous.loop import Continuous, Speculation
from vvsbench.decoding.continuous.released import Released
from vvsbench.decoding.continuous.reveal import reveal
from vvsbench.decoding.continuous.trace import ContinuousTrace
from vvsbench.decoding.masked import Masked
from vvsbench.models.gaussian import ChainHead, GaussianToy

TOKENS, CHANNELS = 4, 2
BATCH = 10_000
SEED = 5
_GAINS = (0.8, 0.8, 0.8)


def target(causal: bool = False, dtype: torch.dtype = torch.float32) -> GaussianToy:
    """Neighbouring tokens are correlated by 0.8."""
    mean, head = 0.5 * torch.arange(TOKENS).double(), ChainHead(_GAINS, (0.5, 0.4, 0.3))
    return GaussianToy(mean, correlated(TOKENS, 0.8), head, CHANNELS, causal, dtype)


def draft(causal: bool = False, dtype: torch.dtype = torch.float32) -> GaussianToy:
    """Other means, wider, less correlated, and other standard deviations in its chain."""
    mean, head = 0.4 * torch.arange(TOKENS).double() + 0.2, ChainHead(_GAINS, (0.6, 0.3, 0.3))
    return GaussianToy(mean, 1.1 * correlated(TOKENS, 0.6), head, CHANNELS, causal, dtype)


def speculative(
    model: GaussianToy,
    smaller: GaussianToy,
    length: int,
    ar_steps: int = TOKENS,
    raster: bool = True,
    prefilled: int = 0,
    rule: Rule = exact,
    tolerance: float = 0.0,
    aligned: bool = True,
) -> Continuous:
    """`csd` in the modes exact and published."""
    how = Speculation(rule, length, prefilled, aligned, tolerance, Guarantee.none)
    return Continuous(model, smaller, ar_steps, how, raster)


def as_released(model: GaussianToy, smaller: GaussianToy, length: int) -> Released:
    """`csd` in the mode released, one token per AR step and nothing pre-filled."""
    return Released(model, smaller, TOKENS, length, 0, INNER_TEMPERATURE, aligned=True, raster=True)


def law_of(model: GaussianToy, ar_steps: int = TOKENS) -> Law:
    """Of all tokens in raster order, N x C: tokens of one AR step are independent given those of the steps before.

    One token per step gives the model's own law, in whatever order.
    """
    counts = reveal(TOKENS, ar_steps, model.guidance).counts
    mixing, spread = torch.zeros(TOKENS, TOKENS, dtype=torch.float64), torch.zeros(TOKENS, dtype=torch.float64)
    for first, end in zip(counts, counts[1:], strict=False):
        bits = (1 << first) - 1
        mixing[first:end] = model.weights[bits, first:end].double()
        spread[first:end] = model.widths[bits, first:end].double() * model.deviation
    through = torch.linalg.inv(torch.eye(TOKENS, dtype=torch.float64) - mixing)
    covariance = through @ torch.diag(spread**2) @ through.T
    channels = torch.eye(model.spec.channels, dtype=torch.float64)
    mean = model.mean.repeat_interleave(model.spec.channels)
    return gaussian(mean, torch.kron(covariance, channels))


def sample(decoder: Decoder, images: int, batch: int = BATCH) -> Sample:
    """Draw images 0, 1, ...: tokens [n, N * C], and the share of the drafts decided on that were kept or fell back."""
    model, tokens, judged, kept, fallback = decoder.target, [], 0, 0, 0
    for first in range(0, images, batch):
        numbers = range(first, min(first + batch, images))
        drawn, trace = decoder.generate(model.conditions([0] * len(numbers)), numbers, SEED)
        tokens.append(drawn.flatten(1))
        assert isinstance(trace, ContinuousTrace)
        asked = [one for rounds in trace.rounds for made in rounds for one in made.judged[: made.used]]
        judged, kept = judged + len(asked), kept + sum(one.kept for one in asked)
        fallback += sum(one.fallback for one in asked)
    return Sample(torch.cat(tokens), kept / max(1, judged), fallback / max(1, judged))


@dataclass(frozen=True)
class Decoded:
    """A decoder on the toy.

    Attributes:
        name: in words.
        build: of target and draft.
        causal: whether they pose as causal models.
        ar_steps: of the law that it should have.
    """

    name: str
    build: Callable[[GaussianToy, GaussianToy], Decoder]
    causal: bool = False
    ar_steps: int = TOKENS

    def draw(self, images: int) -> Sample:
        """Draw images."""
        return sample(self.build(target(self.causal), draft(self.causal)), images)

    @property
    def law(self) -> Law:
        """What it should have."""
        return law_of(target(dtype=torch.float64), self.ar_steps)


def _masked(model: GaussianToy, smaller: GaussianToy, ar_steps: int, raster: bool) -> Masked:
    return Masked(model, ar_steps, raster, last_noise=True, whole=ar_steps == TOKENS)


DECODERS: Sequence[Decoded] = (
    Decoded("masked, random order", partial(_masked, ar_steps=TOKENS, raster=False)),
    Decoded("csd exact, causal, 2 drafted at a time", partial(speculative, length=2), causal=True),
    Decoded("csd exact, random order, 3 at a time", partial(speculative, length=3, raster=False)),
    Decoded("csd exact, 1 pre-filled, own noise", partial(speculative, length=3, prefilled=1, aligned=False)),
    Decoded("csd exact, 3 AR steps", partial(speculative, length=2, ar_steps=3), ar_steps=3),
)
"""Those that are exact."""
SPOILT: Sequence[tuple[str, Decoded]] = (
    ("AR steps are left out", Decoded("masked, 3 AR steps", partial(_masked, ar_steps=3, raster=True))),
    ("Sigma counts", Decoded("csd published", partial(speculative, length=3, rule=published))),
    ("drafts within a distance stand", Decoded("csd, tolerance 0.5", partial(speculative, length=3, tolerance=0.5))),
    ("everything that the authors' code does", Decoded("csd released", partial(as_released, length=3))),
)
"""Those that are not, each with the reason."""
