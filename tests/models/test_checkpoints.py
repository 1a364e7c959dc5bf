"""Weights files are found, read safely in either layout, and refused with a message that names what is wrong."""

from __future__ import annotations

import argparse
import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from vvsbench.errors import CheckpointError
from vvsbench.models import checkpoints
from vvsbench.models.llamagen_layouts import to_official
from vvsbench.models.transformer import Transformer, TransformerConfig

SIZES = TransformerConfig("label", dim=32, layers=2, heads=2, vocab=16, grid=2, classes=4)


class Trap:
    """A pickle that runs code when opened."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("echo caught > caught",)


def huggingface(official: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The LANTERN / VVS names of a LlamaGen state dict, written out from the published table."""
    table = {
        "attention.wo": "self_attn.o_proj",
        "feed_forward.w1": "mlp.gate_proj",
        "feed_forward.w3": "mlp.up_proj",
        "feed_forward.w2": "mlp.down_proj",
        "attention_norm": "input_layernorm",
        "ffn_norm": "post_attention_layernorm",
    }
    fixed = {"tok_embeddings": "model.embed_tokens", "norm": "model.norm", "output": "lm_head"}
    state = {}
    for key, value in official.items():
        if key.startswith("layers."):
            _, layer, name = key.removesuffix(".weight").split(".", 2)
            if name == "attention.wqkv":
                for letter, part in zip("qkv", value.chunk(3), strict=True):
                    state[f"model.layers.{layer}.self_attn.{letter}_proj.weight"] = part.clone()
            else:
                state[f"model.layers.{layer}.{table[name]}.weight"] = value
        elif key.startswith("cls_embedding"):
            state[f"model.{key}"] = value
        else:
            state[f"{fixed[key.removesuffix('.weight')]}.weight"] = value
    return state


def test_both_layouts_give_the_same_network() -> None:
    torch.manual_seed(0)
    official = Transformer(SIZES).state_dict()
    back = to_official(huggingface(official), "file")
    assert back.keys() == official.keys()
    assert all(torch.equal(back[key], official[key]) for key in official)


def test_official_key_counts() -> None:
    assert len(Transformer(SIZES).state_dict()) == 7 * SIZES.layers + 4
    with torch.device("meta"):
        caption = TransformerConfig("caption", 32, 3, 2, 16, 2, prefix=5, caption_dim=8)
        assert len(Transformer(caption).state_dict()) == 7 * 3 + 6


@pytest.mark.parametrize(
    ("size", "millions"),
    [((768, 12, 12), 110.9), ((1024, 24, 16), 342.9), ((1280, 36, 20), 774.7), ((1536, 48, 24), 1411.0)],
)
def test_released_sizes_have_their_published_parameter_counts(size: tuple[int, int, int], millions: float) -> None:
    dim, layers, heads = size
    with torch.device("meta"):
        network = Transformer(TransformerConfig("label", dim, layers, heads, 16384, 24))
    assert round(sum(p.numel() for p in network.parameters()) / 1e6, 1) == millions


@pytest.mark.parametrize("entry", [None, "model", "module", "state_dict"])
def test_pickles_are_read_whatever_entry_holds_the_weights(tmp_path: Path, entry: str | None) -> None:
    state = Transformer(SIZES).state_dict()
    torch.save(state if entry is None else {entry: state, "steps": 3}, tmp_path / "c.pt")
    assert checkpoints.read(tmp_path / "c.pt").keys() == state.keys()


def trained(tmp_path: Path, **rest: object) -> Path:
    """A file as MAR's trainer writes it: the weights, their moving average, and what else is kept."""
    torch.save({"model": {"w": torch.zeros(2)}, "model_ema": {"w": torch.ones(2)}, **rest}, tmp_path / "last.pth")
    return tmp_path / "last.pth"


def test_the_averaged_weights_are_read_where_they_are_asked_for(tmp_path: Path) -> None:
    path = trained(tmp_path, epoch=3, optimizer={"state": {}})
    assert torch.equal(checkpoints.read(path, checkpoints.AVERAGED)["w"], torch.ones(2))
    assert torch.equal(checkpoints.read(path)["w"], torch.zeros(2))


def test_a_file_with_one_copy_is_taken_for_either(tmp_path: Path) -> None:
    torch.save({"model": {"w": torch.ones(2)}}, tmp_path / "one.ckpt")
    save_file({"w": torch.ones(2)}, tmp_path / "one.safetensors")
    for name in ("one.ckpt", "one.safetensors"):
        for prefer in ((), checkpoints.AVERAGED):
            assert torch.equal(checkpoints.read(tmp_path / name, prefer)["w"], torch.ones(2))


