"""What becomes of a cell's jobs, and what a worker process has for itself."""

from __future__ import annotations

import os

import pytest

from tests.runs.conftest import SETTINGS
from vvsbench import identity, workers
from vvsbench.composition import composed
from vvsbench.errors import ConfigError
from vvsbench.runs import launching, states
from vvsbench.runs.job import Died, Outcome


@pytest.fixture
def run(tmp_path):
    return composed([*SETTINGS, "shards=8", f"output_root={tmp_path}"])


def told(error=None, done=True):
    return Outcome("ar-1", error, "single", "outputs", done=done)


LEFT, FAILED = told(done=False), told("out of memory at batch_size=2.")
KILLED = [Died("was killed", "7_1", "a.err"), Died("was killed", "7_4", "b.err")]


@pytest.mark.parametrize(
    ("answers", "error", "remark"),
    [
        ([LEFT, told(), LEFT], None, ""),
        ([LEFT, told(), FAILED], None, "1 of 3 workers failed, and the others did their work: out of memory at batch_"),
        ([told(), *KILLED], None, "2 of 3 workers failed, and the others did their work: worker 7_1, 7_4 was killed"),
        ([FAILED, FAILED], "out of memory at batch_size=2.", ""),
        ([LEFT, *KILLED], "worker 7_1, 7_4 was killed (see a.err); the same command goes on", ""),
        ([LEFT, LEFT], "other processes still draw it", ""),
    ],
)
def test_a_cell_is_done_if_one_of_its_workers_saw_it_done(run, answers, error, remark):
    found = launching.together(run, answers)
    assert (found.error or "").startswith(error or "")
    assert bool(found.error) == bool(error)
    assert found.remark.startswith(remark)
    assert bool(found.remark) == bool(remark)


def test_a_cell_is_handed_out_as_no_more_jobs_than_files_are_missing(run):
    assert launching.workers_of(run) == 3  # ten images in files of four
    folder = states.place(run) / "images"
    folder.mkdir(parents=True)
    for number in range(3):
        (folder / f"shard-{number:05d}.safetensors").touch()
        assert launching.workers_of(run) == max(1, 2 - number)
    run.shards = 1
    assert launching.workers_of(run) == 1


def test_a_launcher_that_is_not_installed_is_named_with_its_extra(monkeypatch):
    target = "hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher"
    launching.check_installed("submitit_slurm", target)
    monkeypatch.setattr(launching, "find_spec", lambda name: None)
    launching.check_installed("basic", "hydra._internal.core_plugins.basic_launcher.BasicLauncher")
    with pytest.raises(ConfigError, match=r"hydra/launcher=submitit_slurm: needs .*pip install 'vvsbench\[slurm\]'"):
        launching.check_installed("submitit_slurm", target)


@pytest.fixture
def two_gpus(monkeypatch, tmp_path):
    monkeypatch.setattr(workers, "_present", lambda: ["GPU-a", "GPU-b"])
    monkeypatch.setattr(identity, "device", lambda asked: "cuda")
    monkeypatch.setattr(workers.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.delenv(workers.VISIBLE, raising=False)


def test_every_worker_takes_a_gpu_that_no_other_has(two_gpus, monkeypatch):
    class Waited(Exception):
        pass

    def waits(text):
        assert "more workers than GPUs: all 2 are taken" in text
        raise Waited

    assert workers.fitting("auto", 0) == 2
    with workers.own_gpu(waits):
        assert os.environ[workers.VISIBLE] == "GPU-a"
        monkeypatch.delenv(workers.VISIBLE)  # as another process
        with workers.own_gpu(waits):
            assert os.environ[workers.VISIBLE] == "GPU-b"
            monkeypatch.delenv(workers.VISIBLE)
            with pytest.raises(Waited), workers.own_gpu(waits):
                pass
    with workers.own_gpu(waits):
        assert os.environ[workers.VISIBLE] == "GPU-a"


@pytest.mark.parametrize(
    ("asked", "names"), [("1", ["GPU-b"]), ("1,0", ["GPU-b", "GPU-a"]), ("", []), ("MIG-7", ["MIG-7"])]
)
def test_gpus_that_were_asked_for_are_kept_to(two_gpus, monkeypatch, asked, names):
    monkeypatch.setenv(workers.VISIBLE, asked)
    assert workers.visible_gpus() == names
