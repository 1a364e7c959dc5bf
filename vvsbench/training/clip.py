"""Train the small CLIP: does a picture show what its caption says?

There are few different captions, so a batch compares its images with all of them: softmax over captions for each image,
and over images, with equal shares for those that carry the caption, for each caption. Captions come in several
wordings. The result is a folder in the transformers format that `CLIPModel` and `CLIPProcessor` read without a network.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizer

from vvsbench.training import shapes
from vvsbench.training.loop import Task, pick_device
from vvsbench.training.settings import ClipSettings

WORDINGS = (
    "{}",
    "a photo of {}",
    "a picture of {}",
    "an image showing {}",
    "{} on a textured background",
    "A photo depicts {}",
)
_START, _END = "<|startoftext|>", "<|endoftext|>"


def byte_vocabulary() -> dict[str, int]:
    """Every byte, inside a word and at its end, under the printable stand-ins that byte-level tokenizers use."""
    kept = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    moved = [byte for byte in range(256) if byte not in kept]
    letters = [chr(byte) for byte in kept] + [chr(256 + number) for number in range(len(moved))]
    entries = [*letters, *(letter + "</w>" for letter in letters), _START, _END]
    return {entry: number for number, entry in enumerate(entries)}


def merges(texts: list[str], limit: int) -> list[str]:
    """Byte-pair merges learnt from words, most frequent pair first, ties in the order of the alphabet."""
    words = [
        [*word[:-1], word[-1] + "</w>"] for word in sorted({word for text in texts for word in text.lower().split()})
    ]
    learnt: list[str] = []
    while len(learnt) < limit:
        counts: dict[tuple[str, str], int] = {}
        for word in words:
            for pair in zip(word, word[1:], strict=False):
                counts[pair] = counts.get(pair, 0) + 1
        if not counts:
            break
        first, second = min(counts, key=lambda pair: (-counts[pair], pair))
        learnt.append(f"{first} {second}")
        words = [_merged(word, first, second) for word in words]
    return learnt


def _merged(word: list[str], first: str, second: str) -> list[str]:
    out: list[str] = []
    for part in word:
        if part == second and out and out[-1] == first:
            out[-1] = first + second
        else:
            out.append(part)
    return out


def write_tokenizer(folder: Path, length: int) -> CLIPTokenizer:
    """A byte-level tokenizer whose merges come from the captions; any other text still falls into bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    learnt = merges([wording.format(name) for wording in WORDINGS for name in shapes.CLASS_NAMES], 256)
    vocabulary = byte_vocabulary()
    for pair in learnt:
        vocabulary.setdefault(pair.replace(" ", ""), len(vocabulary))
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(learnt) + "\n", encoding="utf-8")
    return CLIPTokenizer(
        str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=length, pad_token=_END, unk_token=_END
    )


def build(settings: ClipSettings, vocabulary: int, end: int, start: int) -> CLIPModel:
    """The untrained model."""
    common = {"hidden_size": settings.dim, "intermediate_size": 4 * settings.dim, "num_attention_heads": settings.heads}
    text = {
        **common,
        "num_hidden_layers": settings.text_layers,
        "vocab_size": vocabulary,
        "max_position_embeddings": settings.text_length,
        "bos_token_id": start,
        "eos_token_id": end,
        "pad_token_id": end,
        "projection_dim": settings.projection,
    }
    vision = {
        **common,
        "num_hidden_layers": settings.vision_layers,
        "image_size": settings.size,
        "patch_size": settings.patch,
        "projection_dim": settings.projection,
    }
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=settings.projection)
    config._attn_implementation = "eager"  # its backward is the faster one on a CPU
    return CLIPModel(config)


