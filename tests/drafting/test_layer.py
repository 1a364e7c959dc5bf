"""The head of one layer: the published names, padding by branch, and the tokens of `ar` whatever it drafts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.transformers_cases import Case, folders
from vvsbench.axes import Candidates
from vvsbench.decoding.acceptance import Match
from vvsbench.decoding.autoregressive import Autoregressive
from vvsbench.decoding.schedule.always import Always
from vvsbench.decoding.speculative import Grid, Speculative
from vvsbench.drafting.growing import StaticTree
from vvsbench.drafting.layer import LayerHead, LayerSource, load_layer
from vvsbench.errors import CheckpointError
from vvsbench.sampling import Sampling

FIXTURES = Path(__file__).parent.parent / "golden" / "fixtures"
ROOM = 8


@pytest.fixture(scope="module", params=["chameleon", "emu3"])
def case(request: pytest.FixtureRequest) -> Case:
    return Case(next(folder for folder in folders(FIXTURES) if folder.parts[-2:] == (request.param, "grouped")))


def head_of(case: Case) -> LayerHead:
    torch.manual_seed(3)
    head = LayerHead(case.target().family.text).eval().requires_grad_(False)
    for parameter in head.parameters():
        if parameter.ndim > 1:
            parameter.normal_(0, 0.2)
    return head


@torch.no_grad()
def test_it_drafts_what_an_uncached_pass_over_prompt_and_tokens_says(case: Case) -> None:
    target, head = case.target(extra=2), head_of(case)
    source = LayerSource(head, target)
    conditions = target.conditions(case.prompts)
    images = range(len(conditions))
    state = target.start(conditions, images, room=1)
    first = torch.arange(len(images)) + 3
    draft = source.start(state, first, ROOM)
    children = first[:, None] + torch.tensor([1, 2])
    source.root_logits(draft)
    logits = source.expand(draft, children, torch.full_like(children, -1))
    for row in images:
        branches = []
        for branch in range(2):
            ids = conditions[row, branch]
            there = ids >= 0
            words = [*ids[there].tolist()[1:], int(target.family.ids[first[row]])]
            features = state.prefix_features[row, branch][there]
            for child in children[row]:
                known, said = alone(head, features, words)
                deeper = torch.cat([features, known[-1:]]), [*said, int(target.family.ids[child])]
                branches.append(alone(head, *deeper)[0][-1])
        stacked = torch.stack(branches).view(2, 2, -1)[None]  # [1, G, W, D]
        expected = target.head(stacked, torch.ones(1, 1, dtype=torch.long) * 2)
        torch.testing.assert_close(logits[row], expected[0], atol=1e-4, rtol=1e-4)


def alone(head: LayerHead, features: torch.Tensor, words: list[int]) -> tuple[torch.Tensor, list[int]]:
    """Predicted features [T, D] of one sequence, by the layer of transformers without any cache."""
    x = head.join(features, torch.tensor(words))[None]
    places = torch.arange(len(words))[None]
    mask = torch.full((len(words), len(words)), float("-inf")).triu(1)[None, None]
    rotations = head._rotations[0](x, position_ids=places)
    out = head.layers[0](x, attention_mask=mask, position_ids=places, position_embeddings=rotations)
    return (out[0] if isinstance(out, tuple) else out)[0], words


def test_its_decoder_draws_the_tokens_of_ar(case: Case) -> None:
    target, sampling = case.target(extra=1), Sampling(temperature=1.0, top_k=12)
    tree = StaticTree([(0,), (1,), (0, 0), (0, 1)], target.device)
    grid = Grid(tree, Candidates.shared_noise, Match(), Always())
    decoder = Speculative(target, LayerSource(head_of(case), target), grid, sampling)
    conditions = target.conditions([case.prompts[image % 2] for image in range(3)])
    expected, _ = Autoregressive(target, sampling).generate(conditions, range(3), 5)
    assert torch.equal(decoder.generate_all(conditions, range(3), 5, 2)[0], expected)


def test_a_published_file_loads_under_its_own_names(case: Case, tmp_path: Path) -> None:
    target, head = case.target(), head_of(case)
    state = head.state_dict()
    assert {"embed_tokens.weight", "fc.weight", "fc.bias", "layers.0.self_attn.q_proj.weight"} < state.keys()
    assert any("input_layernorm" in name for name in state)
    save_file(state, tmp_path / "model.safetensors")
    loaded = load_layer(str(tmp_path), target, torch.device("cpu"), torch.float32)
    assert all(torch.equal(value, state[name]) for name, value in loaded.state_dict().items())
    state.pop("layers.0.self_attn.q_proj.weight")
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="missing: layers.0.self_attn.q_proj.weight"):
        load_layer(str(tmp_path), target, torch.device("cpu"), torch.float32)
