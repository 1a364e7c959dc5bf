"""The settings of a run: one dataclass per group, registered with Hydra, so that a wrong key or type is caught at once.

YAML files under conf/ fill these classes in; this module imports no torch, so that help, completion and validation
answer immediately. Rules that need two fields, or a look at a file, are in `vvsbench.validation`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from vvsbench.axes import EngineKind, GuidanceSchedule
from vvsbench.decoding.acceptance.settings import RULES, AcceptanceConfig
from vvsbench.decoding.continuous.settings import CSDConfig, MaskedConfig
from vvsbench.decoding.schedule import SCHEDULES, Schedule
from vvsbench.decoding.settings import ARConfig, DecoderConfig, SpeculativeConfig
from vvsbench.drafting.sources import DRAFTERS, TokenDrafterConfig
from vvsbench.drafting.structures import STRUCTURES, StructureConfig
from vvsbench.models.settings import MODELS, ModelConfig
from vvsbench.quality.config import MetricsConfig
from vvsbench.registry import Registry
from vvsbench.search.settings import SearchConfig

PACKAGE = Path(__file__).resolve().parent
GROUPS = (
    "model",
    "decoder",
    "drafter",
    "structure",
    "acceptance",
    "schedule",
    "sampling",
    "prompts",
    "metrics",
    "logger",
    "study",
)
"""The groups of which a user chooses one option each."""


class Dtype(StrEnum):
    """Number format of the target's and drafter's weights and activations; probabilities are always fp32 or better."""

    fp32 = "fp32"
    bf16 = "bf16"
    fp16 = "fp16"
    fp64 = "fp64"


class Device(StrEnum):
    """Where the models run; auto takes a GPU when there is one."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class Rerun(StrEnum):
    """Which cells of a run are worked on, by what their records say.

    all: every cell that is not done. missing: those that no run has finished or failed. failed: those that failed or
    ran out of memory. stale: those whose code or weights are others now. done: those that are done, whose images are
    deleted and drawn again; the only choice that draws anything twice.
    """

    all = "all"
    missing = "missing"
    failed = "failed"
    stale = "stale"
    done = "done"


class Stage(StrEnum):
    """What a run does with a cell.

    images: draw its images, count what they cost and score them. speed: time it, and keep no image (docs/measuring.md).
    """

    images = "images"
    speed = "speed"


class PromptKind(StrEnum):
    """Where prompts come from."""

    classes = "classes"
    captions = "captions"


class Cost(StrEnum):
    """What the fronts of a study set against quality; seconds come beside it in any case.

    forwards: image tokens per target forward. equivalents: floating-point operations of all networks, in calls of the
    target, for studies whose decoders do not all spend their time in the target's transformer.
    """

    forwards = "forwards"
    equivalents = "equivalents"


class LoggerKind(StrEnum):
    """Where a study is logged to besides its records."""

    none = "none"
    wandb = "wandb"


class LoggerMode(StrEnum):
    """How Weights & Biases is reached."""

    online = "online"
    offline = "offline"
    disabled = "disabled"


@dataclass
class SizeConfig:
    """What another size of a study puts in place of the study's own lines (`size=NAME`, see `vvsbench.sizes`)."""

    settings: list[str] = field(default_factory=list)  # overrides for all cells, as on the command line
    instead: dict[str, str] = field(default_factory=dict)  # override of a cell to the one that replaces it


STUDY_NAME = re.compile(r"\w[\w.+-]{0,99}")
"""What a study may be called: it is a folder, and a word of many commands."""


def study_problem(name: str) -> str:
    """Why a study cannot be called so; empty when it can."""
    if STUDY_NAME.fullmatch(name):
        return ""
    return (
        f"study={name}: a study's name is the name of a folder: letters, digits, _ . + and -, beginning with a letter "
        "or digit, 100 at most. To write elsewhere set output_root."
    )


@dataclass
class StudyConfig:
    """A named set of cells with one declared baseline."""

    name: str = "single"  # folder below outputs/cells, shared by every run that names it
    title: str = ""  # heading of the report
    baseline: str = "ar"  # decoder that every claim is relative to; where several cells have it, the first of them
    cells: list[list[str]] = field(default_factory=list)  # the overrides of each cell
    # settings whose values name the family of a cell: families are compared by their fronts and share a colour
    families: list[str] = field(default_factory=lambda: ["decoder.name", "decoder.schedule.name"])
    x: str = ""  # a setting that the report draws cost and quality against, for example decoder.drafter.noise
    cost: Cost = Cost.forwards  # what its fronts set against quality
    front: str = ""  # decoder whose front the cells of all others must lie outside of; empty for none
    claims: list[str] = field(default_factory=list)  # files of experiments/published that the report sets beside ours
    sizes: dict[str, SizeConfig] = field(default_factory=dict)  # other sizes by name; the file itself is size=full
    # at another size, overrides of the file to what stands in for them: how claims about its cells find their cells
    stands_for: dict[str, str] = field(default_factory=dict)


