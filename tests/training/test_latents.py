from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from vvsbench.models import checkpoints
from vvsbench.models.diffusion import Diffusion
from vvsbench.models.diffusion_head import HeadNetwork
from vvsbench.models.kl_vae import KLAutoencoder
from vvsbench.training import shapes
from vvsbench.training.autoencoder import AutoencoderTask, standardise
from vvsbench.training.causal import CausalTask
from vvsbench.training.latents import LatentStream, LatentTask, initialise, load_autoencoder
from vvsbench.training.loop import TrainingError, train
from vvsbench.training.mar import MARTask
from vvsbench.training.settings import AutoencoderSettings, CausalSettings, MARSettings

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds an autoencoder that was trained for two steps."""
    where = tmp_path_factory.mktemp("zoo")
    values = {"part": "autoencoder", "steps": 2, "batch_size": 2, "size": 16, "embed_dim": 4}
    values |= {"channel_multipliers": [1, 1], "folder": str(where), "device": "cpu", "bf16": False}
    settings = AutoencoderSettings(**values)  # type: ignore[arg-type]
    task = AutoencoderTask(settings)
    task.evaluate = dict  # type: ignore[method-assign]
    train(task, settings)
    return where


def mar(folder: Path, **changes: object) -> MARTask:
    values = {"part": "mar", "steps": 4, "batch_size": 2, "warmup": 1, "images": 8, "dim": 16, "bf16": False}
    values |= {"heads": 2, "encoder_layers": 1, "decoder_layers": 1, "head_depth": 1, "head_width": 16}
    return MARTask(MARSettings(**{**values, "folder": str(folder), "device": "cpu", **changes}))  # type: ignore[arg-type]


def causal(folder: Path, **changes: object) -> CausalTask:
    values = {"part": "causal", "steps": 4, "batch_size": 2, "warmup": 1, "images": 8, "dim": 16, "bf16": False}
    values |= {"heads": 2, "layers": 1, "head_depth": 1, "head_width": 16}
    return CausalTask(CausalSettings(**{**values, "folder": str(folder), "device": "cpu", **changes}))  # type: ignore[arg-type]


@torch.no_grad()
def test_standard_latents_decode_to_the_same_pictures() -> None:
    torch.manual_seed(0)
    model = KLAutoencoder(4, 32, (1, 1), 1)
    images, mean, std = torch.rand(2, 3, 16, 16) * 2 - 1, torch.randn(4), torch.rand(4) + 0.5
    old_mean, old_log = model.encode(images)
    pictures = model.decode(old_mean)
    standardise(model, mean, std)
    new_mean, new_log = model.encode(images)
    torch.testing.assert_close(new_mean, (old_mean - mean[:, None, None]) / std[:, None, None])
    torch.testing.assert_close(new_log, old_log - 2 * std.log()[:, None, None])
    torch.testing.assert_close(model.decode(new_mean), pictures, atol=1e-4, rtol=1e-4)


def test_shipped_latents_are_standard(folder: Path) -> None:
    stream = LatentStream(folder, 512, CPU)
    _, latents = stream.take(0, 512)
    torch.testing.assert_close(latents.mean((0, 1)), torch.zeros(4), atol=0.05, rtol=0)
    torch.testing.assert_close(latents.std((0, 1)), torch.ones(4), atol=0.05, rtol=0)


def test_latents_are_encoded_once_and_drawn_every_time(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = LatentStream(folder, 8, CPU)
    labels, first = stream.take(0, 4)
    assert labels.tolist() == shapes.labels_of(torch.arange(4)).tolist()
    again = LatentStream(folder, 8, CPU)
    monkeypatch.setattr(LatentStream, "posterior", None)
    _, second = again.take(0, 4)
    assert not torch.equal(first, second)
    torch.manual_seed(3)
    third = again.take(8, 4)[1]
    torch.manual_seed(3)
    assert torch.equal(again.take(0, 4)[1], third), "images come round again"


@pytest.mark.parametrize("make", [mar, causal])
def test_an_interrupted_training_ends_with_the_same_weights(make: object, folder: Path) -> None:
    def run(part: str, stop: int | None) -> dict[str, Tensor]:
        task: LatentTask = make(folder, part=part)  # type: ignore[operator]
        task.evaluate = dict  # type: ignore[method-assign]
        inner = task.loss

        def loss(step: int) -> tuple[Tensor, dict[str, Tensor]]:
            if step == stop:
                raise KeyboardInterrupt
            return inner(step)

        task.loss = loss  # type: ignore[method-assign]
        train(task, task.settings)
        return checkpoints.read(task.settings.finished)

    name = make.__name__  # type: ignore[attr-defined]
    whole = run(f"{name}-whole", None)
    with pytest.raises(KeyboardInterrupt):
        run(f"{name}-broken", 2)
    resumed = run(f"{name}-broken", None)
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


def test_only_hidden_tokens_are_denoised_and_never_seen(folder: Path) -> None:
    task = mar(folder)
    tokens, labels = torch.randn(3, 64, 4), torch.tensor([0, 5, -1])
    asked: list[Tensor] = []
    task.network.register_forward_pre_hook(lambda _, inputs: asked.append(inputs[1]))
    shares = []
    for seed in range(40):
        torch.manual_seed(seed)
        z, clean = task.conditioned(task.network, labels, tokens)
        seen = asked.pop()
        shares.append(len(clean) / 3 / 64)
        assert len(z) == len(clean) == 3 * (64 - seen.shape[1])
        for row in range(3):
            hidden = set(range(64)) - set(seen[row].tolist())
            found = clean.view(3, -1, 4)[row]
            assert torch.equal(found.sort(0).values, tokens[row, sorted(hidden)].sort(0).values)
    assert min(shares) >= 1 / 64
    assert sum(shares) / len(shares) == pytest.approx(2 / math.pi, abs=0.12)


@torch.no_grad()
def test_an_untrained_head_is_nearly_right_at_the_noisiest_step() -> None:
    torch.manual_seed(0)
    head = HeadNetwork(4, 8, 2, 64)
    initialise(head, head)
    x = torch.randn(500, 4)
    predicted = head(x, head.time_embed(torch.tensor([999])), head.cond_embed(torch.randn(500, 8)))
    torch.testing.assert_close(predicted[:, :4], x, atol=0.3, rtol=0.1)
    assert not predicted[:, 4:].any()
    inside = head.res_blocks[0].in_ln(head.input_proj(x))  # type: ignore[operator]
    assert float(inside.std()) == pytest.approx(1, abs=0.1), "the blocks see the token, not the constant beside it"


def test_the_truth_has_no_loss() -> None:
    clean, noise, steps = torch.randn(500, 4), torch.randn(500, 4), torch.randint(1000, (500,))
    known = Diffusion().loss(clean, noise, steps, torch.cat([noise, -torch.ones_like(noise)], -1))
    assert float(known.max()) < 1e-4


def test_what_comes_first_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="vvsbench train autoencoder"):
        load_autoencoder(tmp_path / "autoencoder.safetensors")
