"""Targets of transformers draw the tokens of transformers' own loops, and paint the pixels of its own tokenizers.

The models are made at test time from a seed; `--golden DIR` runs the same on every DIR/transformers/FAMILY/NAME.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.transformers_cases import Case, folders, noise_fed
from vvsbench.decoding.autoregressive import Autoregressive
from vvsbench.models.protocols import Block
from vvsbench.noise import gumbel
from vvsbench.sampling import Sampling

SAMPLED = {"temperature": 0.9, "top_k": 12}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    found = folders(Path(metafunc.config.getoption("--golden")))
    metafunc.parametrize("case", found, indirect=True, ids=[f"{one.parent.name}/{one.name}" for one in found])


@pytest.fixture(scope="module")
def case(request: pytest.FixtureRequest) -> Case:
    return Case(request.param)


def drawn(case: Case, sampling: Sampling, extra: int = 0, scale: float | None = None) -> torch.Tensor:
    target = case.target(extra, scale)
    tokens, _ = Autoregressive(target, sampling).generate(
        target.conditions(case.prompts), range(len(case.prompts)), seed=3
    )
    return tokens


def has_loop(case: Case) -> bool:
    """Chameleon draws no images in transformers, and Janus' own loop needs guidance."""
    return case.family in {"emu3", "glm_image"} or (case.family == "janus" and case.scale > 1)


def test_greedy_tokens_are_those_of_its_own_loop(case: Case) -> None:
    if not has_loop(case):
        pytest.skip("transformers has no such loop; the uncached pass is the reference")
    assert torch.equal(drawn(case, Sampling(temperature=0)), case.reference({"do_sample": False}))


def test_sampled_tokens_are_those_of_its_own_loop_under_our_noise(case: Case) -> None:
    if not has_loop(case):
        pytest.skip("transformers has no such loop; the uncached pass is the reference")
    target = case.target()
    images = torch.arange(len(case.prompts))[:, None]
    places = torch.arange(target.spec.tokens)[None]
    noise = gumbel(3, images, places, target.spec.vocab)
    with noise_fed(noise, case.ids):
        expected = case.reference({"do_sample": True, **SAMPLED})
    assert torch.equal(drawn(case, Sampling(**SAMPLED)), expected)


@pytest.mark.parametrize("guided", [True, False])
def test_greedy_tokens_are_the_argmax_of_an_uncached_pass(case: Case, guided: bool) -> None:
    if case.family == "glm_image":
        pytest.skip("its positions are its own loop's business")
    scale = max(case.scale, 2.0) if guided else 1.0
    tokens = drawn(case, Sampling(temperature=0), extra=3, scale=scale)
    with torch.inference_mode():
        logits = case.uncached(tokens, scale)
    allowed = case.target().family.allowed(torch.arange(tokens.shape[1]))
    if allowed is not None:
        logits = logits.masked_fill(~allowed, float("-inf"))
    assert torch.equal(logits.argmax(-1), tokens)


def test_a_tree_is_verified_as_its_paths_are(case: Case) -> None:
    """Logits at the nodes of a block are those of a chain: masks, positions and compaction are right."""
    target = case.target(extra=2)
    first = drawn(case, Sampling(temperature=0), extra=2)
    batch = len(first)
    with torch.inference_mode():
        state = target.start(target.conditions(case.prompts), range(batch), room=3)
        nodes = torch.stack([first[:, 0], (first[:, 1] + 1) % case.target().family.vocab, first[:, 1]], 1)
        visible = torch.tensor([[[1, 0, 0], [1, 1, 0], [1, 0, 1]]]).bool()
        logits, _ = target.forward(state, Block(nodes, torch.tensor([[0, 1, 1]]), visible))
        target.commit(state, torch.tensor([[0, 2]] * batch), torch.full((batch,), 2))
        target.note(state, [2] * batch)
        again, _ = target.forward(state, Block(first[:, 2:3], torch.zeros(1, 1, dtype=torch.long)))
    assert torch.equal(logits[:, 0].argmax(-1), first[:, 1])
    assert torch.equal(logits[:, 2].argmax(-1), first[:, 2])
    assert torch.equal(again[:, 0].argmax(-1), first[:, 3])


def test_pixels_are_those_of_its_own_tokenizer(case: Case) -> None:
    family = case.target().family
    torch.manual_seed(0)
    tokens = torch.randint(family.vocab - bool(family.forced), (2, family.tokens))
    with torch.inference_mode():
        if case.family == "janus":
            expected = case.model.decode_image_tokens(tokens).permute(0, 3, 1, 2)
        elif case.family == "emu3":
            rows, columns = case.grid
            words = torch.tensor(case.ids)[tokens]
            words = torch.cat([words, words[:, :3]], 1)  # what follows the image is cut off there
            expected = case.model.decode_image_tokens(image_tokens=words, height=rows, width=columns)
        else:
            pytest.skip("transformers makes no pixels of its tokens")
        pixels = family.pixels(tokens)
    assert torch.equal(pixels, expected)
    painted = case.target().to_images(tokens)
    assert painted.dtype == torch.uint8
    assert torch.equal(painted, ((expected + 1) / 2 * 255).clip(0, 255).to(torch.uint8))
