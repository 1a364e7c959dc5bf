"""Samples of rules and of blocks of tokens, as many as a test needs.

The loop here is the least that speculative decoding of several tokens is: draft a block, judge it from left to right,
roll back. It shares no code with the decoders, and can be told to leave out what makes it exact.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from vvsbench.certify.continuous.cases import Case
from vvsbench.certify.continuous.laws import Law, gaussian
from vvsbench.decoding.continuous.coupling import Proposals, Verdict
from vvsbench.models.diffusion import Moments
from vvsbench.models.gaussian import ChainHead, GaussianToy

Rule = Callable[[Tensor, Moments, Moments, Tensor, Proposals], Verdict]
CHUNK = 100_000
"""Draws at a time."""


@dataclass(frozen=True)
class Sample:
    """What was drawn.

    Attributes:
        tokens: [n, D].
        kept: share of the judged drafts that were kept.
        fallback: share of them that were replaced by what was at hand.
    """

    tokens: Tensor
    kept: float
    fallback: float


class Chance:
    """Noise of one sample, from a generator of its own: every number is asked for once."""

    def __init__(self, name: str, dtype: torch.dtype) -> None:
        self.generator, self.dtype = torch.Generator().manual_seed(zlib.crc32(name.encode())), dtype

    def normals(self, *size: int) -> Tensor:
        """Standard normal."""
        return torch.randn(*size, generator=self.generator, dtype=self.dtype)

    def uniforms(self, *size: int) -> Tensor:
        """From [0, 1)."""
        return torch.rand(*size, generator=self.generator, dtype=self.dtype)

    def proposals(self, channels: int) -> Proposals:
        """For tokens of C channels."""

        def propose(rows: Tensor, first: int, count: int) -> tuple[Tensor, Tensor]:
            return self.normals(count, len(rows), channels), self.uniforms(count, len(rows))

        return propose


def _chunks(draws: int) -> Iterator[int]:
    for first in range(0, draws, CHUNK):
        yield min(CHUNK, draws - first)


def sample(case: Case, rule: Rule, draws: int, dtype: torch.dtype, last_noise: bool = True) -> Sample:
    """Judge drafts of one token.

    Args:
        case: draft and target.
        rule: what judges.
        draws: how many.
        dtype: of everything outside the rule.
        last_noise: whether the draft's last step adds its noise; the released code's does not.
    """
    chance, tokens, kept, fallback = Chance(case.name, dtype), [], 0, 0
    for count in _chunks(draws):
        noise = chance.normals(case.target.head.steps + 1, count, case.channels)
        q, p = (side.denoise(noise) for side in (case.draft, case.target))
        drafts = q.mean + q.std * noise[0] * last_noise
        verdict = rule(drafts, q, p, chance.uniforms(count), chance.proposals(case.channels))
        tokens.append(verdict.tokens)
        kept += int(verdict.kept.sum())
        fallback += int(verdict.fallback.sum())
    return Sample(torch.cat(tokens), kept / draws, fallback / draws)


@dataclass(frozen=True)
class Joint:
    """Several tokens, drafted in blocks.

    Attributes:
        name: in words.
        mean, covariance: of the target's tokens, float64 [N] and [N, N].
        draft_mean, draft_covariance: of the draft's.
        target_stds, draft_stds: of the steps of their heads.
        length: tokens drafted per block.
    """

    name: str
    mean: Tensor
    covariance: Tensor
    draft_mean: Tensor
    draft_covariance: Tensor
    target_stds: tuple[float, ...]
    draft_stds: tuple[float, ...]
    length: int

    @property
    def law(self) -> Law:
        """Of the target's tokens."""
        return gaussian(self.mean, self.covariance)


def correlated(tokens: int, correlation: float) -> Tensor:
    """Neighbours are correlated, others through them."""
    places = torch.arange(tokens)
    return torch.tensor(correlation, dtype=torch.float64) ** (places - places[:, None]).abs()


