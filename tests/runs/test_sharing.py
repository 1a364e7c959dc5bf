"""A cell that several processes draw: who draws what, who concludes it, and what its record says meanwhile."""

from __future__ import annotations

import contextlib

import pytest

from vvsbench import locks
from vvsbench.runs import states, store
from vvsbench.runs.claim import held
from vvsbench.runs.sharing import SharedCell
from vvsbench.runs.states import State, of_study
from vvsbench.runs.store import Store


@pytest.fixture
def make_shared(make_cell):
    """Like `make_cell`, of a cell that is shared; each is as good as a process of its own."""

    def make(name="shared"):
        cell = make_cell("shards=3", name=name)
        return SharedCell(cell.cfg, cell.settings, cell.folder, cell.console)

    return make


def once_at(image, decoder, action):
    """Let something happen when an image is about to be drawn for the first time (the warm-up is not counted)."""

    def before(batch):
        if image in batch and len(decoder.batches) > 1:
            decoder.before = lambda batch: None
            action()

    decoder.before = before


def content(cell):
    files = [*sorted((cell.folder / "images").glob("*.safetensors")), cell.folder / "trace.parquet"]
    return {path.name: path.read_bytes() for path in files}


def the_state(root):
    (found,) = of_study(Store(root), "single")
    return found


def test_one_alone_does_all_of_it_and_the_bytes_are_those_of_a_cell_that_is_not_shared(make_cell, make_shared):
    alone, shared = make_cell(name="alone"), make_shared()
    assert alone.run()
    assert shared.run()
    assert content(shared) == content(alone)
    mine, theirs = store.read_record(shared.folder), store.read_record(alone.folder)
    assert (mine.status, mine.done, mine.guarantee) == ("ok", 10, "exact")
    assert mine.image_digest == theirs.image_digest
    assert mine.timing.keys() == theirs.timing.keys()
    assert not list((shared.folder / "images").glob(".*"))


def test_two_at_once_draw_every_image_once_and_the_last_one_concludes(make_shared, decoder, tmp_path, capsys):
    first, second = make_shared(), make_shared()
    seen = []

    def join():
        seen.append(the_state(tmp_path).state)
        assert not second.run()
        seen.append(store.read_record(second.folder).status)

    once_at(0, decoder, join)
    assert first.run()
    assert seen == [State.running, "started"]
    images = [image for batch in decoder.batches for image in batch]
    assert sorted(images) == sorted([0, 1, 4, 5, *range(10)])  # each of the two has warmed up once
    assert "drew 6 of 10 images" in capsys.readouterr().out
    assert (the_state(tmp_path).state, store.read_record(first.folder).done) == (State.done, 10)


def test_a_file_of_a_process_that_died_is_drawn_by_those_that_live(make_shared, decoder):
    first, second = make_shared(), make_shared()
    (first.folder / "images").mkdir(parents=True)
    mine = contextlib.ExitStack()
    mine.enter_context(locks.alone(first.folder / "images" / ".shard-00001.safetensors.lock"))  # as who draws it
    once_at(8, decoder, mine.close)  # and dies while the last file is being drawn
    assert first.run()
    assert second.run()
    assert store.read_record(first.folder).status == "ok"


def test_one_that_fails_leaves_its_reason_until_the_others_have_done_its_work(make_shared, decoder, tmp_path):
    first, second = make_shared(), make_shared()

    def fail():
        raise ZeroDivisionError("oh")

    def join():
        once_at(4, decoder, fail)
        with pytest.raises(ZeroDivisionError):
            second.run()
        assert the_state(tmp_path).state == State.running
        assert the_state(tmp_path).why.endswith("one of its workers failed: oh")
        raise KeyboardInterrupt

    once_at(0, decoder, join)
    with pytest.raises(KeyboardInterrupt):
        first.run()
    assert (the_state(tmp_path).state, the_state(tmp_path).why) == (State.failed, "oh")  # a reason says more
    assert make_shared().run()
    record = store.read_record(first.folder)
    assert (record.status, record.error) == ("ok", None)


def test_one_that_is_alone_and_those_that_share_wait_for_each_other(make_cell, make_shared, decoder, monkeypatch):
    monkeypatch.setattr("vvsbench.runs.claim.PATIENCE", 0.1)
    alone, shared = make_cell(name="shared"), make_shared()

    class Waited(Exception):
        pass

    def waits(text):
        assert "another process works on it" in text
        raise Waited

    def come(cell):
        cell.console.say = waits
        with pytest.raises(Waited):
            cell.run()

    once_at(4, decoder, lambda: come(shared))
    assert alone.run()
    (alone.folder / "images" / "shard-00001.safetensors").unlink()
    once_at(4, decoder, lambda: come(make_cell(name="shared")))
    assert make_shared().run()
    assert not held(alone.folder)


def test_a_damaged_file_is_drawn_again_by_who_concludes(make_shared, decoder, capsys):
    cell = make_shared()
    cell.run()
    good = content(cell)
    (cell.folder / "images" / "shard-00001.safetensors").write_bytes(b"not one")
    decoder.batches.clear()
    assert make_shared().run()
    assert "shard-00001.safetensors is damaged" in capsys.readouterr().err
    assert content(cell) == good
    assert {image for batch in decoder.batches for image in batch} == {4, 5, 6, 7}


def test_shards_are_no_part_of_what_a_cell_is(make_cell, make_shared):
    assert states.place(make_cell().cfg) == states.place(make_shared().cfg)
