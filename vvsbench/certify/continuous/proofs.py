"""The exact rule against every law, and rules and loops that are wrong on purpose, each of which must be caught."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from vvsbench.certify.continuous.blocks import JOINTS, Rule, Sample, sample, sample_blocks
from vvsbench.certify.continuous.cases import CASES, MEAN_GAP, MODES, WIDER, Case
from vvsbench.certify.continuous.decoders import CHANNELS, DECODERS, SPOILT, TOKENS, Decoded
from vvsbench.certify.continuous.laws import Fit, Law, directions, fit
from vvsbench.decoding.continuous.coupling import Proposals, Verdict, exact, published, released
from vvsbench.models.diffusion import Moments

CAUGHT = 1e-9
"""A control is caught when its p-value lies below this."""
DTYPES = (torch.float32, torch.float64)
OVERLAP_ERRORS = 4.0
"""Standard errors by which the share of kept drafts may miss the overlap of both laws."""


@dataclass
class Continuous:
    """A case and its test.

    Attributes:
        case: in words.
        dtype: of everything outside the rule.
        draws: samples.
        kept: share of drafts that were kept.
        overlap: what that share should be, where it has a closed form.
        ks, ks_critical: largest Kolmogorov-Smirnov statistic of any direction, and what it must stay below.
        moment, moment_critical: largest error of a mean or second moment in standard errors, likewise.
        covariance: largest error of the covariance, in units of both standard deviations.
        p_value: of both statistics.
        passed: whether the test stands.
    """

    case: str
    dtype: str
    draws: int
    kept: float
    overlap: float | None
    ks: float
    ks_critical: float
    moment: float
    moment_critical: float
    covariance: float
    p_value: float
    passed: bool


def tests() -> int:
    """How many tests of laws there are; the level is divided among them."""
    return len(DTYPES) * (len(CASES) + len(JOINTS)) + len(DECODERS)


def detectable(draws: int, alpha: float, power: float = 0.99) -> float:
    """Error of a distribution function, along one of the directions, from which on a test fails with the given power.

    The sample's own distribution function is within sqrt(log(2 / (1 - power)) / 2n) of the true one with that
    probability (Dvoretzky, Kiefer and Wolfowitz; Massart 1990).
    """
    critical = max(
        Fit(draws, 0.0, len(directions(size)), 0.0, 1, 0.0).ks_critical(alpha / tests())
        for size in (*(case.channels for case in CASES), *(len(joint.mean) for joint in JOINTS))
    )
    return critical + (math.log(2 / (1 - power)) / (2 * draws)) ** 0.5


def certificates(draws: int, images: int, alpha: float) -> list[Continuous]:
    """Test the exact rule, and the decoders that promise to be exact.

    Args:
        draws: samples of each case.
        images: samples of each decoder.
        alpha: the chance that any test raises a false alarm although all laws are right.
    """
    level, found = alpha / tests(), []
    for dtype in DTYPES:
        for case in CASES:
            drawn = sample(case, exact, draws, dtype)
            found.append(_certified(case.name, dtype, drawn, fit(drawn.tokens, case.law), level, case.overlap))
        for joint in JOINTS:
            drawn = sample_blocks(joint, exact, draws, dtype)
            found.append(_certified(joint.name, dtype, drawn, fit(drawn.tokens, joint.law), level, None))
    for decoder in DECODERS:  # their noise and their images are float32, whatever the models are
        drawn = decoder.draw(images)
        found.append(_certified(decoder.name, torch.float32, drawn, fit(drawn.tokens, decoder.law), level, None))
    return found


def _certified(
    name: str, dtype: torch.dtype, drawn: Sample, found: Fit, level: float, overlap: float | None
) -> Continuous:
    stands = found.p_value >= level and drawn.fallback == 0
    if overlap is not None:
        error = (overlap * (1 - overlap) / found.draws) ** 0.5
        stands &= abs(drawn.kept - overlap) <= OVERLAP_ERRORS * error + 1 / found.draws
    return Continuous(
        case=name,
        dtype=str(dtype).removeprefix("torch."),
        draws=found.draws,
        kept=drawn.kept,
        overlap=overlap,
        ks=found.ks,
        ks_critical=found.ks_critical(level),
        moment=found.moment,
        moment_critical=found.moment_critical(level),
        covariance=found.covariance,
        p_value=found.p_value,
        passed=stands,
    )


def inverted(drafts: Tensor, q: Moments, p: Moments, uniforms: Tensor, propose: Proposals) -> Verdict:
    """`published` with the reciprocal of Sigma."""
    q, p = (replace(one, log_std_sum=-one.log_std_sum) for one in (q, p))
    return published(drafts, q, p, uniforms, propose)


def redrawn(drafts: Tensor, q: Moments, p: Moments, uniforms: Tensor, propose: Proposals) -> Verdict:
    """`exact`, but a rejected draft is replaced by a draw from p."""
    verdict = exact(drafts, q, p, uniforms, propose)
    anew = p.mean + p.std * propose(torch.arange(len(drafts)), 0, 1)[0][0]
    return replace(verdict, tokens=torch.where(verdict.kept[:, None], drafts, anew))


@dataclass(frozen=True)
class Spoilt:
    """A control.

    Attributes:
        name: in words.
        what: what is wrong.
        on: what it is tested on.
        law: what it should have.
        draw: of so many samples.
        slow: whether a sample is an image of a decoder.
    """

    name: str
    what: str
    on: str
    law: Law
    draw: Callable[[int], Sample]
    slow: bool = False


def _rule(name: str, what: str, rule: Rule, case: Case, last_noise: bool = True) -> Spoilt:
    draw = partial(sample, case, rule, dtype=torch.float64, last_noise=last_noise)
    return Spoilt(name, what, case.name, case.law, draw)


def _loop(name: str, what: str, sees_drafts: bool, roll_back: bool) -> Spoilt:
    joint = JOINTS[0]
    draw = partial(sample_blocks, joint, exact, dtype=torch.float64, sees_drafts=sees_drafts, roll_back=roll_back)
    return Spoilt(name, what, joint.name, joint.law, draw)


def _decoder(what: str, decoder: Decoded) -> Spoilt:
    on = f"{TOKENS} tokens of {CHANNELS} channels"
    return Spoilt(decoder.name, what, on, decoder.law, decoder.draw, slow=True)


CONTROLS: Sequence[Spoilt] = (
    _rule("published product", "p/q multiplied by Sigma, as published", published, WIDER),
    _rule("published product, two modes", "the same where Sigma differs from draw to draw", published, MODES),
    _rule("inverted product", "p/q divided by Sigma", inverted, WIDER),
    _rule("temperature 42", "the released criterion with inner temperature 42, where Sigma is 1", released, MEAN_GAP),
    _rule("no last noise", "exact rule on drafts whose last step adds no noise", exact, MEAN_GAP, last_noise=False),
    _rule("no residual", "exact criterion, a rejected draft replaced by a draw from the target", redrawn, WIDER),
    _rule("as released", "the released rule on drafts without the last noise", released, WIDER, last_noise=False),
    _loop("prefix only", "exact rule, target blind to the drafts before the judged one", False, True),
    _loop("no roll-back", "exact rule, drafts behind a rejected one stay", True, False),
    _loop("prefix only, no roll-back", "exact rule in the released loop: both of these", False, False),
    *(_decoder(what, decoder) for what, decoder in SPOILT),
)


@dataclass
class ContinuousControl:
    """A control and whether it was caught.

    Attributes:
        name, what: see `Spoilt`.
        case: what it was tested on.
        draws: samples.
        kept, fallback: shares of the drafts.
        ks, ks_critical, moment, covariance: see `Continuous`; the critical value is that of `CAUGHT`.
        p_value: of its samples against the law of the target.
        caught: whether the p-value lies below `CAUGHT`.
    """

    name: str
    what: str
    case: str
    draws: int
    kept: float
    fallback: float
    ks: float
    ks_critical: float
    moment: float
    covariance: float
    p_value: float
    caught: bool


def controls(draws: int, images: int) -> list[ContinuousControl]:
    """Test every control with so many samples, or, where it is a decoder, images."""
    found = []
    for spoilt in CONTROLS:
        drawn = spoilt.draw(images if spoilt.slow else draws)
        seen = fit(drawn.tokens, spoilt.law)
        found.append(
            ContinuousControl(
                name=spoilt.name,
                what=spoilt.what,
                case=spoilt.on,
                draws=seen.draws,
                kept=drawn.kept,
                fallback=drawn.fallback,
                ks=seen.ks,
                ks_critical=seen.ks_critical(CAUGHT),
                moment=seen.moment,
                covariance=seen.covariance,
                p_value=seen.p_value,
                caught=seen.p_value < CAUGHT,
            )
        )
    return found
