"""The settings of the acceptance rules: what they build, what they refuse and what they are called."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest

from tests.decoding.toys import toy_target
from vvsbench.axes import Candidates, Residual
from vvsbench.decoding.acceptance import GreedyLantern, Lantern, Match, Sequential
from vvsbench.decoding.acceptance.settings import RULES, LanternConfig, MatchConfig, SequentialConfig
from vvsbench.sampling import Sampling

MODEL = SimpleNamespace(vocab=8)


def structure(candidates: str) -> SimpleNamespace:
    return SimpleNamespace(candidates=candidates)


def test_settings_are_read_without_torch() -> None:
    code = "import sys, vvsbench.decoding.acceptance.settings; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_rule_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(ImportError, match="Sequentiel"):
        from vvsbench.decoding.acceptance import Sequentiel  # noqa: F401


def test_each_builds_its_rule() -> None:
    target = toy_target(vocab=8, tokens=2)
    assert isinstance(MatchConfig().build(target, Sampling()), Match)
    assert type(SequentialConfig().build(target, Sampling())) is Sequential
    rule = LanternConfig(k=3, delta=0.2, residual=Residual.strict).build(target, Sampling())
    assert isinstance(rule, Lantern)
    assert (rule.relaxation.k, rule.relaxation.delta, rule.residual) == (3, 0.2, Residual.strict)


@pytest.mark.parametrize(
    ("residual", "k", "temperature", "columns"),
    [("released", 3, 1.0, 4), ("accepted_set", 3, 1.0, 3), ("strict", 3, 1.0, 3), ("released", 7, 1.0, 7)]
    + [("released", 3, 0.0, 3)],
)
def test_the_table_holds_what_is_used(residual, k, temperature, columns, tmp_path) -> None:
    config = LanternConfig(k=k, residual=residual)
    rule = config.build(toy_target(vocab=8, tokens=2), Sampling(temperature), tmp_path)
    assert rule.relaxation.neighbours.shape == (8, columns)
    assert len(list(tmp_path.iterdir())) == 1


def test_at_temperature_0_lantern_is_another_rule() -> None:
    rule = LanternConfig(k=3).build(toy_target(vocab=8, tokens=2), Sampling(temperature=0.0))
    assert isinstance(rule, GreedyLantern)


@pytest.mark.parametrize("rule", [SequentialConfig(), LanternConfig(k=3)], ids=lambda rule: rule.name)
def test_candidates_that_know_the_noise_are_refused(rule) -> None:
    (problem,) = rule.problems(MODEL, structure(Candidates.shared_noise))
    assert problem.startswith(f"name={rule.name} does not go with decoder.structure.candidates=shared_noise")
    assert "candidates=top_k or sampled" in problem
    assert rule.problems(MODEL, structure("top_k")) == rule.problems(MODEL, structure("sampled")) == []


@pytest.mark.parametrize("candidates", ["shared_noise", "top_k", "sampled"])
def test_matching_goes_with_all(candidates) -> None:
    assert MatchConfig().problems(MODEL, structure(candidates)) == []


@pytest.mark.parametrize(
    ("rule", "start"),
    [
        (LanternConfig(k=8), "k=8 must lie in [1, 7]"),
        (LanternConfig(k=0), "k=0 must lie in [1, 7]"),
        (LanternConfig(k=3, delta=-0.1), "delta=-0.1 must be 0 or more"),
        (LanternConfig(k=3, delta=float("nan")), "delta=nan must be 0 or more"),
    ],
)
def test_impossible_settings_are_named(rule, start) -> None:
    (problem,) = rule.problems(MODEL, structure("top_k"))
    assert problem.startswith(start)


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (MatchConfig(), []),
        (SequentialConfig(), ["sequential"]),
        (LanternConfig(), ["lantern delta=0.1"]),
        (LanternConfig(k=10, delta=3, residual=Residual.strict), ["lantern++ lambda=3", "k=10", "strict"]),
        (LanternConfig(normalised=True), ["lantern delta=0.1", "unit codes"]),
    ],
)
def test_labels_tell_settings_apart(rule, words) -> None:
    assert rule.label == words


@pytest.mark.parametrize("kind", RULES, ids=lambda kind: kind.name)
def test_settings_promise_what_the_rule_does(kind) -> None:
    settings = kind(k=3) if hasattr(kind, "k") else kind()
    assert settings.guarantee is settings.build(toy_target(vocab=8, tokens=2), Sampling()).guarantee
