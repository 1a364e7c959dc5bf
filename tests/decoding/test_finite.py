"""What is made of NaN or infinity is refused, whichever network gave them, in every loop and under every engine."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests import nano
from tests.decoding.tape import Taped
from tests.decoding.test_engine import CPU, drawn, made, settings
from vvsbench.decoding import build
from vvsbench.decoding.autoregressive import Autoregressive
from vvsbench.decoding.finite import Outputs, peak
from vvsbench.decoding.speculative import Speculative
from vvsbench.errors import NotFiniteError

NAN, INF = float("nan"), float("inf")
BAD = 5
"""The token from which on logits are spoilt."""
LOOPS = ("ar", "sd", "sampled", "taken back")
DRAFTERS = {"sd": "fc", "sampled": "fc", "vvs": "fc", "small AR": "norm"}
"""A part of the drafter's network."""


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    nano.write(folder)
    return folder


def own(weights: Path, name: str, engine: str) -> Any:
    """A decoder whose weights nobody shares, so that they may be spoilt; with an engine that records, if asked for."""
    decoder = made(weights, name)
    decoder.target.transformer = copy.deepcopy(decoder.target.transformer)
    if engine == "taped":
        decoder.engine = Taped()
        drawn(decoder, 2)  # what is spoilt afterwards comes out of a recording
    return decoder


@pytest.mark.parametrize(("name", "engine"), [*((name, "eager") for name in LOOPS), ("ar", "taped"), ("vvs", "taped")])
def test_a_targets_weight_that_is_not_finite_fails_the_images(weights: Path, name: str, engine: str) -> None:
    decoder = own(weights, name, engine)
    decoder.target.transformer.output.weight.data[0, 0] = NAN
    with pytest.raises(NotFiniteError, match=r"the logits of the target \(tiny\) are not finite") as caught:
        drawn(decoder, 2)
    assert (caught.value.image, caught.value.place, caught.value.dtype) == (0, "token 0", "float64")


@pytest.mark.parametrize("name", LOOPS)
def test_image_and_token_are_named(weights: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = made(weights, name)
    head = decoder.target.head

    def spoilt(features: Tensor, index: Tensor) -> Tensor:
        logits = head(features, index)
        late = (index >= BAD).expand(logits.shape[:2]) & (torch.arange(len(logits)) == 1)[:, None]
        return logits.masked_fill(late[..., None] & (torch.arange(logits.shape[-1]) == 0), NAN)

    monkeypatch.setattr(decoder.target, "head", spoilt)
    if isinstance(decoder, Speculative):  # whose drafter has that head too
        monkeypatch.setattr(decoder, "source", decoder.source)
        monkeypatch.setattr(decoder.source, "target", copy.copy(decoder.target), raising=False)
        monkeypatch.setattr(decoder.source.target, "head", head)
    with pytest.raises(NotFiniteError, match="target") as caught:
        drawn(decoder, 2)
    token = int(caught.value.place.removeprefix("token "))
    assert caught.value.image == 1
    assert token == BAD if isinstance(decoder, Autoregressive) else BAD - decoder.reach < token <= BAD


@pytest.mark.parametrize(("name", "engine"), [*((name, "eager") for name in DRAFTERS), ("sampled", "taped")])
def test_a_drafters_weight_that_is_not_finite_fails_the_images(weights: Path, name: str, engine: str) -> None:
    decoder = made(weights, name)
    source = decoder.source
    part = copy.deepcopy(source.network)
    source.network = part
    setattr(source, "transformer" if name == "small AR" else "head", part)
    if engine == "taped":
        decoder.engine = Taped()
        drawn(decoder, 2)
    getattr(part, DRAFTERS[name]).weight.data.fill_(NAN)
    with pytest.raises(NotFiniteError, match="the logits of the drafter are not finite") as caught:
        drawn(decoder, 2)
    assert (caught.value.image, caught.value.place) == (0, "the tree behind token 0")


def test_half_precision_that_overflows_says_what_to_do(weights: Path) -> None:
    decoder = build(settings(weights, "ar"), CPU, torch.float16)
    assert isinstance(decoder, Autoregressive)
    decoder.target.transformer = copy.deepcopy(decoder.target.transformer)
    decoder.target.transformer.output.weight.data.fill_(6e4)
    with pytest.raises(NotFiniteError, match=r"in float16\. float16 ends at 65504.*use one of them"):
        drawn(decoder, 2)


@pytest.mark.parametrize("value", [NAN, INF])
def test_a_peak_is_finite_where_all_logits_are_or_some_tokens_cannot_be(value: float) -> None:
    logits = torch.zeros(4, 3, 5)
    logits[1, 2, 4] = -INF  # legitimate
    logits[2, 1, 3] = value
    logits[3, 0] = -INF
    assert torch.isfinite(peak(logits)).tolist() == [True, True, False, False]


def test_the_first_token_in_the_order_of_decoding_is_named() -> None:
    values = torch.zeros(2, 4)
    values[1, [0, 3]] = NAN
    path = torch.tensor([[0, 1, 2, 3], [2, 3, 1, 0]])
    with pytest.raises(NotFiniteError, match="image 8, token 3,"):
        Outputs("numbers", "float32", values, path).check([7, 8])
    Outputs("numbers", "float32", values[:1], path[:1]).check([7])
