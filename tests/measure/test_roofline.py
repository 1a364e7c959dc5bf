"""The floor of a cell, by hand."""

from __future__ import annotations

import pytest
import torch

from tests import nano
from vvsbench import decoding
from vvsbench.composition import composed
from vvsbench.measure.networks import networks
from vvsbench.measure.rates import rates
from vvsbench.measure.roofline import Networks, Rates, Work, work

COUNTS = {
    "target_forwards": 15,
    "prefill_forwards": 1,
    "draft_forwards": 0,
    "target_positions": 16,
    "draft_positions": 0,
}


def test_a_forward_reads_the_weights_once_for_all_rows_and_the_cache_of_each():
    known = Networks(target_bytes=1000, cache_bytes=10, prefix=4, tokens=16, target_flops=50)
    assert work(known, COUNTS, rows=1) == Work(16 * 1000 + 15 * (4 + 8) * 10, 16 * 50)
    assert work(known, COUNTS, rows=8) == Work(16 * 1000 / 8 + 15 * (4 + 8) * 10, 16 * 50)


def test_the_draft_counts_too():
    known = Networks(target_bytes=1000, draft_bytes=100, draft_flops=3)
    drafting = COUNTS | {"draft_forwards": 7, "draft_positions": 9}
    assert work(known, drafting, 1) == Work(16 * 1000 + 700, 27)


def test_what_a_trace_counts_itself_is_taken():
    assert work(Networks(target_bytes=0, unit_flops=5.0), COUNTS | {"cost": 3.0}, 1).flops == 15


def test_the_floor_is_the_slower_of_the_two():
    assert Work(100, 10).floor(Rates(10, 10)) == 10
    assert Work(10, 100).floor(Rates(10, 10)) == 10


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("weights")
    nano.write(made)
    nano.write_latent(made)
    return made


def built(overrides):
    return decoding.build(composed(overrides), torch.device("cpu"), torch.float32)


def test_a_discrete_decoder_tells_what_it_reads(folder):
    ar = networks(built(nano.overrides(folder)))
    decoder = built([*nano.overrides(folder, drafter=True), "decoder=sd"])
    sd = networks(decoder)
    target, head = decoder.target.transformer, decoder.source.head
    assert (
        ar.target_bytes
        == sd.target_bytes
        == 4 * sum(p.numel() for name, p in target.named_parameters() if "tok_embeddings" not in name)
    )
    assert (ar.draft_bytes, ar.draft_flops) == (0, 0)
    own = sum(p.numel() for name, p in head.named_parameters() if "tok_embeddings" not in name)
    assert sd.draft_bytes == 4 * (own + target.output.weight.numel())


def test_an_oracle_reads_the_targets_weights(folder):
    known = networks(built([*nano.overrides(folder), "decoder=sd", "drafter@decoder.drafter=oracle"]))
    assert known.draft_bytes >= known.target_bytes * 0.9


def test_a_head_is_read_at_every_denoising_step(folder):
    known, more = (
        networks(built([*nano.latent_overrides(folder), "decoder=masked", f"decoder.head_steps={steps}"]))
        for steps in (3, 5)
    )
    decoder = built([*nano.latent_overrides(folder), "decoder=masked"])
    head = 4 * sum(p.numel() for p in decoder.target.head.network.parameters())
    assert more.target_bytes - known.target_bytes == 2 * head
    assert known.unit_flops == decoder.target.spec.flops


def test_rates_are_taken_in_a_moment():
    found = rates(torch.device("cpu"), torch.float32, 1e6)
    assert found.bytes_per_second > 1e7
    assert found.flops_per_second > 1e7
