"""Whether a zoo is in the regime of real image models: six gates, measured by one command on the parts of a folder.

What a comparison of decoders shows on a small model carries over to a large one only if the small one is unsure where
the large one is. So: flat distributions (a), codes that can stand for each other (b), tokens that must agree on what no
condition tells them (c), pictures that still show what was asked for (d), a drafter that is as often wrong (e), and
continuous tokens that suffer when many are revealed at once (f). The bounds are ours: those of a and e with room around
what is known of LlamaGen and its drafters, the others so that a relaxation can cost quality and the cost can be seen.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from vvsbench.models.transformer import Transformer
from vvsbench.quality.hue import concentration
from vvsbench.training import classifier
from vvsbench.training.data import data_of
from vvsbench.training.drafter import Agreement, load_drafter
from vvsbench.training.drawing import BATCH, contact_sheet, continuous, drawn, held_out, overrides, tokens_per_forward
from vvsbench.training.loop import TrainingError, pick_device
from vvsbench.training.settings import DrafterSettings, GatesSettings
from vvsbench.training.target import load_target
from vvsbench.training.tokens import load_tokenizer

FILE = "gates.json"
SHARE = 0.2
"""Share of the tokens that gate b replaces."""
LIKELIEST = 10
FEW = 8
"""AR steps of a masked model that are too few."""


@dataclass(frozen=True)
class Gate:
    """One number of a zoo and the bounds between which it should lie.

    Attributes:
        letter: of the gate that it belongs to.
        part: that has to be trained for it.
    """

    letter: str
    what: str
    part: str
    low: float | None = None
    high: float | None = None

    def passes(self, value: float) -> bool:
        """Whether a value lies within the bounds."""
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)

    @property
    def bounds(self) -> str:
        """The bounds in words."""
        if self.low is not None and self.high is not None:
            return f"{self.low:g} to {self.high:g}"
        return f"at least {self.low:g}" if self.low is not None else f"at most {self.high:g}"


GATES = {
    "entropy": Gate("a", "entropy of a token on own samples, nats", "target", 4.0, 5.5),
    "likeliest": Gate("a", f"mass of the {LIKELIEST} likeliest tokens", "target", None, 0.45),
    "nearest_loss": Gate(
        "b", "dB of PSNR lost when a fifth of the tokens is the nearest other code", "tokenizer", None, 1.0
    ),
    "nearest_psnr": Gate("b", "PSNR of that to the picture of the right codes", "tokenizer", 35.0),
    "random_loss": Gate("b", "dB lost when they are random codes", "tokenizer", 4.0),
    "hue_reconstructions": Gate("c", "agreement of hues in reconstructions", "tokenizer", 0.98),
    "hue_samples": Gate("c", "the same in samples of `ar`", "target", 0.97),
    "hue_marginals": Gate("c", "the same when each token is drawn for itself, given the class", "tokenizer", None, 0.5),
    "class": Gate("d", "share of the samples of `ar` whose class is recognised", "classifier", 0.8),
    "overlap": Gate("e", "guided overlap of the drafter at depth 1", "drafter", 0.45, 0.6),
    "eagle2": Gate("e", "tokens per target forward of `eagle2`", "drafter", None, 1.5),
    "mar_class": Gate("f", "share of the samples of `masked` whose class is recognised", "mar", 0.8),
    "mar_few": Gate("f", f"agreement of hues that {FEW} AR steps cost", "mar", 0.1),
}


class Subject:
    """A folder's parts, loaded when first asked for, and the pictures made of them.

    Args:
        folder: of the parts.
        settings: counts and the sampling setting.
    """

    def __init__(self, folder: Path, settings: GatesSettings) -> None:
        self.folder, self.settings, self.device = folder, settings, pick_device(settings.device)
        self.tokenizer, self.size = load_tokenizer(folder / "tokenizer.safetensors")
        self.data = data_of(folder / "tokenizer.safetensors")

    @cached_property
    def pictures(self) -> tuple[Tensor, Tensor]:
        """Held-out images uint8 [n, 3, S, S], classes in turn, and their labels."""
        return held_out(self.data, 0, self.settings.count, self.size)

    @cached_property
    def codes(self) -> Tensor:
        """Tokens of the held-out images, int64 [n, N]."""
        return torch.cat([self.tokenizer.encode(part.float() / 127.5 - 1)[1] for part in self.pictures[0].split(BATCH)])

    def shown(self, tokens: Tensor) -> Tensor:
        """Pictures uint8 of tokens int64 [n, N]."""
        return torch.cat([self.tokenizer.to_uint8(self.tokenizer.decode_code(part)) for part in tokens.split(BATCH)])

    @cached_property
    def target(self) -> Transformer:
        """The trained target."""
        return load_target(self.folder / "target.safetensors")

    @cached_property
    def samples(self) -> tuple[Tensor, Tensor, Tensor]:
        """Images uint8 of `ar`, their tokens and the classes asked for, in turn."""
        chosen = overrides(self.folder, self.settings, "ar")
        images, tokens, _ = drawn(chosen, self.data, self.settings.count, self.device)
        return images, tokens, torch.arange(len(images)) % self.data.NUM_CLASSES

    @cached_property
    def swapped(self) -> dict[str, Tensor]:
        """Tokens of the held-out images of which a share is the nearest other code, or a random one."""
        codes = self.tokenizer.quantize.codes()
        nearest = (codes @ codes.T - 2 * torch.eye(len(codes))).argmax(-1)
        generator = torch.Generator().manual_seed(0)
        chosen = torch.rand(self.codes.shape, generator=generator) < SHARE
        random = torch.randint(len(codes), self.codes.shape, generator=generator)
        return {
            "nearest": torch.where(chosen, nearest[self.codes], self.codes),
            "random": torch.where(chosen, random, self.codes),
        }

    @cached_property
    def marginals(self) -> Tensor:
        """Tokens int64 [n, N], each drawn from another image of the class: right one by one, and independent."""
        labels, generator = self.pictures[1], torch.Generator().manual_seed(1)
        out = torch.empty_like(self.codes)
        for label in labels.unique():
            rows = (labels == label).nonzero()[:, 0]
            chosen = rows[torch.randint(len(rows), (len(rows), out.shape[1]), generator=generator)]
            out[rows] = self.codes[chosen, torch.arange(out.shape[1])]
        return out


def psnr(one: Tensor, other: Tensor) -> float:
    """PSNR in dB between uint8 images, of the mean squared error over all of them."""
    return float(10 * torch.log10(255**2 / F.mse_loss(one.float(), other.float())))


def hue(images: Tensor) -> float:
    """Mean agreement of hues of uint8 images."""
    return float(concentration(images.numpy()).mean())


def _entropy(subject: Subject) -> dict[str, float]:
    """Entropy and mass of the likeliest tokens of the guided distribution along own samples."""
    _, tokens, labels = subject.samples
    scale, target = subject.settings.guidance_scale, subject.target
    entropies, masses = [], []
    for own, asked in zip(tokens.split(BATCH), labels.split(BATCH), strict=True):
        null = target.train_logits(torch.full_like(asked, target.config.classes), own)
        logs = (null + scale * (target.train_logits(asked, own) - null)).log_softmax(-1)
        entropies.append(-(logs.exp() * logs).sum(-1).flatten())
        masses.append(logs.topk(LIKELIEST).values.exp().sum(-1).flatten())
    return {"entropy": float(torch.cat(entropies).mean()), "likeliest": float(torch.cat(masses).mean())}


def _swaps(subject: Subject) -> dict[str, float]:
    pictures, rebuilt = subject.pictures[0], subject.shown(subject.codes)
    near, random = (subject.shown(subject.swapped[kind]) for kind in ("nearest", "random"))
    own = psnr(rebuilt, pictures)
    return {
        "nearest_loss": own - psnr(near, pictures),
        "nearest_psnr": psnr(near, rebuilt),
        "random_loss": own - psnr(random, pictures),
    }


def _hues(subject: Subject) -> dict[str, float]:
    rebuilt, marginals = subject.shown(subject.codes), subject.shown(subject.marginals)
    return {"hue_reconstructions": hue(rebuilt), "hue_marginals": hue(marginals)}


def _sampled(subject: Subject) -> dict[str, float]:
    return {"hue_samples": hue(subject.samples[0])}


def _recognised(subject: Subject) -> dict[str, float]:
    images, _, asked = subject.samples
    network = classifier.load(subject.folder / "classifier.safetensors")
    return classifier.recognised(network, subject.data, images, asked)


def _drafting(subject: Subject) -> dict[str, float]:
    settings, target = subject.settings, subject.target
    head = load_drafter(subject.folder / "drafter.safetensors", target)
    agreement = Agreement(target, head, DrafterSettings(guidance_scale=settings.guidance_scale), 1, torch.float32)
    shared, length = torch.zeros(1), target.config.prefix + target.config.tokens - 2
    for labels, codes in zip(subject.pictures[1].split(BATCH), subject.codes.split(BATCH), strict=True):
        noise = torch.zeros(2 * len(codes), length, target.config.dim)
        shared += agreement(labels, codes, noise)[1] * len(codes) / len(subject.codes)
    tree = ["decoder.structure.nodes=27", "decoder.structure.top_k=6"]
    chosen = [*overrides(subject.folder, settings, "eagle2"), *tree]
    rows = drawn(chosen, subject.data, settings.draft, subject.device)[2]
    return {"overlap": float(shared), "eagle2": tokens_per_forward(rows)}


def _few_steps(subject: Subject) -> dict[str, float]:
    """What the masked model draws one token a step, and what is lost with few steps."""
    chosen = continuous(subject.folder, subject.settings, "mar")
    whole, few = (
        drawn([*chosen, f"decoder.ar_steps={steps}"], subject.data, subject.settings.draft, subject.device)[0]
        for steps in (0, FEW)
    )
    network = classifier.load(subject.folder / "classifier.safetensors")
    found = classifier.recognised(network, subject.data, whole, torch.arange(len(whole)) % subject.data.NUM_CLASSES)
    return {"mar_class": found["class"], "mar_few": hue(whole) - hue(few)}


MEASURED: tuple[tuple[tuple[str, ...], Callable[[Subject], dict[str, float]]], ...] = (
    ((), _swaps),
    ((), _hues),
    (("target",), _entropy),
    (("target",), _sampled),
    (("target", "classifier"), _recognised),
    (("target", "drafter"), _drafting),
    (("autoencoder", "mar", "classifier"), _few_steps),
)
"""What is measured, and the parts that it needs besides the tokenizer."""


@torch.no_grad()
def measure(folder: Path, settings: GatesSettings) -> tuple[dict[str, float], Subject]:
    """All numbers of `GATES` that the parts in a folder allow, and what they were measured on.

    Raises:
        TrainingError: there is no tokenizer.
    """
    subject, found = Subject(folder, settings), dict[str, float]()
    for parts, measured in MEASURED:
        if all((folder / f"{part}.safetensors").exists() for part in parts):
            found |= measured(subject)
    return found, subject


@torch.no_grad()
def sheet(subject: Subject, path: Path, columns: int = 16) -> None:
    """Write a picture for a person: rows of held-out images, reconstructions, swaps, independent draws and samples."""
    codes = [subject.codes, subject.swapped["nearest"], subject.swapped["random"], subject.marginals]
    rows = [subject.pictures[0][:columns], *(subject.shown(tokens[:columns]) for tokens in codes)]
    if "samples" in vars(subject):
        rows.append(subject.samples[0][: 4 * columns])
    contact_sheet(torch.cat(rows), columns, path)


def lines(found: dict[str, float], beside: dict[str, float] | None = None) -> Iterator[list[str]]:
    """The table of the gates, heading first.

    Args:
        found: the numbers of a zoo.
        beside: those of another one, for a last column.
    """
    yield ["gate", "what", "bounds", "here", "passes", *(["first zoo"] if beside else [])]
    for name, gate in GATES.items():
        passed = ("yes" if gate.passes(found[name]) else "**no**") if name in found else f"needs {gate.part}"
        shown = [_number(found, name), passed, *([_number(beside, name)] if beside else [])]
        yield [gate.letter, gate.what, gate.bounds, *shown]


def _number(found: dict[str, float], name: str) -> str:
    return f"{found[name]:.3g}" if name in found else "–"


def read(folder: Path) -> dict[str, float] | None:
    """The numbers measured on a folder, or None."""
    path = folder / FILE
    return json.loads(path.read_text(encoding="utf-8"))["gates"] if path.exists() else None


def write(folder: Path, settings: GatesSettings) -> None:
    """Measure a folder's gates and write gates.json and gates.png into it.

    Raises:
        TrainingError: there is nothing to measure.
    """
    if not folder.is_dir():
        raise TrainingError(f"{folder} does not exist: name the folder of a zoo with folder=.")
    found, subject = measure(folder, settings)
    setting = {"guidance_scale": settings.guidance_scale, "count": settings.count, "draft": settings.draft}
    (folder / FILE).write_text(json.dumps({"setting": setting, "gates": found}, indent=1) + "\n", encoding="utf-8")
    sheet(subject, folder / "gates.png")
    for line in lines(found):
        print(" | ".join(line))
