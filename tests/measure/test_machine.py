"""Clocks, memory and NVML where there is no GPU, and isolation."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import tempfile
import textwrap

import numpy as np
import pynvml
import pytest
import torch

from vvsbench import locks
from vvsbench.measure import isolation, memory
from vvsbench.measure.clock import Stopwatch
from vvsbench.measure.gpu import Gpu, GpuState

CPU = torch.device("cpu")


def test_a_cpu_has_no_device_time_and_no_gpu():
    with Stopwatch(CPU) as watch:
        pass
    assert watch.seconds >= 0
    assert watch.device_seconds is None
    assert Gpu.of(CPU) is None


@pytest.mark.gpu
def test_device_time_fits_into_the_wall_clock():
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    device = torch.device("cuda")
    matrix = torch.ones(2048, 2048, device=device)
    with Stopwatch(device) as watch:
        for _ in range(10):
            matrix @ matrix
    assert 0 < watch.device_seconds <= watch.seconds
    gpu = Gpu.of(device)
    assert gpu is None or gpu.state().sm_mhz


def test_the_peak_of_the_process_grows_with_what_it_holds():
    before = memory.peak(CPU)
    held = np.ones(80 * 2**20 // 8)
    after = memory.peak(CPU)
    assert (before.allocated, before.reserved) == (None, None)
    assert after.process - before.process > 30 * 2**20 or after.process > 2 * held.nbytes


def refuse(*arguments):
    raise pynvml.NVMLError_NotSupported


def test_what_nvml_refuses_is_unknown_and_not_zero(monkeypatch):
    for name in dir(pynvml):
        if name.startswith("nvmlDeviceGet"):
            monkeypatch.setattr(pynvml, name, refuse)
    gpu = Gpu(None)
    assert gpu.state() == GpuState(None, None, None, None, None)
    assert gpu.joules() is None
    assert gpu.strangers() is None


def test_nvml_in_our_units(monkeypatch):
    class Process:
        def __init__(self, pid):
            self.pid = pid

    monkeypatch.setattr(pynvml, "nvmlDeviceGetTotalEnergyConsumption", lambda handle: 12500)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetEnforcedPowerLimit", lambda handle: 700_000)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetCurrentClocksThrottleReasons", lambda handle: 0x04 | 0x01)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetClockInfo", lambda handle, which: 1980)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetTemperature", lambda handle, which: 55)
    running = [Process(os.getpid()), Process(1)]
    monkeypatch.setattr(pynvml, "nvmlDeviceGetComputeRunningProcesses", lambda handle: running)
    gpu = Gpu(None)
    assert gpu.joules() == 12.5
    assert gpu.state() == GpuState(1980, 1980, 55, 700.0, ["power cap"])
    assert gpu.strangers() == [1]
    running.pop(0)
    assert gpu.strangers() is None  # a container hides who is who


CHILD = """
    import json, os, signal, sys
    from pathlib import Path
    from vvsbench.measure import isolation
    isolation.end_with_parent()
    job = json.loads(Path(sys.argv[1]).read_text())
    if job["do"] == "answer":
        Path(sys.argv[2]).write_text(json.dumps({"got": job, "torch": "torch" in sys.modules}))
    if job["do"] == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    sys.exit(3 if job["do"] == "leave" else 0)
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "measured_child.py").write_text(textwrap.dedent(CHILD))
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    monkeypatch.setenv("PYTHONPATH", path)
    return "measured_child"


def test_a_child_answers(module):
    assert isolation.apart(module, {"do": "answer"}).result == {"got": {"do": "answer"}, "torch": False}


def test_a_child_that_dies_says_how(module):
    assert isolation.apart(module, {"do": "die"}).how == (
        "its process was ended by SIGKILL; the system may have run out of memory"
    )
    assert "exit code 3" in isolation.apart(module, {"do": "leave"}).how
    assert "SIGSEGV" in isolation.died(-signal.SIGSEGV)


def test_only_one_measures_at_a_time_and_the_other_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    holder = contextlib.ExitStack()
    holder.enter_context(locks.alone(tmp_path / isolation.LOCK))
    said = []

    def say(text):
        said.append(text)
        holder.close()  # what is waited for comes to an end

    with isolation.alone(say):
        assert "waiting" in said[0]
    with isolation.alone(said.append):
        pass
    assert len(said) == 1


def test_another_users_lock_is_told_and_a_lock_of_ones_own_taken(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    opened = isolation._opened

    def refused(path):
        if path.name == isolation.LOCK:
            raise PermissionError(path)
        return opened(path)

    monkeypatch.setattr(isolation, "_opened", refused)
    said = []
    with isolation.alone(said.append):
        assert len(list(tmp_path.iterdir())) == 1
    assert "belongs to another user" in said[0]