class ClipTask(Task):
    """The CLIP and its training state."""

    def __init__(self, settings: ClipSettings) -> None:
        torch.manual_seed(settings.seed)
        self.settings, self.device = settings, pick_device(settings.device)
        self.folder = settings.finished
        draft = self.folder.with_name(f".{self.folder.name}.files")
        self.tokenizer = write_tokenizer(draft, settings.text_length)
        start, end = self.tokenizer.bos_token_id, self.tokenizer.eos_token_id
        self.model = build(settings, len(self.tokenizer), end, start)
        self.module = self.model
        nn.Module.to(self.model, self.device)  # the decorated method of transformers has no usable type
        self.config: dict[str, Any] = self.model.config.to_dict()
        texts = [wording.format(name) for wording in WORDINGS for name in shapes.CLASS_NAMES]
        self.texts = self._tokens(texts)
        self.optimizers = [
            torch.optim.AdamW(self.model.parameters(), settings.learning_rate, (0.9, 0.98), weight_decay=0.02)
        ]

    def _tokens(self, texts: list[str]) -> dict[str, Tensor]:
        batch = self.tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt")
        return {key: batch[key].to(self.device) for key in ("input_ids", "attention_mask")}

    def _pixels(self, images: Tensor) -> Tensor:
        return images.float() / 127.5 - 1

    def _embeddings(self, images: Tensor, texts: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        out = self.model(pixel_values=self._pixels(images), **texts)
        return F.normalize(out.image_embeds.float(), dim=-1), F.normalize(out.text_embeds.float(), dim=-1)

    def loss(self, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        self.model.train()
        first = shapes.TRAIN_FIRST + step * self.settings.batch_size
        indices = torch.arange(first, first + self.settings.batch_size, device=self.device)
        images, labels = shapes.render(indices, self.settings.size)
        classes = torch.arange(shapes.NUM_CLASSES, device=self.device)
        chosen = classes + shapes.NUM_CLASSES * torch.randint(len(WORDINGS), classes.shape, device=self.device)
        texts = {key: value[chosen] for key, value in self.texts.items()}
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.settings.bf16):
            image, text = self._embeddings(images, texts)
        logits = image @ text.T * self.model.logit_scale.clamp(max=4.0).exp()
        same = F.one_hot(labels, shapes.NUM_CLASSES).float()
        present = same.sum(0) > 0
        shares = same[:, present] / same[:, present].sum(0)
        to_image = -(shares * logits[:, present].log_softmax(0)).sum(0).mean()
        loss = (F.cross_entropy(logits, labels) + to_image) / 2
        return loss, {"accuracy": (logits.argmax(-1) == labels).float().mean()}

    def result(self) -> dict[str, Tensor]:
        return {key: value.detach().cpu() for key, value in self.model.state_dict().items()}

    def write(self, path: Path, metadata: dict[str, str]) -> None:
        draft = path.with_name(f".{path.name}.files")
        self.model.eval().half().save_pretrained(draft)
        described = json.loads((draft / "config.json").read_text(encoding="utf-8"))
        described |= {"dtype": "float32"}  # to compute in
        (draft / "config.json").write_text(json.dumps(described, indent=2), encoding="utf-8")
        mean = [0.5, 0.5, 0.5]
        size = {"height": self.settings.size, "width": self.settings.size}
        images = CLIPImageProcessor(size=size, crop_size=size, image_mean=mean, image_std=mean, do_center_crop=False)
        CLIPProcessor(images, self.tokenizer).save_pretrained(draft)
        (draft / "training.json").write_text(metadata["training"], encoding="utf-8")
        draft.replace(path)

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Zero-shot class accuracy on 2048 held-out images; mean cosine of right and of wrong pairs."""
        self.model.eval()
        captions = self._tokens(list(shapes.CLASS_NAMES))
        right, cosines, others = 0.0, 0.0, 0.0
        for start in range(0, 2048, 256):
            indices = torch.arange(start, start + 256, device=self.device) + shapes.HELD_OUT_FIRST
            images, labels = shapes.render(indices, self.settings.size)
            image, text = self._embeddings(images, captions)
            table = image @ text.T
            own = table.gather(1, labels[:, None])
            right += float((table.argmax(-1) == labels).float().mean()) / 8
            cosines += float(own.mean()) / 8
            others += float((table.sum() - own.sum()) / (table.numel() - own.numel())) / 8
        return {"held_out_class": right, "cosine_right": cosines, "cosine_wrong": others}
