"""The part of tests/slurm/prove.sh that runs vvsbench: draw a study with and without SLURM, kill workers, compare."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import psutil

from tests import nano
from vvsbench.runs.store import Store

VVSBENCH = [sys.executable, "-m", "vvsbench.cli"]
SHARDS = ["hydra/launcher=submitit_slurm", "hydra.launcher.cpus_per_task=1", "shards=8"]
COUNT = 400


def main(folder: Path) -> None:
    """Everything, step by step."""
    (folder / "weights").mkdir(parents=True)
    nano.write(folder / "weights")
    study = ["run", "-m", *nano.overrides(folder / "weights", drafter=True), f"count={COUNT}", "batch_size=1"]
    study += ["shard_size=1", "threads=1", "study.name=proof", "decoder=vvs", "decoder.schedule.interval=2,3"]
    one, many = folder / "one", folder / "many"
    step("a study of two cells by one process, without a launcher")
    check(run(study, one)[0] == 0, "it is done")

    step("the same by eight workers a cell; one worker is killed, then all are cancelled")
    parent = start([*study, *SHARDS], many)
    wait_for(lambda: len(shards(many)) >= 20, parent)
    kill_one()
    wait_for(lambda: len(shards(many)) >= 40, parent)
    check("1 running" in status(many), "status says running while they work")
    subprocess.run(["scancel", "--name=vvsbench"], check=True)
    code, said = ended(parent)
    print(said)
    check(code == 1, "the command says that it failed")
    check("was killed or cancelled" in said and "was stopped by a signal" in said, "and why, for every worker")
    check("1 interrupted" in status(many), "status says interrupted")
    before = {path: path.stat().st_mtime_ns for path in shards(many)}
    check(40 <= len(before) < 2 * COUNT, f"{len(before)} of {2 * COUNT} image files are there")

    step("the same command again; a worker is killed, and the others do its work")
    parent = start([*study, *SHARDS], many)
    wait_for(lambda: len(shards(many)) >= len(before) + 20, parent)
    kill_one()
    code, said = ended(parent)
    print(said)
    check(code == 0, "it is done")
    check("workers failed, and the others did their work" in said, "and the dead worker is named")
    check("2 done" in status(many), "status says done")
    check(all(path.stat().st_mtime_ns == stamp for path, stamp in before.items()), "only missing files were drawn")

    step("eight workers against one process")
    for mine, theirs in zip(cells(many), cells(one), strict=True):
        same = [path.name for path in shards(mine.folder) if path.read_bytes() == twin(path, mine, theirs).read_bytes()]
        check(len(same) == COUNT, f"{mine.record.label}: all {COUNT} image files are the same bytes")
        check(mine.record.image_digest == theirs.record.image_digest, f"{mine.record.label}: the same image_digest")
        trace = [cell.folder / "trace.parquet" for cell in (mine, theirs)]
        check(trace[0].read_bytes() == trace[1].read_bytes(), f"{mine.record.label}: the same trace.parquet")

    step("once more: nothing is left to do; and a partition that does not exist")
    code, said = run([*study, *SHARDS], many)
    check(code == 0 and said.count("done already") == 2, "two jobs, both find the work done")
    code, said = run([*study, *SHARDS, "seed=1", "hydra.launcher.partition=nowhere"], many)
    print(said)
    check(code == 2 and "invalid partition" in said and "Traceback" not in said, "it is refused in one message")


def step(text: str) -> None:
    print(f"== {text}", flush=True)


def check(fact: bool, text: str) -> None:
    print(f"   {'ok' if fact else 'NOT SO'}: {text}", flush=True)
    if not fact:
        sys.exit(1)


def start(arguments: list[str], root: Path) -> subprocess.Popen[str]:
    command = [*VVSBENCH, *arguments, f"output_root={root}"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=root.parent)


def ended(child: subprocess.Popen[str]) -> tuple[int, str]:
    said, _ = child.communicate(timeout=600)
    return child.returncode, said


def run(arguments: list[str], root: Path) -> tuple[int, str]:
    return ended(start(arguments, root))


def status(root: Path) -> str:
    command = [*VVSBENCH, "status", "study=proof", f"output_root={root}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def wait_for(condition: Callable[[], bool], child: subprocess.Popen[str]) -> None:
    until = time.monotonic() + 300
    while not condition():
        if child.poll() is not None or time.monotonic() > until:
            child.kill()
            print(child.communicate()[0])
            check(False, "the workers got that far")
        time.sleep(0.01)


def kill_one() -> None:
    """SIGKILL for the process of one job of SLURM's that is at work on images."""
    for process in psutil.process_iter(["cmdline"]):
        if "submitit.core._submit" in (process.info["cmdline"] or []) and "torch" in mapped(process):
            os.kill(process.pid, signal.SIGKILL)
            print(f"   killed the worker with process id {process.pid}", flush=True)
            return
    check(False, "there is a worker to kill")


def mapped(process: psutil.Process) -> str:
    """The libraries that a process has loaded: torch comes with the model."""
    return " ".join(entry.path for entry in process.memory_maps())


def shards(folder: Path) -> list[Path]:
    return sorted(folder.rglob("shard-*.safetensors"))


def cells(root: Path) -> list:
    return sorted(Store(root).cells("proof"), key=lambda cell: cell.folder.name)


def twin(path: Path, mine, theirs) -> Path:
    return theirs.folder / path.relative_to(mine.folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
