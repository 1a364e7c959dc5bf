"""The words of the grid: what the axes of a speculative decoder can be set to.

Draft source x structure x candidates x acceptance rule x verify schedule, and what a skipped step commits; and those of
the continuous side. The names are shared by the settings, which must not import torch, and by the modules that
implement them.
"""

from __future__ import annotations

from enum import StrEnum


class Guarantee(StrEnum):
    """What a decoder promises about the law of its images; it selects the tests that must pass.

    exact: the target's own distribution. bounded: within a stated distance of it. none: nothing.
    """

    exact = "exact"
    bounded = "bounded"
    none = "none"


class EngineKind(StrEnum):
    """How the steps of a decoder are run; the tokens are the same.

    eager: operation by operation. compiled: the networks by torch.compile. graphed: the same, every step of fixed shape
    and captured once as a CUDA graph.
    """

    eager = "eager"
    compiled = "compiled"
    graphed = "graphed"


class Candidates(StrEnum):
    """Which tokens a node of the tree proposes.

    shared_noise: the top-k of log q + G, with the noise that the target will draw with. top_k: the top-k of log q
    (EAGLE-2). sampled: draws from q without replacement, with noise of their own that stays with its position (EAGLE-1;
    over a window of the target's own guesses it is SCD's Gumbel coupling, arXiv 2510.24211). redrawn: the same with new
    noise at every step (SJD, arXiv 2410.01699). retained: redrawn, but a position keeps its first draft of the step
    before as often as the law of the new one allows (SCD's maximal coupling).
    """

    shared_noise = "shared_noise"
    top_k = "top_k"
    sampled = "sampled"
    redrawn = "redrawn"
    retained = "retained"

    @property
    def drawn(self) -> bool:
        """Whether they are draws from the drafter's law, by noise that the target knows nothing of."""
        return self in (Candidates.sampled, Candidates.redrawn, Candidates.retained)


class Residual(StrEnum):
    """What becomes of a relaxed candidate's neighbours when it is rejected.

    released: as in the authors' code, which drops all its k + 1 nearest tokens, or, where candidates are sampled, keeps
    the whole of them. accepted_set: those that it borrowed from are dropped. strict: none is.
    """

    released = "released"
    accepted_set = "accepted_set"
    strict = "strict"


class Selector(StrEnum):
    """Which root path a skipped step follows.

    random: a leaf by uniform chance (VVS). first: the first candidate of each level. best: the leaf whose path is
    likeliest. central: the leaf whose path is most like all the others.
    """

    random = "random"
    first = "first"
    best = "best"
    central = "central"


class Truncation(StrEnum):
    """Where that path is cut.

    dynamic: at the mean path length of the tree (VVS). fixed: after `length` drafts. hits: before the chance that the
    target would draw all of it falls below `least_hits`. none: not at all.
    """

    dynamic = "dynamic"
    fixed = "fixed"
    hits = "hits"
    none = "none"


class Features(StrEnum):
    """What the drafter goes on from after a skip, where the target has computed no features.

    reuse: the last features that the target did compute (VVS). drafted: what the drafter predicted along the path.
    """

    reuse = "reuse"
    drafted = "drafted"


class Recheck(StrEnum):
    """What is done with skipped tokens when the next verification computes the target's distribution for them.

    none: nothing. audit: count those that the target would have drawn itself. rollback: take them back from the first
    that the target would not have drawn, which makes skipping exact: verification is delayed, not left out.
    """

    none = "none"
    audit = "audit"
    rollback = "rollback"


class Signal(StrEnum):
    """What a schedule may ask about the tree of a step before it decides; all are by-products of drafting.

    path: chance that the target would draw every token of the path that a skip would commit. expected: tokens that a
    verification is expected to accept. similarity: how alike the paths of the tree are, from -1 to 1 (VVS-D).
    """

    path = "path"
    expected = "expected"
    similarity = "similarity"


class Tokens(StrEnum):
    """What a target's tokens are: entries of a codebook, or vectors. Decoders and drafters are made for one of them."""

    discrete = "discrete"
    continuous = "continuous"


class Weights(StrEnum):
    """Which copy of a checkpoint is read: the moving average (ema), which the authors evaluate, or the last (raw)."""

    ema = "ema"
    raw = "raw"


class GuidanceSchedule(StrEnum):
    """How strongly the tokens of an image are guided.

    constant: all alike. linear: from 1 on, growing with the share of decided tokens (MAR).
    """

    constant = "constant"
    linear = "linear"


class Order(StrEnum):
    """In which order a continuous decoder decides the tokens: by a draw of its own for every image, or row by row."""

    random = "random"
    raster = "raster"


class Mode(StrEnum):
    """How continuous speculative decoding judges a draft.

    exact: so that the target's distribution is kept. published: by the criterion and residual of the paper (arXiv
    2411.11925). released: as the authors' code computes them, without roll-back.
    """

    exact = "exact"
    published = "published"
    released = "released"
