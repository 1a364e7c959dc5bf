"""The transformer gives the numbers of LlamaGen's own code: uncached, cached, guided, masked, greedy."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.golden.conftest import GoldenFolder, recorded_names
from vvsbench.models import checkpoints
from vvsbench.models.guidance import Guidance
from vvsbench.models.llamagen import LlamaGen, join_caption
from vvsbench.models.llamagen_layouts import to_official
from vvsbench.models.protocols import Block
from vvsbench.models.t5 import rotate_left
from vvsbench.models.transformer import Transformer, TransformerConfig, rope_table
from vvsbench.sampling import Sampling, draw

Open = Callable[[str], GoldenFolder]
RAW, GUIDED = 2e-4, 1e-3
FIXTURES = ("llamagen_c2i", "llamagen_t2i")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every image set that a fixture drew greedily is drawn again."""
    if "run" in metafunc.fixturenames:
        runs = [(name, run) for name in FIXTURES for run in recorded_names(metafunc.config, name, "greedy_")]
        metafunc.parametrize(("name", "run"), runs)


def scale_in(name: str) -> float:
    """The guidance scale that a recording has in its name: 1.5 of greedy_cfg1_5_interval0."""
    found = re.search(r"cfg(\d+(?:_\d+)?)", name)
    assert found is not None, name
    return float(found[1].replace("_", "."))


def guidance_of(folder: GoldenFolder, run: str) -> Guidance:
    """Guidance of a run, as config.json has it; a run that is not listed there is guided at every step."""
    settings = folder.config.get("runs", {}).get(run, {})
    assert "cfg_interval" in settings or "interval" not in run, f"{folder.path} does not say the interval of {run}"
    return Guidance(settings.get("cfg", scale_in(run)), settings.get("cfg_interval", -1))


def transformer_of(folder: GoldenFolder) -> Transformer:
    sizes = folder.config["model"]
    labelled = sizes["model_type"] == "c2i"
    config = TransformerConfig(
        condition="label" if labelled else "caption",
        dim=sizes["dim"],
        layers=sizes["n_layer"],
        heads=sizes["n_head"],
        vocab=sizes["vocab_size"],
        grid=round(sizes["block_size"] ** 0.5),
        classes=sizes.get("num_classes", 0),
        prefix=sizes["cls_token_num"],
        caption_dim=sizes.get("caption_dim", 0),
        norm_eps=sizes.get("norm_eps", 1e-5),
    )
    transformer = Transformer(config).eval()
    path = folder.path / "checkpoint.pt"
    checkpoints.load_strict(transformer, to_official(checkpoints.read(path), str(path)), str(path))
    return transformer


def conditions_of(folder: GoldenFolder, masked: bool = True) -> Tensor:
    if "labels" in folder.tensors:
        return folder["labels"]
    mask = folder["emb_masks"] if masked else torch.ones_like(folder["emb_masks"])
    return join_caption(folder["cond"], mask)


@torch.inference_mode()
def decode(model: LlamaGen, conditions: Tensor, forced: Tensor | None, greedy: bool = False) -> tuple[Tensor, Tensor]:
    """Guided logits [N, B, V] and tokens [B, N] of cached decoding, with the tokens forced or drawn greedily."""
    state = model.start(conditions, range(len(conditions)), room=1)
    logits, rows, tokens = state.first_logits, [], []
    ones = torch.ones(len(conditions), dtype=torch.long)
    for index in range(model.spec.tokens):
        rows.append(logits)
        token = logits.argmax(-1) if forced is None else forced[:, index]
        tokens.append(token)
        if index + 1 < model.spec.tokens:
            logits = model.forward(state, Block(token[:, None], torch.zeros(1, 1, dtype=torch.long)))[0][:, 0]
            model.commit(state, None, ones)
            model.note(state, [index + 1] * len(conditions))
    return torch.stack(rows), torch.stack(tokens, 1)


