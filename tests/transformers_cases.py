"""Tiny models of the transformers families: made from a seed by transformers itself, and run by its own loops.

A case is a folder with config.json, as `save_pretrained` writes it, and case.json, which says what is drawn.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor

from vvsbench.models.families.loading import family_class
from vvsbench.models.families.target import Transformers
from vvsbench.models.guidance import Guidance
from vvsbench.models.settings import TransformersConfig


def folders(root: Path) -> list[Path]:
    return sorted(file.parent for file in (root / "transformers").glob("*/*/case.json"))


class Case:
    """A model, what is drawn from it, and how its family's reference draws."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.family = folder, folder.parent.name
        self.said: dict[str, Any] = json.loads((folder / "case.json").read_text())
        self.config = transformers.AutoConfig.from_pretrained(folder)
        self.prompts: list[list[int]] = self.said["prompts"]
        self.scale = float(self.said.get("guidance_scale") or 1.0)
        self.model = self._made()

    def _made(self) -> Any:
        torch.manual_seed(self.said["seed"])
        model = getattr(transformers, self.config.architectures[0])(self.config).eval()
        for name, parameter in model.named_parameters():
            if parameter.ndim >= 2 and "vqmodel" not in name:
                parameter.data.normal_(0, self.said["std"])
        if self.family == "janus":
            generation = model.generation_config
            generation.bos_token_id, generation.pad_token_id = self.said["bos"], self.said["pad"]
            generation.generation_kwargs = {"boi_token_id": self.said["boi"]}
        return model

    @property
    def grid(self) -> tuple[int, int]:
        if self.family == "janus":
            side = round(self.config.vision_config.num_image_tokens**0.5)
            return side, side
        if self.family == "emu3":
            return self.said["height"], self.said["width"]
        if self.family == "glm_image":
            return tuple(self.said["grids"][0])
        side = self.said["grid"]
        return (side, side) if isinstance(side, int) else tuple(side)

    @property
    def longest(self) -> int:
        """Tokens of the longest prompt of either branch."""
        return max(map(len, [*self.prompts, self.said.get("null_prompt", [])]))

    def target(self, extra: int = 0, scale: float | None = None) -> Transformers:
        """Ours, over the same weights, with more places for a prompt than are needed."""
        rows, columns = self.grid
        settings = TransformersConfig(name=self.family, family=self.family, grid=rows, columns=columns)
        family = family_class(self.family)(self.model, settings)
        if self.family == "glm_image":
            family.preview = tuple(self.said["grids"][1])
        processor = null_processor(self.said.get("null_prompt", []))
        guidance = Guidance(self.scale if scale is None else scale)
        return Transformers(family, guidance, self.longest + extra, processor, self.family)

    @property
    def ids(self) -> list[int]:
        """The text model's id of every image token."""
        words = getattr(self.model.model, "vocabulary_mapping", None)
        if words is None:
            return list(range(self.config.vq_config.num_embeddings))
        codes = [words.img2bpe[code] for code in range(len(words.img2bpe))]
        return [*codes, *([words.eol_token_id] if self.family == "emu3" else [])]

    def padded(self, ids: list[list[int]] | None = None) -> tuple[Tensor, Tensor]:
        """Prompts and their mask, padded on the left as transformers' tokenizers do."""
        ids = self.prompts if ids is None else ids
        width = max(map(len, ids))
        pad = self.said.get("pad", 0)
        rows = torch.tensor([[pad] * (width - len(row)) + row for row in ids])
        return rows, torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in ids])

    def reference(self, sampling: dict[str, Any]) -> Tensor:
        """Image tokens [B, N] of the family's own loop.

        Args:
            sampling: keyword arguments of its `generate`.
        """
        with torch.inference_mode():
            return getattr(self, f"_{self.family}")(sampling)

    def _janus(self, sampling: dict[str, Any]) -> Tensor:
        ids, mask = self.padded()
        asked = {"generation_mode": "image", "guidance_scale": self.scale, "max_length": 10_000}
        return self.model.generate(ids, attention_mask=mask, **asked, **sampling)

    def _emu3(self, sampling: dict[str, Any]) -> Tensor:
        ids, mask = self.padded()
        null, null_mask = self.padded([self.said["null_prompt"]] * len(ids))
        rows, columns = self.grid
        *codes, end = self.ids

        def allowed(_: int, so_far: Tensor) -> list[int]:
            return [end] if (len(so_far) - ids.shape[1]) % (columns + 1) == columns else codes

        drawn = self.model.generate(
            ids,
            attention_mask=mask,
            max_new_tokens=rows * (columns + 1),
            guidance_scale=self.scale,
            negative_prompt_ids=null,
            negative_prompt_attention_mask=null_mask,
            prefix_allowed_tokens_fn=allowed,
            **sampling,
        )
        return self._codes(drawn[:, ids.shape[1] :])

    def _glm_image(self, sampling: dict[str, Any]) -> Tensor:
        ids, mask = self.padded()
        grids = self.said["grids"]
        drawn = self.model.generate(
            ids,
            attention_mask=mask,
            image_grid_thw=torch.tensor([[1, *grid] for _ in ids for grid in grids]),
            images_per_sample=torch.tensor([len(grids)] * len(ids)),
            max_new_tokens=sum(rows * columns for rows, columns in grids),
            suppress_tokens=list(range(len(self.ids), self.config.text_config.vision_vocab_size)),
            **sampling,
        )
        return drawn[:, ids.shape[1] :]

    def _codes(self, drawn: Tensor) -> Tensor:
        known = torch.full((max(self.ids) + 1,), -1)
        known[torch.tensor(self.ids)] = torch.arange(len(self.ids))
        return known[drawn]

    def uncached(self, tokens: Tensor, scale: float) -> Tensor:
        """Guided logits [B, N, V] of one uncached pass per row and branch of transformers' model, with no padding.

        Only for the families whose images follow the prompt in one axis.
        """
        rows = []
        for prompt, drawn in zip(self.prompts, tokens, strict=True):
            branches = [prompt] if scale == 1 else [prompt, self.null(prompt)]
            one, *other = (self._uncached(branch, drawn) for branch in branches)
            rows.append(one if not other else other[0] + scale * (one - other[0]))
        return torch.stack(rows)

    def null(self, prompt: list[int]) -> list[int]:
        if self.family == "janus":
            kept = (self.said["bos"], self.said["boi"])
            return [token if token in kept else self.said["pad"] for token in prompt]
        if self.family == "emu3":
            return list(self.said["null_prompt"])
        return [self.config.bos_token_id, prompt[-1]]

    def _uncached(self, prompt: list[int], drawn: Tensor) -> Tensor:
        model, words = self.model, self.model.get_input_embeddings()(torch.tensor([prompt]))
        if self.family == "janus":
            text, image = model.model.language_model, model.prepare_embeddings_for_image_generation(drawn[None])
        else:
            text = model.model.text_model if self.family == "emu3" else model.model
            image = model.get_input_embeddings()(torch.tensor(self.ids)[drawn][None])
        out = text(inputs_embeds=torch.cat([words, image], 1)).last_hidden_state[0, len(prompt) - 1 : -1]
        if self.family == "janus":
            return model.model.generation_head(out)
        return model.lm_head(out)[:, self.ids]


def null_processor(ids: list[int]) -> Any:
    """What stands for a processor where prompts are token ids: whatever it is asked, it says these."""
    return lambda **_: {"input_ids": [ids]}


@contextmanager
def noise_fed(noise: Tensor, ids: list[int]) -> Iterator[None]:
    """Let transformers' loops draw by this noise: multinomial(p) becomes argmax(log p + noise).

    Args:
        noise: [B, N, V].
        ids: the text model's id of every image token.
    """
    place, before = iter(range(noise.shape[1])), torch.multinomial

    def drawn(probabilities: Tensor, num_samples: int) -> Tensor:
        scores = probabilities.log()[:, ids] + noise[:, next(place)]
        return torch.tensor(ids)[scores.argmax(-1)][:, None]

    torch.multinomial = drawn  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.multinomial = before
