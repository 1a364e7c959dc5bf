"""What is read back from offline runs is what the records say; nothing here needs a key or a network."""

from __future__ import annotations

import importlib
import json
import os
import re
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests import synthetic
from vvsbench import cli
from vvsbench.analysis.speed import speeds
from vvsbench.runs import store
from vvsbench.tracking import sync
from vvsbench.tracking.cells import numbers, times
from vvsbench.tracking.wandb import asked, log_study, out_of_reach

FOLDERS = ("WANDB_DIR", "WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR")
BLOCK, FILE_HEADER, CHUNK_HEADER = 32768, 7, 7


def alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that wandb uses for everything, and no key anywhere."""
    for name in FOLDERS:
        (folder / name.lower()).mkdir()
        monkeypatch.setenv(name, str(folder / name.lower()))
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("NETRC", str(folder / "no-netrc"))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    return folder / "wandb_dir" / "wandb"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return alone(tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two cells that were drawn, one of which was timed as well, and the page that reports them."""
    root = tmp_path_factory.mktemp("outputs")
    _, folder = synthetic.write(root, 16, cells=[synthetic.recipes()[0], synthetic.recipes()[3]])
    synthetic.write_speed(folder, 0.05)
    page = root / "reports" / "demo" / "index.html"
    page.parent.mkdir(parents=True)
    page.write_text("<p>a page</p>")
    return root


