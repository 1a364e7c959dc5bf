"""Records from anybody: refused by their schema, one line about a bad one, and the others reported."""

from __future__ import annotations

import copy
import dataclasses
import io
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from tests import synthetic
from vvsbench import cli, commands, composition
from vvsbench.analysis import facts, frame, report, tables
from vvsbench.analysis.tables import formula_free, plain
from vvsbench.models import checkpoints
from vvsbench.runs import shards, store
from vvsbench.runs.record import CellRecord, unpacked
from vvsbench.runs.recorded import OwnSettings, printable
from vvsbench.runs.states import State, of_study
from vvsbench.runs.store import RecordError, Store, StoredCell
from vvsbench.terminal import Terminal

MARKUP = "<img src=x onerror=alert(1)>|[red]`x`[a](b)\\ =1+1"


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output root with a study of three cells, not to be changed."""
    root = tmp_path_factory.mktemp("kept")
    synthetic.write(root, 32, cells=synthetic.recipes()[:3])
    return root


@pytest.fixture
def root(kept: Path, tmp_path: Path) -> Path:
    """A copy of it to be damaged."""
    shutil.copytree(kept / "cells", tmp_path / "cells")
    return tmp_path


def folders(root: Path) -> dict[str, Path]:
    return {path.name.rsplit("-", 1)[0]: path for path in sorted((root / "cells" / "demo").iterdir())}


def edited(folder: Path, edit: Any, name: str = store.RECORD) -> None:
    content = json.loads((folder / name).read_text(encoding="utf-8"))
    edit(content)
    (folder / name).write_text(json.dumps(content), encoding="utf-8")


EDITS: dict[str, Any] = {
    "count": lambda r: r.update(count=10**11),
    "no_images": lambda r: r.update(count=0),
    "negative": lambda r: r.update(count=-1),
    "shard_size": lambda r: r["config"].update(shard_size=0),
    "many_files": lambda r: (r.update(count=10**7), r["config"].update(shard_size=1)),
    "done": lambda r: r.update(done=10**6),
    "missing": lambda r: r.pop("provenance"),
    "more": lambda r: r.update(another=1),
    "version": lambda r: r.update(schema_version=9),
    "model": lambda r: r["config"].pop("model"),
    "decoder": lambda r: r["config"].update(decoder="ar"),
    "sampling": lambda r: r["config"]["sampling"].update(temperature="hot"),
    "study": lambda r: r["config"].update(study={"cells": 3}),
    "time": lambda r: r.update(started="yesterday"),
    "summary": lambda r: r["summaries"]["step_compression"].update(mean=1e300),
    "files": lambda r: r.update(files={"../../../../etc/passwd": "0" * 64}),
    "commit": lambda r: r["provenance"].update(git={"commit": "x; rm -rf ~", "dirty": False}),
    "key": lambda r: r.update(key="../x"),
    "label": lambda r: r.update(label="x" * 10_000),
}


@pytest.mark.parametrize("name", EDITS)
def test_what_no_record_can_say_is_damage(root: Path, name: str) -> None:
    folder = folders(root)["sd"]
    edited(folder, EDITS[name])
    with pytest.raises(RecordError, match=r"record\.json is damaged"):
        store.read_record(folder)
    assert [cell.record.label for cell in Store(root).cells("demo")] == ["ar", "eagle2"]
    (bad,) = (one for one in of_study(Store(root), "demo") if one.record is None)
    assert (bad.state, bad.folder) == (State.failed, folder)


def leaves(node: Any, path: tuple[Any, ...] = ()) -> Any:
    if isinstance(node, dict | list):
        yield path
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            yield from leaves(value, (*path, key))
    else:
        yield path


JUNK = (None, 0, -1, 1e300, "", MARKUP, "\x1b[31m\n", [], {}, [[1], "x"], True)


@pytest.mark.parametrize("turn", range(2))
def test_every_field_may_be_anything_and_its_cell_is_refused_or_read(kept: Path, turn: int) -> None:
    folder = folders(kept)["eagle2"]
    content = json.loads((folder / store.RECORD).read_text(encoding="utf-8"))
    known = StoredCell(folder, store.read_record(folder))
    trace, repeats = known.trace, known.repeats
    refused = 0
    for number, path in enumerate(leaves(content)):
        if not path:
            continue
        bad = copy.deepcopy(content)
        node = bad
        for key in path[:-1]:
            node = node[key]
        node[path[-1]] = JUNK[(number + 4 * turn) % len(JUNK)]
        try:
            record = CellRecord.model_validate(bad)
        except ValidationError:
            refused += 1
            continue
        cell = StoredCell(folder, record)
        cell.__dict__.update(trace=trace, repeats=repeats)
        described(cell)
    assert refused > 20


def described(cell: StoredCell) -> None:
    """Everything that readers make of one cell's record."""
    study = frame._costed("demo", [cell])
    rows = study.rows.assign(protocol="", reference="", hardware="x")
    study = dataclasses.replace(study, rows=rows)
    facts.described(study, rows)
    facts.decoders(study, rows)
    facts.origin(cell, "x")
    if cell.record.status == "ok" and not cell.stale:
        facts.commands([study])


