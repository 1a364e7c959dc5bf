"""Settings of every training, as dataclasses that check a configuration before torch is imported."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path

from vvsbench.drafting.sources import Pads

SEEDS = 2**40
"""How many seeds a training has: torch takes one of 64 bits for every step of each."""


class DataName(StrEnum):
    """The synthetic data sets, each a module of this package."""

    shapes = "shapes"
    scenes = "scenes"


@dataclass
class LoopSettings:
    """What all trainings share.

    Attributes:
        part: which one of the zoo's parts is trained.
        folder: where finished weights go, and where parts trained before are looked for.
        overwrite: train again although the finished file exists.
        seed: of initialisation, data and noise.
        steps: optimiser steps in all.
        batch_size: images per step.
        learning_rate: peak, after `warmup` steps; it falls linearly to zero over the last `decay` share of the steps.
        clip: largest norm of the gradient.
        device: cpu, cuda or auto.
        bf16: compute forwards in bfloat16 where that is safe.
        checkpoint_seconds: time between the states from which an interrupted training goes on.
        log_seconds: time between lines of the log when the output is not a terminal.
    """

    part: str = "???"
    folder: str = "outputs/zoo"
    overwrite: bool = False
    seed: int = 0
    steps: int = 1000
    batch_size: int = 128
    learning_rate: float = 1e-3
    warmup: int = 100
    decay: float = 0.3
    clip: float = 1.0
    device: str = "auto"
    bf16: bool = True
    checkpoint_seconds: float = 30.0
    log_seconds: float = 15.0

    @property
    def finished(self) -> Path:
        """The file that the training ends with."""
        return Path(self.folder) / f"{self.part}.safetensors"

    @property
    def state(self) -> Path:
        """The file from which an interrupted training goes on."""
        return Path(self.folder) / f"{self.part}.partial"

    def problems(self) -> list[str]:
        """What is wrong with the values, one line each."""
        least = {"steps": 1, "batch_size": 1, "warmup": 0}
        found = [
            f"{key}={getattr(self, key)}: must be at least {low}."
            for key, low in least.items()
            if getattr(self, key) < low
        ]
        if not 0 <= self.seed < SEEDS:
            found.append(f"seed={self.seed}: must be 0 or more and below 2**40; larger ones are folded onto these.")
        positive = ("learning_rate", "clip", "checkpoint_seconds", "log_seconds")
        found += [f"{key}={getattr(self, key)}: must be above 0." for key in positive if getattr(self, key) <= 0]
        if not 0 <= self.decay <= 1:
            found.append(f"decay={self.decay}: a share of the steps, from 0 to 1.")
        if self.device not in ("auto", "cpu", "cuda"):
            found.append(f"device={self.device}: choose one of auto, cpu, cuda.")
        return found


@dataclass
class ImageSettings(LoopSettings):
    """What trainings on pictures share; those on tokens take both from the tokenizer in their folder.

    Attributes:
        data_set: the pictures.
        size: their side in pixels.
    """

    data_set: DataName = DataName.shapes
    size: int = 32


@dataclass
class TokenizerSettings(ImageSettings):
    """The VQ tokenizer; sizes as in `vvsbench.models.vq.VQModel`."""

    codebook_size: int = 512
    codebook_dim: int = 8
    z_channels: int = 64
    base_channels: int = 32
    channel_multipliers: list[int] = field(default_factory=lambda: [1, 2, 2])
    residual_blocks: int = 1
    patch: int = 1
    edge_weight: float = 1.0
    commitment: float = 0.25
    codebook_decay: float = 0.98
    continuous_steps: int = 150


@dataclass
class AutoencoderSettings(ImageSettings):
    """The KL autoencoder; sizes as in `vvsbench.models.kl_vae.KLAutoencoder`.

    Attributes:
        kl_weight: of the divergence from a standard normal, per latent value; it decides how much noise the latents
            bear, and so how small an error of a latent goes unseen.
    """

    embed_dim: int = 8
    base_channels: int = 32
    channel_multipliers: list[int] = field(default_factory=lambda: [1, 1, 2])
    residual_blocks: int = 1
    patch: int = 1
    edge_weight: float = 1.0
    kl_weight: float = 0.015


@dataclass
class ClassifierSettings(ImageSettings):
    """The classifier; sizes as in `vvsbench.training.classifier.Classifier`.

    Attributes:
        attribute_weight: of the squared error of what a picture shows besides its class.
    """

    widths: list[int] = field(default_factory=lambda: [32, 64, 96, 128])
    label_smoothing: float = 0.05
    attribute_weight: float = 2.0


@dataclass
class TargetSettings(LoopSettings):
    """The class-conditional transformer; sizes as in `vvsbench.models.llamagen.TransformerConfig`.

    Attributes:
        images: different training images; later steps see them again.
        average: decay of the moving average of the weights, which is what is kept.
        label_drop: share of images trained without their class, for guidance.
        code_embeddings: start the tokens' embeddings from the tokenizer's code vectors, so that near codes start
            alike; with thousands of codes it saves the first ten thousand images.
        compile: fuse the training pass with torch.compile (on a CPU it needs a C++ compiler, and is twice as fast).
        ffn: width of the MLP; 0 for LlamaGen's rule.
    """

    dim: int = 256
    layers: int = 4
    heads: int = 4
    ffn: int = 0
    images: int = 200_000
    label_drop: float = 0.1
    code_embeddings: bool = False
    compile: bool = True
    weight_decay: float = 0.02
    average: float = 0.999


@dataclass
class SmallARSettings(TargetSettings):
    """A smaller transformer over the same tokens as the target's, to draft for it; trained as the target is."""

    dim: int = 128
    layers: int = 2
    heads: int = 4
    ffn: int = 256


