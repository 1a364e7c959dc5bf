"""What the cache holds after speculation and roll-back is what a fresh run over the same tokens would hold."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vvsbench.models.guidance import Guidance
from vvsbench.models.llamagen import LlamaGen, LlamaGenState, join_caption
from vvsbench.models.protocols import Block
from vvsbench.models.transformer import Transformer, TransformerConfig

ROOM = 12


def model(condition: str) -> LlamaGen:
    torch.manual_seed(0)
    sizes = TransformerConfig(
        condition,
        dim=32,
        layers=2,
        heads=2,
        vocab=16,
        grid=4,
        classes=4,
        prefix=1 if condition == "label" else 5,
        caption_dim=8,
    )
    return LlamaGen(Transformer(sizes).double().eval(), None, Guidance(2.0))


MODELS = {name: model(name) for name in ("label", "caption")}


def conditions(name: str, rows: int) -> torch.Tensor:
    if name == "label":
        return torch.arange(rows) % 4
    mask = torch.arange(5) >= torch.tensor([0, 2, 4, 1])[:rows, None]
    features = torch.randn(rows, 5, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return join_caption(features * mask[..., None], mask)


def committed(state: LlamaGenState, row: int) -> torch.Tensor:
    length = int(state.cache.lengths[row])
    return state.cache.slots[:, :, 2 * row : 2 * row + 2, :, :length]


@given(
    name=st.sampled_from(["label", "caption"]),
    rounds=st.lists(
        st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 3), st.integers(0, 5)), min_size=3, max_size=3),
        min_size=1,
        max_size=3,
    ),
)
@settings(max_examples=30)
@torch.inference_mode()
def test_cache_after_commits_equals_a_fresh_prefill(name: str, rounds: list[list[tuple[int, int, int]]]) -> None:
    target, rows = MODELS[name], 3
    state = target.start(conditions(name, rows), range(rows), ROOM)
    history: list[list[int]] = [[] for _ in range(rows)]
    for step in rounds:
        tokens = torch.stack(
            [torch.randint(0, 16, (6,), generator=torch.Generator().manual_seed(s)) for s, _, _ in step]
        )
        # a root with two branches: 0 -> 1 -> 2 and 0 -> 3 -> 4, and a lone child 5
        parents = [0, 0, 1, 0, 3, 0]
        depths = torch.tensor([[0, 1, 2, 1, 2, 1]])
        visible = torch.eye(6, dtype=torch.bool)
        for node, parent in enumerate(parents):
            visible[node] |= visible[parent]
        target.forward(state, Block(tokens, depths, visible[None]))
        paths = [[[0, 1, 2], [0, 3, 4], [0, 5]][branch % 3][:length] for _, length, branch in step]
        kept = torch.tensor([path + [0] * (3 - len(path)) for path in paths])
        for row, path in enumerate(paths):
            history[row] += [int(tokens[row, node]) for node in path]
        added = torch.tensor([len(path) for path in paths])
        target.commit(state, kept, added)
        target.note(state, [len(tokens) for tokens in history])
    for row in range(rows):
        fresh = target.start(conditions(name, rows)[row : row + 1], [row], ROOM)
        for index, token in enumerate(history[row]):
            target.forward(fresh, Block(torch.tensor([[token]]), torch.zeros(1, 1, dtype=torch.long)))
            target.commit(fresh, None, torch.ones(1, dtype=torch.long))
            target.note(fresh, [index + 1])
        torch.testing.assert_close(committed(state, row), committed(fresh, 0))


@torch.inference_mode()
def test_select_keeps_the_rows_that_are_named() -> None:
    target = MODELS["caption"]
    state = target.start(conditions("caption", 4), [7, 8, 9, 10], ROOM)
    kept = [committed(state, row).clone() for row in (1, 3)]
    target.select(state, [1, 3], [0, 0])
    assert state.images == [8, 10]
    for row, expected in enumerate(kept):
        torch.testing.assert_close(committed(state, row), expected)


@torch.inference_mode()
def test_rows_that_sit_out_are_untouched() -> None:
    target = MODELS["label"]
    everyone = target.start(conditions("label", 3), range(3), ROOM)
    block = Block(torch.tensor([[3], [5]]), torch.zeros(1, 1, dtype=torch.long), rows=torch.tensor([0, 2]))
    logits, _ = target.forward(everyone, block)
    target.commit(everyone, None, torch.tensor([1, 0, 1]))
    target.note(everyone, [1, 0, 1])
    for place, (row, token) in enumerate([(0, 3), (2, 5)]):
        alone = target.start(conditions("label", 3)[row : row + 1], [row], ROOM)
        expected, _ = target.forward(alone, Block(torch.tensor([[token]]), torch.zeros(1, 1, dtype=torch.long)))
        torch.testing.assert_close(logits[place], expected[0])
    assert everyone.lengths.tolist() == [1, 0, 1]
