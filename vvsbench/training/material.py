"""What a drafter learns from: a target, and token sequences with the conditions they belong to.

Either the synthetic images and the target of a zoo folder, or image sets that `vvsbench run` drew with any model: then
the drafter sees what it will be asked to draft (self-distillation), and no data set is needed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from vvsbench.composition import composed, plain
from vvsbench.models import checkpoints
from vvsbench.models.llamagen import join_caption
from vvsbench.models.loading import load_text_encoder, load_transformer
from vvsbench.models.settings import LlamaGenConfig
from vvsbench.models.transformer import Transformer
from vvsbench.runs.store import RECORD, StoredCell, read_record
from vvsbench.training.data import MODELS, name_of
from vvsbench.training.loop import TrainingError
from vvsbench.training.settings import DrafterSettings
from vvsbench.training.target import load_target
from vvsbench.training.tokens import TokenStream

ZOO_GUIDANCE = 1.5
"""Guidance scale of the studies on the zoos (conf/sampling/tiny.yaml and scenes.yaml)."""
ALIKE = ("name", "condition", "dim", "layers", "heads", "vocab", "grid")
"""Settings of a model in which a cell has to agree with the target."""
HELD_OUT_SHARE = 0.05


class Sequences(Protocol):
    """Token sequences int64 [B, N] with the conditions of each, as `Transformer.cls_embedding` or a caption's."""

    def take(self, first: int, count: int) -> tuple[Tensor, Tensor]:
        """Conditions and tokens of `count` training sequences from number `first` on, round and round."""
        ...

    def held_out(self, limit: int, batch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of at most `limit` sequences that are never trained on."""
        ...


@dataclass
class Material:
    """Everything that a drafter's training starts from.

    Attributes:
        model: name of the target, as in conf/model.
        target: frozen, float32.
        digest: of its weights file.
        guidance_scale: at which its images are drawn.
    """

    model: str
    target: Transformer
    digest: str
    sequences: Sequences
    guidance_scale: float


def gathered(settings: DrafterSettings, device: torch.device) -> Material:
    """Target and sequences as the settings name them.

    Raises:
        TrainingError: something is missing, or the cells were not drawn with this target.
        CheckpointError: the target's weights cannot be read.
    """
    if settings.data:
        return _drawn(settings, device)
    folder = Path(settings.folder)
    path = folder / "target.safetensors"
    target = load_target(path).to(device)
    stream = TokenStream(folder, settings.images, device, settings.bf16)
    return Material(MODELS[name_of(stream.pictures)], target, checkpoints.digest(path), stream, ZOO_GUIDANCE)


def _drawn(settings: DrafterSettings, device: torch.device) -> Material:
    model = composed(settings.target).model
    if not isinstance(model, LlamaGenConfig):
        raise TrainingError(
            f"model={model.name}: a drafter is trained for LlamaGen's transformers only; decoder=jacobi needs none."
        )
    path = checkpoints.locate(model.checkpoint)
    cells = cells_of(Path(settings.data), plain(composed(settings.target))["model"], checkpoints.digest(path))
    scales = sorted({float(cell.record.config["sampling"]["guidance_scale"]) for cell in cells})
    if len(scales) > 1 and settings.guidance_scale is None:
        raise TrainingError(
            f"data={settings.data} was drawn at guidance {', '.join(map(str, scales))}; "
            "say with guidance_scale= which one the drafter is to match."
        )
    sequences = DrawnSequences(cells, _conditions(model, device), device, settings.seed)
    target = load_transformer(model).eval().requires_grad_(False).to(device, torch.float32)
    return Material(model.name, target, checkpoints.digest(path), sequences, scales[0])


def cells_of(folder: Path, model: dict[str, Any], digest: str) -> list[StoredCell]:
    """The finished cells in a folder, or in its subfolders, that hold the target's own images.

    Cells of lossy decoders are left out, and of several cells of the same prompts, seed and sampling all but the
    largest: exact decoders draw the same images.

    Args:
        folder: a cell, a study or a folder of studies.
        model: settings of the target as plain containers.
        digest: of the target's weights.

    Raises:
        TrainingError: there is none; it says what was found instead.
    """
    found: dict[str, StoredCell] = {}
    refused: list[str] = []
    for path in sorted({*folder.glob(RECORD), *folder.glob(f"*/{RECORD}"), *folder.glob(f"*/*/{RECORD}")}):
        record = read_record(path.parent)
        assert record is not None
        cell = StoredCell(path.parent, record)
        if (why := _unfit(cell, model, digest)) is not None:
            refused.append(f"{path.parent.name} {why}")
            continue
        same = json.dumps([record.config[key] for key in ("seed", "sampling", "prompts")], sort_keys=True)
        if same not in found or found[same].record.count < record.count:
            found[same] = cell
    if not found:
        reasons = "; ".join(refused[:3]) if refused else "there is no cell below it"
        raise TrainingError(
            f"data={folder} holds no images of model={model['name']} to learn from: {reasons}. Draw some with "
            f"vvsbench run model={model['name']} decoder=ar, or name the model that drew these with model=."
        )
    return list(found.values())


def _unfit(cell: StoredCell, model: dict[str, Any], digest: str) -> str | None:
    """Why a cell's images are not the target's own."""
    record, theirs = cell.record, cell.record.config["model"]
    if differing := [key for key in ALIKE if theirs.get(key) != model[key]]:
        return f"was drawn with model.{differing[0]}={theirs.get(differing[0])}"
    if record.provenance.weights.get(theirs["checkpoint"]) != digest:
        return f"was drawn with other weights than {model['checkpoint']}"
    if record.guarantee != "exact":
        return "was drawn by a decoder that does not keep the target's distribution"
    return None if record.status == "ok" else f"is not finished (status {record.status})"


def _conditions(model: LlamaGenConfig, device: torch.device) -> Callable[[list[Any]], Tensor]:
    """What turns prompts into conditions."""
    encoder = load_text_encoder(model, device)
    if encoder is None:
        return lambda labels: torch.tensor(labels, device=device)
    return lambda captions: join_caption(*encoder(captions)).float()


class DrawnSequences:
    """Tokens of image sets on disk, in a fixed random order, of which the last part is held out.

    Args:
        cells: that hold them.
        conditions: turns a batch of prompts (class ids or captions) into conditions.
        device: of what is returned.
        seed: of the order.
    """

    def __init__(
        self, cells: list[StoredCell], conditions: Callable[[list[Any]], Tensor], device: torch.device, seed: int
    ) -> None:
        self.conditions, self.device = conditions, device
        tokens, prompts = zip(*(self._read(cell) for cell in cells), strict=True)
        self.tokens, self.prompts = np.concatenate(tokens), [prompt for each in prompts for prompt in each]
        if len(self.tokens) < 2:
            raise TrainingError("data= holds a single image: one part is trained on and another held out; draw more.")
        self.order = np.random.default_rng(seed).permutation(len(self.tokens))
        self.trained = len(self.order) - max(1, int(HELD_OUT_SHARE * len(self.order)))

    @staticmethod
    def _read(cell: StoredCell) -> tuple[np.ndarray[Any, Any], list[Any]]:
        """Tokens [n, N] of a cell and the prompt of each image."""
        tokens, words, config = [], list[Any](), cell.record.config
        for shard in cell.shards():
            tokens.append(shard.tokens)
            words += [row["prompt"] for row in shard.rows]
        if config["prompts"]["kind"] == "classes":
            classes = config["prompts"]["classes"] or range(config["model"]["classes"])
            words = [classes[image % len(classes)] for image in range(len(words))]
        return np.concatenate(tokens), words

    def _batch(self, numbers: np.ndarray[Any, Any]) -> tuple[Tensor, Tensor]:
        tokens = torch.from_numpy(self.tokens[numbers].astype(np.int64)).to(self.device)
        return self.conditions([self.prompts[number] for number in numbers]), tokens

    def take(self, first: int, count: int) -> tuple[Tensor, Tensor]:
        """See `Sequences.take`."""
        return self._batch(self.order[np.arange(first, first + count) % self.trained])

    def held_out(self, limit: int, batch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """See `Sequences.held_out`."""
        last = min(len(self.order), self.trained + limit)
        for first in range(self.trained, last, batch):
            yield self._batch(self.order[first : min(first + batch, last)])
