"""`vvsbench run` from outside: what it says, what it leaves, and that it survives what happens to it."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time

import pytest

from tests import nano
from tests.e2e.conftest import PATIENCE, VVSBENCH, environment
from vvsbench.runs.store import Store, read_record


def shards(root):
    return {path.name: path.read_bytes() for path in sorted(root.rglob("shard-*.safetensors"))}


def wait_for(condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.02)


def long_run(weights, root):
    """A run of many shards, so that there is time to stop it."""
    return ["run", *nano.overrides(weights), "count=60", "batch_size=1", "shard_size=1", f"output_root={root}"]


def test_a_sweep_runs_once_and_the_second_time_does_nothing(vvsbench, weights, tmp_path):
    command = ["run", "-m", *nano.overrides(weights, drafter=True), "study.name=s", "decoder=vvs"]
    command.append("decoder.schedule.interval=2,3")
    code, out, err = vvsbench(*command)
    assert (code, "warning" in err) == (0, False)
    *cells, last, hint = [line for line in out.splitlines() if not line.startswith(" ")]
    assert hint.startswith("ar, the baseline, is not among them; to draw it: vvsbench run -m ")
    assert [line.split()[:2] for line in cells] == [["vvs", "i=2"], ["vvs", "i=3"]]
    assert last == "records: outputs/cells/s; to compare them: vvsbench report study=s"
    cells = Store(tmp_path / "outputs").cells("s")
    assert [cell.record.status for cell in cells] == ["ok", "ok"]
    assert cells[0].record.provenance.command.startswith("vvsbench run -m")
    assert len(cells[0].record.provenance.weights) == 3
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("record.json")}
    code, out, err = vvsbench(*command)
    assert (code, out.count("done already, nothing to do")) == (0, 2)
    assert stamps == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("record.json")}


@pytest.fixture(scope="module")
def whole(weights, tmp_path_factory):
    """The shards of a long run that nothing disturbed."""
    root = tmp_path_factory.mktemp("whole")
    command = [*VVSBENCH, *long_run(weights, root)]
    subprocess.run(command, check=True, capture_output=True, env=environment(), timeout=PATIENCE)
    return shards(root)


def test_a_killed_run_goes_on_and_ends_byte_identical(start, vvsbench, weights, tmp_path, whole):
    command = long_run(weights, tmp_path)
    child = start(*command)
    wait_for(lambda: len(shards(tmp_path)) >= 3)
    child.send_signal(signal.SIGKILL)
    child.wait()
    before = shards(tmp_path)
    assert 3 <= len(before) < 60
    (record,) = [read_record(path.parent) for path in tmp_path.rglob("record.json")]
    assert record.status == "started"
    code, out, _ = vvsbench(*command)
    assert code == 0
    assert f"drew {60 - len(before)} of 60 images" in out
    assert shards(tmp_path) == whole


def test_ctrl_c_is_one_line_and_a_record(start, weights, tmp_path):
    child = start(*long_run(weights, tmp_path), "count=4000")  # more than can be done before the signal comes
    wait_for(lambda: len(shards(tmp_path)) >= 1)
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=PATIENCE)
    assert child.returncode == 130
    *progress, last = err.splitlines()
    assert last == "vvsbench: interrupted; the same command goes on where this one stopped."
    assert all(line.startswith("ar: ") for line in progress)
    (record,) = [read_record(path.parent) for path in tmp_path.rglob("record.json")]
    assert (record.status, record.error) == ("interrupted", "stopped by the user")


def test_of_two_runs_of_a_cell_one_waits_and_finds_the_work_done(start, weights, tmp_path, whole):
    first = start(*long_run(weights, tmp_path))
    wait_for(lambda: len(shards(tmp_path)) >= 1)
    first.send_signal(signal.SIGSTOP)  # or it may be done before the second one has started
    second = start(*long_run(weights, tmp_path))
    try:
        said = next((line for line in second.stderr if "another process works on it; waiting" in line), None)
    finally:
        first.send_signal(signal.SIGCONT)
    assert said is not None
    results = [child.communicate(timeout=PATIENCE) for child in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0]
    assert "drew 60 of 60" in results[0][0]
    assert "done already" in results[1][0]
    assert shards(tmp_path) == whole


def test_a_full_disk_is_said_and_recorded(vvsbench, weights, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", disk], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small disk needs root")
    try:
        code, _, err = vvsbench("run", *nano.overrides(weights), "count=400", f"output_root={disk}")
        assert code == 1
        assert "no space left on the device" in err
        assert "Traceback" not in err
        (record,) = [read_record(path.parent) for path in disk.rglob("record.json")]
        assert record.status == "failed"
        assert "no space left" in record.error
        assert 0 < record.done < 400
        subprocess.run(["mount", "-o", "remount,size=8m", disk], check=True)
        code, out, _ = vvsbench("run", *nano.overrides(weights), "count=400", f"output_root={disk}")
        assert code == 0
        assert f"drew {400 - record.done} of 400" in out
    finally:
        subprocess.run(["umount", disk], check=True)


def without_roots_override():
    """Let permissions hold for root too: drop CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH before the command starts."""
    libc = ctypes.CDLL(None)
    for capability in (1, 2):
        libc.prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP


def test_no_write_permission_is_one_line(vvsbench, weights, tmp_path):
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o555)
    options = {"preexec_fn": without_roots_override} if os.geteuid() == 0 else {}
    code, _, err = vvsbench("run", *nano.overrides(weights), f"output_root={locked}", **options)
    assert code == 1, err
    assert "cannot read or write" in err
    assert "Set output_root to a folder that you may write to" in err
    assert "Traceback" not in err
    assert list(locked.iterdir()) == []
