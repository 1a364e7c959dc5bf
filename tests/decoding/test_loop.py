"""The speculative loop keeps its promises about tokens, batches, skips and counts on the toy target."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.decoding.toys import autoregressive, speculative, structures, toy_target
from vvsbench.axes import Candidates, Features, Guarantee, Recheck, Selector, Truncation
from vvsbench.decoding.base import Decoder
from vvsbench.decoding.schedule import Confident, Dynamic, Schedule, Uniform
from vvsbench.decoding.settings import SkipConfig
from vvsbench.decoding.trace import Origin, StepKind
from vvsbench.drafting.growing import Growth
from vvsbench.drafting.tree import TokenTree
from vvsbench.sampling import Sampling

TOKENS = 9
TARGET = toy_target(vocab=3, tokens=TOKENS, seed=3)


def generate(decoder: Decoder, images: range | list[int], seed: int = 0) -> torch.Tensor:
    return decoder.generate(TARGET.conditions([0] * len(images)), images, seed)[0]


@pytest.mark.parametrize("structure", structures())
@pytest.mark.parametrize("candidates", Candidates)
@pytest.mark.parametrize("batch", [1, 5])
def test_exact_decoders_return_the_tokens_of_ar(structure: str, candidates: Candidates, batch: int) -> None:
    expected = generate(autoregressive(TARGET), range(40))
    decoder = speculative(TARGET, structure, candidates)
    tokens = torch.cat([generate(decoder, range(first, first + batch)) for first in range(0, 40, batch)])
    assert torch.equal(tokens, expected)


@pytest.mark.parametrize("candidates", Candidates)
@pytest.mark.parametrize("structure", structures())
def test_at_temperature_0_they_return_the_likeliest_tokens(structure: str, candidates: Candidates) -> None:
    greedy = Sampling(temperature=0.0)
    expected = generate(autoregressive(TARGET, greedy), range(1))
    tokens = generate(speculative(TARGET, structure, candidates, sampling=greedy), range(5))
    assert torch.equal(tokens, expected.expand(5, -1))


@pytest.mark.parametrize("candidates", [Candidates.shared_noise, Candidates.top_k])
def test_at_temperature_0_trees_are_ranked_by_plain_probabilities(
    candidates: Candidates, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sharpened law would call every path but one hopeless and that one certain."""
    decoder = speculative(TARGET, "dynamic", candidates, sampling=Sampling(temperature=0.0))
    grow, grown = decoder.structure.grow, []

    def checked(growth: Growth, roots: torch.Tensor) -> TokenTree:
        plain = growth.source.root_logits(growth.state)[:, 0].log_softmax(-1)
        grown.append(grow(growth, roots))
        torch.testing.assert_close(grown[-1].log_hits[:, 1], plain.amax(-1))
        return grown[-1]

    monkeypatch.setattr(decoder.structure, "grow", checked)
    generate(decoder, range(3))
    assert grown


SCHEDULES: list[Schedule] = [
    Uniform(interval=2, first_tokens=1),
    Uniform(interval=4, first_tokens=1),
    Confident(chance=0.2, first_tokens=1),
    Dynamic(threshold=0.0, first_tokens=1),
]


@given(
    images=st.lists(st.integers(0, 10_000), min_size=1, max_size=6, unique=True),
    schedule=st.sampled_from(SCHEDULES),
    seed=st.integers(0, 2**40),
    skip=st.builds(
        SkipConfig,
        selector=st.sampled_from(Selector),
        truncation=st.sampled_from(Truncation),
        features=st.sampled_from(Features),
        in_a_row=st.integers(1, 3),
        recheck=st.sampled_from(Recheck),
        repair=st.booleans(),
    ),
    structure=st.sampled_from(["chain", "static", "dynamic"]),
    candidates=st.sampled_from(Candidates),
)
@settings(max_examples=60)
def test_an_image_does_not_depend_on_its_batch(
    images: list[int], schedule: Schedule, seed: int, skip: SkipConfig, structure: str, candidates: Candidates
) -> None:
    decoder = speculative(TARGET, structure, candidates, schedule=schedule, skip=skip)
    together = generate(decoder, images, seed)
    alone = torch.cat([generate(decoder, [image], seed) for image in images])
    assert torch.equal(together, alone)