def _joint(tokens: int, length: int) -> Joint:
    drift = torch.arange(tokens).double()
    return Joint(
        f"{tokens} tokens, {length} drafted at a time",
        mean=0.5 * drift,
        covariance=correlated(tokens, 0.8),
        draft_mean=0.4 * drift + 0.2,
        draft_covariance=1.1 * correlated(tokens, 0.6),
        target_stds=(0.5, 0.4, 0.3),
        draft_stds=(0.6, 0.3, 0.3),
        length=length,
    )


JOINTS = (_joint(2, 2), _joint(3, 2))


def sample_blocks(
    joint: Joint, rule: Rule, draws: int, dtype: torch.dtype, sees_drafts: bool = True, roll_back: bool = True
) -> Sample:
    """Decode.

    Args:
        joint: draft and target.
        rule: what judges.
        draws: sequences.
        dtype: of everything outside the rule.
        sees_drafts: whether the target is given the drafts before the one that it judges, or only what is verified.
        roll_back: whether a rejection discards all later tokens of the block.
    """
    chance, tokens, kept, judged = Chance(joint.name, dtype), [], 0, 0
    for count in _chunks(draws):
        found, stood, asked = _decoded(joint, rule, chance, count, sees_drafts, roll_back)
        tokens.append(found)
        kept, judged = kept + stood, judged + asked
    return Sample(torch.cat(tokens), kept / judged, 0.0)


def _decoded(
    joint: Joint, rule: Rule, chance: Chance, count: int, sees_drafts: bool, roll_back: bool
) -> tuple[Tensor, int, int]:
    """Tokens [n, N], how many drafts were kept, and of how many."""
    length, kept, judged = len(joint.mean), 0, 0
    target, draft = toys(joint, chance.dtype)
    noise, uniforms = chance.normals(target.head.steps + 1, count, length), chance.uniforms(count, length)
    tokens, done = torch.zeros(count, length, dtype=chance.dtype), torch.zeros(count, dtype=torch.long)
    while (rows := (done < length).nonzero()[:, 0]).numel():
        first, drafts, laws = done[rows], tokens[rows], []
        for step in range(joint.length):
            place = (first + step).clamp_max(length - 1)
            laws.append(_moments(draft, drafts, place, place, noise[:, rows]))
            drawn = (laws[-1].mean + laws[-1].std * noise[0, rows, place][:, None])[:, 0]
            drafts = torch.where(_at(place, length) & (first + step < length)[:, None], drawn[:, None], drafts)
        open_ = torch.ones_like(rows, dtype=torch.bool)
        for step, q in enumerate(laws):
            place = (first + step).clamp_max(length - 1)
            p = _moments(target, drafts, place, place if sees_drafts else first, noise[:, rows])
            draws = drafts.gather(1, place[:, None])
            verdict = rule(draws, q, p, uniforms[rows, place], chance.proposals(1))
            live = open_ & (first + step < length)
            tokens[rows[live], place[live]] = verdict.tokens[live, 0]
            done[rows[live]] += 1
            kept, judged = kept + int(verdict.kept[live].sum()), judged + int(live.sum())
            open_ = live & verdict.kept if roll_back else live
    return tokens, kept, judged


def toys(joint: Joint, dtype: torch.dtype) -> tuple[GaussianToy, GaussianToy]:
    """Target and draft."""
    heads = (ChainHead([0.8] * len(stds), stds) for stds in (joint.target_stds, joint.draft_stds))
    laws = ((joint.mean, joint.covariance), (joint.draft_mean, joint.draft_covariance))
    target, draft = (GaussianToy(*law, head, dtype=dtype) for law, head in zip(laws, heads, strict=True))
    return target, draft


def _at(place: Tensor, length: int) -> Tensor:
    """Bool [m, N]: where the token at place [m] is."""
    return torch.arange(length) == place[:, None]


def _moments(toy: GaussianToy, tokens: Tensor, place: Tensor, seen: Tensor, noise: Tensor) -> Moments:
    """Of the token at place [m], given the first seen [m] of tokens [m, N], with noise [S + 1, m, N]."""
    visible = torch.arange(tokens.shape[1]) < seen[:, None]
    own = noise.gather(2, place[None, :, None].expand(len(noise), -1, -1))
    z = toy.vectors(tokens[..., None], place, visible)
    return toy.head.denoise(z, own)
