"""The real command in processes of its own, on weights so small that a run takes a moment."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests import nano

VVSBENCH = [sys.executable, "-m", "vvsbench.cli"]
PATIENCE = 240


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    """A folder of nano weights."""
    folder = tmp_path_factory.mktemp("weights")
    nano.write(folder)
    return folder


def environment(**changes):
    """The environment of a child: one thread, no terminal, nothing of the caller's settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("VVSBENCH", "HYDRA"))}
    return kept | {"OMP_NUM_THREADS": "1", "TERM": "dumb", "COLUMNS": "200"} | changes


@pytest.fixture
def start(tmp_path):
    """Start `vvsbench` in the test's folder without waiting for it."""
    children = []

    def run(*arguments, **options):
        options = {"cwd": tmp_path, "env": environment()} | options
        child = subprocess.Popen(
            [*VVSBENCH, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
        )
        children.append(child)
        return child

    yield run
    for child in children:
        child.kill()
        child.communicate()


@pytest.fixture
def vvsbench(start):
    """Run `vvsbench` and wait: returns (exit code, standard output, standard error)."""

    def run(*arguments, **options):
        child = start(*arguments, **options)
        out, err = child.communicate(timeout=PATIENCE)
        return child.returncode, out, err

    return run
