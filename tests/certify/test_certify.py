"""`make certify` at its small size: everything exact passes, every control is caught, and a planted fault ends in 1."""

from __future__ import annotations

import json

import pytest

from vvsbench import identity
from vvsbench.axes import Candidates
from vvsbench.certify import controls, exact, relaxed
from vvsbench.certify.__main__ import SMALL, main
from vvsbench.certify.continuous import proofs
from vvsbench.certify.controls import EagerMatch, RejectedStays
from vvsbench.certify.toys import PUBLISHED, structure
from vvsbench.decoding.acceptance.settings import RULES
from vvsbench.decoding.schedule import SCHEDULES
from vvsbench.drafting.structures import STRUCTURES


@pytest.fixture
def only_discrete(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave of the continuous certificates one case, for time."""
    monkeypatch.setattr(proofs, "CASES", proofs.CASES[:1])
    for rest in ("JOINTS", "DECODERS", "CONTROLS"):
        monkeypatch.setattr(proofs, rest, ())


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> dict:
    out = tmp_path_factory.mktemp("certify") / "deep" / "certificates.json"
    assert main(["--small", "--out", str(out)]) == 0
    return json.loads(out.read_text())


def test_every_exact_combination_passes(made) -> None:
    assert all(one["passed"] for one in made["exact"])
    for axis, values in {
        "structure": {"none", *(one.structure for one in exact.combinations())},
        "source": {"none", *(one.source for one in exact.combinations())},
        "candidates": {"none", *Candidates},
        "rule": {"ar", "match", "sequential"},
        "sampling": set(exact.SAMPLINGS),
        "test": {"law", "ar", "batch"},
        "batch": {exact.SMALL_BATCH, SMALL.exact.identity, exact.LARGE_BATCH},
    }.items():
        assert {one[axis] for one in made["exact"]} == values
    assert len({one["schedule"] for one in made["exact"]}) == 1 + len(exact.SKIPS)


@pytest.mark.parametrize("name", [spoilt.name for spoilt in controls.CONTROLS])
def test_the_control_is_caught(made, name: str) -> None:
    (control,) = (one for one in made["controls"] if one["name"] == name)
    assert control["caught"]
    assert control["p_value"] < 1e-9


def test_relaxed_decoders_are_measured(made) -> None:
    assert len(made["relaxed"]) >= 20
    for one in made["relaxed"]:
        assert 0 <= one["low"] <= one["tv"] <= one["high"] <= 1
        assert one["tokens_per_forward"] > 1
        assert one["promises"] != "exact" or one["tv"] == 0


def test_every_continuous_case_passes(made) -> None:
    found = made["continuous"]
    assert all(one["passed"] for one in found)
    assert len(found) == proofs.tests() > 30
    assert {one["dtype"] for one in found} == {"float32", "float64"}
    for one in found:
        assert one["ks"] < one["ks_critical"]
        assert one["moment"] < one["moment_critical"]


@pytest.mark.parametrize("name", [spoilt.name for spoilt in proofs.CONTROLS])
def test_the_continuous_control_is_caught(made, name: str) -> None:
    (control,) = (one for one in made["continuous_controls"] if one["name"] == name)
    assert control["caught"]
    assert control["p_value"] < 1e-9


def test_the_file_says_what_it_was_made_with(made) -> None:
    assert made["version"] == 2
    assert made["made"]["code_digest"] == identity.code_digest()
    assert 0 < made["made"]["identity_tv"] < 0.05
    assert "0.99" in made["made"]["power"]


def test_nothing_that_can_be_chosen_is_left_out() -> None:
    listed = list(relaxed.settings())
    names = {schedule.name for schedule in SCHEDULES}
    assert {setting.schedule.name for setting in listed} == {*names}
    assert {"always", *exact.SKIPS} == names
    assert {setting.rule.name for setting in listed} == {rule.name for rule in RULES}
    assert {kind.name for kind in STRUCTURES} - {"paths"} == set(exact.STRUCTURES) - {"published"}


def test_the_published_tree_is_the_published_one_as_far_as_the_toy_goes() -> None:
    assert PUBLISHED == "mc_sim_7b_63"
    assert structure("published", 4).nodes == 13


@pytest.mark.parametrize(("name", "rule"), [("match", EagerMatch), ("sequential", RejectedStays)])
def test_a_planted_fault_ends_in_1(only_discrete, monkeypatch, tmp_path, capsys, name: str, rule) -> None:
    few = [one for one in exact.combinations() if one.rule == name and one.schedule == "always"][:2]
    monkeypatch.setattr(exact, "combinations", lambda: iter(few))
    monkeypatch.setattr(relaxed, "settings", lambda: iter(()))
    monkeypatch.setitem(exact.RULES, name, rule)
    assert main(["--small", "--out", str(tmp_path / "bad.json")]) == 1
    assert not all(one["passed"] for one in json.loads((tmp_path / "bad.json").read_text())["exact"])
    assert "failed" in capsys.readouterr().out


def test_a_control_that_is_missed_ends_in_1(only_discrete, monkeypatch, tmp_path) -> None:
    honest = next(spoilt for spoilt in controls.CONTROLS if spoilt.rule is EagerMatch)
    monkeypatch.setattr(
        controls, "CONTROLS", [type(honest)("honest", "nothing", exact.Match, "chain", Candidates.top_k)]
    )
    monkeypatch.setattr(exact, "combinations", lambda: iter(()))
    monkeypatch.setattr(relaxed, "settings", lambda: iter(()))
    assert main(["--small", "--out", str(tmp_path / "missed.json")]) == 1


def test_too_few_draws_are_refused(capsys) -> None:
    with pytest.raises(SystemExit):
        main(["--draws", "5"])
    assert "--draws=5 must be at least 100" in capsys.readouterr().err
