"""The model card of a zoo folder: measured on its finished files, written as card.json and as a README.md from it.

Every set has the same number of images and is compared with the same held-out reference, because FID is biased at small
numbers and only comparable at equal ones. Held-out images against that reference give the floor.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from vvsbench.composition import composed
from vvsbench.decoding import build
from vvsbench.models import checkpoints
from vvsbench.models.kl_vae import KLAutoencoder
from vvsbench.models.settings import MARConfig
from vvsbench.models.vq import VQModel
from vvsbench.quality.fidelity import fid, gaussian
from vvsbench.training import classifier, shapes
from vvsbench.training.latents import load_autoencoder
from vvsbench.training.loop import TrainingError, pick_device
from vvsbench.training.settings import CardSettings
from vvsbench.training.tokens import load_tokenizer

CONTINUOUS = ("autoencoder", "mar", "mar_draft", "causal", "causal_draft")
FILES = tuple(
    f"{part}.safetensors" for part in ("tokenizer", "target", "drafter", "small_ar", "classifier", *CONTINUOUS)
)
BATCH = 64


def _records(folder: Path) -> dict[str, Any]:
    """What every part's file says about its training, its size and its digest."""
    parts = {name.removesuffix(".safetensors"): folder / name for name in FILES} | {"clip": folder / "clip"}
    if missing := [str(path) for path in parts.values() if not path.exists()]:
        raise TrainingError(f"the card describes the whole zoo; still missing: {', '.join(missing)}. Train them first.")
    out: dict[str, Any] = {}
    for part, path in parts.items():
        if path.is_dir():
            training = json.loads((path / "training.json").read_text(encoding="utf-8"))
            sizes = checkpoints.header(path / "model.safetensors").shapes
        else:
            head = checkpoints.header(path)
            training, sizes = json.loads(head.metadata["training"]), head.shapes
        files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
        out[part] = {
            "sha256": checkpoints.digest(path),
            "bytes": sum(file.stat().st_size for file in files),
            "parameters": sum(torch.Size(size).numel() for key, size in sizes.items() if "codebook_used" not in key),
            **training,
        }
    return out


def _overrides(folder: Path, settings: CardSettings, decoder: str) -> list[str]:
    """The `vvsbench run` settings that sample from this folder's weights."""
    sampling = [f"sampling.guidance_scale={settings.guidance_scale}", f"sampling.top_k={settings.top_k}"]
    where = folder.resolve()
    files = [f"model.checkpoint='{where / 'target.safetensors'}'"]
    files += [f"model.tokenizer.checkpoint='{where / 'tokenizer.safetensors'}'"]
    if decoder != "ar":
        files += [f"decoder.drafter.checkpoint='{where / 'drafter.safetensors'}'"]
    return ["model=tiny", f"decoder={decoder}", *files, *sampling]


def _continuous(folder: Path, part: str) -> list[str]:
    """The settings that sample from a continuous model of this folder, one token per step, as the studies do."""
    where = folder.resolve()
    files = [f"model.checkpoint='{where / f'{part}.safetensors'}'"]
    files += [f"model.tokenizer.checkpoint='{where / 'autoencoder.safetensors'}'"]
    return [f"model=tiny_{part}", "decoder=masked", *files]


def _latent_sampling(folder: Path) -> dict[str, float]:
    """The setting of `_continuous`, as far as the card tells it."""
    chosen = composed(_continuous(folder, "mar"))
    assert isinstance(chosen.model, MARConfig)
    return {"guidance_scale": chosen.sampling.guidance_scale, "head_steps": chosen.model.head_steps}


@torch.no_grad()
def _drawn(overrides: list[str], count: int, device: torch.device) -> tuple[Tensor, list[dict[str, Any]]]:
    """Images uint8 [count, 3, H, W] of classes in turn, and their trace rows."""
    decoder = build(composed(overrides), device, torch.float32)
    images, rows = [], list[dict[str, Any]]()
    for start in range(0, count, BATCH):
        numbers = range(start, min(start + BATCH, count))
        conditions = decoder.target.conditions([number % shapes.NUM_CLASSES for number in numbers])
        tokens, trace = decoder.generate(conditions, numbers, 0)
        images.append(decoder.target.to_images(tokens).cpu())
        rows += trace.rows()
    return torch.cat(images), rows


@torch.no_grad()
def _rebuilt(round_trip: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """Images after a round trip through a tokenizer, which turns pixels in [-1, 1] into uint8 images."""
    return torch.cat([round_trip(batch.float() / 127.5 - 1) for batch in images.split(BATCH)])


def _through_codes(tokenizer: VQModel) -> Callable[[Tensor], Tensor]:
    return lambda pixels: tokenizer.to_uint8(tokenizer.decode_code(tokenizer.encode(pixels)[1]))


def _through_latents(autoencoder: KLAutoencoder) -> Callable[[Tensor], Tensor]:
    """With a latent drawn from the posterior, which is what the models of latents learn."""

    def round_trip(pixels: Tensor) -> Tensor:
        mean, log_variance = autoencoder.encode(pixels)
        noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(0))
        return autoencoder.to_uint8(autoencoder.decode(mean + (log_variance / 2).exp() * noise))

    return round_trip


