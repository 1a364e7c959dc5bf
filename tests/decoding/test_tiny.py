"""What the decoders promise, on the tiny zoo's trained target and drafter, through the settings that a user writes."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from torch import Tensor

from vvsbench.composition import composed
from vvsbench.decoding import build
from vvsbench.decoding.base import Decoder
from vvsbench.decoding.trace import DecodeTrace

CELLS = {
    "ar": ["decoder=ar"],
    "sd": ["decoder=sd"],
    "sd top-k": ["decoder=sd", "structure@decoder.structure=dynamic"],
    "sd coupled": ["decoder=sd", "structure@decoder.structure=coupled"],
    "taken back": ["decoder=vvs_coupled", "decoder.skip.recheck=rollback"],
    "vvs coupled": ["decoder=vvs_coupled"],
    "vvs": ["decoder=vvs", "decoder.schedule.interval=3"],
    "vvs drafted": ["decoder=vvs", "decoder.schedule.interval=3", "decoder.skip.features=drafted"],
}
EXACT = ["sd", "sd top-k", "sd coupled", "taken back"]
LAWFUL = {
    "eagle2": ["decoder=eagle2", "decoder.structure.nodes=27"],
    "sampled": [
        "decoder=sd",
        "acceptance@decoder.acceptance=sequential",
        "decoder.structure.candidates=sampled",
    ],
    "small AR": ["decoder=sd", "drafter@decoder.drafter=tiny_ar"],
}
"""Exact in law: drawn with other noise than ar, so that only greedy decoding returns its tokens."""
IMAGES = range(16, 24)


@cache
def decoder(name: str, dtype: torch.dtype) -> Decoder:
    return build(composed(["model=tiny", *CELLS[name]]), torch.device("cpu"), dtype)


@cache
def generate(name: str, images: tuple[int, ...], dtype: torch.dtype = torch.float32) -> tuple[Tensor, DecodeTrace]:
    chosen = decoder(name, dtype)
    return chosen.generate(chosen.target.conditions([image % 64 for image in images]), images, seed=0)


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("images", [(16,), (16, 17, 18)], ids=len)
def test_exact_decoders_return_the_tokens_of_ar(name: str, images: tuple[int, ...]) -> None:
    expected, _ = generate("ar", (16, 17, 18), torch.float64)
    tokens, _ = generate(name, images, torch.float64)
    assert torch.equal(tokens, expected[: len(images)])


@pytest.mark.parametrize("name", EXACT)
def test_single_precision_flips_next_to_nothing(name: str) -> None:
    expected, _ = generate("ar", tuple(IMAGES))
    tokens, _ = generate(name, tuple(IMAGES))
    differing = int((tokens != expected).any(1).sum())
    print(f"{name}: {differing} of {len(IMAGES)} images differ from ar in float32")
    assert differing <= 1


@pytest.mark.parametrize("cell", [*(CELLS[name] for name in EXACT), *LAWFUL.values()], ids=[*EXACT, *LAWFUL])
def test_greedy_decoding_returns_the_tokens_of_ar(cell: list[str]) -> None:
    images = (16, 17, 18)
    greedy = [
        build(composed(["model=tiny", "sampling.temperature=0", *overrides]), torch.device("cpu"), torch.float32)
        for overrides in (["decoder=ar"], cell)
    ]
    expected, tokens = (one.generate(one.target.conditions(list(images)), images, seed=0)[0] for one in greedy)
    assert torch.equal(tokens, expected)


@pytest.mark.parametrize("name", ["ar", "sd", "vvs", "vvs drafted", "vvs coupled", "taken back"])
def test_an_image_is_the_same_at_any_batch_size_and_in_any_shard(name: str) -> None:
    in_eight, _ = generate(name, tuple(IMAGES))
    alone, _ = generate(name, (17,))
    elsewhere, _ = generate(name, (900, 17, 3))
    assert torch.equal(alone[0], in_eight[1])
    assert torch.equal(elsewhere[1], in_eight[1])


def test_fewer_target_forwards_step_by_step() -> None:
    mean = {
        name: sum(row["target_forwards"] for row in generate(name, tuple(IMAGES))[1].rows()) / len(IMAGES)
        for name in CELLS
    }
    assert mean["ar"] == 63
    assert mean["ar"] > mean["sd top-k"] > mean["sd"] > mean["vvs drafted"]
    assert mean["sd"] > mean["sd coupled"] > mean["vvs coupled"]
    assert mean["vvs"] > mean["vvs drafted"], "stale features cost acceptance; the drafter's own cost less"
    assert 64 / (1 + mean["sd"]) >= 2.5


def test_what_ar_costs() -> None:
    row = generate("ar", tuple(IMAGES))[1].rows()[0]
    assert row["step_compression"] == 1.0
    assert (row["prefill_forwards"], row["draft_forwards"], row["target_positions"]) == (1, 0, 64)
