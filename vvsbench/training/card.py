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
from torch import Tensor

from vvsbench import config
from vvsbench.composition import composed
from vvsbench.models import checkpoints
from vvsbench.models.kl_vae import KLAutoencoder
from vvsbench.models.settings import MARConfig
from vvsbench.models.vq import VQModel
from vvsbench.quality.fidelity import fid, gaussian
from vvsbench.training import classifier, gates
from vvsbench.training.data import DataSet, data_of, name_of
from vvsbench.training.drawing import BATCH, contact_sheet, continuous, drawn, held_out, overrides, tokens_per_forward
from vvsbench.training.latents import load_autoencoder
from vvsbench.training.loop import TrainingError, pick_device
from vvsbench.training.settings import CardSettings, DataName
from vvsbench.training.tokens import load_tokenizer

CONTINUOUS = ("autoencoder", "mar", "mar_draft", "causal", "causal_draft")
PARTS = ("tokenizer", "target", "drafter", "small_ar", "classifier", *CONTINUOUS, "clip")


def parts_of(data_set: DataName) -> list[str]:
    """The parts of the zoo of a data set: those that there are settings to train it by."""
    place = config.folder("conf") / "train"
    place = place if data_set is DataName.shapes else place / data_set.value
    return [part for part in PARTS if (place / f"{part}.yaml").exists()]


def _records(folder: Path, names: list[str]) -> dict[str, Any]:
    """What every part's file says about its training, its size and its digest."""
    parts = {name: folder / (name if name == "clip" else f"{name}.safetensors") for name in names}
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


def _latent_sampling(folder: Path, settings: CardSettings) -> dict[str, float]:
    """The setting of `continuous`, as far as the card tells it."""
    chosen = composed(continuous(folder, settings, "mar"))
    assert isinstance(chosen.model, MARConfig)
    return {"guidance_scale": chosen.sampling.guidance_scale, "head_steps": chosen.model.head_steps}


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


def _scorer(
    network: classifier.Classifier, data: DataSet, reference: Tensor
) -> Callable[[Tensor, Tensor], dict[str, float]]:
    """FID against the reference and the share of recognised classes, of images and their labels."""

    @torch.no_grad()
    def features(images: Tensor) -> Tensor:
        return torch.cat([network(batch)[1] for batch in images.split(256)]).double()

    known = gaussian(features(reference))

    def score(images: Tensor, labels: Tensor) -> dict[str, float]:
        found = classifier.recognised(network, data, images, labels)
        return {"fid": fid(gaussian(features(images)), known), **{f"{key}_accuracy": v for key, v in found.items()}}

    return score


def _drafting(folder: Path, settings: CardSettings, data: DataSet, device: torch.device) -> dict[str, float]:
    """Tokens per target forward of `sd`, with each source of candidates, and with the small AR model as drafter."""
    small = [f"decoder.drafter.checkpoint='{folder.resolve() / 'small_ar.safetensors'}'"]
    structures: dict[str, list[str]] = {
        "shared_noise": ["decoder.structure.candidates=shared_noise"],
        "top_k": [
            "structure@decoder.structure=dynamic",
            "decoder.structure.nodes=27",
            "decoder.structure.candidates=top_k",
        ],
        "small_ar": [f"drafter@decoder.drafter={settings.model}_ar", *small],
    }
    out = {}
    for name, structure in structures.items():
        chosen = [*overrides(folder, settings, "sd"), *structure]
        out[name] = tokens_per_forward(drawn(chosen, data, settings.draft, device)[2])
    return out


def _continuous_sets(
    folder: Path, settings: CardSettings, data: DataSet, pictures: tuple[Tensor, Tensor], device: torch.device
) -> dict[str, tuple[Tensor, Tensor]]:
    """What the autoencoder makes of held-out images, and as many that the continuous models draw, with their labels."""
    images, labels = pictures
    autoencoder, _ = load_autoencoder(folder / "autoencoder.safetensors")
    out = {"held_out": pictures, "reconstructions": (_rebuilt(_through_latents(autoencoder), images), labels)}
    for part in ("mar", "causal"):
        if (folder / f"{part}.safetensors").exists():
            made = drawn(continuous(folder, settings, part), data, len(images), device)[0]
            out[part] = (made, torch.arange(len(images)) % data.NUM_CLASSES)
    return out


