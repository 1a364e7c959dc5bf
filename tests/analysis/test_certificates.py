from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests import synthetic
from vvsbench import identity
from vvsbench.analysis import certificates, report
from vvsbench.analysis.certificates import proofs


def exact(**changes: Any) -> dict[str, Any]:
    return {
        "structure": "fitted",
        "source": "eagle",
        "candidates": "shared_noise",
        "rule": "match",
        "schedule": "always",
        "batch": 1,
        "sampling": "temperature 1",
        "draws": 20000,
        "p_value": 0.31,
        "passed": True,
    } | changes


def content(**changes: Any) -> dict[str, Any]:
    """A small file as `make certify` writes it."""
    return {
        "version": 2,
        "made": {
            "date": "2026-01-02T03:04:05+00:00",
            "code_digest": identity.code_digest(),
            "draws": 20000,
            "alpha": 0.001,
            "power": "finds a total variation of 0.02 with probability 0.99",
        },
        "exact": [
            exact(),
            exact(batch=3, p_value=0.04, source="oracle"),
            exact(test="ar", p_value=0.0, source="oracle"),  # token for token: its p-value says nothing
            exact(rule="sequential", candidates="sampled", structure="paths", p_value=0.6),
        ],
        "controls": [
            {"name": "residual_keeps", "what": "the residual keeps a rejected token", "p_value": 3e-12, "caught": True}
        ],
        "relaxed": [
            {
                "decoder": "vvs",
                "setting": "i=3",
                "sampling": "temperature 1",
                "tv": 0.1234,
                "low": 0.12,
                "high": 0.127,
                "tokens_per_forward": 2.5,
            }
        ],
        "continuous": [
            continuous(),
            continuous(case="chain, Sigma 2", dtype="float64", overlap=None),
        ],
        "continuous_controls": [
            {
                "name": "no roll-back",
                "what": "drafts behind a rejected one stay",
                "case": "2 tokens",
                "draws": 100000,
                "kept": 0.787,
                "fallback": 0.0,
                "ks": 0.0593,
                "ks_critical": 0.0105,
                "moment": 19.9,
                "covariance": 0.1047,
                "p_value": 1e-87,
                "caught": True,
            }
        ],
    } | changes


def continuous(**changes: Any) -> dict[str, Any]:
    return {
        "case": "wider draft",
        "dtype": "float32",
        "draws": 1000000,
        "kept": 0.6597,
        "overlap": 0.6598,
        "ks": 0.0011,
        "ks_critical": 0.0024,
        "moment": 1.0,
        "moment_critical": 4.4,
        "covariance": 0.0013,
        "p_value": 0.2,
        "passed": True,
    } | changes


@pytest.fixture
def where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "certificates.json"
    monkeypatch.setattr(certificates, "path", lambda: path)
    return path


def test_exact_combinations_are_grouped_with_their_number_and_smallest_p_value(where: Path) -> None:
    where.write_text(json.dumps(content()), encoding="utf-8")
    first, second = proofs(where).tables[0].lines
    assert first.label == "match, shared_noise"
    assert [entry.text for entry in first.entries] == [
        "fitted",
        "eagle, oracle",
        "always",
        "1, 3",
        "1",
        "3 of 3",
        "0.040",
    ]
    assert [entry.text for entry in second.entries][-2:] == ["1 of 1", "0.600"]


def test_controls_and_relaxed_decoders_have_their_tables(where: Path) -> None:
    where.write_text(json.dumps(content()), encoding="utf-8")
    _, controls, relaxed, *_ = proofs(where).tables
    caught = [entry.text for entry in controls.lines[0].entries]
    assert caught == [
        "the residual keeps a rejected token",
        "3e-12",
        "yes",
    ]
    (line,) = relaxed.lines
    assert line.label == "vvs"
    assert [(entry.text, entry.interval) for entry in line.entries] == [
        ("i=3", ""),
        ("temperature 1", ""),
        ("0.1234", "[0.1200, 0.1270]"),
        ("2.50", ""),
    ]


