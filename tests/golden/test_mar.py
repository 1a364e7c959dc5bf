"""MAR against numbers from the authors' own code: features, head, chains with given noise, whole images.

The authors' chain divides by 5e-5 in its first step, so a rounding error of float32 is amplified; the recording says
by how much (`sens_*`), and the tolerance of a run is five times that. Whole images are compared in float64, which
leaves the recording's own rounding only.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.golden.conftest import each_run
from tests.golden.mar import network, picture, recorded
from vvsbench.decoding.masked import Masked
from vvsbench.models.diffusion import Diffusion
from vvsbench.models.diffusion_head import DiffusionHead
from vvsbench.models.latents import NO_CLASS, LatentGuidance
from vvsbench.models.mar import MAR, MARNetwork

FEATURES = 1e-4


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A chain for every setting of the head, and images for every setting of the loop."""
    if "run" in metafunc.fixturenames:
        each_run(metafunc, "mar", "samples" if metafunc.function is test_chain else "runs")


@pytest.fixture
def folder(golden: Any) -> Any:
    return golden("mar")


@pytest.fixture
def module(folder: Any) -> MARNetwork:
    return network(folder.config["model"], folder.path / "checkpoint.pth")


def tolerance(folder: Any, run: str) -> float:
    return max(2e-3, 5 * folder[f"sens_{run}"].item())


def close(ours: Tensor, theirs: Tensor, within: float) -> None:
    torch.testing.assert_close(ours.to(theirs.dtype), theirs, atol=within, rtol=0)


@torch.no_grad()
def test_features(folder: Any, module: MARNetwork) -> None:
    known = folder["encdec_mask"] == 0
    count = int(known.sum(1).max())
    seen = known.to(torch.int8).argsort(dim=1, descending=True, stable=True)[:, :count]
    encoded = module.encode(folder["encdec_tokens"], seen, None, folder["encdec_labels"])
    close(encoded, folder["encdec_encoder_out"], FEATURES)
    close(module.decode(encoded, seen, None), folder["encdec_z"], FEATURES)


@torch.no_grad()
def test_features_do_not_depend_on_padding_or_order(folder: Any, module: MARNetwork) -> None:
    known = folder["encdec_mask"] == 0
    count = int(known.sum(1).max())
    seen = known.to(torch.int8).argsort(dim=1, descending=True, stable=True)[:, : count + 5]
    seen[:, :count] = seen[:, :count].flip(1)
    counts = torch.full((len(seen),), count)
    z = module(folder["encdec_tokens"], seen, counts, folder["encdec_labels"])
    close(z, folder["encdec_z"], FEATURES)
    spoilt = module(folder["encdec_tokens"], seen, None, folder["encdec_labels"])
    assert (spoilt - folder["encdec_z"]).abs().max() > 100 * FEATURES


@torch.no_grad()
def test_features_without_class_and_tokens(folder: Any, module: MARNetwork) -> None:
    sizes = module.sizes
    nothing = torch.zeros(1, 0, dtype=torch.long)
    z = module(torch.zeros(1, sizes.tokens, sizes.channels), nothing, None, torch.tensor([NO_CLASS]))
    close(z, folder["encdec_z_uncond_allmasked"], FEATURES)


@torch.no_grad()
def test_head(folder: Any, module: MARNetwork) -> None:
    net = module.diffloss.net
    out = net(folder["net_x"], net.time_embed(folder["net_t"]), net.cond_embed(folder["net_c"]))
    close(out, folder["net_out"], FEATURES)


def test_schedule(folder: Any) -> None:
    ours = Diffusion(int(folder.config["model"]["num_sampling_steps"]))
    assert torch.equal(ours.timesteps, folder["sched_timestep_map"])
    torch.testing.assert_close(ours.alpha_bars, folder["sched_alphas_cumprod"], rtol=1e-8, atol=0)
    torch.testing.assert_close(ours.log_high.exp(), folder["sched_betas"], rtol=1e-8, atol=0)
    torch.testing.assert_close(ours.log_low, folder["sched_posterior_log_variance_clipped"], rtol=1e-8, atol=0)
    signal, noise = folder["sched_posterior_mean_coef1"], folder["sched_posterior_mean_coef2"]
    inverse = folder["sched_alphas_cumprod"].rsqrt()
    torch.testing.assert_close(ours.on_x, signal * inverse + noise, rtol=1e-8, atol=0)
    torch.testing.assert_close(ours.on_eps, signal * (inverse**2 - 1).sqrt(), rtol=1e-8, atol=0)


@torch.no_grad()
def test_chain(folder: Any, module: MARNetwork, run: str) -> None:
    setting = folder.config["samples"][run]
    first, later = folder[f"sample_{run}_init_noise"], folder[f"sample_{run}_step_noise"]
    steps = len(later)
    head = DiffusionHead(module.diffloss.net, steps, setting["temperature"])
    guided = setting["cfg"] != 1
    z = torch.stack([folder["sample_z_cond"], folder["sample_z_uncond"]][: 1 + guided])
    scale = torch.full((len(first),), setting["cfg"]) if guided else None
    last = head.denoise(z, torch.stack([*reversed(later), first]), scale)
    close(last.mean, folder[f"sample_{run}_out"], tolerance(folder, run))


def test_images(folder: Any, module: MARNetwork, run: str) -> None:
    setting, own = folder.config["runs"][run], f"gen_{run}_"
    prefix = own if f"{own}step_noise" in folder.tensors else "gen_"  # the first run's noise has no run in its name
    later = folder[f"{prefix}step_noise"].double().unbind(2)
    guidance = LatentGuidance(setting["cfg"], setting["cfg_schedule"] == "linear")
    target = MAR(module.double(), None, guidance, setting["temperature"], len(later))
    draws = recorded(folder["gen_orders"], folder[f"{prefix}init_noise"].double(), later[::-1])
    decoder = Masked(target, folder.config["iterations"], False, False, False, draws)
    torch.testing.assert_close(
        torch.tensor(decoder.reveal.scales), folder[f"gen_{run}_cfg_per_iter"].float(), rtol=1e-6, atol=0
    )
    labels = folder["gen_labels"] if setting["labels"] else torch.full_like(folder["gen_labels"], NO_CLASS)
    tokens, trace = decoder.generate(labels, range(len(labels)), 0)
    close(picture(tokens), folder[f"gen_{run}_out"], tolerance(folder, f"gen_{run}"))
    steps = folder.config["iterations"]
    for row in trace.rows():
        assert row["target_forwards"] == steps
        assert row["target_head_evaluations"] == tokens.shape[1] * len(later)


def test_reveals_what_the_authors_reveal(folder: Any, module: MARNetwork) -> None:
    masks, iterations = folder["gen_mask_per_iter"], folder.config["iterations"]
    decoder = Masked(MAR(module, None, LatentGuidance()), iterations, False, False, False)
    entered = [masks.shape[2] - int(mask[0].sum()) for mask in masks]
    assert list(decoder.reveal.counts[:-1]) == entered
    path, drawn_at = folder["gen_orders"].flip(1), folder["gen_predicted_at_iter"]
    for step in range(iterations):
        where = path[:, decoder.reveal.counts[step] : decoder.reveal.counts[step + 1]]
        assert (drawn_at.gather(1, where) == step).all()