def measure(folder: Path, settings: CardSettings) -> tuple[dict[str, Any], Tensor]:
    """Everything on the card, and the samples.

    Raises:
        TrainingError: a part is missing.
    """
    device, path = pick_device(settings.device), folder / "tokenizer.safetensors"
    tokenizer, size = load_tokenizer(path)
    data = data_of(path)
    parts = _records(folder, parts_of(name_of(data)))
    network = classifier.load(folder / "classifier.safetensors")
    count = settings.count
    score = _scorer(network, data, held_out(data, 1_000_000, count, size)[0])
    images, labels = held_out(data, 0, count, size)
    samples = drawn(overrides(folder, settings, "ar"), data, count, device)[0]
    quality = {
        "held_out": score(images, labels),
        "reconstructions": score(_rebuilt(_through_codes(tokenizer), images), labels),
        "samples": score(samples, torch.arange(count) % data.NUM_CLASSES),
    }
    few = settings.latent_count
    shown = _continuous_sets(folder, settings, data, (images[:few], labels[:few]), device)
    card = {
        "model": settings.model,
        "data": {
            "name": name_of(data).value,
            "size": size,
            "classes": data.NUM_CLASSES,
            "held_out_first": data.HELD_OUT_FIRST,
            "seed": 0,
        },
        "sampling": {"guidance_scale": settings.guidance_scale, "top_k": settings.top_k, "temperature": 1.0},
        "latent_sampling": _latent_sampling(folder, settings),
        "count": count,
        "quality": quality,
        "latent_count": few,
        "latent_quality": {key: score(*of) for key, of in shown.items()},
        "tokens_per_target_forward": _drafting(folder, settings, data, device) if settings.draft else {},
        "gates": gates.read(folder),
        "gates_beside": gates.read(checkpoints.ZOO) if folder.resolve() != checkpoints.ZOO else None,
        "parts": parts,
    }
    return card, samples


def write(folder: Path, settings: CardSettings) -> None:
    """Measure a zoo folder and write card.json, README.md and samples.png into it."""
    card, samples = measure(folder, settings)
    (folder / "card.json").write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(text(card), encoding="utf-8")
    contact_sheet(samples[:256], 32, folder / "samples.png")
    print(text(card))


def _rows(table: list[list[str]]) -> str:
    head, *body = table
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *body])


def _quality_table(quality: dict[str, Any], names: dict[str, str]) -> str:
    judged = [key.removesuffix("_accuracy") for key in quality["held_out"] if key.endswith("_accuracy")]
    table = [["images", "FID", *judged]]
    for key, row in quality.items():
        shares = [f"{100 * row[f'{what}_accuracy']:.1f} %" for what in judged]
        table.append([names[key], f"{row['fid']:.2f}", *shares])
    return _rows(table)


def _parts_table(card: dict[str, Any]) -> str:
    table = [["part", "weights", "MB", "steps", "images", "minutes", "last loss", "measured on held-out images"]]
    for part, row in card["parts"].items():
        measured = ", ".join(f"{key.replace('_', ' ')} {value:.4g}" for key, value in row["evaluation"].items())
        numbers = [f"{row['parameters']:,}", f"{row['bytes'] / 1e6:.1f}", f"{row['settings']['steps']:,}"]
        numbers += [f"{row['images']:,}", f"{row['seconds'] / 60:.1f}", f"{row['losses']['loss']:.3f}"]
        table.append([part, *numbers, measured])
    return _rows(table)