def _held_out(first: int, count: int, size: int) -> tuple[Tensor, Tensor]:
    return shapes.render(shapes.balanced(first + shapes.HELD_OUT_FIRST, count), size)


def _scorer(network: classifier.Classifier, reference: Tensor) -> Callable[[Tensor, Tensor], dict[str, float]]:
    """FID against the reference and the share of recognised classes, of images and their labels."""

    @torch.no_grad()
    def features(images: Tensor) -> Tensor:
        return torch.cat([network(batch)[1] for batch in images.split(256)]).double()

    known = gaussian(features(reference))

    def score(images: Tensor, labels: Tensor) -> dict[str, float]:
        found = classifier.recognised(network, images, labels)
        return {"fid": fid(gaussian(features(images)), known), **{f"{key}_accuracy": v for key, v in found.items()}}

    return score


def contact_sheet(images: Tensor, columns: int, path: Path, scale: int = 2) -> None:
    """Write uint8 images [B, 3, S, S] as one picture, row by row."""
    count, channels, height, width = images.shape
    rows = count // columns
    tiles = images[: rows * columns].view(rows, columns, channels, height, width).permute(0, 3, 1, 4, 2)
    picture = Image.fromarray(tiles.reshape(rows * height, columns * width, channels).numpy())
    picture.resize((columns * width * scale, rows * height * scale), Image.Resampling.NEAREST).save(path, optimize=True)


def _drafting(folder: Path, settings: CardSettings, device: torch.device) -> dict[str, float]:
    """Tokens per target forward of `sd`, with each source of candidates, and with the small AR model as drafter."""
    small = [f"decoder.drafter.checkpoint='{folder.resolve() / 'small_ar.safetensors'}'"]
    chosen: dict[str, list[str]] = {
        "shared_noise": ["decoder.structure.candidates=shared_noise"],
        "top_k": [
            "structure@decoder.structure=dynamic",
            "decoder.structure.nodes=27",
            "decoder.structure.candidates=top_k",
        ],
        "small_ar": ["drafter@decoder.drafter=tiny_ar", *small],
    }
    out = {}
    for name, structure in chosen.items():
        rows = _drawn([*_overrides(folder, settings, "sd"), *structure], settings.draft, device)[1]
        tokens = sum(len(row["origin"]) for row in rows)
        out[name] = tokens / sum(row["target_forwards"] + row["prefill_forwards"] for row in rows)
    return out


def _continuous_sets(
    folder: Path, images: Tensor, labels: Tensor, device: torch.device
) -> dict[str, tuple[Tensor, Tensor]]:
    """What the autoencoder makes of held-out images, and as many that the continuous models draw, with their labels."""
    autoencoder, _ = load_autoencoder(folder / "autoencoder.safetensors")
    out = {"reconstructions": (_rebuilt(_through_latents(autoencoder), images), labels)}
    for part in ("mar", "causal"):
        drawn = _drawn(_continuous(folder, part), len(images), device)[0]
        out[part] = (drawn, torch.arange(len(images)) % shapes.NUM_CLASSES)
    return out


def measure(folder: Path, settings: CardSettings) -> tuple[dict[str, Any], Tensor]:
    """Everything on the card, and the samples.

    Raises:
        TrainingError: a part is missing.
    """
    parts, device = _records(folder), pick_device(settings.device)
    tokenizer, size = load_tokenizer(folder / "tokenizer.safetensors")
    network = classifier.load(folder / "classifier.safetensors")
    count = settings.count
    score = _scorer(network, _held_out(1_000_000, count, size)[0])
    images, labels = _held_out(0, count, size)
    samples, _ = _drawn(_overrides(folder, settings, "ar"), count, device)
    asked = torch.arange(count) % shapes.NUM_CLASSES
    quality = {
        "held_out": score(images, labels),
        "reconstructions": score(_rebuilt(_through_codes(tokenizer), images), labels),
        "samples": score(samples, asked),
    }
    few = settings.latent_count
    shown = _continuous_sets(folder, images[:few], labels[:few], device)
    latent_quality = {"held_out": score(images[:few], labels[:few])} | {key: score(*of) for key, of in shown.items()}
    card = {
        "data": {"size": size, "classes": shapes.NUM_CLASSES, "held_out_first": shapes.HELD_OUT_FIRST, "seed": 0},
        "sampling": {"guidance_scale": settings.guidance_scale, "top_k": settings.top_k, "temperature": 1.0},
        "latent_sampling": _latent_sampling(folder),
        "count": count,
        "quality": quality,
        "latent_count": few,
        "latent_quality": latent_quality,
        "tokens_per_target_forward": _drafting(folder, settings, device) if settings.draft else {},
        "parts": parts,
    }
    return card, samples