@dataclass
class DrafterSettings(LoopSettings):
    """The EAGLE-style drafter; its sizes are the target's.

    Attributes:
        target: the model that it drafts for, as `vvsbench run` takes it: model=NAME, model.checkpoint=PATH and so on.
        data: folder of cells that `vvsbench run` drew with that model; empty for the synthetic images, and then the
            target is the one in `folder`.
        loss: guided, or published: the recipe of EAGLE and LANTERN, which regresses the features (weight 1) and each
            branch's own distribution (weight 0.1), never the guided one, and does not unroll. It ignores the weights
            below. Both branches have equal shares; the recipe has one null condition in ten.
        pads: how the target's padded caption positions attend (decoder.drafter.pads).
        images: different synthetic training images, as for the target.
        compile: fuse the pass with torch.compile, as for the target; for targets of class ids only.
        guidance_scale: the guided distribution at this scale is what the drafter has to match; null for that of the
            data's own sampling setting, and 1.5 for the synthetic images.
        unroll: depths trained, each on the predictions of the one before.
        level_decay: weight of a depth over that of the depth before.
        guided_weight: of the cross-entropy to the guided distribution.
        overlap_weight: of the mass that the two guided distributions do not share, times `guided_weight`.
        plain_weight: of the cross-entropy to each branch's own distribution.
        feature_weight: of the regression to the target's features.
        feature_noise: uniform noise on the target's features, as a share of their mean size.
    """

    target: list[str] = field(default_factory=list)
    data: str = ""
    loss: str = "guided"
    pads: Pads = Pads.isolated
    images: int = 200_000
    compile: bool = True
    guidance_scale: float | None = None
    unroll: int = 3
    level_decay: float = 0.8
    guided_weight: float = 1.0
    overlap_weight: float = 1.0
    plain_weight: float = 0.2
    feature_weight: float = 0.5
    feature_noise: float = 0.2
    weight_decay: float = 0.01
    average: float = 0.998

    def problems(self) -> list[str]:
        """See `LoopSettings.problems`."""
        found = super().problems()
        if self.loss not in ("guided", "published"):
            found.append(f"loss={self.loss}: choose one of guided, published.")
        if self.unroll < 1:
            found.append(f"unroll={self.unroll}: must be at least 1.")
        if self.target not in ([], ["model=tiny"]) and not self.data:
            found.append(
                f"{self.target[0]}: only a zoo's own target can be trained for without data; draw images with it "
                "(vvsbench run) and name the folder of their cells: data=outputs/cells/STUDY."
            )
        return found

    def resolved(self, guidance_scale: float) -> DrafterSettings:
        """The settings with the data's guidance where none is named, and the weights of the chosen loss."""
        chosen = replace(self, guidance_scale=self.guidance_scale or guidance_scale)
        if self.loss == "guided":
            return chosen
        return replace(chosen, unroll=1, guided_weight=0.0, plain_weight=0.1, feature_weight=1.0)


