"""What a decoder may ask of a continuous target: the contract between models of continuous tokens and decoding.

A continuous model gives conditioning vectors; its diffusion head turns each into a token. Which tokens a vector has
seen is the whole difference between decoders, so it is what they ask for: every wanted position names its group, and
sees the decided tokens and the drafts of earlier groups. A masked model answers with one row per group, a causal model
with one pass.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn

from vvsbench.models.diffusion_head import DiffusionHead, wider
from vvsbench.models.stages import Call, Engine, Stage

N = TypeVar("N", bound=nn.Module)

NO_CLASS = -1
"""The class id of the branch that guidance moves away from."""


@dataclass(frozen=True)
class LatentSpec:
    """Sizes and costs of a continuous target.

    Attributes:
        name: as in conf/model.
        tokens: per image, N.
        grid: side of the token grid.
        channels: of a token, C.
        branches: sequences per image, 2 under guidance.
        parameters: of transformer and head.
        flops: multiply-adds x 2 of one full call of the transformer for one image, all branches: the unit of `cost`.
    """

    name: str
    tokens: int
    grid: int
    channels: int
    branches: int
    parameters: int
    flops: float


@dataclass
class Wanted:
    """The tokens asked for, row by row and in the order in which they will be decided; M in all.

    Attributes:
        rows: int64 [M], row of the batch.
        positions: int64 [M], in the token grid.
        groups: int64 [M], from 0: a token sees the decided ones and the drafts of earlier groups of its row.
        sizes: per row of the batch, how many tokens each group has; known on the host.
    """

    rows: Tensor
    positions: Tensor
    groups: Tensor
    sizes: list[list[int]]

    @property
    def row_list(self) -> list[int]:
        """`rows` on the host, without reading the device."""
        return [row for row, sizes in enumerate(self.sizes) for _ in range(sum(sizes))]

    @property
    def group_list(self) -> list[int]:
        """`groups` on the host, without reading the device."""
        return [group for sizes in self.sizes for group, size in enumerate(sizes) for _ in range(size)]


@dataclass
class LatentState:
    """A batch of images being decoded.

    Attributes:
        images: indices of the images in the rows.
        classes: int64 [B].
        path: int64 [B, N], positions in the order in which they are decided.
        tokens: [B, N, C], by position.
        counts: decided tokens of each row, known on the host: those at the first counts[b] positions of its path.
    """

    images: list[int]
    classes: Tensor
    path: Tensor
    tokens: Tensor
    counts: list[int]

    def wanted(self, sizes: list[list[int]]) -> Wanted:
        """The next tokens of every row, `sizes[b]` per group; a row with none takes no part."""
        first = self.counts[0]
        if all(row == sizes[0] for row in sizes) and all(count == first for count in self.counts):
            return self._alike(sizes, first)
        device, totals = self.path.device, [sum(row) for row in sizes]
        rows = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(totals))
        starts = [count for count, total in zip(self.counts, totals, strict=True) for _ in range(total)]
        within = [index for total in totals for index in range(total)]
        groups = [group for row in sizes for group, size in enumerate(row) for _ in range(size)]
        rows = rows.to(device)
        ranks = (torch.tensor(starts, dtype=torch.long) + torch.tensor(within, dtype=torch.long)).to(device)
        return Wanted(rows, self.path[rows, ranks], torch.tensor(groups, dtype=torch.long, device=device), sizes)

    def _alike(self, sizes: list[list[int]], first: int) -> Wanted:
        """The same where all rows are equally far and take equally many tokens: nothing is sent to the device."""
        device, batch, total = self.path.device, len(sizes), sum(sizes[0])
        rows = torch.arange(batch, device=device)[:, None].expand(-1, total).flatten()
        groups = [
            torch.full((batch, size), group, dtype=torch.long, device=device) for group, size in enumerate(sizes[0])
        ]
        together = torch.cat(groups, 1) if groups else rows.view(batch, 0)
        return Wanted(rows, self.path[:, first : first + total].flatten(), together.flatten(), sizes)

    def write(self, wanted: Wanted, tokens: Tensor) -> None:
        """Put tokens [M, C] where they belong; `counts` says how far they count."""
        self.tokens[wanted.rows, wanted.positions] = tokens.to(self.tokens.dtype)

    def admit(self, rows: list[int], classes: Tensor, images: Sequence[int], path: Tensor) -> None:
        """Begin other images in some rows: their classes [m], indices and paths [m, N]."""
        index = torch.tensor(rows, dtype=torch.long, device=self.path.device)
        for row, image in zip(rows, images, strict=True):
            self.images[row], self.counts[row] = image, 0
        self.classes, self.path = self.classes.index_copy(0, index, classes), self.path.index_copy(0, index, path)
        self.tokens = self.tokens.index_fill(0, index, 0)

    def select(self, rows: list[int]) -> None:
        """Keep only these rows."""
        index = torch.tensor(rows, dtype=torch.long, device=self.path.device)
        self.images, self.counts = [self.images[row] for row in rows], [self.counts[row] for row in rows]
        self.classes, self.path, self.tokens = self.classes[index], self.path[index], self.tokens[index]


LatentStateT = TypeVar("LatentStateT", bound=LatentState)


@dataclass(frozen=True)
class LatentGuidance:
    """Classifier-free guidance of the predicted noise: eps_null + scale (eps_cond - eps_null).

    Attributes:
        scale: at 1 the null branch is not run.
        linear: the scale grows from 1 with the share of tokens that an AR step leaves decided (MAR's default).
    """

    scale: float = 1.0
    linear: bool = False

    @property
    def branches(self) -> int:
        """Sequences per image."""
        return 1 if self.scale == 1.0 else 2

    def at(self, share: float) -> float:
        """Scale of an AR step that leaves this share of the tokens decided."""
        return 1.0 + (self.scale - 1.0) * share if self.linear else self.scale


class LatentModel(Protocol[LatentStateT]):
    """A continuous target or draft, whose batches are of type LatentStateT."""

    spec: LatentSpec
    device: torch.device
    guidance: LatentGuidance
    head: DiffusionHead

    @property
    def counted(self) -> nn.Module:
        """What runs the transformer and is handed a `Call` first: a hook on it counts. `head.counted` is apart."""
        ...

    @property
    def causal(self) -> bool:
        """Whether tokens can only be decided one by one, in raster order."""
        ...

    def conditions(self, prompts: Sequence[int] | Sequence[str]) -> Tensor:
        """Class ids int64 [B]."""
        ...

    def start(self, conditions: Tensor, images: Sequence[int], path: Tensor) -> LatentStateT:
        """A batch with no token decided; path is int64 [B, N]."""
        ...

    def predict(self, state: LatentStateT, wanted: Wanted, drafts: Tensor | None = None) -> Tensor:
        """Conditioning vectors [G, M, D] of the wanted tokens.

        Args:
            state: of the batch.
            wanted: what is asked for.
            drafts: [M, C], what the tokens of later groups see at the wanted positions; may be None with one group.
        """
        ...

    def keep(self, state: LatentStateT, counts: Sequence[int]) -> None:
        """Go on from these counts of decided tokens, forward or backward."""
        ...

    def admit(
        self, state: LatentStateT, rows: list[int], conditions: Tensor, images: Sequence[int], path: Tensor
    ) -> None:
        """Begin other images in some rows of the batch; arguments as of `start`, of these images."""
        ...

    def select(self, state: LatentStateT, rows: list[int]) -> None:
        """Keep only these rows of the batch."""
        ...

    def to_images(self, tokens: Tensor) -> Tensor:
        """Decode tokens [B, N, C] into uint8 [B, 3, H, W]."""
        ...


class Painter(Protocol):
    """The decoder of an image tokenizer, as a continuous model needs it."""

    def decode(self, latents: Tensor) -> Tensor:
        """Latents [B, C, h, w] to images [B, 3, H, W] in [-1, 1]."""
        ...

    def to_uint8(self, images: Tensor) -> Tensor:
        """Images in [-1, 1] to uint8."""
        ...


def painted(painter: Painter, tokens: Tensor, scale: float) -> Tensor:
    """Tokens [B, N, C], row by row of the grid, to uint8 images [B, 3, H, W]; scale is what training multiplied by."""
    side = int(tokens.shape[1] ** 0.5)
    latents = tokens.transpose(1, 2).unflatten(2, (side, side)) / scale
    return painter.to_uint8(painter.decode(latents.float()))


class Latent(ABC, Generic[N]):
    """What masked and causal checkpoints have in common as `LatentModel`s.

    Args:
        network: with its weights, on its device, in eval mode; `diffloss.net` is its head.
        painter: turns tokens into pictures; None where only tokens are wanted.
        guidance: of the sampling setting.
        temperature: likewise.
        head_steps: evaluations of the head per token.
        scale: what latents were multiplied by in training (0.2325 for the official tokenizer of MAR).
        name: as in conf/model.
        engine: that runs transformer and head; None to run them operation by operation.

    Attributes:
        counted: see `LatentModel`.
        static: whether the engine records.
    """

    def __init__(
        self,
        network: N,
        painter: Painter | None,
        guidance: LatentGuidance,
        temperature: float = 1.0,
        head_steps: int = 100,
        scale: float = 1.0,
        name: str = "latent",
        engine: Engine | None = None,
    ) -> None:
        self.network, self.painter, self.guidance, self.scale = network, painter, guidance, scale
        self.engine, self.static = engine, engine is not None and engine.static
        self._called = network if engine is None else engine.network(network)
        self.counted = self._stage()
        sizes: Any = network.sizes
        head: Any = network.diffloss
        self.head = DiffusionHead(head.net, head_steps, temperature, engine)
        weight = self.head.network.input_proj.weight
        self.device, self.dtype = weight.device, weight.dtype
        self.spec = LatentSpec(
            name=name,
            tokens=sizes.tokens,
            grid=sizes.grid,
            channels=sizes.channels,
            branches=guidance.branches,
            parameters=sum(parameter.numel() for parameter in network.parameters()),
            flops=self._full_flops(),
        )

    @abstractmethod
    def _full_flops(self) -> float:
        """Multiply-adds x 2 of a call that sees every token of one image, all branches."""

    @abstractmethod
    def _stage(self) -> Stage:
        """What runs the transformer."""

    def conditions(self, prompts: Sequence[int] | Sequence[str]) -> Tensor:
        """Class ids int64 [B]."""
        return torch.tensor(prompts, dtype=torch.long, device=self.device)

    def to_images(self, tokens: Tensor) -> Tensor:
        """See `LatentModel.to_images`.

        Raises:
            ValueError: the model was built without a painter.
        """
        if self.painter is None:
            raise ValueError("this target was built without a tokenizer")
        return painted(self.painter, tokens, self.scale)

    def _blank(self, images: int) -> Tensor:
        """Tokens [B, N, C], none of them decided."""
        return torch.zeros(images, self.spec.tokens, self.spec.channels, device=self.device, dtype=wider(self.dtype))


def head_call(model: LatentModel[Any], state: LatentState, wanted: Wanted) -> Call:
    """What a chain of the head over the wanted tokens is charged to."""
    images = tuple(state.images[row] for row in wanted.row_list)
    return Call(images, 1, model.head.flops * model.guidance.branches, model.head.steps)