TOLD = {
    "shapes": (
        "The tiny zoo",
        "Weights of a small visual autoregressive model, trained by `vvsbench train` in this repository on synthetic\n"
        "images, so that every decoder can be run and judged on a CPU. They show how decoders differ; they say\n"
        "nothing about real images.",
        'eight shapes in eight colours, caption "a red star") on textured backgrounds',
    ),
    "scenes": (
        "The zoo of scenes",
        "Weights of a small visual autoregressive model in the regime of real ones: flat distributions, codes that\n"
        "can stand for each other, and colours that tokens far apart have to agree on. Trained by\n"
        "`vvsbench train scenes/PART` in this repository.",
        'eight shapes, one large or two small, caption "two stars"; hue and place are open) on five materials',
    ),
}
"""Of each data set: the zoo's title, what it is for, and what its classes and grounds are."""


def _gates(card: dict[str, Any]) -> str:
    if not card.get("gates"):
        return ""
    table = _rows(list(gates.lines(card["gates"], card.get("gates_beside"))))
    return f"""## Is it in the regime of real models?

Measured by `vvsbench train gates` (or `scenes/gates`) at the same sampling setting. The bounds of a and e follow
what is known of LlamaGen (5 to 6.3 nats a token) and of EAGLE-2 on it (about 1.2 tokens per forward); the others are
what has to hold so that relaxed rules and many tokens at once can cost quality, and the cost can be seen.

{table}

"""


def text(card: dict[str, Any]) -> str:
    """The README.md of a card."""
    data, sampling, speed = card["data"], card["sampling"], card["tokens_per_target_forward"]
    latent, model, name = card["latent_sampling"], card.get("model", "tiny"), data.get("name", "shapes")
    title, purpose, shown = TOLD[name]
    filtered = f", top-k {sampling['top_k']}" if sampling["top_k"] else ""
    names = {"small_ar": "candidates `shared_noise`, drafted by `small_ar`"}
    speeds = "\n".join(
        f"- {names.get(source, f'candidates `{source}`')}: {value:.2f}" for source, value in speed.items()
    )
    ratio = card["quality"]["samples"]["fid"] / card["quality"]["reconstructions"]["fid"]
    sets = {"held_out": "held-out images (floor)", "samples": "samples (vanilla AR)"}
    discrete = sets | {"reconstructions": "tokenizer reconstructions"}
    latents = sets | {"reconstructions": "autoencoder reconstructions"}
    latents |= {part: f"samples of `{model}_{part}` (masked)" for part in ("mar", "causal")}
    own = "; causal and causal_draft have a layout of their own" * ("causal" in card["parts"])
    own += "; `clip/` is in the transformers format" * ("clip" in card["parts"])
    return f"""# {title}

{purpose}
This page is written by `vvsbench train card` from what it measured; do not edit it.

![samples](samples.png)

## Data

Images of {data["size"]} x {data["size"]} pixels in {data["classes"]} classes ({shown},
drawn by `vvsbench.training.{name}` from their index alone (seed {data["seed"]}).
Indices from {data["held_out_first"]:,} on are held out.

## Quality

{card["count"]:,} images of each kind against {card["count"]:,} other held-out images; features and classes are the
classifier's.
Samples: guidance {sampling["guidance_scale"]:g}, temperature {sampling["temperature"]:g}{filtered}, classes in turn.

{_quality_table(card["quality"], discrete)}

FID of the samples is {ratio:.2f} times that of the reconstructions.

The continuous models, {card["latent_count"]:,} images of each kind, so FID compares within this table only.
Samples: guidance {latent["guidance_scale"]:g}, {latent["head_steps"]} head steps, one token per AR step.

{_quality_table(card["latent_quality"], latents)}

{_gates(card)}## Drafting

Image tokens per target forward, prefill included, of `decoder=sd` at the same sampling setting (lossless):

{speeds}

## Parts

{_parts_table(card)}

Weights are float16 and computed with in float32. Names and layouts of tokenizer, target, drafter and small_ar are
those of the official checkpoints (LlamaGen; the published EAGLE-style drafters), and so are those of autoencoder, mar
and mar_draft (MAR){own}.
Settings and SHA-256 of every file are in card.json.
"""
