"""What has become of a cell, from its record, its lock and the code; and which cells `rerun` then asks for."""

from __future__ import annotations

import pytest

from vvsbench import identity
from vvsbench.config import Rerun
from vvsbench.runs import store
from vvsbench.runs.claim import claimed, held
from vvsbench.runs.states import State, of_study, same_settings, wanted
from vvsbench.runs.store import Store


def edited(folder, **changes):
    record = store.read_record(folder)
    store.write_record(folder, record.model_copy(update=changes))


def states(root):
    return {cell.folder.name: cell.state for cell in of_study(Store(root), "single")}


def asked(cell, root, rerun):
    cell.cfg.output_root, cell.cfg.rerun = str(root), Rerun(rerun)
    return wanted([cell.cfg])[0]


def test_every_state_is_told_and_asked_for(make_cell, tmp_path, monkeypatch):
    cells = {name: make_cell(f"seed={seed}", name=name) for seed, name in enumerate(("ok", "bad", "gone", "live"))}
    for cell in cells.values():
        cell.run()
    edited(cells["bad"].folder, status="failed", error="no luck")
    edited(cells["gone"].folder, status="started", done=3)
    edited(cells["live"].folder, status="started", done=4)
    new = make_cell("seed=9", name="never")
    with claimed(cells["live"].folder, print):
        assert held(cells["live"].folder)
        found = {cell.folder.name: (cell.state, cell.why) for cell in of_study(Store(tmp_path), "single")}
    assert found == {
        "ok": (State.done, ""),
        "bad": (State.failed, "no luck"),
        "gone": (State.interrupted, "its process is gone; 3 of 10 images"),
        "live": (State.running, "4 of 10 images"),
    }
    chosen = {
        rerun: [name for name, cell in (cells | {"never": new}).items() if asked(cell, tmp_path, rerun)]
        for rerun in Rerun
    }
    assert chosen == {
        "all": ["ok", "bad", "gone", "live", "never"],
        "missing": ["gone", "live", "never"],
        "failed": ["bad"],
        "stale": [],
        "done": ["ok", "gone", "live"],
    }
    monkeypatch.setattr(identity, "code_digest", lambda config: "changed")
    assert [name for name, cell in cells.items() if asked(cell, tmp_path, "stale")] == ["ok"]


def test_a_newer_record_takes_the_place_of_a_stale_one(make_cell, tmp_path, monkeypatch):
    make_cell(name="old").run()
    monkeypatch.setattr(identity, "code_digest", lambda config: "changed")
    assert states(tmp_path) == {"old": State.stale}
    cell = make_cell(name="new")
    cell.run()
    (found,) = of_study(Store(tmp_path), "single")
    assert (found.folder.name, found.state) == ("new", State.done)
    assert [older.folder.name for older in found.older] == ["old"]
    assert not asked(cell, tmp_path, "stale")


def test_a_record_that_cannot_be_read_is_a_failed_cell(make_cell, tmp_path):
    cell = make_cell()
    cell.run()
    (cell.folder / store.RECORD).write_text("{")
    (found,) = of_study(Store(tmp_path), "single")
    assert found.state == State.failed
    assert "record.json is damaged" in found.why


@pytest.mark.parametrize(
    ("other", "same"),
    [
        ({"seed": 1, "decoder": {"name": "ar"}, "rerun": "failed"}, True),
        ({"seed": 1, "decoder": {"name": "ar", "added_later": 3}, "engine": "eager"}, True),
        ({"seed": 2, "decoder": {"name": "ar"}}, False),
        ({"seed": 1, "decoder": {"name": "sd"}}, False),
    ],
)
def test_settings_are_the_same_whatever_cannot_change_them(other, same):
    assert same_settings({"seed": 1, "decoder": {"name": "ar"}, "rerun": "all"}, other) is same


def test_asking_whether_a_cell_is_held_leaves_nothing(tmp_path):
    assert not held(tmp_path)
    assert list(tmp_path.iterdir()) == []
