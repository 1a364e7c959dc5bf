"""The loop that every training shares: schedule, progress, states to resume from, no finished file overwritten.

A training is a function of its settings. Every step seeds the random numbers from (seed, step) and takes its images by
index, so a training that was interrupted and resumed ends with the weights of one that never was.
"""

from __future__ import annotations

import json
import os
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.optim import Optimizer

from vvsbench.errors import UserError
from vvsbench.models import checkpoints
from vvsbench.training.settings import LoopSettings

_FREE_SETTINGS = {"compile", "overwrite", "steps", "checkpoint_seconds", "log_seconds", "folder", "device"}


class TrainingError(UserError):
    """A training cannot start: its result exists, what it needs does not, or its state belongs to other settings."""


class Task(ABC):
    """One thing to train.

    Attributes:
        module: holds every tensor that a resumed training needs, averages included.
        optimizers: stepped together.
        config: arguments that build the finished model again; they go into the file's metadata.
    """

    module: nn.Module
    optimizers: list[Optimizer]
    config: dict[str, Any]

    @abstractmethod
    def loss(self, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of one step and the numbers worth showing; random numbers come from torch's seeded global stream."""

    def after_step(self, step: int) -> None:  # noqa: B027  # most parts have nothing to do here
        """Updates that are not gradients (codebooks, averages)."""

    @abstractmethod
    def result(self) -> dict[str, Tensor]:
        """The finished weights, in the file's dtype."""

    def write(self, path: Path, metadata: dict[str, str]) -> None:
        """Write the finished file."""
        checkpoints.save(path, self.result(), metadata)

    def evaluate(self) -> dict[str, float]:
        """Numbers for the model card, measured once at the end."""
        return {}

    def metadata(self) -> dict[str, str]:
        """Further metadata of the finished file."""
        return {}


def pick_device(name: str) -> torch.device:
    """The device called `name`; auto takes a GPU where there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def learning_rate_factor(step: int, steps: int, warmup: int, decay: float) -> float:
    """Share of the peak learning rate at a step: rise, plateau, linear fall to zero."""
    rise = min(1.0, (step + 1) / max(warmup, 1))
    fall = (steps - step) / max(decay * steps, 1e-9)
    return min(rise, fall, 1.0)


def half(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Floating-point tensors in float16 on the host, the others as they are."""
    return {key: (t.half() if t.is_floating_point() else t).cpu().contiguous() for key, t in tensors.items()}


def guard(settings: LoopSettings) -> None:
    """Refuse to replace a finished file.

    Raises:
        TrainingError: it exists and `overwrite` is off.
    """
    if settings.finished.exists() and not settings.overwrite:
        raise TrainingError(
            f"{settings.finished} is finished already. "
            "Pass overwrite=true to train it again, or folder=... for another place."
        )


def _identity(settings: LoopSettings) -> dict[str, Any]:
    return {key: value for key, value in asdict(settings).items() if key not in _FREE_SETTINGS}


def _save_state(task: Task, settings: LoopSettings, step: int, seconds: float) -> None:
    path = settings.state
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    state = {
        "settings": json.dumps(_identity(settings)),
        "step": step,
        "seconds": seconds,
        "module": task.module.state_dict(),
        "optimizers": [optimizer.state_dict() for optimizer in task.optimizers],
    }
    torch.save(state, temporary)
    temporary.replace(path)


def _load_state(task: Task, settings: LoopSettings) -> tuple[int, float]:
    """First step still to do and seconds spent so far; (0, 0) when there is nothing to resume."""
    path = settings.state
    if not path.exists():
        return 0, 0.0
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        theirs = json.loads(state["settings"])
    except Exception as error:
        raise TrainingError(f"{path} cannot be read ({error}); delete it to start afresh.") from error
    ours = _identity(settings)
    differing = sorted(key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key))
    if differing:
        changes = ", ".join(f"{key}: {theirs.get(key)} there, {ours.get(key)} here" for key in differing)
        raise TrainingError(f"{path} belongs to a training with other settings ({changes}). Delete it to start afresh.")
    task.module.load_state_dict(state["module"])
    for optimizer, saved in zip(task.optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(saved)
    return int(state["step"]), float(state["seconds"])


@contextmanager
def _reporter(settings: LoopSettings, first: int) -> Iterator[Any]:
    """Yields report(step, numbers): a progress bar on a terminal, a line now and then elsewhere."""
    console = Console()
    if console.is_terminal:
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
        with Progress(*columns, TimeRemainingColumn(), TextColumn("{task.fields[numbers]}"), console=console) as bar:
            row = bar.add_task(f"train {settings.part}", total=settings.steps, completed=first, numbers="")
            yield lambda step, numbers: bar.update(row, completed=step, numbers=_line(numbers))
        return
    yield lambda step, numbers: print(f"{settings.part} {step}/{settings.steps} {_line(numbers)}", flush=True)


def _line(numbers: Mapping[str, float]) -> str:
    return " ".join(f"{key} {value:.4g}" for key, value in numbers.items())


class _Means:
    """Running means of the shown numbers; reads the device only when asked."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.count = 0

    def add(self, numbers: Mapping[str, Tensor]) -> None:
        for key, value in numbers.items():
            self.sums[key] = self.sums.get(key, torch.zeros((), device=value.device)) + value.detach().float()
        self.count += 1

    def take(self) -> dict[str, float]:
        means = {key: float(value) / max(self.count, 1) for key, value in self.sums.items()}
        self.sums, self.count = {}, 0
        return means


def _step(task: Task, settings: LoopSettings, step: int) -> dict[str, Tensor]:
    torch.manual_seed(settings.seed * 1_000_003 + step)
    factor = learning_rate_factor(step, settings.steps, settings.warmup, settings.decay)
    for optimizer in task.optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group.setdefault("peak", group["lr"]) * factor
    loss, numbers = task.loss(step)
    for optimizer in task.optimizers:
        optimizer.zero_grad(set_to_none=True)
    loss.backward()
    parameters = [p for optimizer in task.optimizers for group in optimizer.param_groups for p in group["params"]]
    norm = nn.utils.clip_grad_norm_(parameters, settings.clip)
    for optimizer in task.optimizers:
        optimizer.step()
    task.after_step(step)
    return {"loss": loss, **numbers, "gradient": norm}


def _iterate(task: Task, settings: LoopSettings, first: int, spent: float) -> tuple[float, dict[str, float]]:
    """All steps from `first` on; seconds in all and the last numbers shown."""
    started = saved = shown = time.monotonic()
    means, last = _Means(), dict[str, float]()
    step = first
    with _reporter(settings, first) as report:
        try:
            while step < settings.steps:
                means.add(_step(task, settings, step))
                step += 1
                now = time.monotonic()
                if now - shown > settings.log_seconds or step == settings.steps:
                    rate = means.count * settings.batch_size / (now - shown)
                    last = means.take()
                    report(step, {**last, "images/s": rate, "s": spent + now - started})
                    shown = now
                if now - saved > settings.checkpoint_seconds:
                    _save_state(task, settings, step, spent + now - started)
                    saved = now
        except KeyboardInterrupt:
            _save_state(task, settings, step, spent + time.monotonic() - started)
            print(f"stopped at step {step}; the same command goes on from there", file=sys.stderr)
            raise
    return spent + time.monotonic() - started, last


def train(task: Task, settings: LoopSettings) -> dict[str, Any]:
    """Train to the end, from wherever an earlier call stopped, and write the finished weights.

    Returns:
        What the finished file's "training" metadata says: settings, seconds, last losses, evaluation.

    Raises:
        TrainingError: the finished file exists, or the state on disk belongs to other settings.
    """
    guard(settings)
    first, spent = _load_state(task, settings)
    seconds, losses = _iterate(task, settings, first, spent)
    _save_state(task, settings, settings.steps, seconds)
    evaluation = task.evaluate()
    record = {
        "settings": {key: value for key, value in _identity(settings).items()} | {"steps": settings.steps},
        "images": settings.steps * settings.batch_size,
        "seconds": round(seconds, 1),
        "losses": losses,
        "evaluation": evaluation,
        "torch": torch.__version__,
    }
    metadata = {"kind": settings.part, "config": json.dumps(task.config), "training": json.dumps(record)}
    task.write(settings.finished, {**metadata, **task.metadata()})
    settings.state.unlink(missing_ok=True)
    print(f"{settings.finished}: {_line(evaluation)}")
    return record
