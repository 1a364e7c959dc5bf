"""A complete set of random weights so small that a whole run takes a moment, for tests that are not about quality."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

GRID, VOCAB, DIM, HEADS, LAYERS, CLASSES = 4, 32, 32, 2, 1, 4
SETTINGS = {
    "model": f"dim={DIM} layers={LAYERS} heads={HEADS} vocab={VOCAB} grid={GRID} classes={CLASSES} class_names=null",
    "model.tokenizer": f"codebook_size={VOCAB} codebook_dim=8 z_channels=32 base_channels=32 "
    "channel_multipliers=[1,1] residual_blocks=1",
    "decoder.drafter": f"dim={DIM} heads={HEADS} vocab={VOCAB} grid={GRID}",
    "small_ar": f"dim=16 layers=1 heads=1 ffn=24 vocab={VOCAB} grid={GRID}",
}
LATENT = "grid=4 classes=4 channels=4 class_names=null head_depth=1 head_width=8 head_steps=3"
LATENT_SETTINGS = {
    "mar": "buffer=2 encoder_dim=8 encoder_depth=1 encoder_heads=2 decoder_dim=8 decoder_depth=1 decoder_heads=2",
    "causal": "dim=8 layers=1 heads=2",
    "tokenizer": "embed_dim=4 base_channels=32 channel_multipliers=[1,1] residual_blocks=1",
}


def overrides(folder: Path, drafter: bool = False) -> list[str]:
    """The command-line settings that make a run use the weights of a folder.

    Args:
        folder: that `write` filled.
        drafter: whether the decoder has one.
    """
    chosen = [
        "model=tiny",
        f"model.checkpoint={folder}/target.safetensors",
        f"model.tokenizer.checkpoint={folder}/tokenizer.safetensors",
        *_spread("model"),
        *_spread("model.tokenizer"),
        "metrics=none",
        "device=cpu",
        "count=8",
        "batch_size=2",
        "shard_size=4",
    ]
    if drafter:
        chosen += [f"decoder.drafter.checkpoint={folder}/drafter.safetensors", *_spread("decoder.drafter")]
    return chosen


def latent_overrides(folder: Path, kind: str = "mar", draft: bool = False) -> list[str]:
    """The same for a model of continuous tokens.

    Args:
        folder: that `write_latent` filled.
        kind: mar or causal.
        draft: whether the decoder has one.
    """
    chosen = [f"model=tiny_{kind}", f"model.tokenizer.checkpoint={folder}/autoencoder.safetensors"]
    chosen += [f"model.tokenizer.{pair}" for pair in LATENT_SETTINGS["tokenizer"].split(" ")]
    sizes = f"{LATENT} {LATENT_SETTINGS[kind]}".split(" ")
    for prefix, name in [("model", kind), *([("decoder.drafter.model", f"{kind}_draft")] if draft else [])]:
        chosen += [f"{prefix}.checkpoint={folder}/{name}.safetensors", *(f"{prefix}.{pair}" for pair in sizes)]
    if draft:
        chosen.append("decoder.drafter.model.tokenizer.embed_dim=4")
    return [*chosen, "metrics=none", "device=cpu", "count=4", "batch_size=2", "shard_size=4"]


def small_ar(folder: Path) -> list[str]:
    """The settings that make a small AR model the drafter of a decoder that has one."""
    file = f"decoder.drafter.checkpoint={folder}/small_ar.safetensors"
    sizes = [f"decoder.drafter.{pair}" for pair in SETTINGS["small_ar"].split(" ")]
    return ["drafter@decoder.drafter=tiny_ar", file, *sizes]


def _spread(prefix: str) -> list[str]:
    return [f"{prefix}.{pair}" for pair in SETTINGS[prefix].split(" ")]


def write(folder: Path, seed: int = 0) -> None:
    """Make the weights of a target, its tokenizer, its drafter and a small AR model."""
    import torch

    from vvsbench.drafting.eagle import EagleHead, to_published
    from vvsbench.models import checkpoints
    from vvsbench.models.transformer import Transformer, TransformerConfig
    from vvsbench.models.vq import VQModel

    torch.manual_seed(seed)
    sizes = TransformerConfig(
        condition="label",
        dim=DIM,
        layers=LAYERS,
        heads=HEADS,
        vocab=VOCAB,
        grid=GRID,
        classes=CLASSES,
        prefix=1,
    )
    target, small = Transformer(sizes), Transformer(replace(sizes, dim=16, heads=1, ffn=24))
    for parameter in [*target.parameters(), *small.parameters()]:
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    about = {"kind": "target", "grid": str(GRID), "config": json.dumps({})}
    checkpoints.save(folder / "target.safetensors", target.state_dict(), about)
    checkpoints.save(folder / "small_ar.safetensors", small.state_dict(), {"kind": "small_ar"})
    tokenizer = VQModel(VOCAB, 8, 32, 32, (1, 1), 1)
    checkpoints.save(folder / "tokenizer.safetensors", tokenizer.state_dict(), {"kind": "tokenizer"})
    drafter = EagleHead(sizes, bias=True)
    checkpoints.save(folder / "drafter.safetensors", to_published(drafter.state_dict()), {"kind": "drafter"})


def write_latent(folder: Path, seed: int = 0) -> None:
    """Make the weights of a masked and a causal model of continuous tokens, a draft of each, and their tokenizer."""
    import torch

    from vvsbench.composition import composed
    from vvsbench.models import checkpoints
    from vvsbench.models.kl_vae import KLAutoencoder
    from vvsbench.models.loading import empty_latent_network

    torch.manual_seed(seed)
    for kind in ("mar", "causal"):
        for name in (kind, f"{kind}_draft"):
            network = empty_latent_network(composed(latent_overrides(folder, kind)).model).to_empty(device="cpu")
            for parameter in network.parameters():
                torch.nn.init.normal_(parameter, std=0.3)
            checkpoints.save(folder / f"{name}.safetensors", network.state_dict(), {"kind": name})
    tokenizer = KLAutoencoder(4, 32, (1, 1), 1)
    checkpoints.save(folder / "autoencoder.safetensors", tokenizer.state_dict(), {"kind": "autoencoder"})
