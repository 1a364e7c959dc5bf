"""Caption features as LlamaGen's text-conditional models take them: a frozen T5 encoder, rotated to the left.

The encoder pads on the right; LlamaGen wants the text at the end of its prefix, so that the last prefix position is the
encoder's end-of-sequence feature. The captions are cleaned twice, as in the authors' sampling script: the second pass
is not idempotent on escaped characters.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from vvsbench.errors import CheckpointError, NotFiniteError

MAX_TOKENS = 120
_REMOVED = (
    r"<person>",
    r"\b(?:https?:(?://)?|www\.)\S+",
    r"@[\w\d]+\b",
    r"[\u31c0-\u31ef\u31f0-\u31ff\u3200-\u32ff\u3300-\u33ff\u3400-\u4dbf\u4dc0-\u4dff\u4e00-\u9fff]+",
    r"&quot;?",
    r"&amp",
    r"\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}",
    r"\d:\d\d\s+$",
    r"\\n",
    r"#\d{1,3}\b",
    r"#\d{5,}\b",
    r"\b\d{6,}\b",
    r"[\S]+\.(?:png|jpg|jpeg|bmp|webp|eps|pdf|apk|mp4)\b",
    r"\b[a-z]+\d+[a-z]+\b",
)
_DASHES = (
    r"[\u002d\u058a\u05be\u1400\u1806\u2010-\u2015\u2e17\u2e1a\u2e3a\u2e3b\u2e40\u301c\u3030\u30a0"
    r"\ufe31\ufe32\ufe58\ufe63\uff0d]+"
)


def clean_caption(text: str) -> str:
    """Lower-case a caption and strip markup, addresses, handles, CJK, file names and runs of punctuation."""
    text = unicodedata.normalize("NFC", html.unescape(html.unescape(str(text)))).strip().lower()
    text = re.sub(r"<[^>]*>", " ", text.replace("<person>", "person"))
    for pattern in _REMOVED:
        text = re.sub(pattern, " ", text)
    text = re.sub(_DASHES, "-", text)
    text = re.sub(r"[`´«»“”¨]", '"', text)
    text = re.sub(r"[‘’]", "'", text)
    text = re.sub(r"[\"\']{2,}", '"', text)
    text = re.sub(r"[\.]{2,}", " ", text)
    text = re.sub(r"[#®•©™&@·º½¾¿¡§~)(\]\[}{|\\/*]+", " ", text)
    if len(re.findall(r"[-_]", text)) > 3:
        text = re.sub(r"[-_]", " ", text)
    text = re.sub(r"\bx\d+\b|\b\d+x\d*\b", " ", text)
    text = re.sub(r"\s*:\s*", ": ", text)
    text = re.sub(r"(\D[,./])\b", r"\1 ", text)
    text = re.sub(r"\s+", " ", text).strip()
    text = re.sub(r"^[\"\']([\w\W]+)[\"\']$", r"\1", text)
    return re.sub(r"^\.\S+$", "", re.sub(r"^[\'_,\-:;]|[\'_,\-:\-+]$", "", text)).strip()


def _clean(captions: Sequence[str]) -> list[str]:
    return [clean_caption(clean_caption(caption)) for caption in captions]


def rotate_left(features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Move the text of right-padded features to the end of the prefix and zero the padding.

    Args:
        features: [B, P, C] as the encoder returns them.
        mask: bool [B, P], true where there is text (a prefix of each row).

    Returns:
        features [B, P, C] and mask bool [B, P], the text at positions P - n .. P - 1.
    """
    length = features.shape[1]
    valid = mask.sum(1, keepdim=True)
    source = (torch.arange(length, device=features.device) + valid) % length
    rotated = features.gather(1, source[..., None].expand_as(features))
    flipped = mask.flip(1)
    return rotated * flipped[..., None], flipped


class T5Features:
    """A flan-T5 encoder from a local folder or the transformers cache.

    Args:
        source: folder in the transformers format, or a hub name that is already in the local cache.
        device, dtype: of the encoder; the authors run it in bfloat16.
        max_tokens: prefix positions of the target.

    Raises:
        CheckpointError: the encoder is not on this machine.
    """

    def __init__(
        self, source: str | Path, device: torch.device, dtype: torch.dtype, max_tokens: int = MAX_TOKENS
    ) -> None:
        from transformers import AutoTokenizer, T5EncoderModel

        self.device, self.max_tokens = device, max_tokens
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(str(source), local_files_only=True)
            self.encoder = T5EncoderModel.from_pretrained(str(source), local_files_only=True, dtype=dtype)
        except (OSError, ValueError) as error:
            raise CheckpointError(
                f"text encoder not found: {source}. Put the folder of google/flan-t5-xl (config.json, model weights, "
                "tokenizer files) there, or name another with model.text_encoder."
            ) from error
        self.encoder = self.encoder.eval().to(device)

    def cut(self, captions: Sequence[str]) -> int:
        """How many captions are longer than the prefix; they are cut in front of their end token."""
        if not captions:
            return 0
        whole = self.tokenizer(_clean(captions), add_special_tokens=True, verbose=False).input_ids
        return sum(len(tokens) > self.max_tokens for tokens in whole)

    @torch.inference_mode()
    def __call__(self, captions: list[str]) -> tuple[Tensor, Tensor]:
        """Features [B, P, C] rotated to the left and their bool mask [B, P].

        Raises:
            NotFiniteError: the encoder gave NaN or infinity, as T5 does in float16.
        """
        encoded = self.tokenizer(
            _clean(captions),
            max_length=self.max_tokens,
            padding="max_length",
            truncation=True,
            add_special_tokens=True,
            return_tensors="pt",
        ).to(self.device)
        hidden = self.encoder(encoded.input_ids, attention_mask=encoded.attention_mask).last_hidden_state
        good = torch.isfinite(hidden).flatten(1).all(1)
        if not good.all():
            caption = captions[int(good.byte().argmin())]
            dtype = str(hidden.dtype).removeprefix("torch.")
            raise NotFiniteError("features of the text encoder", dtype, place=f"the caption {caption!r}")
        return rotate_left(hidden, encoded.attention_mask.bool())
