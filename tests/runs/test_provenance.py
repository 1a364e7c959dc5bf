"""Provenance is that of the package, not of the folder in which the command was typed."""

from __future__ import annotations

import subprocess

from vvsbench.composition import composed, plain
from vvsbench.config import PACKAGE
from vvsbench.runs import provenance


def test_the_commit_is_the_packages(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    provenance.git_state.cache_clear()
    state = provenance.git_state()
    asked = subprocess.run(
        ["git", "-C", str(PACKAGE), "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    )
    assert (state.commit if state else "") == asked.stdout.strip()


def test_no_secret_of_the_machine_is_told(monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "hunter2")
    found = provenance.collect(plain(composed(["model=tiny"])))
    assert "hunter2" not in found.model_dump_json()
    assert set(found.hardware) == {"cpu", "cores", "memory_gib", "gpu", "driver"}
