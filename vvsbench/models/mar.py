"""MAR (arXiv 2406.11838): a masked encoder-decoder whose output conditions a diffusion head, under its official names.

The encoder sees the decided tokens only, so rows with different numbers of them are padded under a mask; everything
else is of fixed shape. Only the wanted positions leave the decoder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vvsbench.models.diffusion_head import DiffusionLoss, HeadNetwork
from vvsbench.models.latents import NO_CLASS, Latent, LatentState, Wanted
from vvsbench.models.stages import Call, Stage, room

_EPS = 1e-6


@dataclass(frozen=True)
class MARSizes:
    """Sizes of a MAR network.

    Attributes:
        grid: side of the token grid.
        channels: of a token, C.
        classes: class ids.
        buffer: class positions in front of the tokens.
        encoder_dim, encoder_depth, encoder_heads: of the encoder.
        decoder_dim, decoder_depth, decoder_heads: of the decoder; conditioning vectors are decoder_dim wide.
        head_depth, head_width: of the diffusion head.
    """

    grid: int
    channels: int
    classes: int
    buffer: int
    encoder_dim: int
    encoder_depth: int
    encoder_heads: int
    decoder_dim: int
    decoder_depth: int
    decoder_heads: int
    head_depth: int
    head_width: int

    @property
    def tokens(self) -> int:
        """Tokens per image, N."""
        return self.grid * self.grid

    def flops(self, visible: int) -> float:
        """Multiply-adds x 2 of a call that encodes `visible` tokens, for one sequence."""

        def blocks(depth: int, dim: int, length: int) -> float:
            return depth * (24.0 * dim * dim * length + 4.0 * dim * length * length)

        seen, all_of_them = visible + self.buffer, self.tokens + self.buffer
        between = 2.0 * self.encoder_dim * (self.channels + self.decoder_dim) * seen
        encoder = blocks(self.encoder_depth, self.encoder_dim, seen)
        return encoder + between + blocks(self.decoder_depth, self.decoder_dim, all_of_them)


class Attention(nn.Module):
    """Multi-head self-attention with one fused projection."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        rows, length, dim = x.shape
        q, k, v = self.qkv(x).view(rows, length, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        if torch.is_grad_enabled():  # on a CPU the backward of plain products is several times faster
            scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
            scores = scores if mask is None else scores.masked_fill(~mask, float("-inf"))
            out = scores.softmax(-1) @ v
        else:
            out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.proj(out.transpose(1, 2).flatten(2))


class MLP(nn.Module):
    """Two layers, four times as wide between them."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, 4 * dim)
        self.fc2 = nn.Linear(4 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    """Pre-norm residual block of a vision transformer."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=_EPS)
        self.attn = Attention(dim, heads)
        self.norm2 = nn.LayerNorm(dim, eps=_EPS)
        self.mlp = MLP(dim)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        x = x + self.attn(self.norm1(x), mask)
        return x + self.mlp(self.norm2(x))


class MARNetwork(nn.Module):
    """The network; `diffloss.net` is its head."""

    def __init__(self, sizes: MARSizes) -> None:
        super().__init__()
        self.sizes = sizes
        wide, narrow, length = sizes.encoder_dim, sizes.decoder_dim, sizes.tokens + sizes.buffer
        self.fake_latent = nn.Parameter(torch.randn(1, wide) * 0.02)
        self.class_emb = nn.Embedding(sizes.classes, wide)
        self.mask_token = nn.Parameter(torch.randn(1, 1, narrow) * 0.02)
        self.encoder_pos_embed_learned = nn.Parameter(torch.randn(1, length, wide) * 0.02)
        self.decoder_pos_embed_learned = nn.Parameter(torch.randn(1, length, narrow) * 0.02)
        self.diffusion_pos_embed_learned = nn.Parameter(torch.randn(1, sizes.tokens, narrow) * 0.02)
        self.z_proj = nn.Linear(sizes.channels, wide)
        self.z_proj_ln = nn.LayerNorm(wide, eps=_EPS)
        self.encoder_blocks = nn.ModuleList(Block(wide, sizes.encoder_heads) for _ in range(sizes.encoder_depth))
        self.encoder_norm = nn.LayerNorm(wide, eps=_EPS)
        self.decoder_embed = nn.Linear(wide, narrow)
        self.decoder_blocks = nn.ModuleList(Block(narrow, sizes.decoder_heads) for _ in range(sizes.decoder_depth))
        self.decoder_norm = nn.LayerNorm(narrow, eps=_EPS)
        self.diffloss = DiffusionLoss(HeadNetwork(sizes.channels, narrow, sizes.head_depth, sizes.head_width))

    def encode(self, tokens: Tensor, seen: Tensor, counts: Tensor | None, classes: Tensor) -> Tensor:
        """Encode the visible tokens.

        Args:
            tokens: [R, N, C].
            seen: int64 [R, V], positions of the visible tokens, in any order.
            counts: int64 [R], how many entries of `seen` count; None for all of them.
            classes: int64 [R]; `NO_CLASS` for none.

        Returns:
            [R, buffer + V, D].
        """
        sizes = self.sizes
        places = self.encoder_pos_embed_learned[0]
        known = classes[:, None] >= 0
        label = torch.where(known, self.class_emb(classes.clamp_min(0)), self.fake_latent)
        visible = tokens.gather(1, seen[..., None].expand(-1, -1, tokens.shape[-1]))
        x = self.z_proj(visible.to(places.dtype)) + places[seen + sizes.buffer]
        x = self.z_proj_ln(torch.cat([label[:, None] + places[: sizes.buffer], x], 1))
        mask = None
        if counts is not None:
            columns = torch.arange(seen.shape[1] + sizes.buffer, device=x.device)
            mask = (columns < counts[:, None] + sizes.buffer)[:, None, None]
        for block in self.encoder_blocks:
            x = block(x, mask)
        return self.encoder_norm(x)

    def decode(self, encoded: Tensor, seen: Tensor, counts: Tensor | None) -> Tensor:
        """From the visible tokens' features [R, buffer + V, D] to conditioning vectors [R, N, D] of all positions."""
        sizes = self.sizes
        x = self.decoder_embed(encoded)
        places = seen if counts is None else _parked(seen, counts, sizes.tokens)
        canvas = self.mask_token.to(x.dtype).expand(len(x), sizes.tokens + 1, -1)
        canvas = canvas.scatter(1, places[..., None].expand(-1, -1, x.shape[-1]), x[:, sizes.buffer :])
        x = torch.cat([x[:, : sizes.buffer], canvas[:, : sizes.tokens]], 1) + self.decoder_pos_embed_learned
        for block in self.decoder_blocks:
            x = block(x)
        return self.decoder_norm(x)[:, sizes.buffer :] + self.diffusion_pos_embed_learned

    def forward(self, tokens: Tensor, seen: Tensor, counts: Tensor | None, classes: Tensor) -> Tensor:
        """Conditioning vectors [R, N, D] of every position; arguments as of `encode`."""
        return self.decode(self.encode(tokens, seen, counts, classes), seen, counts)


def _parked(seen: Tensor, counts: Tensor, spare: int) -> Tensor:
    """Positions whose entries do not count are sent to a spare one."""
    columns = torch.arange(seen.shape[1], device=seen.device)
    return torch.where(columns < counts[:, None], seen, spare)


class MAR(Latent[MARNetwork]):
    """A MAR checkpoint as a `LatentModel`; a call of it has a row for every group of wanted tokens.

    Where an engine records calls, the columns of the visible tokens of ragged rows are filled up as rows are.
    """

    causal = False

    def _full_flops(self) -> float:
        return self.network.sizes.flops(self.network.sizes.tokens) * self.guidance.branches

    def _stage(self) -> Stage:
        return Stage(self._vectors, rows=(0, 0, 0, 0), out=1, engine=self.engine)

    def start(self, conditions: Tensor, images: Sequence[int], path: Tensor) -> LatentState:
        """See `LatentModel.start`."""
        return LatentState(list(images), conditions, path, self._blank(len(images)), [0] * len(images))

    def predict(self, state: LatentState, wanted: Wanted, drafts: Tensor | None = None) -> Tensor:
        """See `LatentModel.predict`: one row per group, each with a mask of its own."""
        pairs = [(row, group) for row, sizes in enumerate(wanted.sizes) for group in range(len(sizes))]
        counts = [state.counts[row] + sum(wanted.sizes[row][:group]) for row, group in pairs]
        images = tuple(state.images[row] for row, _ in pairs)
        if all(len(sizes) == 1 for sizes in wanted.sizes):  # rows are as they are, and see no draft
            z = self._run(state.tokens, state.path, counts, state.classes, images)
            return z[:, wanted.rows, wanted.positions]
        numbers = {pair: number for number, pair in enumerate(pairs)}
        rows = torch.tensor([row for row, _ in pairs], device=self.device)
        tokens = state.tokens
        if drafts is not None:
            tokens = tokens.clone()
            tokens[wanted.rows, wanted.positions] = drafts.to(tokens.dtype)
        z = self._run(tokens[rows], state.path[rows], counts, state.classes[rows], images)
        sources = zip(wanted.row_list, wanted.group_list, strict=True)
        source = torch.tensor([numbers[pair] for pair in sources], dtype=torch.long, device=self.device)
        return z[:, source, wanted.positions]

    def _run(self, tokens: Tensor, path: Tensor, counts: list[int], classes: Tensor, images: tuple[int, ...]) -> Tensor:
        """Conditioning vectors [G, R, N, D] of rows that see the first counts[r] positions of their paths."""
        sizes, branches, most = self.network.sizes, self.guidance.branches, max(counts)
        call = Call(images, most + sizes.buffer + sizes.tokens + sizes.buffer, branches * sizes.flops(most))
        if min(counts) == most:
            return self.counted(call, tokens, path[:, :most], None, classes)[0]
        width = min(room(most), sizes.tokens) if self.static else most
        held = torch.tensor(counts, device=self.device)
        return self.counted(call, tokens, path[:, :width], held, classes)[0]

    def _vectors(self, tokens: Tensor, seen: Tensor, counts: Tensor | None, classes: Tensor) -> tuple[Tensor]:
        """The same by position tensors: what is recorded."""
        branches = self.guidance.branches
        if branches == 2:
            tokens, seen = tokens.repeat(2, 1, 1), seen.repeat(2, 1)
            classes = torch.cat([classes, torch.full_like(classes, NO_CLASS)])
            counts = None if counts is None else counts.repeat(2)
        return (self._called(tokens, seen, counts, classes).unflatten(0, (branches, -1)),)

    def keep(self, state: LatentState, counts: Sequence[int]) -> None:
        """See `LatentModel.keep`: there is no cache, so counting is all."""
        state.counts = list(counts)

    def admit(
        self, state: LatentState, rows: list[int], conditions: Tensor, images: Sequence[int], path: Tensor
    ) -> None:
        """See `LatentModel.admit`."""
        state.admit(rows, conditions, images, path)

    def select(self, state: LatentState, rows: list[int]) -> None:
        """See `LatentModel.select`."""
        state.select(rows)
