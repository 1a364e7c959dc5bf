"""Locks that die with their holder, and let everybody in where the file system knows none."""

from __future__ import annotations

import errno
import fcntl

import pytest

from vvsbench import locks
from vvsbench.runs import claim
from vvsbench.runs.shards import ShardRange


def test_a_lock_is_held_by_one_at_a_time_and_free_again(tmp_path):
    with locks.alone(tmp_path / "l") as first, locks.alone(tmp_path / "l", patience=0) as second:
        assert (first, second) == (True, False)
    with locks.alone(tmp_path / "l", patience=0) as third:
        assert third


@pytest.fixture
def nothing_locks(monkeypatch):
    """A file system without locks."""

    def flock(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", flock)


def test_where_there_are_no_locks_what_a_dead_process_left_blocks_nobody(tmp_path, nothing_locks):
    where = ShardRange(0, 0, 4)
    (tmp_path / "images").mkdir()
    for left in (tmp_path / ".lock", tmp_path / "images" / ".shard-00000.safetensors.lock"):
        left.write_text("4711@another-host\n", encoding="utf-8")
    said = []
    with claim.claimed(tmp_path, said.append):
        pass
    (tmp_path / "images" / ".shard-00000.safetensors.lock").write_text("4711@another-host\n", encoding="utf-8")
    assert next(claim.unclaimed(tmp_path, [where])) == where
    with claim.concluding(tmp_path) as alone:
        assert alone
    assert not claim.held(tmp_path)
    assert said == []