@dataclass
class SamplingConfig:
    """What makes the target's distribution out of what its network says."""

    temperature: float = 1.0
    top_k: int = 0  # 0 keeps every token
    top_p: float = 1.0
    top_p_first: bool = False  # filter by top-p before top-k, as LANTERN and VVS do
    guidance_scale: float = 1.0  # 1 switches classifier-free guidance off
    guidance_interval: int = -1  # guidance stops after this many decode steps; -1 never
    guidance_schedule: GuidanceSchedule = GuidanceSchedule.constant  # linear, for continuous tokens: it grows from 1


@dataclass
class PromptsConfig:
    """Prompt of image i is number i modulo the number of prompts."""

    kind: PromptKind = PromptKind.classes
    classes: list[int] = field(default_factory=list)  # class ids in order; empty means all
    file: str | None = None  # captions: .txt with one a line, .json with a list, or COCO's captions_*.json


@dataclass
class SpeedConfig:
    """How the stage `speed` measures; none of it changes an image or a count."""

    images: int = 0  # per timed repeat, of which batch_size are in flight; 0 for one batch
    width: float = 0.05  # repeats end when the 95 % interval is no wider than this share of its value ...
    rounds: int = 40  # ... or after so many of them ...
    seconds: float = 120.0  # ... or so many seconds, whichever comes first
    baseline: bool = True  # time the study's baseline in turn with the cell, for the speed-up

    def problems(self) -> list[str]:
        """What is wrong with the settings, one line each."""
        found = []
        if self.images < 0:
            found.append(f"speed.images={self.images} must be 0 (one batch) or more.")
        if not 0 < self.width < 1:
            found.append(f"speed.width={self.width} must lie in (0, 1): 0.05 stops at 5 % of the value.")
        if self.rounds < 1:
            found.append(f"speed.rounds={self.rounds} must be at least 1.")
        if not self.seconds > 0:
            found.append(f"speed.seconds={self.seconds} must be above 0.")
        return found


@dataclass
class LoggerConfig:
    """Where a study is logged to besides its records."""

    name: LoggerKind = LoggerKind.none
    project: str = "vvsbench"
    mode: LoggerMode = LoggerMode.online


@dataclass
class RunConfig:
    """Everything about one cell."""

    study: StudyConfig = field(default_factory=StudyConfig)
    model: ModelConfig = MISSING
    decoder: DecoderConfig = MISSING
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    prompts: PromptsConfig = field(default_factory=PromptsConfig)
    metrics: MetricsConfig = field(default_factory=MetricsConfig)
    logger: LoggerConfig = field(default_factory=LoggerConfig)
    stage: Stage = Stage.images
    speed: SpeedConfig = field(default_factory=SpeedConfig)
    search: SearchConfig = field(default_factory=SearchConfig)
    count: int = 256
    batch_size: int = 16
    shard_size: int = 64
    shards: int = 1
    seed: int = 0
    dtype: Dtype = Dtype.fp32
    device: Device = Device.auto
    engine: EngineKind = EngineKind.eager
    threads: int = 0
    rerun: Rerun = Rerun.all
    output_root: str = "outputs"


DECODERS: dict[str, type[DecoderConfig]] = {
    "ar": ARConfig,
    "speculative": SpeculativeConfig,
    "masked": MaskedConfig,
    "csd": CSDConfig,
}
"""The kinds of decoders, by the name of their node in the schema; conf/decoder composes methods of them."""

PLUGINS: dict[str, Registry[Any]] = {
    "decoder": Registry("vvsbench.decoders", DecoderConfig),
    "structure": Registry("vvsbench.structures", StructureConfig),
    "acceptance": Registry("vvsbench.acceptance", AcceptanceConfig),
    "schedule": Registry("vvsbench.schedules", Schedule),
    "drafter": Registry("vvsbench.drafters", TokenDrafterConfig),
}
"""What other packages may add, by group. An added decoder also has a method `build(cfg, device, dtype)`."""


def folder(name: str) -> Path:
    """Where `conf` or `experiments` is: inside an installed package, or beside it in a checkout."""
    installed = PACKAGE / name
    return installed if installed.is_dir() else PACKAGE.parent / name


def register() -> None:
    """Tell Hydra the schema, and what other packages add to it."""
    _register_own()
    store = ConfigStore.instance()
    for group, registry in PLUGINS.items():
        for plugin in registry:
            store.store(group=group, name=plugin.name, node=plugin.kind, provider=plugin.origin)


@cache
def _register_own() -> None:
    """The names live in a group of their own, so that they are no options of a user's."""
    store = ConfigStore.instance()
    store.store(group="schema", name="run", node=RunConfig)
    for name, model in MODELS.items():
        store.store(group="schema/model", name=name, node=model)
    for drafter in DRAFTERS:
        store.store(group="schema/drafter", name=drafter.name, node=drafter)
    for name, decoder in DECODERS.items():
        store.store(group="schema/decoder", name=name, node=decoder)
    for rule in RULES:
        store.store(group="schema/acceptance", name=rule.name, node=rule)
    for structure in STRUCTURES:
        store.store(group="schema/structure", name=structure.name, node=structure)
    for schedule in SCHEDULES:
        store.store(group="schema/schedule", name=schedule.name, node=schedule)
    store.store(group="schema/metrics", name="protocol", node=MetricsConfig)
