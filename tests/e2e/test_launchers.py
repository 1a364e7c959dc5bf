"""Image sets shared by the workers of real launchers: the same as of one process, whoever of them is killed."""

from __future__ import annotations

import signal
import subprocess
import time

import psutil
import pytest

from tests import nano
from tests.e2e.conftest import PATIENCE, VVSBENCH, environment
from vvsbench.composition import composed
from vvsbench.runs import states
from vvsbench.runs.store import Store

COUNT = 100


def settings(weights, root):
    return [*nano.overrides(weights), f"count={COUNT}", "batch_size=1", "shard_size=1", f"output_root={root}"]


def shared(weights, root, launcher):
    return ["run", *settings(weights, root), "shards=2", f"hydra/launcher={launcher}", *LAUNCHERS[launcher]]


LAUNCHERS = {"submitit_local": [], "joblib": ["hydra.launcher.n_jobs=2"]}
WORKERS = {"submitit_local": "submitit.core._submit", "joblib": "popen_loky_posix"}
"""What is on the command line of a launcher's workers."""


def the_cell(root):
    (cell,) = Store(root).cells("single")
    return cell


def content(cell):
    """What must not depend on who drew it."""
    files = [*sorted((cell.folder / "images").glob("shard-*.safetensors")), cell.folder / "trace.parquet"]
    return {path.name: path.read_bytes() for path in files}


def drawn(root):
    return {path: path.stat().st_mtime_ns for path in root.rglob("shard-*.safetensors")}


def wait_for(condition, child):
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert child.poll() is None, child.communicate()
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.02)
    return found


def workers(child, launcher):
    """The processes of a launcher that work, once there are two."""
    found = psutil.Process(child.pid).children(recursive=True)
    found = [process for process in found if WORKERS[launcher] in " ".join(process.cmdline())]
    return found if len(found) >= 2 else None


@pytest.fixture(scope="module")
def whole(weights, tmp_path_factory):
    """The cell as one process without a launcher draws it."""
    root = tmp_path_factory.mktemp("whole")
    command = [*VVSBENCH, "run", *settings(weights, root)]
    subprocess.run(command, check=True, capture_output=True, env=environment(), timeout=PATIENCE)
    return the_cell(root)


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_workers_draw_what_one_process_draws_though_they_are_killed(
    start, vvsbench, weights, tmp_path, whole, launcher
):
    root = tmp_path / "shared"
    command = shared(weights, root, launcher)
    child = start(*command)
    killed = wait_for(lambda: workers(child, launcher), child)
    wait_for(lambda: len(drawn(root)) >= 3, child)
    for worker in killed:
        worker.kill()
    _, err = child.communicate(timeout=PATIENCE)
    assert child.returncode == 1
    assert "perhaps for want of memory" in err
    assert "the same command goes on" in err
    assert "Traceback" not in err
    before = drawn(root)
    assert 3 <= len(before) < COUNT
    (state,) = states.of_study(Store(root), "single")
    assert (state.state, state.why.split(";")[0]) == (states.State.interrupted, "its process is gone")

    code, out, err = vvsbench(*command)
    assert code == 0
    assert all(line.startswith("ar: ") for line in err.splitlines())  # progress, nothing else
    assert out.splitlines()[-1].startswith("records: ")
    assert before.items() <= drawn(root).items()  # what was there is not drawn again
    cell = the_cell(root)
    assert cell.record.status == "ok"
    assert content(cell) == content(whole)
    assert cell.record.image_digest == whole.record.image_digest
    assert cell.record.provenance.command.startswith("vvsbench run ")
    assert cell.repeats["images"].sum() == COUNT
    assert len(list(cell.folder.glob("log-*.txt"))) >= 2  # one for each process
    assert [path.name for path in (cell.folder / "images").glob(".*")] == []
    assert cell.folder == states.place(composed([*settings(weights, root), "shards=2"]))


def test_ctrl_c_ends_the_workers_and_the_record_says_so(start, weights, tmp_path):
    child = start(*shared(weights, tmp_path, "submitit_local"), "count=4000")
    found = wait_for(lambda: workers(child, "submitit_local"), child)
    wait_for(lambda: drawn(tmp_path), child)
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=PATIENCE)
    assert (child.returncode, err) == (130, "vvsbench: interrupted; the same command goes on where this one stopped.\n")
    assert not any(worker.is_running() for worker in found)
    record = the_cell(tmp_path).record
    assert (record.status, record.error) == ("interrupted", "stopped by the user")
    assert record.done == len(drawn(tmp_path))
