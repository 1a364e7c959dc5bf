"""Which files a run reads, and which of them are not here: told before anything is loaded, drawn or written."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vvsbench import commands, composition, identity
from vvsbench.config import PromptKind, RunConfig
from vvsbench.errors import UserError
from vvsbench.models import checkpoints
from vvsbench.quality import weights as networks
from vvsbench.quality.config import MetricsConfig


class FilesMissing(UserError):
    """A study's weights, captions or reference images are not on this machine."""


@dataclass(frozen=True)
class Need:
    """A file that a run reads, or a folder of files.

    Attributes:
        key: the setting that names it.
        name: as the setting has it.
        path: where it is looked for.
        found: whether it is there.
    """

    key: str
    name: str
    path: Path
    found: bool


def networks_of(cfg: RunConfig) -> Iterator[Need]:
    """The weights that a model and its drafter read; of a file that both name, once."""
    settings = composition.plain(cfg)
    names = identity.weights_names(settings)
    if encoder := settings["model"].get("text_encoder"):
        names["model.text_encoder"] = encoder
    once = {name: key for key, name in reversed(names.items())}
    for key, name in names.items():
        if once[name] == key:
            path = checkpoints.resolve(name)
            yield Need(key, name, path, path.exists())


def data_of(cfg: RunConfig) -> Iterator[Need]:
    """Captions, reference images and the networks of the metrics, as far as they are named."""
    if cfg.prompts.kind == PromptKind.captions and cfg.prompts.file:
        path = Path(cfg.prompts.file)
        yield Need("prompts.file", cfg.prompts.file, path, path.exists())
    if not cfg.metrics.values:
        return
    if cfg.metrics.reference.path:
        path = Path(cfg.metrics.reference.path).expanduser()
        yield Need("metrics.reference.path", cfg.metrics.reference.path, path, path.exists())
    yield from _scoring(cfg.metrics)


def _scoring(metrics: MetricsConfig) -> Iterator[Need]:
    """The networks that a protocol scores with."""
    if networks.needs_extractor(metrics) and metrics.extractor.kind != "classifier":
        own = metrics.extractor.weights
        name = own or (networks.VGG_FILE if metrics.extractor.kind == "vgg" else networks.INCEPTION_FILE)
        path = checkpoints.resolve(own) if own else networks.downloads() / name
        yield Need("metrics.extractor.weights", name, path, path.exists())
    if "hps" in metrics.values and metrics.hps:
        path = checkpoints.resolve(metrics.hps)
        yield Need("metrics.hps", metrics.hps, path, path.exists())
    if "clip" in metrics.values and metrics.clip:
        try:
            networks.locate(dataclasses.replace(metrics, values=["clip"]))
            found = True
        except UserError:
            found = False
        yield Need("metrics.clip", metrics.clip, checkpoints.resolve(metrics.clip), found)


def check_files(runs: Sequence[RunConfig]) -> None:
    """Say in one line what a study of real models lacks, before each of its cells says it for itself.

    Args:
        runs: the settings of its cells. Those of a study without sizes are left alone: it has no smaller one to offer.

    Raises:
        FilesMissing: at least one file is not here.
    """
    if not runs or not (sizes := runs[0].study.sizes):
        return
    absent = {str(need.path): need for run in runs for need in (*networks_of(run), *data_of(run)) if not need.found}
    if not absent:
        return
    name = runs[0].study.name
    study = next((name.removesuffix(f"_{size}") for size in sizes if name.endswith(f"_{size}")), name)
    many = f"{len(absent)} files are" if len(absent) > 1 else "1 file is"
    names = ", ".join(absent)
    smaller = f" {commands.command('run', f'study={study}', 'size=smoke')} needs none of them."
    raise FilesMissing(
        f"study={study} cannot run: {many} not here: {names} (experiments/README.md, {study}, says where to "
        f"get each; ${checkpoints.WEIGHTS_VARIABLE} may name another folder than {checkpoints.weights_root()})."
        f"{smaller if 'smoke' in sizes and study == name else ''}"
    )
