"""What is marked as fusible is the function itself until an engine fuses, and gives the same when it does."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from vvsbench.fusing import fusible, fusing
from vvsbench.noise import gumbel


def test_marking_imports_no_compiler() -> None:
    code = "import sys; import vvsbench.noise, vvsbench.drafting.tree; sys.exit('torch._dynamo' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.compiles
def test_only_inside_is_it_compiled_and_there_as_part_of_what_calls_it() -> None:
    seen: list[bool] = []

    @fusible
    def inner(x: torch.Tensor) -> torch.Tensor:
        return x + 1

    @fusible
    def outer(x: torch.Tensor) -> torch.Tensor:
        if not torch.compiler.is_compiling():
            seen.append(True)
        return inner(x) * 2

    x = torch.arange(3.0)
    assert torch.equal(outer(x), 2 * (x + 1))
    assert seen == [True]
    with fusing():
        assert torch.equal(outer(x), 2 * (x + 1))
    assert seen == [True]


@pytest.mark.compiles
def test_fused_noise_is_the_noise() -> None:
    images, positions = torch.arange(3)[:, None], torch.arange(4)
    expected = gumbel(7, images, positions, 50)
    with fusing():
        torch.testing.assert_close(gumbel(7, images, positions, 50), expected, rtol=1e-5, atol=1e-6)