def test_one_bad_cell_is_one_line_and_the_others_are_reported(root: Path, no_figures: None, capsys: Any) -> None:
    (folders(root)["eagle2"] / store.RECORD).write_text("{", encoding="utf-8")
    written = report.write("demo", root).markdown.read_text(encoding="utf-8")
    assert written.count("record.json is damaged") == 1
    assert "**ar**" in written
    assert "**sd**" in written
    assert cli.main(["diff", f"{root}/cells/demo", f"{root}/cells/demo"]) == 0
    assert "record.json is damaged" in " ".join(capsys.readouterr().out.split())
    assert cli.main(["status", "study=demo", f"output_root={root}"]) == 0
    assert cli.main(["export", "study=demo", "cell=eagle2", f"to={root}/x", f"output_root={root}"]) == 2


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "_figures", lambda study, target: [])


def damaged_shard(folder: Path) -> None:
    (folder / "images" / "shard-00000.safetensors").write_bytes(b"x")


def other_images(folder: Path) -> None:
    edited(folder, lambda record: record.update(image_digest="0" * 64))


def damaged_trace(folder: Path) -> None:
    (folder / "trace.parquet").write_bytes(b"x")


def longer_trace(folder: Path) -> None:
    found = pd.read_parquet(folder / "trace.parquet")
    pd.concat([found] * 3).to_parquet(folder / "trace.parquet")


def negative_trace(folder: Path) -> None:
    found = pd.read_parquet(folder / "trace.parquet")
    found.assign(target_forwards=-1).to_parquet(folder / "trace.parquet")


def no_seconds(folder: Path) -> None:
    found = pd.read_parquet(folder / "repeats.parquet")
    found.assign(seconds=0.0).to_parquet(folder / "repeats.parquet")


def damaged_quality(folder: Path) -> None:
    (folder / "quality" / "tiny.json").write_text("{}", encoding="utf-8")


def damaged_speed(folder: Path) -> None:
    (folder / store.SPEED).write_text("{}", encoding="utf-8")


def copied(folder: Path) -> None:
    shutil.copytree(folder, folder.with_name("sd-copy"))


def dangling(folder: Path) -> None:
    (folder / store.RECORD).unlink()
    (folder / store.RECORD).symlink_to(folder / "gone")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (damaged_shard, "shard-00000.safetensors is damaged"),
        (other_images, "holds other images than its record says"),
        (damaged_trace, "trace.parquet cannot be read"),
        (longer_trace, "trace.parquet cannot be read (more of it than there are images)"),
        (negative_trace, "trace.parquet is damaged (target_forwards)"),
        (no_seconds, "repeats.parquet is damaged"),
        (damaged_quality, "tiny.json is damaged"),
        (damaged_speed, "speed.json is damaged"),
        (copied, "is of the same cell as"),
        (dangling, "is a symbolic link to nothing"),
    ],
)
def test_a_damaged_file_beside_a_record_is_told(root: Path, no_figures: None, damage: Any, words: str) -> None:
    damage(folders(root)["sd"])
    written = report.write("demo", root).markdown.read_text(encoding="utf-8")
    assert words in written
    assert "**eagle2**" in written