def write(folder: Path, settings: CardSettings) -> None:
    """Measure a zoo folder and write card.json, README.md and samples.png into it."""
    card, samples = measure(folder, settings)
    (folder / "card.json").write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(text(card), encoding="utf-8")
    contact_sheet(samples[: 4 * shapes.NUM_CLASSES], 32, folder / "samples.png")
    print(text(card))


_DISCRETE_SETS = {
    "held_out": "held-out images (floor)",
    "reconstructions": "tokenizer reconstructions",
    "samples": "samples (vanilla AR)",
}
_LATENT_SETS = {
    "held_out": "held-out images (floor)",
    "reconstructions": "autoencoder reconstructions",
    "mar": "samples of `tiny_mar` (masked)",
    "causal": "samples of `tiny_causal` (masked)",
}


def _rows(table: list[list[str]]) -> str:
    head, *body = table
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *body])


def _quality_table(quality: dict[str, Any], names: dict[str, str]) -> str:
    table = [["images", "FID", "class", "shape", "colour"]]
    for key, name in names.items():
        row = quality[key]
        shares = [f"{100 * row[f'{what}_accuracy']:.1f} %" for what in ("class", "shape", "colour")]
        table.append([name, f"{row['fid']:.2f}", *shares])
    return _rows(table)


def _parts_table(card: dict[str, Any]) -> str:
    table = [["part", "weights", "MB", "steps", "images", "minutes", "last loss", "measured on held-out images"]]
    for part, row in card["parts"].items():
        measured = ", ".join(f"{key.replace('_', ' ')} {value:.4g}" for key, value in row["evaluation"].items())
        numbers = [f"{row['parameters']:,}", f"{row['bytes'] / 1e6:.1f}", f"{row['settings']['steps']:,}"]
        numbers += [f"{row['images']:,}", f"{row['seconds'] / 60:.1f}", f"{row['losses']['loss']:.3f}"]
        table.append([part, *numbers, measured])
    return _rows(table)


def text(card: dict[str, Any]) -> str:
    """The README.md of a card."""
    data, sampling, speed = card["data"], card["sampling"], card["tokens_per_target_forward"]
    latent = card["latent_sampling"]
    filtered = f", top-k {sampling['top_k']}" if sampling["top_k"] else ""
    names = {"small_ar": "candidates `shared_noise`, drafted by `small_ar`"}
    speeds = "\n".join(f"- {names.get(name, f'candidates `{name}`')}: {value:.2f}" for name, value in speed.items())
    ratio = card["quality"]["samples"]["fid"] / card["quality"]["reconstructions"]["fid"]
    return f"""# The tiny zoo

Weights of a small visual autoregressive model, trained by `vvsbench train` in this repository on synthetic images, so
that every decoder can be run and judged on a CPU. They show how decoders differ; they say nothing about real images.
This page is written by `vvsbench train card` from what it measured; do not edit it.

![samples](samples.png)

## Data

Images of {data["size"]} x {data["size"]} pixels in {data["classes"]} classes (eight shapes in eight colours,
caption "a red star") on textured backgrounds, drawn by `vvsbench.training.shapes` from their index alone
(seed {data["seed"]}). Indices from {data["held_out_first"]:,} on are held out.

## Quality

{card["count"]:,} images of each kind against {card["count"]:,} other held-out images; features and classes are the
classifier's.
Samples: guidance {sampling["guidance_scale"]:g}, temperature {sampling["temperature"]:g}{filtered}, classes in turn.

{_quality_table(card["quality"], _DISCRETE_SETS)}

FID of the samples is {ratio:.2f} times that of the reconstructions.

The continuous models, {card["latent_count"]:,} images of each kind, so FID compares within this table only.
Samples: guidance {latent["guidance_scale"]:g}, {latent["head_steps"]} head steps, one token per AR step.

{_quality_table(card["latent_quality"], _LATENT_SETS)}

## Drafting

Image tokens per target forward, prefill included, of `decoder=sd` at the same sampling setting (lossless):

{speeds}

## Parts

{_parts_table(card)}

Weights are float16 and computed with in float32. Names and layouts of tokenizer, target, drafter and small_ar are
those of the official checkpoints (LlamaGen; the published EAGLE-style drafters), and so are those of autoencoder, mar
and mar_draft (MAR); causal and causal_draft have a layout of their own; `clip/` is in the transformers format.
Settings and SHA-256 of every file are in card.json.
"""
