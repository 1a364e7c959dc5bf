"""A drafter learns what it will be asked: of any target, from images that the target drew."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests import nano
from vvsbench.composition import composed, plain
from vvsbench.decoding import build
from vvsbench.drafting.eagle import EagleHead, EagleSource
from vvsbench.drafting.sources import Pads
from vvsbench.errors import ConfigError
from vvsbench.models import checkpoints
from vvsbench.models.guidance import Guidance
from vvsbench.models.llamagen import LlamaGen, join_caption
from vvsbench.models.protocols import Block
from vvsbench.models.transformer import Transformer, TransformerConfig
from vvsbench.runs.cell import Cell
from vvsbench.runs.console import Console
from vvsbench.training import app, loop
from vvsbench.training.drafter import Agreement, Teacher, Unrolled
from vvsbench.training.loop import TrainingError
from vvsbench.training.settings import DrafterSettings
from vvsbench.validation import remarks, validate

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def target_of(condition: str) -> Transformer:
    torch.manual_seed(0)
    prefix = 1 if condition == "label" else 5
    sizes = TransformerConfig(condition, 32, 2, 2, 20, grid=3, classes=5, prefix=prefix, caption_dim=8)
    made = Transformer(sizes)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, 1.0 if parameter.ndim == 1 else 0.0, 0.3)
    return made.eval().requires_grad_(False)


def conditions_of(condition: str) -> Tensor:
    if condition == "label":
        return torch.tensor([1, 4, 0])
    mask = torch.arange(5) >= torch.tensor([0, 2, 4])[:, None]
    return join_caption(torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(1)) * mask[..., None], mask)


@pytest.mark.parametrize(("condition", "pads"), [("label", "isolated"), ("caption", "isolated"), ("caption", "spread")])
@torch.no_grad()
def test_what_is_trained_is_what_is_drafted(condition: str, pads: str) -> None:
    """The head sees the same features, tokens and prefix in training as behind a target that decodes."""
    network, conditions = target_of(condition), conditions_of(condition)
    head = EagleHead(network.config).eval()
    tokens = torch.randint(20, (3, 9), generator=torch.Generator().manual_seed(2))
    first = network.config.prefix - 1
    known = Teacher(network, torch.float32, Pads(pads))(conditions, tokens)[:, :-1]
    pairs = F.pad(tokens.repeat(2, 1)[:, :-1], (first, 0))
    trained = Unrolled(head, known.shape[1], torch.float32).advance(known, pairs)[:, first:].unflatten(0, (2, 3))

    target = LlamaGen(network, None, Guidance(2.0))
    target.spread_pads = pads == "spread"
    source = EagleSource(head, target)
    state = target.start(conditions, [0, 1, 2], room=1)
    draft = source.start(state, tokens[:, 0], room=1)
    for index in range(1, 8):
        torch.testing.assert_close(
            draft.outputs[:, :, 0], trained[:, :, index - 1].transpose(0, 1), atol=2e-5, rtol=1e-4
        )
        block = Block(tokens[:, index - 1 : index], torch.zeros(1, 1, dtype=torch.long))
        features = target.forward(state, block)[1]
        target.commit(state, None, torch.ones(3, dtype=torch.long))
        target.note(state, [index] * 3)
        source.extend(draft, features, tokens[:, index : index + 1], torch.ones(3, dtype=torch.long))
        source.note(draft, [index + 1] * 3, exact=True)


@pytest.mark.parametrize("condition", ["label", "caption"])
@torch.no_grad()
def test_the_published_loss_is_feature_regression_and_a_tenth_of_each_branchs_cross_entropy(condition: str) -> None:
    network, conditions = target_of(condition), conditions_of(condition)
    head, tokens = EagleHead(network.config).eval(), torch.randint(20, (3, 9))
    settings = DrafterSettings(loss="published").resolved(2.0)
    first = network.config.prefix - 1
    noise = torch.rand(6, network.config.prefix + 9 - 2, 32) - 0.5
    loss, _ = Agreement(network, head, settings, settings.unroll, torch.float32)(conditions, tokens, noise)
    features = Teacher(network, torch.float32, Pads.isolated)(conditions, tokens)
    known = features[:, :-1]
    inputs = known + noise * (settings.feature_noise * known.abs().mean())
    predicted = head.train_features(inputs, F.pad(tokens.repeat(2, 1)[:, :-1], (first, 0)), first=0)[:, first:]
    truth = features[:, first + 1 :]
    cross = -(network.output(truth).softmax(-1) * network.output(predicted).log_softmax(-1)).sum(-1).mean()
    torch.testing.assert_close(loss, F.smooth_l1_loss(predicted, truth) + 0.1 * cross, atol=1e-4, rtol=1e-4)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nano weights, and a study of three cells: vanilla AR, the same images again, and a lossy decoder's."""
    folder = tmp_path_factory.mktemp("drawn")
    nano.write(folder)
    cells = {
        "ar-1": ["decoder=ar", *nano.overrides(folder), "count=24", "prompts.classes=[2,0,3]"],
        "sd-2": ["decoder=sd", *nano.overrides(folder, True), "count=8", "prompts.classes=[2,0,3]"],
        "vvs-3": ["decoder=vvs", *nano.overrides(folder, True), "count=8", "seed=7"],
    }
    for name, overrides in cells.items():
        run = composed(overrides)
        Cell(run, plain(run), folder / "cells" / name, Console()).run()
    return folder