def test_continuous_cases_and_controls_have_theirs(where: Path) -> None:
    where.write_text(json.dumps(content()), encoding="utf-8")
    *_, cases, controls = proofs(where).tables
    first, second = cases.lines
    assert first.label == "wider draft"
    shown = [entry.text.replace("\u2009", " ") for entry in first.entries]
    assert shown == ["float32", "1 000 000", "0.6597", "0.6598", "0.0011", "0.0024", "0.0013", "0.200", "yes"]
    assert second.entries[3].text == "–"
    (control,) = controls.lines
    shown = [entry.text for entry in control.entries]
    what = "drafts behind a rejected one stay"
    assert shown == [what, "2 tokens", "0.787", "0.000", "0.0593", "0.0105", "0.1047", "1e-87", "yes"]


def test_failures_of_continuous_tokens_are_said(where: Path) -> None:
    failed, missed = continuous(passed=False), content()["continuous_controls"][0] | {"caught": False}
    where.write_text(json.dumps(content(continuous=[failed], continuous_controls=[missed])), encoding="utf-8")
    found = proofs(where)
    said = " ".join(found.said)
    assert "1 of 1 cases of continuous tokens failed: wider draft in float32." in said
    assert "no power against it: no roll-back." in said
    assert found.tables[-2].lines[0].entries[-1].verdict == "worse"
    assert found.tables[-1].lines[0].entries[-1].verdict == "worse"


def test_failures_are_said_first_and_marked(where: Path) -> None:
    missed = {"name": "stale_q", "what": "q is kept stale", "p_value": 0.2, "caught": False}
    where.write_text(
        json.dumps(content(exact=[exact(), exact(p_value=1e-9, passed=False)], controls=[missed])), encoding="utf-8"
    )
    found = proofs(where)
    said = " ".join(found.said)
    assert "1 of 2 exact combinations failed: match on fitted." in said
    assert "no power against it: stale_q." in said
    assert [entry.verdict for entry in found.tables[0].lines[0].entries][-2] == "worse"
    assert found.tables[1].lines[0].entries[-1].verdict == "worse"


def test_other_code_is_told(where: Path) -> None:
    where.write_text(json.dumps(content()), encoding="utf-8")
    assert not any("other code" in text for text in proofs(where).said)
    made = content()["made"] | {"code_digest": "0" * 64}
    where.write_text(json.dumps(content(made=made)), encoding="utf-8")
    found = proofs(where)
    assert any("made by other code than the present" in text for text in found.said)
    assert found.tables


@pytest.mark.parametrize("text", ["{}", "not json", json.dumps(content(version=1)), None])
def test_without_a_file_that_can_be_read_it_is_said_what_makes_it(where: Path, text: str | None) -> None:
    if text is not None:
        where.write_text(text, encoding="utf-8")
    found = proofs(where)
    assert not found.tables
    (said,) = found.said
    assert "make certify makes" in said


def test_every_form_of_a_report_shows_them(where: Path, tmp_path: Path, no_figures: None) -> None:
    synthetic.write(tmp_path, 8, cells=synthetic.recipes()[:2])
    bare = report.write("demo", tmp_path)
    assert "There are no certificates yet: make certify makes them." in bare.html.read_text()
    where.write_text(json.dumps(content()), encoding="utf-8")
    paths = report.write("demo", tmp_path)
    for path in (paths.html, paths.markdown, paths.latex):
        text = path.read_text()
        assert "0.1234" in text
        assert "the residual keeps a rejected token" in text
    names = {path.name for path in paths.more}
    assert {f"certificates-{name}.csv" for name in certificates.KINDS} <= names
    where.unlink()
    report.write("demo", tmp_path)
    assert not list(paths.html.parent.glob("certificates-*.csv"))
