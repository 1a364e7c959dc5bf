"""A cell: what it leaves on disk, and that it finishes whatever stopped it."""

from __future__ import annotations

import errno
import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.runs.fakes import FakeTrace
from vvsbench import identity
from vvsbench.errors import NotFiniteError, UserError
from vvsbench.runs import drawing, store
from vvsbench.runs.cell import cleared
from vvsbench.runs.failures import NotWritableError
from vvsbench.runs.store import Store, StoredCell
from vvsbench.workers import CellLog


class SpoiltTrace(FakeTrace):
    """What a loop tells of images for which a network gave NaN."""

    def rows(self):
        raise NotFiniteError("logits of the target (tiny)", "float32", self.images[1], "token 7")


def shard_bytes(cell):
    return {path.name: path.read_bytes() for path in sorted((cell.folder / "images").glob("*.safetensors"))}


def test_a_finished_cell_holds_everything(make_cell, tmp_path):
    cell = make_cell()
    cell.run()
    (stored,) = Store(tmp_path).cells("single")
    record = stored.record
    assert (record.status, record.done, record.guarantee, record.label) == ("ok", 10, "exact", "ar")
    assert stored.images.shape == (10, 3, 4, 4)
    assert stored.images[:, 0, 0, 0].tolist() == list(range(10))
    assert stored.tokens.dtype == np.int32
    assert stored.trace["image"].tolist() == list(range(10))
    assert stored.trace["prompt"].tolist()[:3] == ["0", "1", "2"]
    assert stored.trace["accepted"][0].tolist() == [1, 3]
    assert stored.repeats["images"].tolist() == [4, 4, 2]
    assert stored.repeats["repeat"].tolist() == list(range(3))
    assert record.summaries["accepted_length"].mean == 3.0
    assert record.summaries["step_compression"].low < 1.5 < record.summaries["step_compression"].high
    assert set(record.timing) == {"load_seconds", "first_image_seconds", "total_seconds"}
    assert not stored.stale


def test_numbers_that_are_not_finite_fail_the_cell_and_say_which(make_cell, decoder, tmp_path):
    """A target that gives NaN was drawn from, scored and called done."""
    decoder.generate = lambda conditions, images, seed: (torch.zeros(len(images), 16), SpoiltTrace(images))
    with pytest.raises(NotFiniteError):
        make_cell().run()
    (stored,) = Store(tmp_path).cells("single")
    assert (stored.record.status, stored.record.done) == ("failed", 0)
    assert "the logits of the target (tiny) are not finite (nan) at image 1, token 7, in float32" in stored.record.error


