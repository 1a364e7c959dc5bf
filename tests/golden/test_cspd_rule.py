"""The `released` rule decides and replaces as the authors' code does, given its moments and its draws."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests.golden.conftest import GoldenFolder
from vvsbench.decoding.continuous.coupling import Moments, Proposals, Verdict, exact, published, released

Open = Callable[[str], GoldenFolder]


def moments(folder: GoldenFolder, case: str, whose: str) -> Moments:
    return Moments(*(folder[f"{case}_{whose}_{name}"] for name in ("mean", "std", "logvar_sum")))


def given(normals: Tensor, uniforms: Tensor) -> Proposals:
    """The draws of the fixture; a try that it does not hold was not made by the authors' code."""

    def propose(rows: Tensor, first: int, count: int) -> tuple[Tensor, Tensor]:
        assert first + count <= len(normals), "more tries than the authors' code made"
        return normals[first : first + count, rows], uniforms[first : first + count, rows]

    return propose


def judged(folder: GoldenFolder, case: str, temperature: float) -> tuple[Verdict, int]:
    """The verdict, and how many tries were made."""
    drafts, uniforms = folder[f"{case}_draft_sample"], folder[f"{case}_uniform"]
    count, size = drafts.shape
    draws = (
        folder.tensors.get(f"{case}_resample_{name}", torch.zeros(0, *shape))
        for name, shape in (("normal", (count, size)), ("uniform", (count,)))
    )
    proposals, made = given(*draws), 0

    def counted(rows: Tensor, first: int, count: int) -> tuple[Tensor, Tensor]:
        nonlocal made
        made = max(made, first + count)
        return proposals(rows, first, count)

    verdict = released(
        drafts, moments(folder, case, "draft"), moments(folder, case, "target"), uniforms, counted, temperature
    )
    return verdict, made


def cases(folder: GoldenFolder) -> dict[str, float]:
    """Every verification with its inner temperature."""
    found = [name.removesuffix("_accept_prob") for name in folder.tensors if name.endswith("_accept_prob")]
    runs = folder.config["runs"]
    return {
        case: float(folder[f"{case}_temperature"])
        if case.startswith("unit")
        else runs[case.split("_")[0]]["inner_temperature"]
        for case in sorted(found)
    }


def test_every_verification_is_decided_alike(golden: Open) -> None:
    folder = golden("cspd")
    for case, temperature in cases(folder).items():
        verdict, tries = judged(folder, case, temperature)
        wanted = folder[f"{case}_accept_prob"]
        torch.testing.assert_close(verdict.log_ratio.exp().float(), wanted, rtol=1e-4, atol=1e-6, msg=case)
        assert torch.equal(verdict.kept, wanted > folder[f"{case}_uniform"]), case
        assert tries == len(folder.tensors.get(f"{case}_resample_uniform", ())), case
        torch.testing.assert_close(verdict.tokens, folder[f"{case}_result"], rtol=1e-5, atol=1e-6, msg=case)
        assert torch.equal(verdict.fallback, (folder[f"{case}_result"] == 0).all(-1)), case


def test_some_hand_made_gaussians_take_every_try_and_leave_zeros(golden: Open) -> None:
    """Otherwise the test above would not see how the tries end."""
    folder = golden("cspd")
    made = [judged(folder, case, value) for case, value in cases(folder).items() if case.startswith("unit")]
    assert any(tries == 100 and verdict.fallback.any() for verdict, tries in made)


@pytest.mark.parametrize("change", ["reciprocal", "temperature", "first success"])
def test_a_rule_that_is_almost_the_released_one_is_told_apart(golden: Open, change: str) -> None:
    folder = golden("cspd")
    case = "unit1"
    q, p = moments(folder, case, "draft"), moments(folder, case, "target")
    temperature = float(folder[f"{case}_temperature"])
    normals, uniforms = folder[f"{case}_resample_normal"], folder[f"{case}_resample_uniform"]
    if change == "reciprocal":
        q.log_std_sum, p.log_std_sum = p.log_std_sum, q.log_std_sum
    elif change == "temperature":
        temperature = 1.0
    else:
        normals, uniforms = normals.flip(0), uniforms.flip(0)  # the last success comes first
    drafts, chance = folder[f"{case}_draft_sample"], folder[f"{case}_uniform"]
    found = released(drafts, q, p, chance, given(normals, uniforms), temperature)
    assert not torch.allclose(found.tokens, folder[f"{case}_result"], atol=1e-2)


def test_the_other_rules_decide_otherwise(golden: Open) -> None:
    folder = golden("cspd")
    blocks = [case for case in cases(folder) if not case.startswith("unit")]
    case = max(blocks, key=lambda case: int((folder[f"{case}_accept_prob"] > folder[f"{case}_uniform"]).sum()))
    drafts, uniforms = folder[f"{case}_draft_sample"], folder[f"{case}_uniform"]
    q, p = moments(folder, case, "draft"), moments(folder, case, "target")
    generator = torch.Generator().manual_seed(0)

    def fresh(rows: Tensor, first: int, count: int) -> tuple[Tensor, Tensor]:
        size = (count, len(rows))
        return torch.randn(*size, drafts.shape[1], generator=generator), torch.rand(size, generator=generator)

    kept = int((folder[f"{case}_accept_prob"] > uniforms).sum())
    for rule in (exact, published):
        assert int(rule(drafts, q, p, uniforms, fresh).kept.sum()) < kept