@dataclass
class LatentSettings(LoopSettings):
    """What the trainings of models of continuous tokens share.

    Attributes:
        heads: of every attention.
        head_depth, head_width: of the diffusion head.
        repeats: noise levels at which a token is denoised for one pass of the transformer.
        images: different training images; later steps see them again.
        label_drop: share of images trained without their class, for guidance.
        average: decay of the moving average of the weights, which is what is kept.
    """

    heads: int = 4
    head_depth: int = 3
    head_width: int = 128
    repeats: int = 2
    images: int = 40_000
    label_drop: float = 0.1
    weight_decay: float = 0.02
    average: float = 0.998


@dataclass
class MARSettings(LatentSettings):
    """The masked model; `encoder_layers` and `decoder_layers` are `dim` wide, and `buffer` is as in `MARSizes`."""

    dim: int = 128
    encoder_layers: int = 3
    decoder_layers: int = 2
    buffer: int = 4


@dataclass
class MARDraftSettings(MARSettings):
    """A smaller masked model, to draft for the other."""

    dim: int = 64
    encoder_layers: int = 1
    decoder_layers: int = 1
    head_depth: int = 2
    head_width: int = 64


@dataclass
class CausalSettings(LatentSettings):
    """The causal model; sizes as in `vvsbench.models.causal.CausalSizes`."""

    dim: int = 128
    layers: int = 3
    repeats: int = 1


@dataclass
class CausalDraftSettings(CausalSettings):
    """A smaller causal model, to draft for the other."""

    dim: int = 64
    layers: int = 1
    head_depth: int = 2
    head_width: int = 64


@dataclass
class ClipSettings(LoopSettings):
    """The small CLIP; sizes of its two transformers and of the space they share."""

    size: int = 32
    patch: int = 4
    dim: int = 128
    heads: int = 4
    vision_layers: int = 4
    text_layers: int = 2
    text_length: int = 32
    projection: int = 64

    @property
    def finished(self) -> Path:
        """The folder that the training ends with, in the transformers format."""
        return Path(self.folder) / self.part


@dataclass
class SampleSettings(LoopSettings):
    """What is measured on samples of a zoo's target, and how they are drawn.

    Attributes:
        model: as which `vvsbench run` knows the target.
        count: images of each set (held-out, reconstructions, samples); FID is biased, so all sets are equally large.
        guidance_scale: of the samples, as in the model's own conf/sampling.
        top_k: likewise; 0 keeps every token.
        draft: images decoded with the drafter for its tokens per target forward; 0 to leave that out.
    """

    model: str = "tiny"
    count: int = 1024
    guidance_scale: float = 1.5
    top_k: int = 0
    draft: int = 128


@dataclass
class CardSettings(SampleSettings):
    """The model card: what is measured on the finished parts.

    Attributes:
        latent_count: images of each set that shows the continuous models, which draw slowly.
    """

    latent_count: int = 256


@dataclass
class GatesSettings(SampleSettings):
    """The gates: whether a zoo is in the regime of real models."""

    count: int = 512
    draft: int = 64
