"""Drawing gives every image its own prompt, whatever shard and batch it is drawn in, and its pixels by its number."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from vvsbench import decoding
from vvsbench.composition import composed
from vvsbench.errors import NotFiniteError
from vvsbench.runs.drawing import _stored, open_session, painted
from vvsbench.runs.store import Store


class Target:
    """Paints tokens grey, and refuses 7."""

    device = torch.device("cpu")

    def conditions(self, prompts: Sequence[int] | Sequence[str]) -> Tensor:
        raise NotImplementedError

    def to_images(self, tokens: Tensor) -> Tensor:
        if (tokens == 7).any():
            raise NotFiniteError("pixels of the tokenizer", "float32", int((tokens == 7).any(1).byte().argmax()))
        return tokens.to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 1, 1)


def test_pictures_come_in_order_a_few_rows_at_a_time() -> None:
    parts = painted(Target(), torch.arange(5)[:, None], range(10, 15), 2)
    assert [len(part) for part in parts] == [2, 2, 1]
    assert torch.cat(parts)[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4]


def test_a_picture_that_is_not_finite_is_named_by_its_number_in_the_set() -> None:
    tokens = torch.tensor([[0], [0], [0], [7], [0]])
    with pytest.raises(NotFiniteError, match="at image 13, in float32"):
        painted(Target(), tokens, range(10, 15), 2)


CLASSES = [3, 1, 2]


@pytest.mark.parametrize("size", ["shard_size=4", "shard_size=3", "shard_size=10"])
@pytest.mark.parametrize("rows", ["batch_size=2", "batch_size=3"])
def test_an_image_is_drawn_for_the_prompt_of_its_index(make_cell, decoder, size, rows):
    make_cell(f"prompts.classes={CLASSES}", size, rows).run()
    assert decoder.asked == {image: CLASSES[image % len(CLASSES)] for image in range(10)}


def test_the_trace_names_the_prompt_that_was_drawn(make_cell, decoder, tmp_path):
    make_cell(f"prompts.classes={CLASSES}").run()
    (stored,) = Store(tmp_path).cells("single")
    assert stored.trace["prompt"].tolist() == [str(decoder.asked[image]) for image in range(10)]


@pytest.mark.parametrize(
    ("name", "dtype"),
    [("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16), ("fp64", torch.float64)],
)
def test_a_decoder_is_built_in_the_number_format_of_its_name(name, dtype, monkeypatch, decoder):
    asked = []
    monkeypatch.setattr(decoding, "build", lambda cfg, device, dtype: asked.append((device, dtype)) or decoder)
    session = open_session(composed([f"dtype={name}", "device=cpu"]))
    assert asked == [(torch.device("cpu"), dtype)]
    assert session.guarantee == "exact"


def test_tokens_are_stored_as_what_they_are():
    codes, latents = _stored(torch.tensor([[70_000, 1]])), _stored(torch.tensor([[0.25, -1.5]], dtype=torch.float64))
    assert (codes.dtype, codes.tolist()) == (np.int32, [[70_000, 1]])
    assert (latents.dtype, latents.tolist()) == (np.float32, [[0.25, -1.5]])
