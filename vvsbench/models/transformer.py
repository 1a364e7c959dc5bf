"""LlamaGen's transformer (arXiv 2406.06525) under its official tensor names: next-token prediction over a VQ grid.

Two habits of the released weights are easy to miss and are kept here. The rotary rows of all conditioning positions are
(cos, sin) = (0, 0), not the identity: queries and keys vanish there, and every image token scores the whole visible
prefix with 0. And a padded caption position still sees itself, so that no row of attention is empty.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vvsbench.models.kv_cache import KVCache

ROPE_BASE = 10000.0


@dataclass(frozen=True)
class TransformerConfig:
    """Sizes of a LlamaGen transformer.

    Attributes:
        condition: "label" (one prefix position) or "caption" (`prefix` positions of text features).
        grid: side of the token grid; the checkpoint holds no trace of it.
        ffn: width of the gated MLP; 0 for LlamaGen's rule, two thirds of 4 dim rounded up to a multiple of 256.
    """

    condition: str
    dim: int
    layers: int
    heads: int
    vocab: int
    grid: int
    classes: int = 1000
    prefix: int = 1
    caption_dim: int = 2048
    ffn: int = 0
    norm_eps: float = 1e-5

    @property
    def ffn_width(self) -> int:
        """Width of the gated MLP."""
        return self.ffn or -(-int(2 * 4 * self.dim / 3) // 256) * 256

    @property
    def head_dim(self) -> int:
        """Width of a head."""
        return self.dim // self.heads

    @property
    def tokens(self) -> int:
        """Image tokens per image."""
        return self.grid * self.grid


def rope_table(config: TransformerConfig) -> Tensor:
    """Rotations of all positions as cosines and sines, float64 [P + N + 1, head_dim / 2, 2].

    The first half of the pairs turns with the row, the second with the column. Conditioning positions, and the one last
    row that stands for every position past the image's end (reached by drafted tokens only), are 0.
    """
    quarter = config.dim // config.heads // 4
    frequencies = 1.0 / ROPE_BASE ** (torch.arange(quarter, dtype=torch.float64) / quarter)
    angles = torch.outer(torch.arange(config.grid, dtype=torch.float64), frequencies)
    rows = angles[:, None, :].expand(config.grid, config.grid, quarter)
    columns = angles[None, :, :].expand(config.grid, config.grid, quarter)
    turns = torch.polar(torch.ones(()).double(), torch.cat([rows, columns], -1).flatten(0, 1))
    nothing = turns.new_zeros(1, 2 * quarter)
    return torch.view_as_real(torch.cat([nothing.expand(config.prefix, -1), turns, nothing]))


def rotate(x: Tensor, turns: Tensor) -> Tensor:
    """Rotate the interleaved pairs of x [..., T, H, hd] by turns [..., T, hd / 2, 2] (cosine, sine)."""
    wide = x if x.dtype == torch.float64 else x.float()
    if torch.compiler.is_compiling():  # a compiler fuses real arithmetic, and calls a kernel for complex
        (even, odd), (cosine, sine) = wide.unflatten(-1, (-1, 2)).unbind(-1), turns.unsqueeze(-3).unbind(-1)
        return torch.stack([even * cosine - odd * sine, odd * cosine + even * sine], -1).flatten(-2).to(x.dtype)
    pairs = torch.view_as_complex(wide.unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * torch.view_as_complex(turns).unsqueeze(-2)).flatten(-2).to(x.dtype)


class RMSNorm(nn.Module):
    """Root-mean-square normalisation, computed in float32 and cast back before the weight is applied."""

    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        sizes = self.weight.shape
        if x.dtype.itemsize < 4:
            return F.rms_norm(x.float(), sizes, None, self.eps).type_as(x) * self.weight
        return F.rms_norm(x, sizes, self.weight, self.eps)


class FeedForward(nn.Module):
    """SwiGLU: w2(silu(w1 x) * w3 x).

    Attributes:
        packed: w1 over w3 where they lie one behind the other, else None; see `pack`.
    """

    packed: Tensor | None = None

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.w1 = nn.Linear(dim, width, bias=False)
        self.w3 = nn.Linear(dim, width, bias=False)
        self.w2 = nn.Linear(width, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = (self.w1(x), self.w3(x)) if self.packed is None else F.linear(x, self.packed).chunk(2, -1)
        return self.w2(F.silu(gate) * up)

    def pack(self) -> Tensor:
        """Lay the weights of w1 and w3 one behind the other, so that one product reads both; returns them so."""
        first, second = self.w1.weight.detach(), self.w3.weight.detach()
        together = first.untyped_storage().data_ptr() == second.untyped_storage().data_ptr()
        if together and second.storage_offset() == first.storage_offset() + first.numel():  # packed before
            return first.as_strided((2 * first.shape[0], first.shape[1]), first.stride())
        packed = torch.cat([first, second])
        self.w1.weight.data, self.w3.weight.data = packed.chunk(2)
        return packed


@dataclass
class Step:
    """Everything a forward through the layers needs beside its input.

    Attributes:
        turns: [R*G, T, hd/2, 2] or [1, T, hd/2, 2], see `rope_table`.
        places: where keys and values go, see `KVCache.places`; None where a slice does.
        width: slots that attention reads.
        mask: what is added to scores, broadcastable to [R*G, 1, T, width]; None where everything read is visible.
        sequences: int64 [R*G], the cache's sequences that take part; None for all of them.
        images: indices of the images that take part; forwards are counted by them.
        prefill: whether this is the forward over the conditioning prefix.
    """

    cache: KVCache
    turns: Tensor
    places: Tensor | None
    width: int
    mask: Tensor | None
    sequences: Tensor | None
    images: list[int]
    prefill: bool = False
    start: int = 0
    """Slots between the committed ones and this block."""


class Attention(nn.Module):
    """Multi-head attention with one fused projection, over a cache or over its own input."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.wqkv = nn.Linear(dim, 3 * dim, bias=False)
        self.wo = nn.Linear(dim, dim, bias=False)

    def project(self, x: Tensor, turns: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        batch, length, dim = x.shape
        qkv = self.wqkv(x).view(batch, length, 3, self.heads, dim // self.heads)
        turned = rotate(qkv[:, :, :2].flatten(2, 3), turns).transpose(1, 2)
        return turned[:, : self.heads], turned[:, self.heads :], qkv[:, :, 2].transpose(1, 2)

    def entries(self, x: Tensor, turns: Tensor) -> tuple[Tensor, Tensor]:
        """Queries [R*G, H, T, hd] of the input [R*G, T, D], and its keys and values as a cache has them."""
        batch, length, dim = x.shape
        qkv = self.wqkv(x).view(batch, length, 3, self.heads, dim // self.heads)
        both = qkv[:, :, :2].flatten(2, 3)  # a view: what is rotated in place need not be put together again
        if torch.compiler.is_compiling() or qkv.dtype.itemsize < 4:
            both.copy_(rotate(both, turns))
        else:
            pairs = torch.view_as_complex(both.unflatten(-1, (-1, 2)))
            pairs.mul_(torch.view_as_complex(turns).unsqueeze(-2))
        queries, *kept = qkv.permute(2, 0, 3, 1, 4).split([1, 2])
        return queries[0], kept[0]

    def attend(self, q: Tensor, layer: int, step: Step) -> Tensor:
        """What the queries [R*G, H, T, hd] of a block get from the cache, which its keys are in, [R*G, T, D]."""
        keys, values = step.cache.read(layer, step.width, step.sequences)
        out = F.scaled_dot_product_attention(q, keys, values, attn_mask=step.mask)
        return out.transpose(1, 2).flatten(2)

    def uncached(self, x: Tensor, turns: Tensor, mask: Tensor) -> Tensor:
        """Attention of a whole sequence over itself.

        Plain matrix products: on a CPU their backward is several times faster than that of the fused kernel.
        """
        q, k, v = self.project(x, turns)
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
        out = scores.masked_fill(~mask, float("-inf")).softmax(-1) @ v
        return self.wo(out.transpose(1, 2).flatten(2))


class TransformerBlock(nn.Module):
    """Pre-norm residual block; all of it but attention over the cache can be compiled as it is."""

    fusible = ("before", "stored", "after")

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.attention = Attention(config.dim, config.heads)
        self.feed_forward = FeedForward(config.dim, config.ffn_width)
        self.attention_norm: nn.Module = RMSNorm(config.dim, config.norm_eps)
        self.ffn_norm = RMSNorm(config.dim, config.norm_eps)

    def forward(self, x: Tensor, layer: int, step: Step) -> Tensor:
        if step.places is None:
            q, entries = self.before(x, step.turns)
            step.cache.write(layer, entries, step.start)
        else:
            q = self.stored(x, step.turns, step.places, step.cache.table(layer))
        return self.after(x, self.attention.attend(q, layer, step))

    def before(self, x: Tensor, turns: Tensor) -> tuple[Tensor, Tensor]:
        """Queries [R*G, H, T, hd] of the input [R*G, T, D], and its keys and values [2, R*G, H, T, hd]."""
        return self.attention.entries(self.attention_norm(x), turns)

    def stored(self, x: Tensor, turns: Tensor, places: Tensor, table: Tensor) -> Tensor:
        """Queries of the input; its keys and values go to these places of a layer's table (see `KVCache`)."""
        q, entries = self.before(x, turns)
        table.index_copy_(0, places, entries.reshape(-1, entries.shape[-1]))
        return q

    def after(self, x: Tensor, seen: Tensor) -> Tensor:
        """The output [R*G, T, D], given the input and what attention has seen."""
        x = x + self.attention.wo(seen)
        return x + self.feed_forward(self.ffn_norm(x))

    def uncached(self, x: Tensor, turns: Tensor, mask: Tensor) -> Tensor:
        """The block over a whole sequence, without a cache."""
        x = x + self.attention.uncached(self.attention_norm(x), turns, mask)
        return x + self.feed_forward(self.ffn_norm(x))


class LabelEmbedder(nn.Module):
    """Class ids to one prefix position; the last row of the table is the null class of guidance."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.embedding_table = nn.Embedding(config.classes + 1, config.dim)

    def forward(self, labels: Tensor) -> Tensor:
        return self.embedding_table(labels).unsqueeze(1)

    def null(self, labels: Tensor) -> Tensor:
        """The null condition [B] for a batch of labels [B]."""
        return torch.full_like(labels, self.embedding_table.num_embeddings - 1)


class CaptionMLP(nn.Module):
    """Text features to the transformer's width."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.caption_dim, config.dim, bias=False)
        self.fc2 = nn.Linear(config.dim, config.dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x), approximate="tanh"))


class CaptionEmbedder(nn.Module):
    """Text features [B, P, C] to P prefix positions; a learned caption stands for no caption."""

    uncond_embedding: Tensor

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.cap_proj = CaptionMLP(config)
        self.register_buffer(
            "uncond_embedding", torch.randn(config.prefix, config.caption_dim) / config.caption_dim**0.5
        )

    def forward(self, captions: Tensor) -> Tensor:
        return self.cap_proj(captions)

    def null(self, captions: Tensor) -> Tensor:
        """The null condition [B, P, C] for a batch of captions [B, P, C]."""
        return self.uncond_embedding.to(captions.dtype).expand_as(captions)


class Transformer(nn.Module):
    """The network under its official tensor names."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        # not a buffer: a module's .to(bfloat16) would round the angles
        self._turns: dict[tuple[torch.device, bool], Tensor] = {}
        self.tok_embeddings = nn.Embedding(config.vocab, config.dim)
        self.cls_embedding = LabelEmbedder(config) if config.condition == "label" else CaptionEmbedder(config)
        self.layers = nn.ModuleList(TransformerBlock(config) for _ in range(config.layers))
        self.norm = RMSNorm(config.dim, config.norm_eps)
        self.output = nn.Linear(config.dim, config.vocab, bias=False)

    def turns_at(self, positions: Tensor) -> Tensor:
        """Rotations [..., hd/2, 2] of sequence positions (any shape); past the end they are 0."""
        double = self.output.weight.dtype == torch.float64
        key = (positions.device, double)
        if key not in self._turns:
            table = rope_table(self.config).to(positions.device)
            self._turns[key] = table if double else table.float()
        return self._turns[key][positions.clamp_max(self.config.prefix + self.config.tokens)]

    def forward(self, x: Tensor, step: Step) -> Tensor:
        """Run embedded input [R*G, T, D] through the layers over the cache; returns features [R*G, T, D]."""
        for index, block in enumerate(self.layers):
            x = block(x, index, step)
        return self.norm(x)

    def logits(self, features: Tensor) -> Tensor:
        """Logits of features, in float32 at least."""
        out = self.output(features)
        return out if out.dtype == torch.float64 else out.float()

    def features(
        self, conditions: Tensor, tokens: Tensor, mask: Tensor | None = None, spread_pads: bool = False
    ) -> Tensor:
        """One uncached causal pass over [condition, tokens[:, :-1]], as in training.

        Args:
            conditions: class ids [B] (the null class is `classes`) or text features [B, P, C].
            tokens: int64 [B, N].
            mask: bool [B, P], the caption positions that hold text.
            spread_pads: see `caption_mask`.

        Returns:
            Features [B, P + N - 1, D] after the final norm; position P - 1 + i predicts token i.
        """
        x = torch.cat([self.cls_embedding(conditions), self.tok_embeddings(tokens[:, :-1])], 1)
        length = x.shape[1]
        visible = torch.ones(length, length, dtype=torch.bool, device=x.device).tril()[None, None]
        if mask is not None:
            visible = caption_mask(visible, mask, spread_pads)
        turns = self.turns_at(torch.arange(length, device=x.device))
        for block in self.layers:
            x = cast(TransformerBlock, block).uncached(x, turns, visible)
        return self.norm(x)

    def train_logits(self, conditions: Tensor, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Logits [B, N, V], each of the position that predicts token i, of the pass of `features`."""
        return self.logits(self.features(conditions, tokens, mask)[:, self.config.prefix - 1 :])


def caption_mask(visible: Tensor, mask: Tensor, spread_pads: bool = False) -> Tensor:
    """Hide padded caption columns from everything but the padding; every position sees itself, so no row is empty.

    Args:
        visible: bool [1 or B, 1, T, S] with S >= T; query t stands at column t.
        mask: bool [B, P].
        spread_pads: a padded position sees the padding up to itself and every caption column, not only itself. That is
            what an additive mask does in which the lowest number stands for "future" as well as for "padding": it takes
            part in no score, since the rotary rows of the prefix are 0, and it changes no other position.
    """
    out = visible.expand(mask.shape[0], -1, -1, -1).clone()
    text, prefix = mask.bool(), mask.shape[1]
    out[..., :prefix] &= text[:, None, None, :]
    diagonal = torch.arange(min(prefix, out.shape[2]), device=out.device)
    out[:, :, diagonal, diagonal] = True
    if spread_pads:
        earlier = (~text)[:, None] & torch.ones(prefix, prefix, dtype=torch.bool, device=out.device).tril()
        out[:, 0, :prefix, :prefix] |= ~text[:, :, None] & (text[:, None] | earlier)
    return out
