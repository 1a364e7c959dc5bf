"""A family of models: all that differs between targets whose decoder is a transformer of the library transformers.

The adapter (`target.Transformers`) brings cache, masks, guidance and padding. A family says how a caption becomes token
ids, which ids stand for no caption, how image tokens are embedded and predicted, which of them are no choice of the
model's, where they stand, and how they become pixels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vvsbench.errors import CheckpointError

if TYPE_CHECKING:
    from vvsbench.models.settings import TransformersConfig


class Family(ABC):
    """A loaded model of the family.

    Args:
        model: of the class that `architecture` names, in eval mode; nobody changes it.
        settings: its grid, and whatever else is asked of it.

    Attributes:
        text: the decoder: takes inputs_embeds, attention_mask, position_ids and past_key_values.
        rows, columns: of the token grid that becomes the picture.
        vocab: image tokens to choose from, V.
    """

    text: Any
    vocab: int

    def __init__(self, model: Any, settings: TransformersConfig) -> None:
        self.model, self.settings, self.config = model, settings, model.config
        self.rows, self.columns = settings.grid, settings.columns or settings.grid

    @property
    def tokens(self) -> int:
        """Image tokens per image, N, forced ones included."""
        return self.rows * self.columns

    @property
    def stride(self) -> int:
        """Tokens from a place of the grid to the one below it."""
        return self.columns

    @property
    def forced(self) -> int:
        """How many of them are no choice of the model's."""
        return 0

    @abstractmethod
    def embed(self, tokens: Tensor) -> Tensor:
        """Inputs [..., D] of the decoder for image tokens int64 [...]."""

    @abstractmethod
    def logits(self, features: Tensor) -> Tensor:
        """Logits [..., V] of features [..., D]."""

    @property
    @abstractmethod
    def codebook(self) -> Tensor:
        """What image tokens decode from, [V, C]."""

    @abstractmethod
    def prompt(self, processor: Any, caption: str) -> Sequence[int]:
        """Token ids that an image is drawn from.

        Args:
            processor: of the model's folder, its chat template and tokenizer in it.
            caption: what the image shows.
        """

    def null(self, processor: Any, prompt: Sequence[int]) -> Sequence[int]:
        """The token ids of the branch that guidance leads away from; any number of them.

        Args:
            processor: as in `prompt`.
            prompt: token ids of the other branch.

        Raises:
            CheckpointError: the family is not guided.
        """
        raise CheckpointError(f"{self.settings.name} has no prompt for guidance: set sampling.guidance_scale=1.")

    def places(self, places: Tensor, prompts: Tensor) -> Tensor:
        """What the decoder takes as position_ids.

        Args:
            places: int64 [S, T], places in the sequence, padding not counted; the image starts at prompts[s].
            prompts: int64 [S], lengths of the prompts.

        Returns:
            [S, T], or [3, S, T] for rotations in three axes.
        """
        return places

    def allowed(self, index: Tensor) -> Tensor | None:
        """Which tokens may stand at places `index` (any shape) of the image, bool [..., V]; None for all everywhere."""
        return None

    def grid(self, tokens: Tensor) -> Tensor:
        """The codes int64 [B, rows, columns] that become the picture, of image tokens [B, N]."""
        return tokens.view(-1, self.rows, self.columns)

    def pixels(self, tokens: Tensor) -> Tensor:
        """Pictures float [B, 3, H, W] in [-1, 1] of image tokens [B, N].

        Where something else than this package makes them: the codes as colours, a pixel each, which shows that
        something was drawn.
        """
        codes = F.normalize(self.codebook.float(), dim=-1)[self.grid(tokens)]
        return (codes[..., :3] * codes.shape[-1] ** 0.5).tanh().movedim(-1, 1)

    @property
    def head_parameters(self) -> int:
        """Parameters that `logits` reads."""
        return int(self.vocab * self.text.config.hidden_size)


class Listed(Family):
    """A family whose image tokens are words of the text model's own vocabulary.

    Args:
        model, settings: as of every family.
        text: the decoder.
        codes: the text model's id of each code of the tokenizer, in order.
        end: its id of the token that ends every row of the grid; None where rows have no end. It is the last image
            token, forced where it belongs and forbidden elsewhere.
    """

    def __init__(
        self, model: Any, settings: TransformersConfig, text: nn.Module, codes: Sequence[int], end: int | None = None
    ) -> None:
        super().__init__(model, settings)
        self.text, self.codes, self.has_ends = text, len(codes), end is not None
        self.ids = torch.tensor([*codes, *([] if end is None else [end])], device=model.lm_head.weight.device)
        self.vocab = len(self.ids)
        self.rows_of_head = model.lm_head.weight[self.ids]  # a copy: the whole head has ten times as many

    @property
    def tokens(self) -> int:
        return self.rows * self.stride

    @property
    def stride(self) -> int:
        return self.columns + self.has_ends

    @property
    def forced(self) -> int:
        return self.rows * self.has_ends

    def embed(self, tokens: Tensor) -> Tensor:
        return self.text.get_input_embeddings()(self.ids[tokens])

    def logits(self, features: Tensor) -> Tensor:
        return F.linear(features, self.rows_of_head)

    def allowed(self, index: Tensor) -> Tensor | None:
        if not self.has_ends:
            return None
        at_end = (index % self.stride == self.columns)[..., None]
        return at_end == (torch.arange(self.vocab, device=index.device) == self.codes)

    def grid(self, tokens: Tensor) -> Tensor:
        return tokens.view(len(tokens), self.rows, -1)[..., : self.columns]

    def with_end(self, codebook: Tensor) -> Tensor:
        """A codebook [V, C] with a row of zeros for the end of a row, where there is one."""
        return F.pad(codebook, (0, 0, 0, int(self.has_ends)))
