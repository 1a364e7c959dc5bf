"""Engines change how continuous decoders run and nothing else: the same images, for the same counts."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.decoding.continuous.test_decoders import CHANNELS, CLASSES, GRID, LABELS, STEPS, csd, masked
from tests.decoding.tape import Taped
from vvsbench.axes import EngineKind
from vvsbench.decoding.base import Decoder
from vvsbench.decoding.continuous.released import Released
from vvsbench.decoding.engine import Engine, make
from vvsbench.models import diffusion_head
from vvsbench.models.causal import Causal, CausalNetwork, CausalSizes
from vvsbench.models.latents import LatentGuidance
from vvsbench.models.mar import MAR, MARNetwork, MARSizes
from vvsbench.models.stages import Stage, room

DECODERS = ("masked", "csd", "causal csd", "released")
JOBS = ((4, 3, 1), (20, 6, 2))
"""First image, number and seed: stages warm up in the first, are recorded in the second, and played in what follows."""
AR_STEPS = 5
FAR = 3e4
"""A tolerance that keeps some drafts: the tokens of untrained heads are large."""


def model(kind: str, seed: int, width: int, engine: Engine | None, device: str, dtype: torch.dtype) -> MAR | Causal:
    """A small network; the same for every engine."""
    torch.manual_seed(seed)
    guidance = LatentGuidance(1.5, linear=True)
    if kind == "mar":
        network = MARNetwork(MARSizes(GRID, CHANNELS, CLASSES, 2, width, 1, 2, width, 1, 2, 1, 16))
        return MAR(network.to(device, dtype).eval(), None, guidance, head_steps=STEPS, engine=engine)
    causal = CausalNetwork(CausalSizes(GRID, CHANNELS, CLASSES, width, 1, 2, 1, 16))
    return Causal(causal.to(device, dtype).eval(), None, guidance, head_steps=STEPS, engine=engine)


def decoder(name: str, engine: Engine | None, device: str = "cpu", dtype: torch.dtype = torch.float64) -> Decoder:
    """A decoder by its name, all of whose networks run on an engine."""
    kind = "causal" if name.startswith("causal") else "mar"
    target, draft = (model(kind, seed, width, engine, device, dtype) for seed, width in ((0, 32), (1, 16)))
    if name.startswith("masked"):
        return masked(target, AR_STEPS)
    if name == "released":
        return Released(target, draft, AR_STEPS, 2, 1, 42.0, aligned=True, raster=False)
    if target.causal:
        return csd(target, draft, length=5, tolerance=FAR)
    return csd(target, draft, length=2, prefilled=1, tolerance=FAR, ar_steps=AR_STEPS)


def drawn(one: Decoder, first: int, count: int, seed: int) -> tuple[Tensor, list[dict[str, object]]]:
    """Tokens and records of some images, three at a time."""
    images = range(first, first + count)
    labels = LABELS.repeat(3)[:count].to(one.target.device)
    tokens, traces = one.generate_all(labels, images, seed, 3)
    return tokens.cpu(), [row for trace in traces for row in trace.rows()]


@pytest.mark.parametrize("name", DECODERS)
def test_recorded_steps_draw_the_same_images(name: str) -> None:
    engine = Taped()
    eager, taped = decoder(name, None), decoder(name, engine)
    for first, count, seed in JOBS:
        tokens, rows = drawn(taped, first, count, seed)
        expected, expected_rows = drawn(eager, first, count, seed)
        torch.testing.assert_close(tokens, expected, atol=1e-6, rtol=0)
        for row, other in zip(rows, expected_rows, strict=True):
            for key in ("image", "target_forwards", "draft_forwards", "accepted", "origin"):
                assert row[key] == other[key], key
            for key in ("cost", "target_head_evaluations", "draft_head_evaluations"):
                assert row[key] == pytest.approx(other[key]), key
    assert sum(times > 2 for times in engine.stages.values()) >= min(AR_STEPS, len(engine.stages) / 2)


@pytest.mark.compiles
@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("kind", [EngineKind.compiled, EngineKind.graphed])
@pytest.mark.parametrize("name", DECODERS)
def test_a_gpus_engines_draw_the_same_images(name: str, kind: EngineKind) -> None:
    engine = make(kind, torch.device("cuda"))
    eager, other = (decoder(name, each, "cuda", torch.float32) for each in (None, engine))
    for first, count, seed in JOBS:
        found, expected = (drawn(each, first, count, seed)[0] for each in (other, eager))
        assert (found - expected).abs().max() <= 1e-3 * expected.abs().max()


def test_only_recorded_stages_are_filled_up() -> None:
    seen: list[int] = []

    def function(x: Tensor, y: Tensor | None) -> tuple[Tensor]:
        seen.append(x.shape[1])
        return (2 * x[0],)

    x = torch.arange(11.0)[None]
    for engine in (None, Taped()):
        stage = Stage(function, rows=(1, 0), engine=engine)
        for shift in (0.0, 1.0, 2.0):
            assert torch.equal(stage(None, x + shift, None)[0], 2 * (x[0] + shift))
    assert seen == [11, 11, 11, 12, 12]


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 33, 100, 1000])
def test_few_sizes_are_recorded_and_little_is_filled_up(rows: int) -> None:
    assert rows <= room(rows) <= 1.25 * rows
    assert room(room(rows)) == room(rows)
    assert len({room(count) for count in range(1, 1025)}) <= 40


def test_a_chain_is_the_same_however_many_steps_are_prepared_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    head = model("mar", 0, 32, None, "cpu", torch.float64).head
    z, noise, scale = (
        torch.randn(shape, dtype=torch.float64) for shape in ((2, 5, 32), (STEPS + 1, 5, CHANNELS), (5,))
    )
    with torch.no_grad():
        whole = head.denoise(z, noise, scale)
        for ahead in (1, 5 * 2 * 16 * 5 * 3):
            monkeypatch.setattr(diffusion_head, "AHEAD", ahead)
            parts = head.denoise(z, noise, scale)
            for name in ("mean", "std", "log_std_sum"):
                torch.testing.assert_close(getattr(parts, name), getattr(whole, name), atol=1e-12, rtol=1e-12)
