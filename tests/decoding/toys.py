"""Toy targets and every decoder on them, for the tests of this folder."""

from __future__ import annotations

import torch

from vvsbench.axes import Candidates
from vvsbench.decoding.acceptance import AcceptanceRule, Match
from vvsbench.decoding.autoregressive import Autoregressive
from vvsbench.decoding.schedule import Always, Schedule
from vvsbench.decoding.settings import SkipConfig
from vvsbench.decoding.speculative import Grid, Speculative
from vvsbench.drafting.growing import DynamicTree, StaticTree, Structure
from vvsbench.drafting.rates import fitted_paths
from vvsbench.models.toy import ToySource, ToyTarget, noisy, random_table
from vvsbench.sampling import Sampling

CPU = torch.device("cpu")


def toy_target(vocab: int = 3, tokens: int = 4, seed: int = 1) -> ToyTarget:
    return ToyTarget(random_table(vocab, tokens, seed), tokens)


def structures() -> dict[str, Structure]:
    return {
        "chain": StaticTree([(0,), (0, 0), (0, 0, 0)], CPU),
        "static": StaticTree(fitted_paths([0.5, 0.3, 0.1], nodes=9, depth=3), CPU),
        "dynamic": DynamicTree(levels=3, top_k=2, nodes=7),
    }


def autoregressive(target: ToyTarget, sampling: Sampling | None = None) -> Autoregressive:
    return Autoregressive(target, sampling or Sampling())


def speculative(
    target: ToyTarget,
    structure: str = "static",
    candidates: Candidates = Candidates.shared_noise,
    schedule: Schedule | None = None,
    sampling: Sampling | None = None,
    rule: AcceptanceRule | None = None,
    skip: SkipConfig | None = None,
) -> Speculative:
    grid = Grid(structures()[structure], candidates, rule or Match(), schedule or Always(), skip or SkipConfig())
    return Speculative(target, ToySource(noisy(target.table, 0.7, seed=7)), grid, sampling or Sampling())
