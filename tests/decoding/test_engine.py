"""Every engine draws the same images, and what is to be captured can be: fixed shapes, no look at the device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch

from tests import nano
from tests.decoding.tape import HostRead, Taped
from vvsbench.axes import EngineKind
from vvsbench.composition import composed
from vvsbench.config import RunConfig
from vvsbench.decoding import build
from vvsbench.decoding.autoregressive import Autoregressive
from vvsbench.decoding.engine import EngineError, make
from vvsbench.decoding.speculative import Speculative

CPU = torch.device("cpu")
SMALL = ["decoder.structure.nodes=7", "decoder.structure.top_k=2", "decoder.structure.depth=3"]
CELLS = {
    "ar": ["decoder=ar"],
    "sd": ["decoder=sd"],
    "sd coupled": ["decoder=sd", "structure@decoder.structure=coupled"],
    "eagle2": ["decoder=eagle2", *SMALL],
    "sampled": [
        "decoder=sd",
        "acceptance@decoder.acceptance=sequential",
        "decoder.structure.candidates=sampled",
        *SMALL[:1],
    ],
    "lantern": ["decoder=lantern", "decoder.acceptance.k=5", *SMALL],
    "vvs": ["decoder=vvs", "decoder.schedule.interval=2", "decoder.schedule.first_tokens=0"],
    "vvs dynamic": ["decoder=vvs", "schedule@decoder.schedule=dynamic", "decoder.schedule.first_tokens=0"],
    "vvs coupled": ["decoder=vvs_coupled"],
    "taken back": ["decoder=vvs_coupled", "decoder.skip.recheck=rollback"],
    "small AR": ["decoder=sd"],
    "oracle": ["decoder=sd", "drafter@decoder.drafter=oracle"],
    "jacobi": ["decoder=jacobi", "decoder.structure.window=6", "decoder.structure.siblings=4"],
    "sjd": ["decoder=sjd", "decoder.structure.window=6"],
    "sjd_pac": ["decoder=sjd_pac", "decoder.structure.window=6"],
    "gsd": ["decoder=gsd", "decoder.structure.window=6", "decoder.acceptance.size=4"],
    "cool_sd": [
        "decoder=sd",
        "decoder.structure.candidates=sampled",
        "acceptance@decoder.acceptance=cool_sd",
        *SMALL[:1],
    ],
    "jacobi tree": ["decoder=sd", "drafter@decoder.drafter=jacobi", "structure@decoder.structure=coupled"],
    "joint": ["decoder=sd", "structure@decoder.structure=joint", "decoder.structure.window.window=5"],
    "jacobi vvs": ["decoder=vvs", "drafter@decoder.drafter=jacobi", "structure@decoder.structure=window"],
}
IMAGES = list(range(5))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    nano.write(folder)
    return folder


@cache
def settings(weights: Path, name: str) -> RunConfig:
    eagle = name not in ("ar", "small AR", "oracle", "sjd", "sjd_pac", "gsd") and "jacobi" not in name
    overrides = [*nano.overrides(weights, drafter=eagle), *(nano.small_ar(weights) if name == "small AR" else [])]
    return composed([*CELLS[name], *overrides, "sampling.top_k=0"])


def made(weights: Path, name: str, device: str = "cpu", kind: str = "eager") -> Autoregressive | Speculative:
    cfg = replace(settings(weights, name), engine=EngineKind(kind))
    decoder = build(cfg, torch.device(device), torch.float64 if device == "cpu" else torch.float32)
    assert isinstance(decoder, Autoregressive | Speculative)
    return decoder


def drawn(decoder: Autoregressive | Speculative, rows: int, images: list[int] = IMAGES) -> tuple[torch.Tensor, Any]:
    conditions = decoder.target.conditions([image % nano.CLASSES for image in images])
    tokens, traces = decoder.generate_all(conditions, images, 0, rows)
    return tokens, sorted((row for trace in traces for row in trace.rows()), key=lambda row: row["image"])


@pytest.mark.parametrize("name", CELLS)
def test_recorded_stages_draw_the_same_images_at_the_same_counts(weights: Path, name: str) -> None:
    expected, rows = drawn(made(weights, name), 2)
    decoder = made(weights, name)
    decoder.engine = Taped()
    for _ in range(2):  # the second time everything is recorded, and rows are used again
        tokens, taped = drawn(decoder, 2)
        assert torch.equal(tokens, expected)
        for row, same in zip(rows, taped, strict=True):
            keys = ("image", "target_forwards", "prefill_forwards", "accepted", "skipped", "agreed", "origin")
            assert [row[key] for key in keys] == [same[key] for key in keys]
    assert max(decoder.engine.stages.values()) > 5


@pytest.mark.parametrize("name", [name for name in CELLS if name != "ar"])
def test_refilled_rows_draw_the_same_images(weights: Path, name: str) -> None:
    expected, rows = drawn(made(weights, name), len(IMAGES))
    for bound in (1, 3):
        tokens, refilled = drawn(made(weights, name), bound)
        assert torch.equal(tokens, expected)
        for row, same in zip(rows, refilled, strict=True):
            assert (row["target_forwards"], row["accepted"]) == (same["target_forwards"], same["accepted"])


@pytest.mark.compiles
def test_compiled_networks_draw_the_same_images_and_are_still_counted(weights: Path) -> None:
    """One compilation for both networks and every length: more would take minutes."""
    expected, rows = drawn(made(weights, "sd"), 3)
    decoder = made(weights, "sd", kind="compiled")
    tokens, compiled = drawn(decoder, 3)
    assert torch.equal(tokens, expected)
    assert [row["target_forwards"] for row in rows] == [row["target_forwards"] for row in compiled]
    layers = decoder.target.network.layers
    assert "before" in vars(layers[0])
    assert "before" not in vars(made(weights, "sd").target.network.layers[0])


def test_refilling_keeps_the_device_busy(weights: Path) -> None:
    """Ragged rows, batch after batch: everybody waits for the slowest. Refilled: nobody does, but at the end."""
    images = list(range(24))
    decoder = made(weights, "sd")
    forwards = []
    for refill in (False, True):
        calls: list[int] = []
        handle = decoder.target.network.register_forward_hook(lambda *_, seen=calls: seen.append(1))
        if refill:
            drawn(decoder, 4, images)
        else:
            for first in range(0, len(images), 4):
                drawn(decoder, 4, images[first : first + 4])
        handle.remove()
        forwards.append(len(calls))
    assert forwards[1] < forwards[0] + len(images)  # refilling adds a prefill each


@contextmanager
def counted() -> Iterator[list[str]]:
    """The names of methods that read a tensor on the host, as they are called."""
    seen: list[str] = []

    def watched(name: str) -> Any:
        original = getattr(torch.Tensor, name)

        def called(self: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            seen.append(name)
            return original(self, *args, **kwargs)

        return called

    names = ("tolist", "item", "cpu", "numpy", "__bool__", "__int__", "__float__", "__index__", "nonzero")
    with mock.patch.multiple(torch.Tensor, **{name: watched(name) for name in names}):
        yield seen


@pytest.mark.parametrize("name", CELLS)
def test_one_look_at_the_device_per_step_and_none_in_ar(weights: Path, name: str) -> None:
    decoder = made(weights, name)
    decoder.engine = Taped()
    drawn(decoder, 3, IMAGES[:3])
    conditions = decoder.target.conditions([0, 1, 2])
    before = sum(count for (stage, _), count in decoder.engine.stages.items() if stage == "draft")
    with counted() as reads:
        decoder.generate_all(conditions, [0, 1, 2], 0, 3)
    steps = sum(count for (stage, _), count in decoder.engine.stages.items() if stage == "draft") - before
    assert len(reads) == steps
    assert (steps == 0) is (name == "ar")


def test_a_stage_that_looks_at_the_device_is_refused() -> None:
    engine, value = Taped(), torch.ones(2)
    engine.run("look", None, lambda: value.sum().item())
    with pytest.raises(HostRead):
        engine.run("look", None, lambda: value.sum().item())


def test_a_recording_knows_what_it_was_recorded_with_and_nothing_newer() -> None:
    """The negative control: a number of the host's is baked in, so a stage that needs a fresh one is caught."""
    engine, place, numbers = Taped(), torch.zeros(1), iter(range(10))
    seen = [float(engine.run("count", None, lambda: place + next(numbers))) for _ in range(4)]
    assert seen == [0.0, 1.0, 1.0, 1.0]


def test_graphs_need_a_gpu() -> None:
    with pytest.raises(EngineError, match="choose engine=compiled or eager"):
        make(EngineKind.graphed, CPU)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="records CUDA graphs")
@pytest.mark.compiles
@pytest.mark.gpu
@pytest.mark.parametrize("name", CELLS)
def test_graphs_draw_the_images_of_the_eager_loop(weights: Path, name: str) -> None:
    expected, _ = drawn(made(weights, name, "cuda"), 3)
    decoder = made(weights, name, "cuda", "graphed")
    for _ in range(2):
        assert torch.equal(drawn(decoder, 3)[0], expected)
