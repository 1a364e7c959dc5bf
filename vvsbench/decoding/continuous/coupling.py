"""Is a drafted continuous token kept, and what takes its place? Three rules, of which one is exact.

Draft q and target p turn the same noise into a token by the same number of head steps. Each step is Gaussian, so
given the noise of all steps but the last, the token x is Gaussian under both: `Moments`. The rules differ in what they
compare.

- `exact` compares these two Gaussians: keep x with probability min(1, p(x)/q(x)), else draw from what is left of p,
  max(0, p - q) renormalised. Given the earlier noise that is the textbook coupling of two known laws, so x has the
  target's law given that noise, and therefore without it too. Nothing about the earlier steps has to be compared.
- `published` multiplies p/q by Sigma, the product of sigma_q / sigma_p over the earlier steps.
- `released` is what the authors' code does, which is neither.

The moments must be those of the target given the tokens kept so far, and a rejection must discard every later token
of the draft; no rule can make good for a loop that does otherwise. Densities are compared as logarithms and in
float64, whatever the models compute in: a product of 16 sigmas of 0.0064 is 8e-36, just above the least float32.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from vvsbench.decoding.continuous.settings import INNER_TEMPERATURE
from vvsbench.errors import UserError
from vvsbench.models.diffusion import Moments

Proposals = Callable[[Tensor, int, int], tuple[Tensor, Tensor]]
"""Noise for proposals: (rows int64 [m], first, count) gives normals [count, m, C] and uniforms [count, m] of the tries
first to first + count - 1. Keyed by row and try, so that nothing depends on how many are asked for at a time."""

ALIKE = 1e-6
"""Relative difference of standard deviations up to which two laws count as equally wide. By Pinsker's inequality it
moves a token of C dimensions by a total variation of at most 1e-6 sqrt(C / 2): 3e-6 where C is 16."""
FIRST_CHUNK, LAST_CHUNK = 64, 65_536
"""Tries at a time for the rows that still have no token; the number doubles from the first to the last."""
ELEMENTS = 1 << 18
"""Numbers proposed at a time, over all rows: many rows are tried a few times, few rows many times."""
GUARD = 1 << 24
"""Tries after which `exact` gives up with an error. A row is rejected with probability Z, and then each try succeeds
with probability Z, so that the guard is reached with probability Z (1 - Z)^GUARD <= 1 / (e GUARD) = 2.2e-8, whatever
the two laws are. What is drawn, given that it is drawn, is within that total variation of the target; to see it would
take more than 10^14 samples."""
PUBLISHED_GUARD = 1_000
"""Tries after which `published` gives up: where Sigma p < q everywhere its residual is empty and would never end."""
RELEASED_TRIES = 100


class DidNotEnd(RuntimeError):
    """The residual of `exact` gave no token, which chance alone hardly ever explains."""


class NoGaussian(UserError, ValueError):
    """The target gave no law to judge some tokens by.

    Args:
        usable: bool [M], the tokens for which it did.
    """

    def __init__(self, usable: Tensor) -> None:
        super().__init__(
            f"{int((~usable).sum())} of {len(usable)} tokens have no Gaussian under the target: its mean or standard "
            "deviation is no number, or the standard deviation is not above 0."
        )
        self.usable = usable


@dataclass
class Verdict:
    """What becomes of M drafted tokens, each judged for itself.

    Attributes:
        kept: bool [M], whether the draft stands.
        tokens: [M, C], the draft, or what takes its place.
        log_ratio: float64 [M], logarithm of what was compared with the uniform; NaN where a model gave no number.
        fallback: bool [M], whether the token is only what was at hand when the tries ran out.
    """

    kept: Tensor
    tokens: Tensor
    log_ratio: Tensor
    fallback: Tensor


def exact(drafts: Tensor, q: Moments, p: Moments, uniforms: Tensor, propose: Proposals) -> Verdict:
    """Couple both laws of the last transition: tokens have the target's law, given the noise of the earlier steps.

    Guarantees that the token has law p given the earlier noise, if the draft had law q given it: its last noise must
    really have been added, and must have no part in p, q or the uniform.

    A rejected draft is replaced by its mirror image where both laws are equally wide: reflected in whitened space at
    the plane half way between the means, the rejected drafts have just the law that is wanted (the maximal coupling
    of two Gaussians by reflection). Elsewhere proposals from p are kept with probability max(0, 1 - q/p). A draft
    that is not a number is rejected, and its replacement drawn from p.

    Args:
        drafts: [M, C].
        q: of the draft.
        p: of the target, given all tokens before.
        uniforms: [M], one for each token.
        propose: further noise, for rejected drafts.

    Raises:
        DidNotEnd: no proposal was kept in `GUARD` tries.
        NoGaussian: the target's moments are no numbers, or a standard deviation is not above 0.

    Source: De Bortoli et al., "Accelerated diffusion models via speculative sampling", arXiv 2501.05370.
    """
    kept, log_ratio = compared(drafts, q, p, uniforms)
    tokens, wide_q, wide_p = drafts.double(), q.double(), p.double()
    mirrored = ~kept & _equally_wide(wide_q, wide_p) & torch.isfinite(tokens + wide_q.mean).all(-1)
    tokens = torch.where(mirrored[:, None], _reflected(tokens, wide_q, wide_p), tokens)
    rows = (~kept & ~mirrored).nonzero()[:, 0]
    tokens[rows], ended = _residual(wide_q.at(rows), wide_p.at(rows), 0.0, rows, propose, GUARD)
    if not ended.all():
        raise DidNotEnd(
            f"{int((~ended).sum())} of {len(drafts)} rejected tokens found no replacement in {GUARD} tries. By chance "
            "this happens once in 5e7 tokens: the draft was hardly drawn from the law that it is said to have."
        )
    return Verdict(kept, tokens.to(drafts.dtype), log_ratio, torch.zeros_like(kept))


def compared(drafts: Tensor, q: Moments, p: Moments, uniforms: Tensor) -> tuple[Tensor, Tensor]:
    """Which drafts `exact` keeps, bool [M], and the `log_ratio` of its verdict; arguments and errors likewise."""
    _check(p)
    tokens = drafts.double()
    log_ratio = p.double().log_density(tokens) - q.double().log_density(tokens)
    return uniforms.double().log() <= log_ratio, log_ratio


def published(drafts: Tensor, q: Moments, p: Moments, uniforms: Tensor, propose: Proposals) -> Verdict:
    """The published criterion: min(1, Sigma p/q), and the residual max(0, Sigma p - q) renormalised.

    Guarantees nothing unless Sigma = 1, where it is `exact`. Both trajectories are images of the same noise, and their
    densities differ by just the factor Sigma, which is the Jacobian of the map from one to the other. A ratio of
    importance along that map has to include the Jacobian, and the two cancel; left in, Sigma makes acceptance too
    likely or too rare. Where Sigma p < q everywhere nothing is left to be drawn: after `PUBLISHED_GUARD` tries the last
    proposal is taken, and counted as fallback.

    Args and errors as of `exact`, but for `DidNotEnd`.

    Source: arXiv 2411.11925, criterion and residual under denoising trajectory alignment.
    """
    _check(p)
    tokens, wide_q, wide_p = drafts.double(), q.double(), p.double()
    log_sigma = (wide_q.log_std_sum - wide_p.log_std_sum).sum(-1)
    log_ratio = log_sigma + wide_p.log_density(tokens) - wide_q.log_density(tokens)
    kept = uniforms.double().log() <= log_ratio
    rows = (~kept).nonzero()[:, 0]
    found, ended = _residual(wide_q.at(rows), wide_p.at(rows), log_sigma[rows], rows, propose, PUBLISHED_GUARD)
    tokens = tokens.clone()
    tokens[rows] = found
    fallback = torch.zeros_like(kept)
    fallback[rows] = ~ended
    return Verdict(kept, tokens.to(drafts.dtype), log_ratio, fallback)


def released(
    drafts: Tensor,
    q: Moments,
    p: Moments,
    uniforms: Tensor,
    propose: Proposals,
    inner_temperature: float = INNER_TEMPERATURE,
) -> Verdict:
    """What the authors' code computes for a block of tokens, which guarantees nothing.

    The variance product is the reciprocal of Sigma. The Gaussians of the criterion are widened by the inner
    temperature, those of the residual are not, so that the two do not belong together. Proposals are made for every
    token of the block until each has had a success, or for 100 tries; a later success replaces an earlier one, and so
    the tokens depend on what they are judged with. What never succeeds becomes the zero vector, counted as fallback.

    Logarithms give the same numbers, except where the released floats overflow.

    Args:
        drafts, q, p, uniforms, propose: as of `exact`; the drafts are means, without the last noise.
        inner_temperature: of the criterion.

    Source: github.com/MarkXCloud/CSpD, spec_decode/spec_decode_runner.py, `DistributionManager` and `resample`.
    """
    wide_q, wide_p = q.double(), p.double()
    log_product = (wide_p.log_std_sum - wide_q.log_std_sum).sum(-1)
    tokens = drafts.double()
    likelier = wide_p.log_density(tokens, inner_temperature) - wide_q.log_density(tokens, inner_temperature)
    log_ratio = log_product + likelier
    kept = log_ratio.exp() > uniforms
    found, succeeded = torch.zeros_like(tokens), torch.zeros_like(kept)
    every = torch.arange(len(drafts), device=drafts.device)
    tried = 0
    while not kept.all() and not succeeded.all() and tried < RELEASED_TRIES:
        values, success = _tried(wide_q, wide_p, log_product, *propose(every, tried, 1))
        found = torch.where(success[0, :, None], values[0], found)
        succeeded |= success[0]
        tried += 1
    tokens = torch.where(kept[:, None], tokens, found)
    return Verdict(kept, tokens.to(drafts.dtype), log_ratio, ~kept & ~succeeded)


def _check(p: Moments) -> None:
    usable = (torch.isfinite(p.mean) & torch.isfinite(p.std) & (p.std > 0)).all(-1)
    if not usable.all():
        raise NoGaussian(usable)


def _equally_wide(q: Moments, p: Moments) -> Tensor:
    """Bool [M]."""
    return ((q.std - p.std).abs() <= ALIKE * p.std).all(-1)


def _reflected(drafts: Tensor, q: Moments, p: Moments) -> Tensor:
    """Drafts [M, C] from q, reflected in whitened space along the line between the means, as tokens of p."""
    white, axis = (drafts - q.mean) / q.std, (q.mean - p.mean) / p.std
    axis = axis / axis.norm(dim=-1, keepdim=True).clamp_min(torch.finfo(axis.dtype).tiny)
    return p.mean + p.std * (white - 2 * (white * axis).sum(-1, keepdim=True) * axis)


def _tried(
    q: Moments, p: Moments, log_sigma: Tensor | float, normals: Tensor, uniforms: Tensor
) -> tuple[Tensor, Tensor]:
    """Proposals from p [count, M, C], and which of them are kept: with probability max(0, 1 - q / (Sigma p))."""
    values = p.mean + p.std * normals.double()
    log_excess = q.log_density(values).nan_to_num(nan=-torch.inf) - p.log_density(values) - log_sigma
    return values, uniforms < -torch.expm1(log_excess)


def _residual(
    q: Moments, p: Moments, log_sigma: Tensor | float, rows: Tensor, propose: Proposals, guard: int
) -> tuple[Tensor, Tensor]:
    """Draw from max(0, Sigma p - q), renormalised: the first proposal from p that is kept, else the last one made.

    Args:
        q, p: of m rejected tokens.
        log_sigma: [m], or the same for all.
        rows: int64 [m], what the proposals are keyed by.
        propose: see `Proposals`.
        guard: tries.

    Returns:
        Tokens [m, C], and bool [m], whether a proposal was kept.
    """
    tokens, ended = torch.empty_like(p.mean), torch.zeros_like(rows, dtype=torch.bool)
    open_ = torch.arange(len(rows), device=rows.device)
    sigma = torch.as_tensor(log_sigma, dtype=tokens.dtype, device=rows.device).expand(len(rows))
    tried, chunk = 0, FIRST_CHUNK
    while len(open_) and tried < guard:
        count = min(chunk, guard - tried, max(1, ELEMENTS // (len(open_) * tokens.shape[-1])))
        values, success = _tried(q.at(open_), p.at(open_), sigma[open_], *propose(rows[open_], tried, count))
        hit = success.any(0)
        first = torch.where(hit, success.byte().argmax(0), count - 1)
        tokens[open_] = values[first, torch.arange(len(open_), device=rows.device)]
        ended[open_] = hit
        open_ = open_[~hit]
        tried, chunk = tried + count, min(2 * chunk, LAST_CHUNK)
    return tokens, ended
