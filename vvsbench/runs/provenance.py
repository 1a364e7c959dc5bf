"""Where a number comes from: code, weights, libraries and machine, as they are when a cell starts."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from vvsbench import identity
from vvsbench.config import PACKAGE
from vvsbench.runs.record import Git, Provenance

LIBRARIES = ("vvsbench", "torch", "numpy", "safetensors", "transformers", "hydra-core", "omegaconf")
GIB = 2**30
COMMAND = "VVSBENCH_COMMAND"
"""Variable that carries the typed command to the processes that a launcher starts."""


def collect(config: Mapping[str, Any]) -> Provenance:
    """Describe what is about to run.

    Args:
        config: resolved settings as plain containers.
    """
    return Provenance(
        code_digest=identity.code_digest(config),
        weights=identity.weights_digests(config),
        git=git_state(),
        versions=versions(),
        hardware=hardware(),
        host=platform.platform(),
        command=os.environ.get(COMMAND, ""),
    )


def now() -> str:
    """The time in UTC, as records have it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def versions() -> dict[str, str]:
    """Of Python and the libraries that numbers depend on."""
    found = {"python": platform.python_version()}
    for library in LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            continue
    return found


@cache
def git_state() -> Git | None:
    """Commit of the checkout that holds the package, whatever the working directory; None without one."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(PACKAGE), *arguments]
        ended = subprocess.run(command, capture_output=True, encoding="utf-8", check=True, timeout=20)
        return ended.stdout.strip()

    try:
        if not git("ls-files", str(PACKAGE / "__init__.py")):
            return None  # the package lies in somebody else's checkout, as a virtual environment may
        branch = git("rev-parse", "--abbrev-ref", "HEAD")
        return Git(commit=git("rev-parse", "HEAD"), dirty=bool(git("status", "--porcelain")), branch=branch)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


@cache
def hardware() -> dict[str, str | int | float | None]:
    """Processor, memory and GPU of this machine."""
    return {
        "cpu": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / GIB, 1),
        **_gpu(),
    }


def _processor() -> str:
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        found = None
    return found.group(1) if found else platform.processor() or platform.machine()


def _gpu() -> dict[str, str | None]:
    import pynvml

    try:
        pynvml.nvmlInit()
        name = pynvml.nvmlDeviceGetName(pynvml.nvmlDeviceGetHandleByIndex(0))
        return {"gpu": str(name), "driver": str(pynvml.nvmlSystemGetDriverVersion())}
    except pynvml.NVMLError:
        return {"gpu": None, "driver": None}
