"""The worked examples of docs/adding.md, installed and run word for word."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests import nano
from vvsbench import cli
from vvsbench.composition import composed

ADDING = Path(__file__).parent.parent / "docs" / "adding.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
DRAFTER = "hit_rates=[0.5,0.2,0.1]"
USES = {
    "cheap": ["decoder=vvs", "schedule@decoder.schedule=cheap", "decoder.schedule.most=2"],
    "generous": ["decoder=eagle2", "acceptance@decoder.acceptance=generous", "decoder.acceptance.factor=3"],
    "binary": ["decoder=sd", "structure@decoder.structure=binary", "decoder.structure.depth=2"],
    "bold": ["decoder=sd", "drafter@decoder.drafter=bold", "decoder.drafter.temperature=0.5"],
}
LABELS = {"cheap": "vvs m=2", "generous": "eagle2 generous", "binary": "sd", "bold": "sd"}


@pytest.fixture
def examples(tmp_path, monkeypatch):
    """The page's modules on the path, and its entry points announced as those of an installed package."""
    blocks = BLOCK.findall(ADDING.read_text())
    for _, module in (block for block in blocks if block[0] == "python"):
        name = module.splitlines()[0].removeprefix("# ")
        (tmp_path / name).write_text(module)
    about = tmp_path / "examples-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: examples\nVersion: 1.0\n")
    tables = "\n".join(text for kind, text in blocks if kind == "toml")
    points = re.sub(r'\[project\.entry-points\."([\w.]+)"\]', r"[\1]", tables).replace('"', "")
    (about / "entry_points.txt").write_text(re.sub(r"^#.*\n", "", points, flags=re.MULTILINE))
    monkeypatch.syspath_prepend(tmp_path)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    nano.write(folder)
    return folder


@pytest.mark.parametrize("name", USES)
def test_an_example_runs_as_it_is_written(name, examples, weights, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    command = [*USES[name], *nano.overrides(weights, True), "count=2", "batch_size=2", "shard_size=2", "metrics=none"]
    assert cli.main(["run", *command, "study.name=docs"]) == 0
    assert LABELS[name] in capsys.readouterr().out


def test_the_schedule_is_one_short_file():
    module = next(text for kind, text in BLOCK.findall(ADDING.read_text()) if kind == "python")
    assert len(module.splitlines()) < 40


def test_every_axis_has_an_example(examples):
    text = ADDING.read_text()
    from vvsbench.config import PLUGINS

    assert set(re.findall(r'entry-points\."([\w.]+)"', text)) == {r.group for r in PLUGINS.values()} - {
        "vvsbench.decoders"
    }


def test_the_keys_of_the_released_knobs_exist():
    """Every key in the table of docs/released_vvs.md is one of a run's settings."""
    table = (ADDING.parent / "released_vvs.md").read_text()
    keys = {key.split("=")[0] for key in re.findall(r"`(decoder\.[\w.]+(?:=[^`]*)?)`", table)}
    released, dynamic = (
        composed(["decoder=vvs_released"]),
        composed(["decoder=vvs", "schedule@decoder.schedule=dynamic"]),
    )
    assert len(keys) > 15
    for key in keys - {"decoder.drafter.checkpoint"}:
        found = [_has(run, key.split(".")) for run in (released, dynamic)]
        assert any(found), key


def _has(node, path):
    return not path or (hasattr(node, path[0]) and _has(getattr(node, path[0]), path[1:]))