def test_the_trainers_arguments_do_no_harm(tmp_path: Path) -> None:
    path = trained(tmp_path, args=argparse.Namespace(model="mar_base", lr=1e-4, resume=None))
    assert torch.equal(checkpoints.read(path, checkpoints.AVERAGED)["w"], torch.ones(2))
    with pytest.raises(CheckpointError, match="refused"):
        checkpoints.read(trained(tmp_path, args=argparse.Namespace(hook=Trap())))


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.pt").write_bytes(pickle.dumps(Trap()))
    torch.save({"model": Trap()}, tmp_path / "d.pt")
    for name in ("c.pt", "d.pt"):
        with pytest.raises(CheckpointError, match="refused"):
            checkpoints.read(tmp_path / name)
    assert not (tmp_path / "caught").exists()


def test_differences_are_named(tmp_path: Path) -> None:
    network = Transformer(SIZES)
    state = network.state_dict()
    state["extra.weight"] = state.pop("norm.weight")
    state["output.weight"] = torch.zeros(99, 32)
    with pytest.raises(CheckpointError) as caught:
        checkpoints.load_strict(network, state, "some.pt")
    message = str(caught.value)
    for part in ("some.pt", "missing: norm.weight", "unexpected: extra.weight", "(99, 32)", "(16, 32)"):
        assert part in message


def test_no_kind_of_difference_crowds_out_another() -> None:
    network = Transformer(SIZES)
    state = {f"other.{number}": torch.zeros(1) for number in range(20)} | {"output.weight": torch.zeros(99, 32)}
    with pytest.raises(CheckpointError) as caught:
        checkpoints.load_strict(network, state, "some.pt")
    message = str(caught.value)
    for part in ("(99, 32)", "missing: cls_embedding", "unexpected: other.0", "... and 14 more unexpected"):
        assert part in message


def test_a_missing_projection_is_named() -> None:
    state = huggingface(Transformer(SIZES).state_dict())
    del state["model.layers.1.self_attn.k_proj.weight"]
    with pytest.raises(CheckpointError, match=r"layers\.1\.self_attn\.k_proj"):
        to_official(state, "file")


@pytest.mark.parametrize("damage", ["truncated", "empty", "garbage"])
def test_damaged_files_are_named(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "c.safetensors"
    save_file({"a": torch.zeros(100)}, path)
    content = path.read_bytes()
    path.write_bytes({"truncated": content[: len(content) // 2], "empty": b"", "garbage": b"\xff" * 64}[damage])
    with pytest.raises(CheckpointError, match=r"c\.safetensors"):
        checkpoints.read(path)


@pytest.mark.parametrize("content", [b"junk\n", b"", b"\x80\x02}q\x00", b"0" * 50])
def test_what_only_looks_like_a_pickle_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "c.pt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"c\.pt"):
        checkpoints.read(path)


def test_missing_files_say_where_to_put_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(checkpoints.WEIGHTS_VARIABLE, str(tmp_path))
    with pytest.raises(CheckpointError) as caught:
        checkpoints.locate("llamagen/c2i_B_256.pt")
    assert str(tmp_path / "llamagen" / "c2i_B_256.pt") in str(caught.value)
    assert checkpoints.WEIGHTS_VARIABLE in str(caught.value)


def test_parts_of_a_zoo_that_is_not_shipped_say_how_to_train_them() -> None:
    with pytest.raises(CheckpointError, match="vvsbench train elsewhere/target"):
        checkpoints.locate("zoo:elsewhere/target.safetensors")
    with pytest.raises(CheckpointError, match="the tiny zoo is incomplete"):
        checkpoints.locate("zoo:nothing.safetensors")


def test_digest_follows_the_content(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"one")
    first = checkpoints.digest(path)
    path.write_bytes(b"two!")
    assert checkpoints.digest(path) != first
    assert len(checkpoints.digest(tmp_path)) == 64


@pytest.mark.parametrize(
    "content",
    [
        b"[]",
        b'"x"',
        b'{"a": 1}',
        b'{"a": {}}',
        b'{"a": {"shape": 3}}',
        b'{"a": {"shape": [-1]}}',
        b'{"a": {"shape": [1.5]}}',
        b'{"__metadata__": []}',
        b'{"__metadata__": {"grid": 4}}',
        b"[" * 100_000,
    ],
)
def test_a_header_of_another_form_is_damage(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(len(content).to_bytes(8, "little") + content)
    with pytest.raises(CheckpointError, match="is not a readable safetensors file"):
        checkpoints.header(path)


def test_a_relative_cache_folder_is_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for value, wanted in (("cache", "home/.cache"), ("", "home/.cache"), (str(tmp_path / "c"), "c")):
        monkeypatch.setenv("XDG_CACHE_HOME", value)
        assert checkpoints.user_cache() == tmp_path / wanted
    (tmp_path / "w").write_bytes(b"x")
    monkeypatch.setenv("XDG_CACHE_HOME", "cache")
    checkpoints.digest(tmp_path / "w")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "w"]
