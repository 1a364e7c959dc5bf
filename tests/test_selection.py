"""The k largest of a row: kernels find what torch finds, ties, zeros of both signs and infinities included."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from vvsbench import selection

CHECK = """
import torch
from tests.test_selection import agree
agree()
"""
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def rows(width: int) -> torch.Tensor:
    """Rows with everything that a search could stumble over."""
    found = torch.randn(6, width, generator=torch.Generator().manual_seed(width))
    found[0] = found[0].mul(2).round()
    found[1, : width // 2] = -float("inf")
    found[2, ::2], found[2, 1::2] = 0.0, -0.0
    found[3] = found[3] * 1e-38
    found[4] = -found[4].abs()
    return found.to(DEVICE)


def agree() -> None:
    """Compare the kernels with `torch.topk`."""
    from vvsbench import selection_kernels

    for width, count in ((100, 7), (513, 100), (2048, 1000), (16384, 1000), (300, 300)):
        x = rows(width)
        values = x.topk(count, -1).values
        expected = x.masked_fill(x < values[:, -1:], -float("inf"))
        assert torch.equal(selection_kernels.keep_largest(x, count), expected)
        few = min(count, 10)
        found, places = selection_kernels.largest(x.view(2, 3, width), few)
        assert torch.equal(found.view(6, few), x.topk(few, -1).values)
        assert torch.equal(x.gather(1, places.view(6, few)), found.view(6, few))
        assert all(len(set(row)) == few for row in places.view(6, few).tolist())


def test_ties_with_the_last_stay() -> None:
    x = torch.tensor([[3.0, 1.0, 2.0, 2.0, 0.0]])
    assert selection.keep_largest(x, 2).tolist() == [[3.0, -float("inf"), 2.0, 2.0, -float("inf")]]
    assert selection.largest(x, 1)[1].tolist() == [[0]]


@pytest.mark.skipif(DEVICE == "cuda", reason="the kernels run here; see the next test")
def test_the_kernels_as_their_interpreter_runs_them() -> None:
    pytest.importorskip("triton", reason="torch was installed without triton")
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    root = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", CHECK], cwd=root, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.compiles
def test_the_kernels_compile_for_a_gpu_that_is_not_here() -> None:
    triton = pytest.importorskip("triton", reason="torch was installed without triton")
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from vvsbench import selection_kernels

    numbers = {"width": "i32", "BLOCK": "constexpr"}
    keep = {"logits": "*fp32", "out": "*fp32", "count": "i32", **numbers}
    few = {"scores": "*fp32", "values": "*fp32", "places": "*i64", "COUNT": "constexpr", **numbers}
    for kernel, types, constants in (
        (selection_kernels._keep_largest, keep, {}),
        (selection_kernels._largest, few, {"COUNT": 10}),
    ):
        signature = {name: types[name] for name in kernel.arg_names}
        source = ASTSource(kernel, signature, {"BLOCK": 16384, **constants})
        made = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": 16})
        assert ".local" not in made.asm["ptx"]  # a row fits into registers


@pytest.mark.compiles
@pytest.mark.gpu
@pytest.mark.skipif(DEVICE != "cuda", reason="needs a CUDA device")
def test_the_kernels_on_a_gpu() -> None:
    agree()
    x = rows(16384)
    assert torch.equal(selection.keep_largest(x, 1000), selection.keep_largest(x.cpu(), 1000).cuda())