def test_captions_that_were_cut_are_told_and_kept(make_cell, decoder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(drawing, "open_session", lambda cfg: drawing.Session(decoder, "exact", 0.1, captions_cut=3))
    make_cell().run()
    assert "3 of 10 captions are longer than the text encoder reads" in capsys.readouterr().err
    for _ in range(2):
        assert Store(tmp_path).cells("single")[0].record.captions_cut == 3
        (tmp_path / "cells/single/ar-test/trace.parquet").unlink(missing_ok=True)
        make_cell().run()  # only its tables are made again


def test_the_same_command_again_does_no_work(make_cell, decoder, capsys):
    make_cell().run()
    drawn = len(decoder.batches)
    cell = make_cell()
    before = (cell.folder / store.RECORD).read_bytes()
    capsys.readouterr()
    cell.run()
    assert len(decoder.batches) == drawn
    assert (cell.folder / store.RECORD).read_bytes() == before
    assert "done already" in capsys.readouterr().out


def test_only_the_first_batch_is_drawn_twice_to_warm_up(make_cell, decoder):
    make_cell().run()
    assert decoder.batches == [range(0, 2), *(range(first, first + 2) for first in range(0, 10, 2))]


@pytest.mark.parametrize("at", [0, 5, 9])
def test_an_interrupted_cell_goes_on_with_the_same_bytes(make_cell, decoder, at):
    whole = make_cell(name="whole")
    whole.run()
    decoder.batches.clear()

    def stop(batch):
        if at in batch and len(decoder.batches) > 1:
            raise KeyboardInterrupt

    decoder.before = stop
    cell = make_cell()
    with pytest.raises(KeyboardInterrupt):
        cell.run()
    assert store.read_record(cell.folder).status == "interrupted"
    decoder.before = lambda batch: None
    decoder.batches.clear()
    make_cell().run()
    assert shard_bytes(cell) == shard_bytes(whole)
    assert store.read_record(cell.folder).status == "ok"
    assert all(batch.start >= at // 4 * 4 for batch in decoder.batches)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "other images", "not a file of ours"])
def test_a_damaged_shard_is_named_and_drawn_again(make_cell, decoder, capsys, damage):
    cell = make_cell()
    cell.run()
    good = shard_bytes(cell)
    path = cell.folder / "images" / "shard-00001.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    broken = {
        "truncated": bytes(content[:-40]),
        "flipped": bytes(content),
        "empty": b"",
        "other images": good["shard-00000.safetensors"],
        "not a file of ours": b"PK\x03\x04" * 50,
    }
    path.write_bytes(broken[damage])
    decoder.batches.clear()
    make_cell().run()
    assert "shard-00001.safetensors" in capsys.readouterr().err
    assert shard_bytes(cell) == good
    assert {image for batch in decoder.batches for image in batch} == {4, 5, 6, 7}


@pytest.mark.parametrize("content", [b"", b"{", b'{"status": "ok"}', b"\xff\xfe"])
def test_a_damaged_record_is_named_and_rebuilt_without_drawing(make_cell, decoder, capsys, content):
    cell = make_cell()
    cell.run()
    good = store.read_record(cell.folder)
    (cell.folder / store.RECORD).write_bytes(content)
    with pytest.raises(store.RecordError, match=r"record\.json is damaged"):
        store.read_record(cell.folder)
    decoder.batches.clear()
    make_cell().run()
    assert decoder.batches == []
    rebuilt = store.read_record(cell.folder)
    assert "record.json is damaged" in capsys.readouterr().err
    assert (rebuilt.image_digest, rebuilt.files) == (good.image_digest, good.files)
    assert rebuilt.summaries == good.summaries


@pytest.mark.parametrize("name", ["trace.parquet", "repeats.parquet"])
def test_a_damaged_table_is_rebuilt_without_drawing(make_cell, decoder, capsys, name):
    cell = make_cell()
    cell.run()
    good = (cell.folder / name).read_bytes()
    (cell.folder / name).write_bytes(good[:-9])
    decoder.batches.clear()
    make_cell().run()
    assert decoder.batches == []
    assert name in capsys.readouterr().err
    assert (cell.folder / name).read_bytes() == good


def test_more_images_are_another_cell_and_a_missing_shard_is_drawn(make_cell, decoder):
    cell = make_cell()
    cell.run()
    (cell.folder / "images" / "shard-00002.safetensors").unlink()
    decoder.batches.clear()
    make_cell().run()
    assert decoder.batches == [range(8, 10), range(8, 10)]


class OutOfMemoryError(RuntimeError):
    """Named like torch's."""


@pytest.mark.parametrize("error", [OutOfMemoryError("CUDA out of memory"), MemoryError()])
def test_running_out_of_memory_is_recorded_and_says_what_to_try(make_cell, decoder, error):
    def fail(batch):
        raise error

    decoder.before = fail
    cell = make_cell()
    with pytest.raises(UserError, match="smaller batch_size"):
        cell.run()
    record = store.read_record(cell.folder)
    assert record.status == "out_of_memory"
    assert "batch_size=2" in record.error


def test_a_bug_is_recorded_and_keeps_its_traceback(make_cell, decoder):
    def fail(batch):
        raise ZeroDivisionError("oh")

    decoder.before = fail
    cell = make_cell()
    with pytest.raises(ZeroDivisionError):
        cell.run()
    record = store.read_record(cell.folder)
    assert (record.status, record.error) == ("failed", "oh")
    decoder.before = lambda batch: None
    make_cell().run()
    assert store.read_record(cell.folder).status == "ok"


def test_another_code_makes_a_record_stale(make_cell, monkeypatch):
    cell = make_cell()
    cell.run()
    record = store.read_record(cell.folder)
    assert not StoredCell(cell.folder, record).stale
    monkeypatch.setattr("vvsbench.identity.code_digest", lambda config: "changed")
    assert StoredCell(cell.folder, record).stale_because == "the code that draws tokens has changed"


def test_other_weights_make_a_record_stale(make_cell, monkeypatch, tmp_path):
    weights = tmp_path / "target.safetensors"
    weights.write_bytes(b"one")
    monkeypatch.setattr(identity, "weights_names", lambda config: {"model.checkpoint": str(weights)})
    cell = make_cell()
    cell.run()
    record = store.read_record(cell.folder)
    assert record.provenance.weights.keys() == {str(weights)}
    assert not StoredCell(cell.folder, record).stale
    weights.write_bytes(b"another")
    assert StoredCell(cell.folder, record).stale_because == f"{weights} has changed"
    weights.unlink()
    assert not StoredCell(cell.folder, record).stale, "what is not here cannot have changed as far as one can tell"


def test_a_record_is_json_that_any_reader_can_open(make_cell):
    cell = make_cell()
    cell.run()
    content = json.loads((cell.folder / store.RECORD).read_text())
    assert content["schema_version"] == 2
    assert content["provenance"]["hardware"]["cores"] >= 1
    assert content["config"]["batch_size"] == 2


def test_leftovers_of_a_killed_writer_are_removed(make_cell):
    cell = make_cell()
    (cell.folder / "images").mkdir(parents=True)
    leftover = cell.folder / "images" / ".shard-00000.safetensors.99.tmp"
    leftover.write_bytes(b"half")
    cell.run()
    assert not leftover.exists()


def test_a_done_cell_is_drawn_again_when_that_is_asked_for(make_cell, decoder, capsys, caplog):
    cell = make_cell()
    cell.run()
    before = store.read_record(cell.folder)
    assert "nothing to do" not in capsys.readouterr().out
    make_cell().run()
    assert "done already, nothing to do (rerun=done draws it again)" in capsys.readouterr().out
    decoder.batches.clear()
    cleared(cell.folder, cell.console)
    between = store.read_record(cell.folder)
    assert (between.status, between.done, list((cell.folder / "images").iterdir())) == ("interrupted", 0, [])
    make_cell().run()
    assert len(decoder.batches) == 6  # five, and the first one twice to warm up
    after = store.read_record(cell.folder)
    assert (after.status, after.done, after.image_digest) == ("ok", 10, before.image_digest)
    assert "the images are not those" not in capsys.readouterr().err


def test_only_a_done_cell_is_cleared(make_cell, decoder):
    cell = make_cell()
    cleared(cell.folder, cell.console)
    assert not cell.folder.joinpath("record.json").exists()

    def stop(batch: range) -> None:
        if batch.start >= 6:
            raise KeyboardInterrupt

    decoder.before = stop
    with pytest.raises(KeyboardInterrupt):
        cell.run()
    kept = sorted(path.name for path in (cell.folder / "images").iterdir())
    assert kept
    cleared(cell.folder, cell.console)
    assert sorted(path.name for path in (cell.folder / "images").iterdir()) == kept


def test_images_that_come_out_otherwise_are_told(make_cell, decoder, capsys, monkeypatch):
    cell = make_cell()
    cell.run()
    cleared(cell.folder, cell.console)
    drawn = type(decoder).generate_all
    monkeypatch.setattr(type(decoder), "generate_all", lambda self, c, i, seed, r, p: drawn(self, c, i, seed + 1, r, p))
    make_cell().run()
    assert "the images are not those that this cell had before" in capsys.readouterr().err


def test_a_finished_cell_on_a_disk_that_is_read_only_is_done(make_cell, decoder, monkeypatch, capsys):
    make_cell().run()
    decoder.batches.clear()
    opened = Path.open

    def read_only(path, mode="r", *arguments, **options):
        if set(mode) & set("wax+"):
            raise OSError(errno.EROFS, "Read-only file system", str(path))
        return opened(path, mode, *arguments, **options)

    monkeypatch.setattr(Path, "open", read_only)
    cell = make_cell()
    assert cell.run()
    assert "done already, nothing to do" in capsys.readouterr().out
    assert decoder.batches == []
    next((cell.folder / "images").glob("*.safetensors")).unlink()
    with pytest.raises(NotWritableError, match="Read-only file system"):
        make_cell().run()
    log = CellLog(str(cell.folder / "other.txt"), encoding="utf-8")
    log.emit(logging.makeLogRecord({"msg": "nobody hears it"}))
    log.close()
