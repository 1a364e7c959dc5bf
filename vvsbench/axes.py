"""The words of the grid: what the axes of a speculative decoder can be set to.

Draft source x structure x candidates x acceptance rule x verify schedule, and what a skipped step commits. The names
are shared by the settings, which must not import torch, and by the modules that implement them.
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


class StructureName(StrEnum):
    """Which nodes a draft tree has.

    static: the rank paths that are most likely to be accepted, the same at every step. dynamic: the nodes with the
    highest cumulative probability, found anew at every step (EAGLE-2).
    """

    static = "static"
    dynamic = "dynamic"


class Candidates(StrEnum):
    """Which tokens a node of the tree proposes.

    shared_noise: the top-k of log q + G, with the noise that the target will draw with. top_k: the top-k of log q
    (EAGLE-2).
    """

    shared_noise = "shared_noise"
    top_k = "top_k"


class Residual(StrEnum):
    """What becomes of a relaxed candidate's neighbours when it is rejected.

    released: as in the authors' code, which drops all its k + 1 nearest tokens, or, where candidates are sampled, keeps
    the whole of them. accepted_set: those that it borrowed from are dropped. strict: none is.
    """

    released = "released"
    accepted_set = "accepted_set"
    strict = "strict"


class Selector(StrEnum):
    """Which root path a skipped step follows: a leaf by uniform chance (VVS), or the first candidate of each level."""

    random = "random"
    first = "first"


class Features(StrEnum):
    """What the drafter goes on from after a skip, where the target has computed no features.

    reuse: the last features that the target did compute (VVS). drafted: what the drafter predicted along the path.
    """

    reuse = "reuse"
    drafted = "drafted"


class Truncation(StrEnum):
    """Where that path is cut: at the mean path length of the tree (VVS), or not at all."""

    dynamic = "dynamic"
    none = "none"