@pytest.fixture(scope="module")
def runs(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The study, logged offline once."""
    with pytest.MonkeyPatch.context() as patch:
        place = alone(tmp_path_factory.mktemp("wandb"), patch)
        log_study("demo", root, "online")
        yield place


def entries(content: bytes) -> Iterator[bytes]:
    """The entries of a file in leveldb's log format: chunks that are all, the first, middle or last of an entry."""
    at, parts = FILE_HEADER, b""
    while at + CHUNK_HEADER <= len(content):
        if (room := BLOCK - at % BLOCK) < CHUNK_HEADER:
            at += room
            continue
        _, length, kind = struct.unpack_from("<IHB", content, at)
        parts += content[at + CHUNK_HEADER : at + CHUNK_HEADER + length]
        at += CHUNK_HEADER + length
        if kind in (1, 4):
            yield parts
            parts = b""


class Run:
    """An offline run, as its file has it."""

    def __init__(self, place: Path, ending: str) -> None:
        from wandb.proto.wandb_internal_pb2 import Record

        (self.path,) = place.glob(f"offline-run-*-{ending}/*.wandb")
        self.records = [Record.FromString(entry) for entry in entries(self.path.read_bytes())]
        (self.run,) = self._all("run")
        self.config = self._values(self.run.config.update)
        self.summary: dict[str, Any] = {}
        for record in self._all("summary"):
            self.summary |= self._values(record.update)
        self.history = [self._values(entry.item) for entry in self._all("history")]
        self.metrics = {metric.name or metric.glob_name: metric for metric in self._all("metric")}

    def _all(self, kind: str) -> list[Any]:
        return [getattr(record, kind) for record in self.records if record.WhichOneof("record_type") == kind]

    @staticmethod
    def _values(items: Any) -> dict[str, Any]:
        """Numbers and texts by name; what belongs to one picture or table is a mapping of its own."""
        found: dict[str, Any] = {}
        for item in items:
            *above, name = [item.key] if item.key else item.nested_key
            inner = found
            for part in above:
                inner = inner.setdefault(part, {})
            inner[name] = json.loads(item.value_json)
        return found

    def series(self, name: str) -> dict[int, float]:
        return {entry["repeat"]: entry[name] for entry in self.history if name in entry}

    def table(self, name: str) -> pd.DataFrame:
        where = next(entry[name] for entry in reversed(self.history) if name in entry)
        content = json.loads((self.path.parent / "files" / where["path"]).read_text())
        return pd.DataFrame(content["data"], columns=content["columns"])

    def names(self) -> set[str]:
        return {*self.summary, *(name for entry in self.history for name in entry)}

    def artifacts(self) -> dict[str, list[str]]:
        return {found.name: [entry.path for entry in found.manifest.contents] for found in self._all("artifact")}


def test_further_protocols_have_names_of_their_own(tmp_path: Path, place: Path) -> None:
    folders = synthetic.write(tmp_path / "outputs", 16, cells=[synthetic.recipes()[0], synthetic.recipes()[3]])
    synthetic.score_again(folders[1])
    log_study("demo", tmp_path / "outputs", "offline")
    key = store.read_record(folders[1]).key
    summary = Run(place, f"demo-{key}-images").summary
    assert summary["quality/vgg-pr/fid"] == pytest.approx(2 * summary["quality/fid"])
    report = Run(place, "demo-report")
    cells = report.table("study/cells/vgg-pr").set_index("key")
    assert cells.loc[key, "fid"] == pytest.approx(2 * report.table("study/cells").set_index("key").loc[key, "fid"])


def test_the_run_of_a_cell_holds_the_numbers_of_its_record(runs: Path, root: Path) -> None:
    row = synthetic.frame("demo", root).usable.set_index("label", drop=False).loc["vvs i=2"]
    cell = store.Store(root).cell("demo", "vvs i=2")
    found = Run(runs, f"demo-{cell.record.key}-images")
    assert (found.run.run_group, found.run.job_type, found.run.project) == ("demo", "images", "vvsbench")
    assert found.run.display_name == "tiny/vvs i=2/b16"
    assert found.config["key"] == cell.record.key
    assert found.config["provenance"] == cell.record.provenance.model_dump()
    assert {name: found.config[name] for name in cell.record.config} == cell.record.config
    assert set(found.run.tags) == {"cpu", "fp32", "tiny v1", "none", "clean"}

    expected = numbers(row)
    assert expected["quality/fid"] == cell.quality["tiny"].values[0].value
    assert expected["trace/step_compression"] == cell.record.summaries["step_compression"].mean
    assert {name: found.summary[name] for name in expected} == pytest.approx(expected)
    seconds = (cell.repeats["seconds"] / cell.repeats["images"]).to_dict()
    assert found.series("timing/repeat_seconds_per_image") == pytest.approx(seconds)
    assert found.table("tables/repeats")["seconds"].tolist() == pytest.approx(cell.repeats["seconds"].tolist())
    (samples,) = [entry["samples"] for entry in found.history if "samples" in entry]
    assert samples["count"] == len(samples["filenames"]) == 12
    assert samples["captions"][0] == "0: a red circle"
    assert all((found.path.parent / "files" / name).is_file() for name in samples["filenames"])


def test_repeats_are_drawn_over_their_number_and_stay_out_of_the_summary(runs: Path, root: Path) -> None:
    key = store.Store(root).cell("demo", "ar").record.key
    found = Run(runs, f"demo-{key}-images")
    metric = found.metrics["timing/repeat_seconds_per_image"]
    assert metric.step_metric == "repeat"
    assert metric.summary.none
    assert found.metrics["repeat"].options.hidden
    assert "timing/repeat_seconds_per_image" not in found.summary


def test_the_run_of_a_timed_cell_holds_its_times(runs: Path, root: Path) -> None:
    (record,) = store.Store(root).speeds("demo").sound
    found = Run(runs, f"demo-{record.key}-speed")
    assert (found.run.run_group, found.run.job_type) == ("demo", "speed")
    assert found.config["engine"] == "eager"
    expected = times(speeds("demo", root).rows.iloc[0])
    assert expected["timing/seconds_per_image"] == 0.05
    assert expected["timing/speed_up_low"] == 1.9
    assert expected["timing/phase_verify"] == 0.6
    assert expected["memory/process_gib"] == 1.0
    assert not any(name.startswith("energy/") for name in expected)  # what was not measured is absent
    assert {name: found.summary[name] for name in expected} == pytest.approx(expected)
    assert found.series("timing/repeat_seconds_per_image")[2] == pytest.approx(0.05 * 1.02)
    assert len(found.table("tables/repeats")) == 12


def test_the_run_of_the_study_holds_its_tables_front_and_page(runs: Path, root: Path) -> None:
    rows = synthetic.frame("demo", root).usable
    found = Run(runs, "demo-report")
    cells = found.table("study/cells")
    assert cells["label"].tolist() == ["ar", "vvs i=2"]
    assert cells["fid"].tolist() == rows["fid"].tolist()
    assert found.table("study/speed")["speed_up"].tolist() == [2.0]
    front = found.table("pareto/step_compression")
    assert front["step_compression"].tolist() == rows["step_compression"].tolist()
    assert front["place"].tolist() == ["on the front", "on the front"]
    assert "its FID rises by 9.40 [" in found.summary["in words"]
    assert found.summary["pareto/step_compression_hypervolume"] > 0
    charts = [list(found._values(record.update)["_wandb"]["visualize"]) for record in found._all("config")]
    assert ["pareto/step_compression_chart"] in charts
    assert found.artifacts()["report-demo"] == ["index.html"]


def test_the_chart_of_the_docs_uses_columns_that_are_there(runs: Path) -> None:
    docs = (Path(__file__).parents[2] / "docs" / "dashboards.md").read_text()
    spec = json.loads(docs.split("```json\n")[1].split("```")[0])
    used = {layer["encoding"][axis]["field"] for layer in spec["layer"] for axis in layer["encoding"]}
    used = {name.replace("${field:cost}", "step_compression").replace("${field:quality}", "fid") for name in used}
    assert used <= set(Run(runs, "demo-report").table("pareto/step_compression").columns)


def test_the_view_of_the_docs_shows_what_is_logged(runs: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All but the request that saves it."""
    workspaces = importlib.import_module("wandb_workspaces.workspaces")
    saved: list[Any] = []
    monkeypatch.setattr(workspaces.Workspace, "save", lambda view: saved.append(view))
    docs = (Path(__file__).parents[2] / "docs" / "dashboards.md").read_text()
    exec(docs.split("```python\n")[1].split("```")[0], {})
    spec = saved[0]._to_model().model_dump_json()
    named = set(re.findall(r'"(?:summary:|summary_metrics\.)?((?:trace|quality|timing)/\w+|samples|repeat)"', spec))
    logged = {name for path in runs.glob("offline-run-*") for name in Run(runs, path.name.split("-", 3)[3]).names()}
    assert len(named) > 5
    assert named <= logged


def test_logging_again_writes_newer_versions_of_the_same_runs(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder,) = synthetic.write(tmp_path, 8, cells=synthetic.recipes()[:1])
    synthetic.write_speed(folder, 0.1)
    (folder / store.RECORD).unlink()  # a study that was only timed
    log_study("demo", tmp_path, "offline")
    assert "2 runs of group demo, offline; to send them: vvsbench wandb sync output_root=" in capsys.readouterr().out
    first = sync.latest(place)
    for path in place.glob("offline-run-*"):
        path.rename(place / f"offline-run-20200101_000000{path.name[27:]}")
    log_study("demo", tmp_path, "offline")
    assert len(list(place.glob("offline-run-*"))) == 4
    again = sync.latest(place)
    assert {path.name for path in again} == {path.name for path in first}
    assert not any("20200101" in str(path) for path in again)

    sent = sends(monkeypatch)
    assert cli.main(["wandb", "sync", f"output_root={tmp_path}"]) == 0
    assert sorted(sent) == sorted(path.parent for path in again)
    assert "2 runs sent." in capsys.readouterr().out
    assert cli.main(["wandb", "sync"]) == 0
    assert "all 2 runs" in capsys.readouterr().out


def sends(monkeypatch: pytest.MonkeyPatch, fails: str = " ") -> list[Path]:
    """Puts a service in place that takes every run but those whose names hold some text."""
    import wandb

    sent: list[Path] = []

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        assert command[1:4] == ["-m", "wandb", "sync"]
        for folder in map(Path, command[4:]):
            if fails not in folder.name:
                (file,) = folder.glob("*.wandb")
                file.with_name(f"{file.name}.synced").touch()
                sent.append(folder)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(wandb, "login", lambda **_: True)
    monkeypatch.setattr(sync.subprocess, "run", run)
    return sent


def offline(place: Path, *names: str) -> None:
    for name in names:
        folder = place / f"offline-run-20260101_000000-{name}"
        folder.mkdir(parents=True)
        (folder / f"run-{name}.wandb").touch()


def test_sync_says_what_did_not_get_through(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    offline(place, "one", "two")
    sends(monkeypatch, fails="two")
    assert cli.main(["wandb", "sync"]) == 1
    assert "1 of 2 runs were not sent" in capsys.readouterr().err
    sent = sends(monkeypatch)
    assert cli.main(["wandb", "sync"]) == 0
    assert [path.name[-3:] for path in sent] == ["two"]


def test_sync_says_why_it_cannot_work(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli.main(["wandb", "sync"]) == 0
    assert "nothing to send: there is no offline run in" in capsys.readouterr().out
    assert cli.main(["wandb"]) == 2
    assert "there is only sync" in capsys.readouterr().err
    assert cli.main(["wandb", "sync", "root=x"]) == 2
    offline(place, "one")
    assert cli.main(["wandb", "sync"]) == 1
    assert "1 runs wait below" in (said := capsys.readouterr().err)
    assert "there is no key" in said
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert cli.main(["wandb", "sync"]) == 1
    assert "pip install wandb" in capsys.readouterr().err


def test_a_page_that_is_older_than_a_record_is_left_out(root: Path, tmp_path: Path) -> None:
    from vvsbench.tracking import reports

    assert reports._page("demo", root) == root / "reports" / "demo"
    (folder,) = synthetic.write(tmp_path, 8, cells=synthetic.recipes()[:1])
    page = tmp_path / "reports" / "demo" / "index.html"
    assert reports._page("demo", tmp_path) is None
    page.parent.mkdir(parents=True)
    page.touch()
    (folder / store.RECORD).touch()
    newer = page.stat().st_mtime + 1
    os.utime(folder / store.RECORD, (newer, newer))
    assert reports._page("demo", tmp_path) is None


@pytest.mark.parametrize("setting", ["logger=wanbd", "logger.mode=later"])
def test_a_logger_that_is_not_there_is_refused(setting: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["report", "study=demo", setting]) == 2
    assert f"{setting}: choose from" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("mode", "variables", "wanted"),
    [
        ("online", {}, "online"),
        ("online", {"WANDB_MODE": "offline"}, "offline"),
        ("online", {"WANDB_MODE": "dryrun"}, "offline"),
        ("online", {"WANDB_MODE": "disabled"}, "disabled"),
        ("offline", {"WANDB_MODE": "online"}, "offline"),
        ("offline", {"WANDB_MODE": "disabled"}, "disabled"),
        ("online", {"WANDB_DISABLED": "true"}, "disabled"),
    ],
)
def test_the_quieter_of_setting_and_environment_counts(
    mode: str, variables: dict[str, str], wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WANDB_MODE", "WANDB_DISABLED"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert asked(mode) == wanted


def test_disabled_does_nothing(place: Path, tmp_path: Path) -> None:
    log_study("no such study", tmp_path, "disabled")
    assert not place.exists()


def test_nothing_that_goes_wrong_is_raised(
    place: Path, tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    log_study("no such study", tmp_path, "offline")
    assert "no such study has no cells" in caplog.text
    monkeypatch.setitem(sys.modules, "wandb", None)
    log_study("demo", root, "offline")
    assert caplog.text.count("was not logged to Weights & Biases") == 2


def test_a_service_that_does_not_answer_is_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    import wandb

    def unreachable(**_: Any) -> bool:
        raise wandb.errors.CommError("no route to host")

    monkeypatch.setattr(wandb, "login", unreachable)
    assert out_of_reach(wandb) == "it does not answer (no route to host)"


def test_wandb_is_imported_only_when_a_study_is_logged() -> None:
    heavy = "sys.exit(bool({'wandb', 'torch'} & {*sys.modules}))"
    code = f"import sys, vvsbench.tracking.wandb, vvsbench.tracking.sync; {heavy}"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
