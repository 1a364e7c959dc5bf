"""The cells of a study share what they have in common: a file is read once, and kept no longer than it is needed."""

from __future__ import annotations

import gc
import os
import weakref
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from tests import nano
from vvsbench import decoding
from vvsbench.composition import composed
from vvsbench.config import RunConfig
from vvsbench.models import checkpoints
from vvsbench.models.shelf import SHELF, Shelf
from vvsbench.runs.drawing import open_session

CPU = torch.device("cpu")


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each weights file was read; the shelf is empty before."""
    counts: Counter[str] = Counter()
    read = checkpoints.read

    def counted(path: Path, *rest: Any) -> dict[str, torch.Tensor]:
        counts[path.name] += 1
        return read(path, *rest)

    monkeypatch.setattr(checkpoints, "read", counted)
    monkeypatch.setattr(SHELF, "_held", {})
    return counts


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    nano.write(folder)
    nano.write_latent(folder)
    return folder


def test_a_study_of_discrete_tokens_reads_every_file_once(weights: Path, reads: Counter[str]) -> None:
    cells = [[*nano.overrides(weights, drafter=name != "ar"), f"decoder={name}"] for name in ("sd", "ar", "vvs")]
    sessions = [open_session(composed(cell)) for cell in cells]
    assert len(reads) == 3
    assert set(reads.values()) == {1}
    targets = [session.decoder.target for session in sessions]
    assert targets[0] is not targets[1]
    weights_of = [{id(weight) for weight in target.transformer.parameters()} for target in targets]  # type: ignore[attr-defined]
    assert weights_of[0] == weights_of[1] == weights_of[2]


def test_a_study_of_continuous_tokens_reads_every_file_once(weights: Path, reads: Counter[str]) -> None:
    names = ("masked", "csd", "masked")
    cells = [[*nano.latent_overrides(weights, draft=name == "csd"), f"decoder={name}"] for name in names]
    decoders = [open_session(composed(cell)).decoder for cell in cells]
    assert len(reads) == 3
    assert set(reads.values()) == {1}
    networks = {id(decoder.target.network) for decoder in decoders}  # type: ignore[attr-defined]
    assert len(networks) == 1
    assert not any(module._forward_hooks for module in decoders[0].target.network.modules())  # type: ignore[attr-defined]


def _network(cfg: RunConfig, dtype: torch.dtype = torch.float32) -> torch.nn.Module:
    target: Any = decoding.build(cfg, CPU, dtype).target
    found: torch.nn.Module = target.network
    return found


def test_a_changed_file_and_another_number_format_are_loaded_anew(tmp_path: Path, reads: Counter[str]) -> None:
    nano.write_latent(tmp_path)
    cfg = composed(nano.latent_overrides(tmp_path))
    first = _network(cfg)
    assert _network(cfg) is first
    wide = _network(cfg, torch.float64)
    assert wide is not first
    assert next(first.parameters()).dtype == torch.float32
    os.utime(tmp_path / "mar.safetensors", ns=(1, 1))
    assert _network(cfg, torch.float64) is not wide
    assert reads["mar.safetensors"] == 3


def test_what_the_next_decoder_does_not_ask_for_goes_before_more_is_loaded(tmp_path: Path) -> None:
    shelf, alive = Shelf(), []

    def thing(name: str) -> torch.nn.Module:
        made = torch.nn.Linear(1, 1)
        alive.append(sum(other() is not None for _, other in seen))
        seen.append((name, weakref.ref(made)))
        return made

    seen: list[tuple[str, weakref.ref[torch.nn.Module]]] = []
    source = tmp_path / "weights"
    source.write_bytes(b"")
    for wanted in (("target", "head"), ("target",), ("target", "other"), ("second", "other")):
        with shelf.decoder():
            for name in wanted:
                shelf.get(source, name, lambda name=name: thing(name))  # type: ignore[misc]
    gc.collect()
    assert [name for name, _ in seen] == ["target", "head", "other", "second", "other"]
    assert alive == [0, 1, 1, 0, 1]