def test_texts_of_others_are_no_markup_anywhere(root: Path, no_figures: None) -> None:
    edited(folders(root)["sd"], lambda record: record.update(label=MARKUP, error="\x1b[31m"))
    paths = report.write("demo", root)
    page, text = (path.read_text(encoding="utf-8") for path in (paths.html, paths.markdown))
    assert "<img src=x" not in page
    assert "<img" not in text.replace("\\<img", "")
    assert "[a](b)" not in text
    assert r"\textless{}img" in paths.latex.read_text(encoding="utf-8")
    out = io.StringIO()
    report.print_front("demo", root, Terminal(file=out, width=200))
    assert "[red]" in out.getvalue()
    assert printable("\x1b[31mx\u202e\ud800") == "\ufffd[31mx\ufffd\ufffd"


def test_text_for_markdown_latex_and_spreadsheets() -> None:
    assert plain("a\n\n# b `c` <d> *e* [f](g) [1, 2]") == r"a # b \`c\` \<d> \*e\* [f]\(g) [1, 2]"
    assert tables.escape("[x]") == "{}[x]"
    rows = pd.DataFrame(
        {"label": ["=1+1", "@a", "-b", "vvs i=2"], "value": [-1.0, 2.0, 3.0, 4.0]}, index=["+k", *"abc"]
    )
    assert list(formula_free(rows)["label"]) == ["'=1+1", "'@a", "'-b", "vvs i=2"]
    assert list(formula_free(rows).index) == ["'+k", *"abc"]
    assert list(formula_free(rows)["value"]) == [-1.0, 2.0, 3.0, 4.0]


def test_only_commands_of_this_program_are_recommended() -> None:
    assert commands.own("vvsbench run study=demo 'study.title=a b'")
    for command in ("rm -rf x", "vvsbench run; rm x", "vvsbench run $(x)", "vvsbench 'run", "", "vvsbench run\nrm x"):
        assert not commands.own(command)


def test_packed_numbers_that_grow_without_end_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from vvsbench.runs import record

    text = record.packed(np.zeros(1000), "float32")
    assert len(unpacked(text, "float32")) == 1000
    monkeypatch.setattr(record, "MOST_PACKED", 400)
    with pytest.raises(ValueError, match="too many"):
        unpacked(text, "float32")


def test_no_file_outside_the_weight_folders_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("VVSBENCH_WEIGHTS", str(tmp_path / "weights"))
    (tmp_path / "weights").mkdir()
    inside, outside = tmp_path / "weights" / "a", tmp_path / "b"
    for path in (inside, outside):
        path.write_bytes(b"1")
    assert checkpoints.trusted(inside)
    assert checkpoints.trusted(checkpoints.locate("zoo:target.safetensors"))
    escaping = checkpoints.locate("../b")
    assert not checkpoints.trusted(outside)
    assert not checkpoints.trusted(escaping)
    os.mkfifo(tmp_path / "endless")
    assert not checkpoints.trusted(tmp_path / "endless")
    first = checkpoints.digest(outside)  # as a run does that names it
    assert checkpoints.trusted(outside)
    outside.write_bytes(b"22")
    assert checkpoints.digest(outside) != first


@pytest.mark.parametrize("about", [b"[]", b'{"__metadata__": {"shard": "[]"}}', b"[" * 50_000, b'{"__metadata__": 1}'])
def test_a_shard_of_another_form_is_damaged(tmp_path: Path, about: bytes) -> None:
    where = shards.ShardRange(0, 0, 1)
    where.path(tmp_path).parent.mkdir()
    where.path(tmp_path).write_bytes(len(about).to_bytes(8, "little") + about)
    with pytest.raises(shards.DamagedShard):
        shards.read(tmp_path, where)


@pytest.mark.parametrize("model", ["tiny", "tiny_mar", "llamagen_t2i_xl_512", "mar_huge"])
def test_what_this_program_runs_is_what_a_record_can_say(model: str) -> None:
    for decoder in composition.composed([f"model={model}"]).model.decoders:
        settings = composition.plain(composition.composed([f"model={model}", f"decoder={decoder}", "metrics=tiny"]))
        assert OwnSettings.model_validate(json.loads(json.dumps(settings))).decoder.name
