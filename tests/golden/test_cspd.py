"""The released continuous speculative decoding against a trace of the authors' own code, verification by verification.

Tolerances are the recording's (`*_sens_*`: what a change of 3e-7 in the inputs does), times three. A decision whose
probability lies that close to its uniform is rounding's to make: it is made as the recording made it, because every
later token depends on it.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.golden.conftest import each_run
from tests.golden.mar import network, picture, recorded
from vvsbench.decoding.continuous.coupling import Proposals
from vvsbench.decoding.continuous.draws import Draws
from vvsbench.decoding.continuous.released import Released
from vvsbench.models.latents import LatentGuidance
from vvsbench.models.mar import MAR

ALWAYS, NEVER = -1.0, float("inf")
"""Uniforms under which every draft is kept, and none."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every run of the fixture is repeated."""
    if "run" in metafunc.fixturenames:
        each_run(metafunc, "cspd")


@pytest.fixture
def folder(golden: Any) -> Any:
    return golden("cspd")


def undecided(folder: Any, run: str) -> float:
    """How close to its uniform a probability leaves the decision open."""
    return max(2e-3, 3 * folder[f"{run}_sens_prob"].item())


def recording(folder: Any, run: str) -> type[Draws]:
    """Draws that repeat a run, uniforms and proposals included."""
    noises = folder["inter_noise"].unbind(2)
    visits = iter(range(10**6))

    class Recorded(recorded(folder["orders"], folder["noise"], noises)):  # type: ignore[misc]
        def judgement(self, images: Tensor, positions: Tensor) -> Tensor:
            self.asked.append((next(visits), images, positions))
            number, index = self.last()
            probability, uniform = (folder[f"{run}_v{number}_{name}"][index] for name in ("accept_prob", "uniform"))
            settled = torch.where(probability > uniform, ALWAYS, NEVER)
            return torch.where((probability - uniform).abs() < undecided(folder, run), settled, uniform)

        def last(self) -> tuple[int, Tensor]:
            """The verification under way, and where its tokens are in the recording."""
            number, images, positions = self.asked[-1]
            batch, place = folder[f"{run}_v{number}_batch"].tolist(), folder[f"{run}_v{number}_pos"].tolist()
            at = {key: index for index, key in enumerate(zip(batch, place, strict=True))}
            assert len(at) == len(images)
            return number, torch.tensor([at[key] for key in zip(images.tolist(), positions.tolist(), strict=True)])

        def proposals(self, images: Tensor, positions: Tensor) -> Proposals:
            number, index = self.last()
            normals, uniforms = (folder[f"{run}_v{number}_resample_{kind}"] for kind in ("normal", "uniform"))

            def propose(rows: Tensor, first: int, count: int) -> tuple[Tensor, Tensor]:
                here = slice(first, first + count)
                return normals[here][:, index[rows]], uniforms[here][:, index[rows]]

            return propose

    Recorded.asked = []
    return Recorded


def test_released_loop(folder: Any, run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from vvsbench.decoding.continuous import released as module

    config, setting = folder.config, folder.config["runs"][run]
    guidance = LatentGuidance(setting["cfg"], setting.get("cfg_schedule", config["cfg_schedule"]) == "linear")
    steps = folder["inter_noise"].shape[2]
    target, draft = (
        MAR(network(config[name], folder.path / f"{name}.pth"), None, guidance, setting["temperature"], steps)
        for name in ("target", "draft")
    )
    draws = recording(folder, run)
    judged: list[tuple[Any, ...]] = []
    rule = module.released

    def watched(drafts: Tensor, q: Any, p: Any, *rest: Any) -> Any:
        verdict = rule(drafts, q, p, *rest)
        judged.append((draws.asked[-1], q, p, verdict))  # type: ignore[attr-defined]
        return verdict

    monkeypatch.setattr(module, "released", watched)
    decoder = Released(
        target,
        draft,
        config["num_iter"],
        setting["num_draft"],
        int(setting["ratio"] * config["num_iter"]) + 1,
        setting["inner_temperature"],
        aligned=True,
        raster=False,
        draws=draws,
    )
    tokens, trace = decoder.generate(folder["labels"], range(len(folder["labels"])), 0)
    near = max(2e-3, 3 * folder[f"{run}_sens_out"].item())
    for (number, images, positions), q, p, verdict in judged:
        found, index = recorded_verdict(folder, run, number, images, positions)
        for ours, name in ((q, "draft"), (p, "target")):
            torch.testing.assert_close(ours.mean, found[f"{name}_mean"], atol=near, rtol=0)
            torch.testing.assert_close(ours.std, found[f"{name}_std"], atol=1e-4, rtol=1e-2)
        assert torch.equal(verdict.kept, found["accept_prob"] > found["uniform"])
        probability = verdict.log_ratio.exp().to(found["accept_prob"])
        torch.testing.assert_close(probability, found["accept_prob"], atol=undecided(folder, run), rtol=1e-2)
    assert len(judged) == folder[f"{run}_calls"][2]
    torch.testing.assert_close(picture(tokens), folder[f"{run}_out"], atol=near, rtol=0)
    target_calls, draft_calls, rounds = folder[f"{run}_calls"].tolist()
    for row in trace.rows():
        assert (row["target_forwards"], row["draft_forwards"]) == (target_calls, draft_calls)
        assert row["verified_steps"] == rounds
        assert row["rolled_back"] == 0


def recorded_verdict(
    folder: Any, run: str, number: int, images: Tensor, positions: Tensor
) -> tuple[dict[str, Tensor], Tensor]:
    """The recorded numbers of a verification, in our order."""
    prefix = f"{run}_v{number}_"
    keys = list(zip(folder[f"{prefix}batch"].tolist(), folder[f"{prefix}pos"].tolist(), strict=True))
    index = torch.tensor([keys.index(key) for key in zip(images.tolist(), positions.tolist(), strict=True)])
    names = ("draft_mean", "draft_std", "target_mean", "target_std", "accept_prob", "uniform")
    return {name: folder[prefix + name][index] for name in names}, index