@pytest.mark.parametrize("name", FIXTURES)
@torch.inference_mode()
def test_uncached_pass(golden: Open, name: str) -> None:
    folder = golden(name)
    transformer, tokens = transformer_of(folder), folder["tokens"]
    if name == "llamagen_c2i":
        logits = transformer.train_logits(folder["labels"], tokens)
        nothing = transformer.train_logits(torch.full_like(folder["labels"], transformer.config.classes), tokens)
        torch.testing.assert_close(nothing[:1], folder["train_logits_uncond"], atol=RAW, rtol=0)
    else:
        logits = transformer.train_logits(folder["cond"], tokens, folder["emb_masks"].bool())
        plain = transformer.train_logits(folder["cond"], tokens)
        expected = folder["train_logits_nomask"]
        torch.testing.assert_close(plain[:, : expected.shape[1]], expected, atol=RAW, rtol=0)
    torch.testing.assert_close(logits, folder["train_logits"], atol=RAW, rtol=0)
    loss = F.cross_entropy(logits.flatten(0, 1), tokens.flatten())
    torch.testing.assert_close(loss, folder["train_loss"], atol=RAW, rtol=0)


@pytest.mark.parametrize("name", FIXTURES)
@torch.inference_mode()
def test_cached_decoding_with_guidance(golden: Open, name: str) -> None:
    folder = golden(name)
    transformer = transformer_of(folder)
    raw = folder["forced_step_logits_raw"]
    batch = raw.shape[1] // 2
    conditional, null = raw[:, :batch], raw[:, batch:]
    conditions, tokens = conditions_of(folder), folder["tokens"]
    (recording,) = [output for output in folder.tensors if output.startswith("forced_step_logits_cfg")]
    scale = scale_in(recording)
    guided, _ = decode(LlamaGen(transformer, None, Guidance(scale)), conditions, tokens)
    torch.testing.assert_close(guided, folder[recording], atol=GUIDED, rtol=0)
    torch.testing.assert_close(guided, null + scale * (conditional - null), atol=GUIDED, rtol=0)
    alone, _ = decode(LlamaGen(transformer, None, Guidance(1.0)), conditions, tokens)
    torch.testing.assert_close(alone, conditional, atol=RAW, rtol=0)
    both = LlamaGen(transformer, None, Guidance(scale)).start(conditions, range(batch), room=1)
    prefill = transformer.logits(both.prefix_features[:, :, -1])
    torch.testing.assert_close(prefill.transpose(0, 1).flatten(0, 1), folder["forced_prefill_logits"], atol=RAW, rtol=0)


def test_greedy_tokens(golden: Open, name: str, run: str) -> None:
    folder = golden(name)
    model = LlamaGen(transformer_of(folder), None, guidance_of(folder, run))
    _, tokens = decode(model, conditions_of(folder, masked=not run.endswith("nomask")), None)
    assert torch.equal(tokens, folder[run])


def test_sampling_filter(golden: Open) -> None:
    folder = golden("llamagen_c2i")
    logits = folder["filter_logits"]
    for (temperature, top_k, top_p), expected in zip(folder["filter_settings"], folder["filter_probs"], strict=True):
        sampling = Sampling(float(temperature), int(top_k), float(top_p))
        torch.testing.assert_close(sampling.probabilities(logits), expected, atol=1e-6, rtol=1e-5)


def test_greedy_is_the_limit_of_sampling(golden: Open) -> None:
    logits = golden("llamagen_c2i")["filter_logits"]
    noise = -torch.rand(logits.shape, generator=torch.Generator().manual_seed(0)).log()
    assert torch.equal(draw(Sampling(temperature=0.0).scores(logits), noise), logits.argmax(-1))


def test_rope_table(golden: Open) -> None:
    folder = golden("llamagen_c2i")
    table = rope_table(transformer_of(folder).config).float()
    torch.testing.assert_close(table[:-1], folder["rope_table"], atol=1e-5, rtol=0)
    assert not table[-1].any()


def test_caption_rotation(golden: Open) -> None:
    folder = golden("llamagen_t2i")
    features, mask = rotate_left(folder["caption_right_padded"], folder["mask_right_padded"].bool())
    torch.testing.assert_close(features, folder["cond"], atol=0, rtol=0)
    assert torch.equal(mask, folder["emb_masks"].bool())
