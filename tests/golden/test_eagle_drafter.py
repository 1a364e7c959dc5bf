"""The target in the Hugging Face layout, its EAGLE drafter and the dynamic tree give the numbers of LANTERN's code."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.golden.conftest import GoldenFolder
from vvsbench.axes import Candidates
from vvsbench.drafting.cached import CachedState
from vvsbench.drafting.eagle import EagleHead, EagleSource, from_published, to_published
from vvsbench.drafting.growing import DynamicTree, Growth
from vvsbench.drafting.sources import EagleConfig, Pads
from vvsbench.drafting.tree import TokenTree
from vvsbench.models import checkpoints
from vvsbench.models.guidance import Guidance
from vvsbench.models.llamagen import LlamaGen, LlamaGenState, join_caption
from vvsbench.models.llamagen_layouts import to_official
from vvsbench.models.protocols import Block
from vvsbench.models.transformer import Transformer, TransformerConfig
from vvsbench.sampling import Sampling

Open = Callable[[str], GoldenFolder]
HIDDEN, LOGITS = 1e-4, 2e-4
ROOM = 128
DRAFTER_GRID = {"t2i": 16, "t2i2": 32}
RUNS = ("plain", "proc")


def sampling_of(folder: GoldenFolder, run: str) -> Sampling:
    processor = folder.config["processor"]
    return Sampling() if run == "plain" else Sampling(processor["temperature"], processor["top_k"])


def sizes(folder: GoldenFolder, part: str, grid: int) -> tuple[TransformerConfig, dict[str, Any]]:
    base = json.loads((folder.path / "base" / "config.json").read_text())
    own = json.loads((folder.path / part / "config.json").read_text())
    config = TransformerConfig(
        condition="caption",
        dim=own["hidden_size"],
        layers=own["num_hidden_layers"],
        heads=own["num_attention_heads"],
        vocab=own["vocab_size"],
        grid=grid,
        prefix=base["cls_token_num"],
        caption_dim=base["caption_dim"],
        ffn=own["intermediate_size"],
        norm_eps=own["rms_norm_eps"],
    )
    return config, own


def target_of(folder: GoldenFolder) -> LlamaGen:
    base = json.loads((folder.path / "base" / "config.json").read_text())
    config, _ = sizes(folder, "base", round(base["block_size"] ** 0.5))
    network = Transformer(config).eval()
    path = folder.path / "base"
    checkpoints.load_strict(network, to_official(checkpoints.read(path), str(path)), str(path))
    return LlamaGen(network, None, Guidance(folder.config["cfg"]))


def head_of(folder: GoldenFolder) -> EagleHead:
    described = json.loads((folder.path / "drafter" / "config.json").read_text())
    config, own = sizes(folder, "drafter", DRAFTER_GRID[described["input_type"]])
    head = EagleHead(config, own.get("bias", True)).eval()
    path = folder.path / "drafter"
    checkpoints.load_strict(head, from_published(checkpoints.read(path)), str(path))
    return head


def settings_of(folder: GoldenFolder) -> EagleConfig:
    """What a user writes for such a drafter, as in conf/drafter/llamagen_t2i_xl_256.yaml."""
    own = json.loads((folder.path / "drafter" / "config.json").read_text())
    return EagleConfig(
        checkpoint=str((folder.path / "drafter").resolve()),
        dim=own["hidden_size"],
        heads=own["num_attention_heads"],
        vocab=own["vocab_size"],
        ffn=own["intermediate_size"],
        grid=DRAFTER_GRID[own["input_type"]],
        norm_eps=own["rms_norm_eps"],
        pads=Pads.spread,
    )


@torch.inference_mode()
def test_target_features_and_logits(golden: Open) -> None:
    folder = golden("eagle_drafter")
    target, tokens = target_of(folder), folder["tokens"]
    mask = folder["emb_mask"].bool()
    state = target.start(join_caption(folder["cond"], mask), [0], room=1)
    features = [state.prefix_features[0, :, -1]]
    for index in range(tokens.shape[1]):
        block = Block(tokens[:, index : index + 1], torch.zeros(1, 1, dtype=torch.long))
        features.append(target.forward(state, block)[1][0, :, 0])
        target.commit(state, None, torch.ones(1, dtype=torch.long))
        target.note(state, [index + 1])
    hidden = torch.stack(features, 1)
    torch.testing.assert_close(hidden, folder["base_hidden"], atol=HIDDEN, rtol=0)
    torch.testing.assert_close(target.transformer.logits(hidden), folder["base_logits"], atol=LOGITS, rtol=0)
    text, expected = mask[0], folder["base_prefill_hidden"]
    torch.testing.assert_close(state.prefix_features[0][:, text], expected[:, text], atol=HIDDEN, rtol=0)
    assert not torch.allclose(state.prefix_features[0], expected, atol=HIDDEN), "padding is isolated by default"
    target.spread_pads = True
    spread = target.start(join_caption(folder["cond"], mask), [0], room=1)
    torch.testing.assert_close(spread.prefix_features[0], expected, atol=HIDDEN, rtol=0)
    torch.testing.assert_close(spread.first_logits, state.first_logits, atol=LOGITS, rtol=0)


@torch.inference_mode()
def test_drafter_forward(golden: Open) -> None:
    folder = golden("eagle_drafter")
    target, head = target_of(folder), head_of(folder)
    features = folder["base_prefill_hidden"]
    tokens = torch.zeros(features.shape[:2], dtype=torch.long)
    tokens[:, -1] = folder["plain_call0_input_ids"].flatten()[-1]
    hidden = head.train_features(features, tokens, first=0)
    last = folder["drafter_forward_hidden"].shape[1]
    torch.testing.assert_close(hidden[:, -last:], folder["drafter_forward_hidden"], atol=HIDDEN, rtol=0)
    logits = target.transformer.logits(hidden[:, -last:])
    torch.testing.assert_close(logits, folder["drafter_forward_logits"], atol=LOGITS, rtol=0)


def test_published_names_there_and_back(golden: Open) -> None:
    path = golden("eagle_drafter").path / "drafter"
    published = checkpoints.read(path)
    again = to_published(from_published(published))
    assert again.keys() == published.keys()
    assert all(torch.equal(again[key], published[key]) for key in published)


def grow(folder: GoldenFolder, source: EagleSource, state: CachedState, root: Tensor, run: str) -> TokenTree:
    shape = folder.config["tree"]
    tree = DynamicTree(levels=shape["depth"] + 1, top_k=shape["top_k"], nodes=shape["total_tokens"])
    noise = torch.zeros(1, tree.levels + 1, source.network.config.vocab)
    return tree.grow(Growth(source, state, sampling_of(folder, run), Candidates.top_k, noise), root)


def check(folder: GoldenFolder, tree: TokenTree, call: str) -> None:
    assert torch.equal(tree.tokens[0], folder[f"{call}_draft_tokens"])
    assert torch.equal(tree.depths[0], folder[f"{call}_tree_position_ids"])
    assert torch.equal(tree.visible[0], folder[f"{call}_tree_mask"].bool())
    paths = folder[f"{call}_retrieve_indices"]
    leaves = {int(path[path >= 0][-1]) for path in paths}
    assert leaves == set(tree.leaves[0].nonzero()[:, 0].tolist())
    for path in paths:
        kept = path[path >= 0]
        assert torch.equal(tree.path_to(kept[-1:])[0, : len(kept)], kept)


@pytest.mark.parametrize("run", RUNS)
@torch.inference_mode()
def test_two_dynamic_trees_in_a_row(golden: Open, run: str) -> None:
    folder = golden("eagle_drafter")
    target = target_of(folder)
    source = settings_of(folder).build(target, torch.device("cpu"), torch.float32)
    assert isinstance(source, EagleSource)
    first = folder[f"{run}_call0_input_ids"].flatten()[-1:]
    prefilled = target.start(join_caption(folder["cond"], folder["emb_mask"].bool()), [0], room=1)
    state = source.start(prefilled, first, room=ROOM)
    check(folder, grow(folder, source, state, first, run), f"{run}_call0")
    # the second call brings the true features of the tokens accepted since
    accepted = folder[f"{run}_call1_input_ids"].flatten()[1:]
    count = len(accepted)
    features = folder["base_hidden"][:, 1 : 1 + count][None]
    source.extend(state, features, accepted[None], torch.tensor([count]))
    source.note(state, [1 + count], exact=True)
    check(folder, grow(folder, source, state, accepted[-1:], run), f"{run}_call1")
    assert int(state.cache.lengths[0]) == int(folder[f"{run}_call1_stable_kv_len"])


@torch.inference_mode()
def test_target_over_the_tree(golden: Open) -> None:
    folder = golden("eagle_drafter")
    target = target_of(folder)
    state: LlamaGenState = target.start(join_caption(folder["cond"], folder["emb_mask"].bool()), [0], room=ROOM)
    depths, visible = folder["proc_call0_tree_position_ids"][None], folder["proc_call0_tree_mask"].bool()[None]
    _, features = target.forward(state, Block(folder["proc_call0_draft_tokens"][None], depths, visible))
    torch.testing.assert_close(features[0], folder["tree_base_hidden"], atol=HIDDEN, rtol=0)
    logits = target.transformer.logits(features[0])
    torch.testing.assert_close(logits, folder["tree_base_logits"], atol=LOGITS, rtol=0)
