"""Shards: fixed ranges whose bytes are a function of their content."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vvsbench.runs import shards
from vvsbench.runs.shards import Shard, ShardRange


@given(st.integers(1, 500), st.integers(1, 70))
def test_ranges_cover_every_image_once(count, shard_size):
    covered = [i for where in shards.ranges(count, shard_size) for i in range(where.first, where.end)]
    assert covered == list(range(count))


def make():
    rows = [{"image": i, "origin": [0, 1], "prompt": "a cat"} for i in range(4, 7)]
    return Shard(4, np.arange(36, dtype=np.uint8).reshape(3, 3, 2, 2), np.ones((3, 2), np.int32), rows)


def test_a_shard_comes_back_as_it_was_written(tmp_path):
    where = ShardRange(1, 4, 7)
    digest = shards.write(tmp_path, where, make(), [{"first": 4, "images": 3, "seconds": 0.5}])
    back = shards.read(tmp_path, where)
    assert back.digest == digest
    assert back.rows == make().rows
    assert np.array_equal(back.images, make().images)
    assert shards.read_times(tmp_path, where)[0]["seconds"] == 0.5


def test_tokens_may_be_vectors(tmp_path):
    where, vectors = ShardRange(1, 4, 7), np.linspace(-1, 1, 24, dtype=np.float32).reshape(3, 2, 4)
    whole = make()
    shards.write(tmp_path, where, Shard(whole.first, whole.images, vectors, whole.rows), [])
    tokens = shards.read(tmp_path, where).tokens
    assert tokens.dtype == np.float32
    assert np.array_equal(tokens, vectors)


def test_times_do_not_reach_the_shard(tmp_path):
    where = ShardRange(1, 4, 7)
    for folder, seconds in (("a", 0.5), ("b", 0.7)):
        shards.write(tmp_path / folder, where, make(), [{"seconds": seconds}])
    assert where.path(tmp_path / "a").read_bytes() == where.path(tmp_path / "b").read_bytes()


def test_any_flipped_bit_is_found(tmp_path):
    where = ShardRange(1, 4, 7)
    shards.write(tmp_path, where, make(), [])
    good = where.path(tmp_path).read_bytes()
    for position in range(0, len(good), 7):
        broken = bytearray(good)
        broken[position] ^= 0x10
        where.path(tmp_path).write_bytes(bytes(broken))
        try:
            back = shards.read(tmp_path, where)
        except shards.DamagedShard:
            continue
        assert (back.images == make().images).all()  # a bit that means nothing, such as padding of the header
        assert back.rows == make().rows


def test_lost_times_cost_the_times_only(tmp_path):
    where = ShardRange(1, 4, 7)
    shards.write(tmp_path, where, make(), [{"seconds": 1.0}])
    where.times_path(tmp_path).unlink()
    assert shards.read_times(tmp_path, where) == []
    assert shards.read(tmp_path, where) is not None


def test_nothing_is_there_before_it_is_written(tmp_path):
    assert shards.read(tmp_path, ShardRange(0, 0, 4)) is None


def test_a_shard_of_other_images_is_damage(tmp_path):
    shards.write(tmp_path, ShardRange(1, 4, 7), make(), [])
    with pytest.raises(shards.DamagedShard, match="holds images from 4 on, not 4 to 7"):
        shards.read(tmp_path, ShardRange(1, 4, 8))