def words(drawn: Path, out: Path, *more: str) -> list[str]:
    model = [word for word in nano.overrides(drawn) if word.startswith("model")]
    size = ["steps=3", "batch_size=4", "warmup=1", "compile=false", "bf16=false", "device=cpu", "unroll=2"]
    return [*model, f"data={drawn / 'cells'}", f"folder={out}", *size, *more]


@pytest.mark.parametrize("loss", ["guided", "published"])
def test_a_drafter_trained_on_a_runs_images_drafts_for_its_model(
    drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loss: str
) -> None:
    assert app.main(["drafter", *words(drawn, tmp_path, f"loss={loss}")]) == 0
    made = tmp_path / "drafter.safetensors"
    about = checkpoints.header(made).metadata
    assert about["target_digest"] == checkpoints.digest(drawn / "target.safetensors")
    assert about["guidance_scale"] == "1.5", "the data's own"
    assert 0 < json.loads(about["training"])["evaluation"]["guided_overlap_1"] < 1
    monkeypatch.chdir(tmp_path)
    (tmp_path / "experiments" / "drafter").mkdir(parents=True)
    made.with_suffix(".yaml").rename(tmp_path / "experiments" / "drafter" / "mine.yaml")
    run = composed(["decoder=sd", *nano.overrides(drawn), "drafter@decoder.drafter=mine"])
    assert run.decoder.drafter.checkpoint == str(made)  # type: ignore[attr-defined]
    assert (validate(run), remarks(run)) == ([], [])
    expected = build(composed(["decoder=ar", *nano.overrides(drawn)]), CPU, torch.float64)
    decoder = build(run, CPU, torch.float64)
    labels = decoder.target.conditions([0, 1])
    tokens, trace = decoder.generate(labels, [0, 1], 0)
    assert torch.equal(tokens, expected.generate(labels, [0, 1], 0)[0])
    assert all(row["draft_forwards"] for row in trace.rows())


def test_the_data_is_the_targets_own_images_once(drawn: Path) -> None:
    from vvsbench.training.material import gathered

    settings: Any = app.composed("drafter", words(drawn, drawn))
    sequences: Any = gathered(settings, CPU).sequences
    assert len(sequences.tokens) == 24
    assert sequences.prompts[:4] == [2, 0, 3, 2]
    trained = {tuple(row) for row in sequences.take(0, sequences.trained)[1].tolist()}
    apart = {tuple(row) for _, tokens in sequences.held_out(100, 3) for row in tokens.tolist()}
    assert apart
    assert not trained & apart
    conditions, tokens = sequences.take(0, 5)
    numbers = [next(i for i, row in enumerate(sequences.tokens) if (row == one.numpy()).all()) for one in tokens]
    assert conditions.tolist() == [[2, 0, 3][number % 3] for number in numbers]


