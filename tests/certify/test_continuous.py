"""The tests of continuous laws reject as often as they say, see what they should, and a planted fault is found."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import kstest
from torch import Tensor

from vvsbench.certify.continuous import proofs
from vvsbench.certify.continuous.cases import CASES, MODES, SINGLE, WIDER
from vvsbench.certify.continuous.decoders import law_of, target
from vvsbench.certify.continuous.laws import Law, fit, gaussian
from vvsbench.decoding.continuous.coupling import Moments, Proposals, Verdict, exact

DRAWS = 2_000


def drawn(law: Law, seed: int, draws: int = DRAWS) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    component = torch.multinomial(law.weights, draws, True, generator=generator)
    roots = torch.linalg.cholesky(law.covariances)[component]
    noise = torch.randn(draws, law.means.shape[1], generator=generator, dtype=torch.float64)
    return law.means[component] + (roots @ noise[..., None])[..., 0]


@pytest.mark.parametrize("law", [WIDER.law, MODES.law, law_of(target(dtype=torch.float64))])
def test_the_law_itself_is_rarely_rejected(law: Law) -> None:
    p_values = [fit(drawn(law, seed), law).p_value for seed in range(25)]
    assert sum(value < 0.05 for value in p_values) <= 5, "1 of 25 are expected at most"
    assert min(p_values) > 1e-4


def test_the_statistic_is_that_of_kolmogorov_and_smirnov() -> None:
    sample = drawn(SINGLE[1].law, 0)
    standard = (sample[:, 0] - 1.0).numpy()
    found = fit(sample, SINGLE[1].law)
    assert found.ks == pytest.approx(kstest(standard, "norm").statistic)
    assert found.p_value < 2.1 * kstest(standard, "norm").pvalue


def test_an_error_of_the_stated_size_is_found() -> None:
    law, draws = WIDER.law, 100_000
    size = proofs.detectable(draws, 1e-3)
    shift = 2 * torch.special.ndtri(torch.tensor(0.5 + size / 2).double()) * law.covariance[0, 0].sqrt()
    level = 1e-3 / proofs.tests()
    assert all(fit(drawn(law, seed, draws) + shift, law).p_value < level for seed in range(5))


def test_a_wrong_correlation_is_found_though_every_token_has_its_law() -> None:
    right = gaussian(torch.zeros(2), torch.tensor([[1.0, 0.8], [0.8, 1.0]]))
    wrong = gaussian(torch.zeros(2), torch.tensor([[1.0, 0.6], [0.6, 1.0]]))
    found = fit(drawn(wrong, 0), right)
    assert found.covariance == pytest.approx(0.2, abs=0.05)
    assert found.p_value < 1e-9


def test_what_is_not_a_number_fails() -> None:
    sample = drawn(WIDER.law, 0)
    sample[7] = torch.nan
    assert fit(sample, WIDER.law).p_value == 0.0


def test_the_overlap_is_as_in_a_table() -> None:
    overlaps = {case.name: case.overlap for case in CASES}
    assert overlaps["equal widths"] == pytest.approx(0.61708, abs=1e-5)  # 2 Phi(-1/2)
    assert overlaps["wider draft"] == pytest.approx(overlaps["wider target"], abs=1e-6)
    assert overlaps["disjoint"] == pytest.approx(0.0, abs=1e-12)


def test_a_rule_that_keeps_too_much_does_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    def generous(drafts: Tensor, q: Moments, p: Moments, uniforms: Tensor, propose: Proposals) -> Verdict:
        return exact(drafts, q, p, uniforms * 0.6, propose)

    monkeypatch.setattr(proofs, "exact", generous)
    monkeypatch.setattr(proofs, "CASES", SINGLE[1:2])
    monkeypatch.setattr(proofs, "JOINTS", ())
    monkeypatch.setattr(proofs, "DECODERS", ())
    assert not any(one.passed for one in proofs.certificates(DRAWS, 0, 1e-3))
