"""Every decoder draws from every family of transformers' targets, and what is exact draws `ar`'s tokens."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.transformers_cases import Case, folders
from vvsbench.axes import Candidates, Recheck
from vvsbench.decoding.acceptance import Match
from vvsbench.decoding.autoregressive import Autoregressive
from vvsbench.decoding.base import Decoder
from vvsbench.decoding.schedule import Schedule
from vvsbench.decoding.schedule.always import Always
from vvsbench.decoding.schedule.uniform import Uniform
from vvsbench.decoding.settings import SkipConfig
from vvsbench.decoding.speculative import Grid, Speculative
from vvsbench.drafting.growing import StaticTree
from vvsbench.drafting.jacobi import JacobiSource
from vvsbench.drafting.oracle import OracleSource
from vvsbench.sampling import Sampling

FIXTURES = Path(__file__).parent.parent / "golden" / "fixtures"
SAMPLING = Sampling(temperature=1.0, top_k=12)
FAMILIES = {folder.parent.name: folder for folder in folders(FIXTURES)}


@pytest.fixture(scope="module", params=FAMILIES)
def case(request: pytest.FixtureRequest) -> Case:
    return Case(FAMILIES[request.param])


def drawn(decoder: Decoder, case: Case, images: range, rows: int = 4) -> torch.Tensor:
    prompts = [case.prompts[image % len(case.prompts)] for image in images]
    return decoder.generate_all(decoder.target.conditions(prompts), images, 5, rows)[0]


def speculative(case: Case, schedule: Schedule, skip: SkipConfig) -> Speculative:
    target = case.target(extra=1)
    tree = StaticTree([(0,), (1,), (0, 0), (0, 1), (0, 0, 0)], target.device)
    grid = Grid(tree, Candidates.shared_noise, Match(), schedule, skip)
    return Speculative(target, OracleSource(target, noise=1.0, seed=1), grid, SAMPLING)


def test_speculation_and_batches_draw_the_tokens_of_ar(case: Case) -> None:
    images = range(4)
    ar = Autoregressive(case.target(extra=1), SAMPLING)
    expected = drawn(ar, case, images)
    assert torch.equal(torch.cat([drawn(ar, case, range(image, image + 1)) for image in images]), expected)
    decoder = speculative(case, Always(), SkipConfig())
    tokens, (trace,) = decoder.generate_all(
        decoder.target.conditions([case.prompts[image % len(case.prompts)] for image in images]), images, 5, 3
    )
    assert torch.equal(tokens, expected)
    rows = trace.rows()
    assert sum(row["target_forwards"] for row in rows) < len(rows) * (tokens.shape[1] - 1)
    chosen = tokens.shape[1] - decoder.target.spec.forced
    assert all(row["step_compression"] == chosen / (row["target_forwards"] + 1) for row in rows)
    rollback = speculative(case, Uniform(interval=2), SkipConfig(recheck=Recheck.rollback))
    assert torch.equal(drawn(rollback, case, images, rows=3), expected)


def test_a_target_drafts_for_itself(case: Case) -> None:
    images = range(3)
    target = case.target(extra=1)
    tree = StaticTree([(0,), (0, 0), (0, 0, 0), (1,)], target.device)
    grid = Grid(tree, Candidates.shared_noise, Match(), Always())
    jacobi = Speculative(target, JacobiSource(target), grid, SAMPLING)
    assert torch.equal(drawn(jacobi, case, images, rows=2), drawn(Autoregressive(target, SAMPLING), case, images))


def test_a_skipping_decoder_skips(case: Case) -> None:
    decoder = speculative(case, Uniform(interval=2), SkipConfig())
    prompts = [case.prompts[image % len(case.prompts)] for image in range(2)]
    tokens, (trace,) = decoder.generate_all(decoder.target.conditions(prompts), range(2), 5, 2)
    assert sum(row["skipped_steps"] for row in trace.rows()) > 0
    allowed = decoder.target.family.allowed(torch.arange(tokens.shape[1]))
    if allowed is not None:
        assert allowed.expand(len(tokens), -1, -1).gather(2, tokens[..., None]).all()
