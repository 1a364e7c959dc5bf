"""The two key layouts in which LlamaGen's transformer is published, and the way from one to the other.

LlamaGen's own files fuse q, k and v; the conversions that LANTERN and VVS use follow the LlamaForCausalLM names. No row
is permuted between them: both rotate interleaved pairs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from vvsbench.errors import CheckpointError

_LEGACY = {"freqs_cis"}
_FIXED = {"model.embed_tokens.weight": "tok_embeddings.weight", "model.norm.weight": "norm.weight"}
_FIXED["lm_head.weight"] = "output.weight"
_IN_LAYER = {
    "self_attn.o_proj": "attention.wo",
    "mlp.gate_proj": "feed_forward.w1",
    "mlp.up_proj": "feed_forward.w3",
    "mlp.down_proj": "feed_forward.w2",
    "input_layernorm": "attention_norm",
    "post_attention_layernorm": "ffn_norm",
}
_LAYER = re.compile(r"model\.layers\.(\d+)\.(.+)\.weight")


def to_official(state: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """A state dict of either layout under LlamaGen's own names.

    Args:
        state: tensors as read from the file.
        source: the file, for messages.

    Raises:
        CheckpointError: a q, k or v projection is missing in the Hugging Face layout.
    """
    if "lm_head.weight" not in state and "model.embed_tokens.weight" not in state:
        return {key: value for key, value in state.items() if key not in _LEGACY}
    official: dict[str, Tensor] = {}
    projections: dict[str, dict[str, Tensor]] = {}
    for key, value in state.items():
        layer = _LAYER.fullmatch(key)
        if layer and layer[2] in _IN_LAYER:
            official[f"layers.{layer[1]}.{_IN_LAYER[layer[2]]}.weight"] = value
        elif layer and re.fullmatch(r"self_attn\.[qkv]_proj", layer[2]):
            projections.setdefault(layer[1], {})[layer[2][10]] = value
        else:
            official[_FIXED.get(key, key.removeprefix("model."))] = value
    for index, parts in projections.items():
        absent = [name for name in "qkv" if name not in parts]
        if absent:
            names = ", ".join(f"model.layers.{index}.self_attn.{name}_proj.weight" for name in absent)
            raise CheckpointError(f"{source} does not fit this model: missing {names}.")
        official[f"layers.{index}.attention.wqkv.weight"] = torch.cat([parts[name] for name in "qkv"])
    return official
