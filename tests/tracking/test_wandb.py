from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests import synthetic
from vvsbench.analysis.frame import frame
from vvsbench.tracking.wandb import log_study, numbers


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that wandb uses for everything, and no key anywhere."""
    for name in ("WANDB_DIR", "WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR"):
        folder = tmp_path / name.lower()
        folder.mkdir()
        monkeypatch.setenv(name, str(folder))
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    return tmp_path / "wandb_dir"


def logged(place: Path, name: str) -> list[dict[str, Any]]:
    """The entries of the one offline run whose id ends in a name."""
    (path,) = place.glob(f"wandb/offline-run-*{name}/*.wandb")
    program = Path(sys.executable).with_name("wandb")
    command = [str(program), "leet", "inspect", "--json", str(path)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [json.loads(line) for line in printed.splitlines()]


def updates(entries: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for entry in entries:
        if entry["type"] == kind:
            found |= entry[kind].get("update", {})
    return found


def test_an_offline_study_holds_the_numbers_of_its_records(
    place: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    synthetic.write(tmp_path, 16, cells=synthetic.recipes()[:4])
    log_study("demo", tmp_path, "online")
    assert "there is no key" in caplog.text
    study = frame("demo", tmp_path)
    row = study.usable[study.usable["label"] == "vvs i=2"].iloc[0]
    entries = logged(place, f"{row.name}-sample")

    run = next(entry["run"] for entry in entries if entry["type"] == "run")
    assert (run["run_group"], run["job_type"], run["project"]) == ("demo", "sample", "vvsbench")
    assert run["display_name"] == "tiny/vvs i=2/b16"
    assert run["config"]["update"]["provenance"]["command"] == "vvsbench run study=demo"
    assert run["config"]["update"]["decoder"]["schedule"]["interval"] == 2
    summary = updates(entries, "summary")
    expected = numbers(row)
    assert expected["quality/fid"] == row["fid"]
    assert {name: summary[name] for name in expected} == pytest.approx(expected)
    media = [file["path"] for entry in entries if entry["type"] == "files" for file in entry["files"]["files"]]
    assert sum(path.startswith("media/images/samples") for path in media) == 12

    entries = logged(place, "demo-report")
    summary = updates(entries, "summary")
    assert "its FID rises by 9.40 [" in summary["in words"]
    assert summary["pareto/step_compression_hypervolume"] > 0
    assert summary["pareto/step_compression._type"].startswith("table")


def test_logging_again_uses_the_same_ids(place: Path, tmp_path: Path) -> None:
    synthetic.write(tmp_path, 8, cells=synthetic.recipes()[:1])
    ids = []
    for _ in range(2):
        log_study("demo", tmp_path, "offline")
        ids.append({path.stem for path in place.glob("wandb/offline-run-*/*.wandb")})
    assert ids[0] == ids[1]


def test_disabled_does_nothing(place: Path, tmp_path: Path) -> None:
    log_study("no such study", tmp_path, "disabled")
    assert not list(place.iterdir())


def test_nothing_that_goes_wrong_is_raised(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    log_study("no such study", tmp_path, "offline")
    assert "no such study has no cells" in caplog.text
    synthetic.write(tmp_path, 8, cells=synthetic.recipes()[:1])
    monkeypatch.setitem(sys.modules, "wandb", None)
    log_study("demo", tmp_path, "offline")
    assert caplog.text.count("was not logged to Weights & Biases") == 2


def test_a_service_that_does_not_answer_sends_the_study_offline(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import wandb

    def unreachable(**_: Any) -> bool:
        raise wandb.errors.CommError("no route to host")

    synthetic.write(tmp_path, 8, cells=synthetic.recipes()[:2])
    monkeypatch.setattr(wandb, "login", unreachable)
    log_study("demo", tmp_path, "online")
    assert "does not answer (no route to host)" in caplog.text
    assert len(list(place.glob("wandb/offline-run-*/*.wandb"))) == 3


def test_wandb_is_imported_only_when_a_study_is_logged() -> None:
    code = "import sys, vvsbench.tracking.wandb; sys.exit('wandb' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
