"""A source with a cache of its own says at every node what its network says of that path alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from vvsbench.decoding.trace import CallCounter
from vvsbench.drafting.ar import SmallARSource
from vvsbench.drafting.eagle import EagleHead, EagleSource
from vvsbench.drafting.oracle import OracleSource
from vvsbench.models.guidance import Guidance
from vvsbench.models.llamagen import LlamaGen, LlamaGenState, join_caption, split_caption
from vvsbench.models.transformer import Transformer, TransformerConfig

VOCAB, ROOM, SCALE = 16, 20, 2.5


def network(condition: str, dim: int, layers: int, seed: int) -> Transformer:
    torch.manual_seed(seed)
    prefix = 1 if condition == "label" else 5
    sizes = TransformerConfig(condition, dim, layers, 2, VOCAB, grid=4, classes=4, prefix=prefix, caption_dim=8)
    made = Transformer(sizes)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, 1.0 if parameter.ndim == 1 else 0.0, 0.3)
    return made.double().eval().requires_grad_(False)


def target(condition: str) -> LlamaGen:
    return LlamaGen(network(condition, 32, 2, seed=0), None, Guidance(SCALE))


def source(kind: str, condition: str) -> tuple[Any, LlamaGen]:
    made = target(condition)
    if kind == "ar":
        return SmallARSource(network(condition, 16, 1, seed=1), made), made
    torch.manual_seed(2)
    return EagleSource(EagleHead(made.transformer.config).double().eval(), made), made


def conditions(condition: str) -> Tensor:
    if condition == "label":
        return torch.arange(3)
    mask = torch.arange(5) >= torch.tensor([0, 2, 4])[:, None]
    features = torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return join_caption(features * mask[..., None], mask)


def started(made: LlamaGen, condition: str) -> LlamaGenState:
    return made.start(conditions(condition), [0, 1, 2], room=1)


def alone(small: Transformer, condition: Tensor, path: list[int]) -> Tensor:
    """Guided logits after a path, from an uncached pass over its condition and one over none."""
    labelled = small.config.condition == "label"
    captions, mask = (condition, None) if labelled else split_caption(condition)
    padded = torch.tensor([[*path, 0]])
    both = torch.stack([captions, small.cls_embedding.null(captions)])
    mask = None if mask is None else mask.expand(2, -1)
    logits = small.train_logits(both, padded.expand(2, -1), mask)[:, -1]
    return logits[1] + SCALE * (logits[0] - logits[1])


@pytest.mark.parametrize("condition", ["label", "caption"])
@torch.no_grad()
def test_a_small_model_drafts_what_it_would_predict(condition: str) -> None:
    """Rows of different lengths, two levels of a branching tree, and only what is known and above is seen."""
    drafter, made = source("ar", condition)
    state = drafter.start(started(made, condition), torch.tensor([3, 1, 4]), ROOM)
    tokens, added = torch.tensor([[5, 9, 2], [6, 0, 0], [7, 8, 0]]), torch.tensor([3, 1, 2])
    drafter.extend(state, torch.zeros(3, 2, 3, 32).double(), tokens, added)
    drafter.note(state, [4, 2, 3], exact=True)
    rows, known = list(conditions(condition)), [[3, 5, 9, 2], [1, 6], [4, 7, 8]]
    roots = torch.stack([alone(drafter.transformer, row, path) for row, path in zip(rows, known, strict=True)])
    torch.testing.assert_close(drafter.root_logits(state)[:, 0], roots)
    children = torch.tensor([[1, 2], [3, 4], [5, 6]])
    drafter.expand(state, children, torch.full((3, 2), -1))
    below, parents = torch.tensor([[7, 8, 9], [7, 8, 9], [1, 2, 3]]), torch.tensor([[0, 1, 1], [1, 0, 0], [0, 0, 1]])
    logits = drafter.expand(state, below, parents)
    for row in range(3):
        for node in range(3):
            path = [*known[row], int(children[row, parents[row, node]]), int(below[row, node])]
            torch.testing.assert_close(logits[row, node], alone(drafter.transformer, rows[row], path))


@pytest.mark.parametrize("condition", ["label", "caption"])
@pytest.mark.parametrize("kind", ["eagle", "ar"])
@torch.no_grad()
def test_rewinding_forgets(kind: str, condition: str) -> None:
    """Rows take back different numbers of tokens, in the middle of a tree, and go on as if they had never been."""
    drafter, made = source(kind, condition)
    begun, first = started(made, condition), torch.tensor([3, 1, 4])
    features = torch.randn(3, 2, 4, 32, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    tokens, more = torch.tensor([[5, 9, 2, 1], [6, 6, 6, 6], [7, 8, 2, 0]]), torch.tensor([[8, 8], [2, 2], [9, 3]])
    state = drafter.start(begun, first, ROOM)
    drafter.extend(state, features, tokens, torch.tensor([4, 3, 3]))
    drafter.note(state, [5, 4, 4], exact=True)
    drafter.expand(state, torch.tensor([[1, 2], [3, 4], [5, 6]]), torch.full((3, 2), -1))
    drafter.rewind(state, torch.tensor([3, 0, 1]))
    drafter.note(state, [2, 4, 3], exact=True)
    drafter.extend(state, features[:, :, 1:3], more, torch.tensor([2, 1, 2]))
    drafter.note(state, [4, 5, 5], exact=True)
    fresh = drafter.start(begun, first, ROOM)
    drafter.extend(fresh, features, tokens, torch.tensor([1, 3, 2]))
    drafter.note(fresh, [2, 4, 3], exact=True)
    drafter.extend(fresh, features[:, :, 1:3], more, torch.tensor([2, 1, 2]))
    drafter.note(fresh, [4, 5, 5], exact=True)
    assert torch.equal(state.cache.lengths, fresh.cache.lengths)
    torch.testing.assert_close(drafter.root_logits(state), drafter.root_logits(fresh))
    children = torch.tensor([[1], [2], [3]])
    ours, theirs = (drafter.expand(each, children, torch.full((3, 1), -1)) for each in (state, fresh))
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("kind", ["eagle", "ar"])
@torch.no_grad()
def test_finished_rows_leave(kind: str) -> None:
    drafter, made = source(kind, "caption")
    tokens, added = torch.tensor([[5, 9], [6, 0], [7, 8]]), torch.tensor([2, 1, 2])
    features = torch.randn(3, 2, 2, 32, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    whole, fewer = (drafter.start(started(made, "caption"), torch.tensor([3, 1, 4]), ROOM) for _ in range(2))
    drafter.extend(whole, features, tokens, added)
    drafter.note(whole, [3, 2, 3], exact=True)
    drafter.select(fewer, [0, 2], [1, 1])
    drafter.extend(fewer, features[[0, 2]], tokens[[0, 2]], added[[0, 2]])
    drafter.note(fewer, [3, 3], exact=True)
    torch.testing.assert_close(drafter.root_logits(fewer), drafter.root_logits(whole)[[0, 2]])
    assert fewer.images == [0, 2]


@torch.no_grad()
def test_an_oracle_without_noise_is_the_target_and_its_calls_are_its_own() -> None:
    made = target("caption")
    oracle = OracleSource(made, noise=0.0, seed=0)
    begun, first = started(made, "caption"), torch.tensor([3, 1, 4])
    with CallCounter().watching(made.network) as target_calls, CallCounter().watching(oracle.network) as draft_calls:
        logits = oracle.root_logits(oracle.start(begun, first, ROOM))
    assert (len(target_calls.log), len(draft_calls.log)) == (0, 2)
    rows = zip(conditions("caption"), first.tolist(), strict=True)
    expected = torch.stack([alone(made.transformer, row, [token]) for row, token in rows])
    torch.testing.assert_close(logits[:, 0], expected)


@torch.no_grad()
def test_an_oracles_noise_belongs_to_image_and_position() -> None:
    made = target("label")
    begun, first = started(made, "label"), torch.tensor([3, 1, 4])
    clean, noisy = (OracleSource(made, noise, seed=5) for noise in (0.0, 0.5))
    added = []
    for tokens in (first, first.flip(0)):  # another path, the same position
        states = [each.start(begun, tokens, ROOM) for each in (clean, noisy)]
        added.append(noisy.root_logits(states[1]) - clean.root_logits(states[0]))
    torch.testing.assert_close(added[0], added[1])
    assert (added[0][0] - added[0][1]).abs().max() > 0.1, "images have different noise"
    nodes, roots = torch.tensor([[2], [2], [2]]), torch.full((3, 1), -1)
    deeper = noisy.expand(states[1], nodes, roots) - clean.expand(states[0], nodes, roots)
    assert (deeper - added[0]).abs().max() > 0.1, "positions have different noise"
    assert 0.3 < float(added[0].std()) < 0.7
    other = OracleSource(made, 0.5, seed=6)
    assert not torch.equal(other.root_logits(other.start(begun, first, ROOM)), noisy.root_logits(states[1]))


@torch.no_grad()
def test_what_a_small_model_predicts_of_features_is_as_wide_as_the_targets() -> None:
    drafter, made = source("ar", "label")
    state = drafter.start(started(made, "label"), torch.tensor([3, 1, 4]), ROOM)
    assert drafter.predicted(state, torch.full((3, 2), -1)).shape == (3, 2, 2, made.spec.dim)
