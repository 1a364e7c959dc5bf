"""What the benches time is what it is said to be: the reference has the model's logits, scripts accept as told."""

from __future__ import annotations

import pytest
import torch

from tests.decoding.tape import Taped
from vvsbench.axes import EngineKind
from vvsbench.decoding.engine import Eager
from vvsbench.measure.bench import loops, random_models
from vvsbench.measure.bench.reference import Reference
from vvsbench.measure.bench.scripted import Bursts, Scripted, rate_for, tokens_per_round
from vvsbench.models.guidance import Guidance
from vvsbench.models.llamagen import join_caption
from vvsbench.models.protocols import Block
from vvsbench.models.transformer import TransformerConfig
from vvsbench.sampling import Sampling

CPU = torch.device("cpu")


def made(condition="label", scale=3.0, grid=8):
    prefix = 1 if condition == "label" else 5
    config = TransformerConfig(condition, 32, 2, 2, 64, grid, classes=10, prefix=prefix, caption_dim=8)
    return random_models.llamagen(config, Guidance(scale), "nano", CPU, torch.float32)


def sized(tokens=16, **more):
    return loops.Size.windows("nano", made(**more), Sampling(top_k=16), tokens, 4)


def captions(target):
    mask = torch.tensor([[False, False, True, True, True], [True] * 5])
    return join_caption(torch.randn(2, 5, 8), mask)


@pytest.mark.parametrize(("condition", "scale"), [("label", 3.0), ("label", 1.0), ("caption", 3.0)])
@torch.inference_mode()
def test_the_reference_has_the_logits_of_the_model(condition, scale):
    target, _ = made(condition, scale)
    conditions = captions(target) if condition == "caption" else target.conditions([1, 2])
    reference = Reference(target, Sampling())
    state = target.start(conditions, [0, 1], 1)
    theirs = reference.start(conditions)
    torch.testing.assert_close(theirs, state.first_logits, rtol=1e-4, atol=1e-4)
    offset, prefix = torch.zeros(1, 1, dtype=torch.long), target.spec.prefix
    for index in range(5):
        tokens = torch.tensor([3 + index, 7])
        ours = target.forward(state, Block(tokens[:, None], offset))[0][:, 0]
        target.commit(state, None, torch.ones(2, dtype=torch.long))
        target.note(state, [index + 1] * 2)
        theirs = reference.step(tokens, torch.tensor([prefix + index]))
        torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-4)


def test_the_reference_draws_what_is_asked_for():
    target, _ = made()
    reference = Reference(target, Sampling(top_k=5))
    tokens = reference.decode(reference.start(target.conditions([1, 2])), 0, 6)
    assert tokens.shape == (2, 6)
    assert int(tokens.max()) < 64


@torch.inference_mode()
def test_a_window_costs_what_it_costs_where_it_is():
    target, _ = made()
    target.window(4, 20)
    state = target.start(target.conditions([1]), [0], 1)
    assert state.cache.extent == 21
    assert state.cache.lengths.tolist() == [21]
    assert target.spec.tokens == 4
    assert target.whole.tokens == 64


def test_windows_lie_in_the_middle_of_each_quarter():
    size = sized(tokens=6)
    assert size.places == (5, 21, 37, 53)
    assert size.tokens == 6
    assert sized(tokens=99).tokens == 16


@pytest.mark.parametrize("condition", ["label", "caption"])
def test_a_scripted_round_accepts_as_told(condition):
    size = sized(condition=condition)
    none, all_ = (size.taken(size.speculative(EngineKind.eager, loops.chain(), Scripted(rate))) for rate in (0.0, 1.0))
    assert none.reduction == 1
    assert all_.reduction > 3  # five drafts and one more, but for the round that ends a window
    vanilla = size.taken(size.ar(EngineKind.eager), 2)
    assert vanilla.tokens == 4 * 15
    assert vanilla.verified == vanilla.tokens


def test_bursts_skip_as_often_as_told():
    size = sized()
    taken = size.taken(size.speculative(EngineKind.eager, loops.chain(), Scripted(0.0), Bursts(skipped=2), in_a_row=2))
    assert taken.verified < taken.skipped <= 2 * taken.verified


@pytest.mark.parametrize("tokens", [1.5, 2.24, 4.5])
def test_the_rate_gives_the_tokens(tokens):
    assert tokens_per_round(rate_for(tokens, 5), 5) == pytest.approx(tokens)


def test_a_queue_of_images_counts_per_row():
    size = sized()
    taken = size.taken(size.ar(EngineKind.eager), 2, 4)
    assert taken.tokens == 4 * 15 * 2


@pytest.mark.parametrize("speculative", [False, True])
def test_windows_are_the_same_where_stages_are_recorded(speculative, monkeypatch):
    """A recorded loop keeps its caches from one window to the next, wherever that lies."""
    size = sized(tokens=8, condition="caption")

    def made_by(engine):
        monkeypatch.setattr(loops.engines, "make", lambda kind, device: engine)
        if not speculative:
            return size.ar(EngineKind.eager)
        return size.speculative(EngineKind.eager, loops.fitted(6), Scripted(0.5), Bursts())

    plain, recorded = made_by(Eager()), made_by(Taped())
    conditions = size.target.conditions([1, 2])
    for place in (*size.places, *size.places):
        drawn = []
        for decoder in (plain, recorded):
            decoder.target.window(8, place)
            drawn.append(decoder.generate(conditions, [0, 1], 0)[0])
        assert torch.equal(*drawn)