def test_captions_come_from_the_images_themselves() -> None:
    """A captions file may be gone; a shard's rows say what each image was drawn from."""
    from vvsbench.training.material import DrawnSequences

    rows = [{"prompt": f"caption {number}"} for number in range(6)]
    shards = [
        SimpleNamespace(tokens=np.full((3, 4), first, np.int32) + np.arange(3)[:, None], rows=rows[first : first + 3])
        for first in (0, 3)
    ]
    config = {"prompts": {"kind": "captions", "classes": [], "file": "gone.txt"}, "model": {"classes": 1000}}
    cell: Any = SimpleNamespace(record=SimpleNamespace(config=config), shards=lambda: shards)
    sequences = DrawnSequences([cell], lambda words: torch.tensor([int(word[8:]) for word in words]), CPU, seed=0)
    numbers, tokens = sequences.take(0, 12)
    assert sorted(set(numbers.tolist()) | set(next(sequences.held_out(9, 9))[0].tolist())) == list(range(6))
    assert torch.equal(tokens, numbers[:, None].expand(-1, 4))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("data=nowhere", "there is no cell below it"),
        ("model=llamagen_b_256", r"was drawn with model.name=tiny.*name the model that drew these"),
        ("data=CELLS/vvs-3", "does not keep the target's distribution"),
    ],
)
def test_data_that_does_not_fit_is_refused_with_the_reason(
    drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str, message: str
) -> None:
    overrides = [change.replace("CELLS", str(drawn / "cells"))]
    given = words(drawn, tmp_path)
    if change.startswith("model="):
        (tmp_path / "llamagen").mkdir()
        (tmp_path / "llamagen" / "c2i_B_256.pt").touch()
        monkeypatch.setenv("VVSBENCH_WEIGHTS", str(tmp_path))
        given = [word for word in given if not word.startswith("model")]
    kept = [word for word in given if word.split("=")[0] != change.split("=")[0]]
    with pytest.raises(TrainingError, match=message):
        app.main(["drafter", *kept, *overrides])


def test_images_of_other_weights_are_refused(drawn: Path, tmp_path: Path) -> None:
    nano.write(tmp_path, seed=1)
    given = [word for word in words(drawn, tmp_path / "out") if not word.startswith("model.checkpoint")]
    with pytest.raises(TrainingError, match="was drawn with other weights than"):
        app.main(["drafter", *given, f"model.checkpoint={tmp_path}/target.safetensors"])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model=llamagen_b_256"], r"model=llamagen_b_256: only a zoo.s own target .* data=outputs/cells/STUDY"),
        (["model=llamagen_b_265"], "Did you mean llamagen_b_256"),
        (["model.dimm=3", "data=x"], r"model.dimm: there is no such setting. Did you mean model.dim"),
        (["loss=eagle"], "loss=eagle: choose one of guided, published"),
        (["unroll=0"], "unroll=0: must be at least 1"),
        (["pads=maybe"], "pads=maybe: no such choice"),
    ],
)
def test_mistakes_are_told_in_a_line(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        app.composed("drafter", overrides)


def test_the_tiny_zoo_trains_on_the_synthetic_images(tmp_path: Path) -> None:
    """Without data the folder's own target is drafted for, and a small AR model needs the tokenizer only."""
    for part in ("tokenizer", "target"):
        shutil.copy(checkpoints.ZOO / f"{part}.safetensors", tmp_path)
    size = [f"folder={tmp_path}", "batch_size=2", "compile=false", "bf16=false", "device=cpu"]
    task: Any = app.build(app.composed("drafter", size))
    loss, numbers = task.loss(0)
    loss.backward()
    assert set(numbers) == {"overlap_1", "overlap_2", "overlap_3"}
    assert task.metadata() == {
        "target_digest": checkpoints.digest(tmp_path / "target.safetensors"),
        "guidance_scale": "1.5",
    }
    small: Any = app.build(app.composed("small_ar", size))
    small.loss(0)[0].backward()
    shipped = json.loads(checkpoints.header(checkpoints.ZOO / "small_ar.safetensors").metadata["config"])
    assert small.config == shipped


def test_a_target_takes_no_model() -> None:
    with pytest.raises(ConfigError, match="model: there is no such setting"):
        app.composed("target", ["model=tiny"])


def test_the_guidance_of_the_data_is_what_is_matched_unless_another_is_named() -> None:
    assert DrafterSettings().resolved(4.0).guidance_scale == 4.0
    assert DrafterSettings(guidance_scale=2.0).resolved(4.0).guidance_scale == 2.0


def test_a_training_of_other_data_does_not_go_on(drawn: Path, tmp_path: Path) -> None:
    settings: Any = app.composed("drafter", words(drawn, tmp_path))
    task = app.build(settings)
    loop._save_state(task, settings, 1, 0.0)
    other: Any = app.composed("drafter", words(drawn, tmp_path, "loss=published"))
    with pytest.raises(TrainingError, match="loss: guided there, published here"):
        loop.train(app.build(other), other)
