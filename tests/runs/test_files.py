"""Files are there whole or not at all, and what went wrong is said in words."""

from __future__ import annotations

import errno
import os

import pytest

from vvsbench.errors import OutOfSpaceError
from vvsbench.runs import files
from vvsbench.runs.failures import NotWritableError, from_system


def test_a_written_file_leaves_nothing_else(tmp_path):
    files.write(tmp_path / "deep" / "a.json", b"1")
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["a.json"]


@pytest.mark.parametrize(
    ("number", "kind", "words"),
    [
        (errno.ENOSPC, OutOfSpaceError, "no space left"),
        (errno.EDQUOT, OutOfSpaceError, "no space left"),
        (errno.EACCES, NotWritableError, "cannot read or write"),
        (errno.ENOTDIR, NotWritableError, "cannot read or write"),
        (errno.EROFS, NotWritableError, "Set output_root to a folder"),
    ],
)
def test_a_failed_write_keeps_the_old_file_and_says_what_to_do(tmp_path, monkeypatch, number, kind, words):
    path = tmp_path / "a.json"
    files.write(path, b"old")

    def fail(descriptor):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(kind, match=words):
        files.write(path, b"new")
    assert path.read_bytes() == b"old"
    assert [child.name for child in tmp_path.iterdir()] == ["a.json"]


def test_a_link_to_nothing_is_called_one(tmp_path):
    (tmp_path / "outputs").symlink_to(tmp_path / "gone")
    with pytest.raises(NotWritableError, match="outputs is a symbolic link to nothing.: File exists"):
        files.write(tmp_path / "outputs" / "a.json", b"1")


def test_other_errors_stay_what_they_are():
    error = OSError(errno.EIO, "input/output error")
    assert from_system(error) is error
