from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from vvsbench.models import checkpoints
from vvsbench.training.classifier import ClassifierTask
from vvsbench.training.loop import Task, TrainingError, learning_rate_factor, train
from vvsbench.training.settings import ClassifierSettings, TokenizerSettings
from vvsbench.training.tokenizer import TokenizerTask


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def classifier(folder: Path, **changes: object) -> ClassifierSettings:
    values = {"part": "classifier", "steps": 5, "batch_size": 4, "warmup": 2, "widths": [8, 8], "bf16": False}
    return ClassifierSettings(**{**values, "folder": str(folder), "device": "cpu", **changes})  # type: ignore[arg-type]


def tokenizer(folder: Path, **changes: object) -> TokenizerSettings:
    values = {"part": "tokenizer", "steps": 5, "batch_size": 2, "size": 16, "codebook_size": 16, "z_channels": 8}
    values |= {"channel_multipliers": [1, 1], "continuous_steps": 1, "bf16": False, "device": "cpu"}
    return TokenizerSettings(**{**values, "folder": str(folder), **changes})  # type: ignore[arg-type]


def unmeasured(task: Task) -> Task:
    task.evaluate = dict  # type: ignore[method-assign]
    return task


class Interrupted:
    """A task that is interrupted in the middle of a step, as by ^C."""

    def __init__(self, task: Task, at: int) -> None:
        self.inner, self.at = task.loss, at
        task.loss = self  # type: ignore[method-assign]

    def __call__(self, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        if step == self.at:
            raise KeyboardInterrupt
        return self.inner(step)


@pytest.mark.parametrize("part", ["classifier", "tokenizer"])
def test_an_interrupted_training_ends_with_the_same_weights(part: str, tmp_path: Path) -> None:
    make, build = {"classifier": (classifier, ClassifierTask), "tokenizer": (tokenizer, TokenizerTask)}[part]
    whole = make(tmp_path / "whole")
    train(unmeasured(build(whole)), whole)  # type: ignore[operator]
    broken = make(tmp_path / "broken")
    task = unmeasured(build(broken))  # type: ignore[operator]
    Interrupted(task, at=3)
    with pytest.raises(KeyboardInterrupt):
        train(task, broken)
    assert broken.state.exists()
    assert not broken.finished.exists()
    train(unmeasured(build(broken)), broken)  # type: ignore[operator]
    ours, theirs = checkpoints.read(broken.finished), checkpoints.read(whole.finished)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert not broken.state.exists()


def test_a_finished_file_is_not_overwritten(tmp_path: Path) -> None:
    settings = classifier(tmp_path)
    settings.finished.write_text("precious")
    with pytest.raises(TrainingError, match="overwrite=true"):
        train(ClassifierTask(settings), settings)
    assert settings.finished.read_text() == "precious"
    train(unmeasured(ClassifierTask(settings)), classifier(tmp_path, overwrite=True, steps=1))
    assert checkpoints.header(settings.finished).metadata["kind"] == "classifier"


def test_a_state_of_other_settings_is_named(tmp_path: Path) -> None:
    task = ClassifierTask(classifier(tmp_path))
    Interrupted(task, at=1)
    with pytest.raises(KeyboardInterrupt):
        train(task, classifier(tmp_path))
    other = classifier(tmp_path, batch_size=8)
    with pytest.raises(TrainingError, match="batch_size: 4 there, 8 here"):
        train(ClassifierTask(other), other)


def test_a_damaged_state_is_named(tmp_path: Path) -> None:
    settings = classifier(tmp_path)
    settings.state.write_bytes(b"half a file")
    with pytest.raises(TrainingError, match="delete it"):
        train(ClassifierTask(settings), settings)


def test_learning_rate_rises_stays_and_falls() -> None:
    factors = [learning_rate_factor(step, 100, 10, 0.5) for step in range(100)]
    assert factors[0] == pytest.approx(0.1)
    assert factors[9:51] == [1.0] * 42
    assert factors[-1] == pytest.approx(0.02)
    assert all(a >= b for a, b in zip(factors[50:], factors[51:], strict=False))
