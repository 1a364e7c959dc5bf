"""The eager loop that published code runs, as the benches' point of comparison.

What a competent researcher writes for these models, and no worse: one fused projection, a preallocated cache, the
fused attention kernel, no host synchronisation. What makes it slower than `decoder=ar` is what such loops have in
common: operations launched one by one, attention over the full maximum length under a mask, guidance by a
doubled batch, a sampler of several passes. It runs over the very weights of the model that it is compared with, and
has its logits.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vvsbench.models.llamagen import LlamaGen, split_caption
from vvsbench.models.transformer import RMSNorm, TransformerBlock, rope_table
from vvsbench.sampling import Sampling


class Reference:
    """Vanilla autoregressive decoding of one batch at a time.

    Args:
        target: whose weights, guidance and embedders it uses.
        sampling: how guided logits become a distribution.
    """

    def __init__(self, target: LlamaGen, sampling: Sampling) -> None:
        self.network, self.guidance, self.sampling = target.transformer, target.guidance, sampling
        self.config, self.device, self.dtype = target.transformer.config, target.device, target.dtype
        self.length = self.config.prefix + self.config.tokens
        self.turns = rope_table(self.config).float()[: self.length].to(self.device)

    @torch.inference_mode()
    def start(self, conditions: Tensor) -> Tensor:
        """Make the caches and read the prefix.

        Args:
            conditions: of `LlamaGen.conditions`.

        Returns:
            Guided logits [B, V] of the first image token.
        """
        config, embedder = self.config, self.network.cls_embedding
        captions, text = (conditions, None) if config.condition == "label" else split_caption(conditions)
        if self.guidance.branches == 2:
            captions = torch.cat([captions, embedder.null(captions)])
            text = None if text is None else torch.cat([text, text])
        shape = (len(captions), config.heads, self.length, config.dim // config.heads)
        self.keys, self.values = (
            [torch.zeros(shape, device=self.device, dtype=self.dtype) for _ in range(config.layers)] for _ in range(2)
        )
        self.visible = torch.ones(self.length, self.length, dtype=torch.bool, device=self.device).tril()[None, None]
        if text is not None:
            columns = F.pad(text, (0, config.tokens), value=True)[:, None, None]
            itself = torch.eye(self.length, dtype=torch.bool, device=self.device)
            self.visible = self.visible & columns | itself
        hidden = self._layers(embedder(captions), torch.arange(config.prefix, device=self.device))
        return self._guided(hidden[:, -1], guided=True)

    @torch.inference_mode()
    def step(self, tokens: Tensor, position: Tensor, *, guided: bool = True) -> Tensor:
        """Guided logits [B, V] after tokens [B] at a sequence position [1]."""
        hidden = self.network.tok_embeddings(tokens)[:, None]
        if self.guidance.branches == 2:
            hidden = torch.cat([hidden, hidden])
        return self._guided(self._layers(hidden, position)[:, -1], guided=guided)

    @torch.inference_mode()
    def decode(self, logits: Tensor, first: int, count: int) -> Tensor:
        """Draw `count` tokens [B, count] from image position `first` on, from the logits of its token."""
        drawn = []
        position = torch.tensor([self.config.prefix + first], device=self.device)
        for index in range(first, first + count):
            token = torch.multinomial(self.sampling.probabilities(logits), 1)[:, 0]
            drawn.append(token)
            if len(drawn) < count:
                guided = self.guidance.interval < 0 or index <= self.guidance.interval
                logits = self.step(token, position, guided=guided)
                position = position + 1
        return torch.stack(drawn, 1)

    def _guided(self, hidden: Tensor, *, guided: bool) -> Tensor:
        logits = self.network.output(hidden).float()
        if self.guidance.branches == 1:
            return logits
        conditional, null = logits.chunk(2)
        return null + (conditional - null) * self.guidance.scale if guided else conditional

    def _layers(self, x: Tensor, positions: Tensor) -> Tensor:
        """Features [R, T, D] of input [R, T, D] at sequence positions [T]."""
        mask, turns = self.visible[:, :, positions], self.turns[positions]
        for number, layer in enumerate(self.network.layers):
            assert isinstance(layer, TransformerBlock)
            x = x + self._attention(layer, number, _normed(layer.attention_norm, x), positions, mask, turns)
            feed, normed = layer.feed_forward, _normed(layer.ffn_norm, x)
            x = x + feed.w2(F.silu(feed.w1(normed)) * feed.w3(normed))
        return _normed(self.network.norm, x)

    def _attention(
        self, layer: TransformerBlock, number: int, x: Tensor, positions: Tensor, mask: Tensor, turns: Tensor
    ) -> Tensor:
        rows, length, dim = x.shape
        heads = (rows, length, self.config.heads, dim // self.config.heads)
        q, k, v = layer.attention.wqkv(x).split(dim, -1)
        q, k = _turned(q.view(heads), turns).transpose(1, 2), _turned(k.view(heads), turns).transpose(1, 2)
        keys, values = self.keys[number], self.values[number]
        keys[:, :, positions] = k
        values[:, :, positions] = v.view(heads).transpose(1, 2)
        out = F.scaled_dot_product_attention(q, keys, values, attn_mask=mask)
        return layer.attention.wo(out.transpose(1, 2).reshape(rows, length, dim))


def _normed(norm: nn.Module, x: Tensor) -> Tensor:
    """Root-mean-square normalisation in float32, as published."""
    assert isinstance(norm, RMSNorm)
    wide = x.float()
    return (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + norm.eps)).type_as(x) * norm.weight


def _turned(x: Tensor, turns: Tensor) -> Tensor:
    """Rotate the interleaved pairs of x [R, T, H, hd] by turns [T, hd / 2, 2], in real numbers."""
    pairs, turns = x.float().unflatten(-1, (-1, 2)), turns[:, None]
    real = pairs[..., 0] * turns[..., 0] - pairs[..., 1] * turns[..., 1]
    imaginary = pairs[..., 1] * turns[..., 0] + pairs[..., 0] * turns[..., 1]
    return torch.stack([real, imaginary], -1).flatten(-2).type_as(x)
