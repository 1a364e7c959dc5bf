"""Images are read a few at a time, whoever asks for how many, and never all at once."""

import dataclasses
import weakref

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vvsbench.quality import evaluate
from vvsbench.quality.images import ImageSet, regrouped
from vvsbench.runs import shards
from vvsbench.runs.record import CellRecord, Provenance
from vvsbench.runs.shards import Shard
from vvsbench.runs.store import StoredCell, StoredImages


@given(sizes=st.lists(st.integers(0, 7), max_size=8), size=st.integers(1, 9))
def test_regrouping_keeps_every_image_in_its_place(sizes, size):
    everything = np.arange(sum(sizes), dtype=np.uint8).reshape(-1, 1, 1, 1)
    parts = np.split(everything, np.cumsum(sizes)[:-1]) if sizes else []
    found = list(regrouped(parts, size))
    assert [len(part) for part in found[:-1]] == [size] * (len(found) - 1)
    assert not found or 0 < len(found[-1]) <= size
    assert np.concatenate([*found, everything[:0]]).ravel().tolist() == everything.ravel().tolist()


class Watched:
    """An image set that counts how many images somebody holds, and how often all of them are asked for."""

    def __init__(self, images, size):
        self.images, self.size = ImageSet(images), size
        self.shape = self.images.shape
        self.held, self.most, self.passes = 0, 0, 0

    def parts(self, size):
        self.passes += 1
        return regrouped(self._shards(), size)

    def _shards(self):
        for part in self.images.parts(self.size):
            made = part.copy()
            self.held += len(made)
            self.most = max(self.most, self.held)
            weakref.finalize(made, self._dropped, len(made))
            yield made
            del made

    def _dropped(self, count):
        self.held -= count


@pytest.mark.parametrize("count", [200, 400])
def test_however_many_images_there_are_two_files_of_them_are_held(protocol, clip_folder, draw, tmp_path, count):
    images, captions = draw(0, count)
    watched = Watched(images, 20)
    values = ["fid", "is", "kid", "precision", "recall", "clip", "accuracy"]
    config = dataclasses.replace(protocol, values=values, clip=str(clip_folder))
    record = evaluate(watched, captions, config, tmp_path, "d")
    assert watched.most <= 2 * 20
    assert watched.passes == 2  # the extractor's and CLIP's
    assert record.values == evaluate(images, captions, config, tmp_path, "d").values


def test_the_images_of_a_cell_are_read_file_by_file(tmp_path, monkeypatch):
    images = np.random.default_rng(0).integers(0, 256, (10, 3, 4, 5), dtype=np.uint8)
    for where in shards.ranges(10, 4):
        part = images[where.first : where.end]
        rows = [{"image": image} for image in range(where.first, where.end)]
        shards.write(tmp_path, where, Shard(where.first, part, np.zeros((len(part), 2), np.int32), rows), [])
    about = {"code_digest": "", "weights": {}, "git": None, "versions": {}, "hardware": {}, "host": "", "command": ""}
    record = CellRecord.model_construct(
        count=10, config={"shard_size": 4}, provenance=Provenance.model_construct(**about)
    )
    stored = StoredImages(StoredCell(tmp_path, record))
    assert stored.shape == (10, 4, 5, 3)
    for size in (1, 3, 4, 10, 99):
        found = list(stored.parts(size))
        assert all(len(part) == size for part in found[:-1])
        assert (np.concatenate(found) == images).all()