@given(
    skip=st.builds(
        SkipConfig,
        selector=st.sampled_from(Selector),
        truncation=st.sampled_from(Truncation),
        features=st.sampled_from(Features),
        in_a_row=st.integers(1, 3),
        recheck=st.just(Recheck.rollback),
    ),
    schedule=st.sampled_from(SCHEDULES),
    structure=st.sampled_from(["chain", "static", "dynamic"]),
    candidates=st.sampled_from(Candidates),
)
@settings(max_examples=40)
def test_skips_that_are_taken_back_leave_the_tokens_of_ar(
    skip: SkipConfig, schedule: Schedule, structure: str, candidates: Candidates
) -> None:
    decoder = speculative(TARGET, structure, candidates, schedule=schedule, skip=skip)
    assert decoder.guarantee is Guarantee.exact
    assert torch.equal(generate(decoder, range(30)), generate(autoregressive(TARGET), range(30)))


@pytest.mark.parametrize("interval", [2, 3])
@pytest.mark.parametrize("structure", structures())
def test_trace_adds_up(structure: str, interval: int) -> None:
    decoder = speculative(TARGET, structure, schedule=Uniform(interval=interval, first_tokens=2))
    _, trace = decoder.generate(TARGET.conditions([0] * 20), range(20), 0)
    rows = trace.rows()
    assert [row["image"] for row in rows] == list(range(20))
    for row, steps in zip(rows, trace.steps, strict=True):
        kinds = [step.kind for step in steps]
        assert sum(step.tokens for step in steps) == TOKENS - 1
        assert row["target_forwards"] == kinds.count(StepKind.VERIFIED) == row["verified_steps"]
        assert row["prefill_forwards"] == 1
        assert row["step_compression"] == TOKENS / (row["target_forwards"] + 1)
        assert not any(a is b is StepKind.SKIPPED for a, b in zip(kinds, kinds[1:], strict=False))
        assert row["origin"].count(Origin.SKIPPED) == sum(row["skipped"])
        assert row["origin"].count(Origin.ACCEPTED) == sum(row["accepted"])
        assert len(row["agreed"]) in {len(row["skipped"]), len(row["skipped"]) - 1}
        assert all(0 <= agreed <= kept for agreed, kept in zip(row["agreed"], row["skipped"], strict=False))
        levels = decoder.structure.levels
        assert all(0 <= accepted <= levels for accepted in row["accepted"])
        assert all(1 <= skipped <= levels for skipped in row["skipped"])
    assert any(row["skipped"] for row in rows)


def test_the_schedule_is_followed() -> None:
    _, trace = speculative(TARGET, "chain", schedule=Uniform(interval=3, offset=1, first_tokens=2)).generate(
        TARGET.conditions([0] * 30), range(30), 1
    )
    for steps in trace.steps:
        committed = 0
        for index, step in enumerate(steps):
            assert (step.kind is StepKind.SKIPPED) == (index % 3 == 1 and committed > 2)
            committed += step.tokens


def test_a_schedule_that_never_falls_due_is_speculative_decoding() -> None:
    late = speculative(TARGET, schedule=Uniform(interval=2, first_tokens=TOKENS))
    assert torch.equal(generate(late, range(20)), generate(speculative(TARGET), range(20)))


def test_finished_rows_stop_costing() -> None:
    decoder = speculative(TARGET)
    _, trace = decoder.generate(TARGET.conditions([0] * 16), range(16), 0)
    together = {row["image"]: row["target_positions"] for row in trace.rows()}
    alone = [decoder.generate(TARGET.conditions([0]), [image], 0)[1].rows()[0] for image in range(16)]
    assert len(set(together.values())) > 1
    for row in alone:  # alone a tree ends where the image does; in a batch where the last of the images does
        forwards = row["target_forwards"]
        assert row["target_positions"] <= together[row["image"]] <= 1 + forwards * decoder.structure.nodes
