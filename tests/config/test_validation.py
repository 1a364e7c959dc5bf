"""Contradictions are found before a model is loaded, all at once, by key."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import save_file

from tests import nano
from vvsbench.composition import composed
from vvsbench.models import checkpoints
from vvsbench.validation import remarks, validate


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    nano.write(folder)
    return folder


def problems(weights, *overrides, drafter=True):
    decoder = ["decoder=vvs"] if drafter else []
    return validate(composed([*decoder, *nano.overrides(weights, drafter), *overrides]))


def test_a_sound_run_has_no_problem(weights):
    assert problems(weights) == []
    assert problems(weights, drafter=False) == []


def test_graphs_are_refused_where_they_cannot_be(weights):
    found = problems(weights, "engine=graphed", "decoder.ablation.swap_interval=3")
    assert [problem.split(" ")[0:2] for problem in found] == [
        ["engine=graphed", "records"],
        ["engine=graphed", "cannot"],
    ]


def test_everything_is_listed_at_once(weights):
    found = problems(
        weights, "count=0", "batch_size=0", "sampling.top_p=0", "sampling.temperature=-1", "decoder.schedule.interval=1"
    )
    keys = ["count=0", "batch_size=0", "sampling.top_p=0", "sampling.temperature=-1", "decoder.schedule.interval=1"]
    assert all(any(problem.startswith(key) for problem in found) for key in keys)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("shard_size=5", "shard_size=5 must be a multiple of batch_size=2"),
        ("shard_size=0", "shard_size=0 must be at least 1"),
        ("threads=-1", "threads=-1 must be 0"),
        ("seed=-1", "seed=-1 must be 0 or more"),
        (f"seed={2**64}", f"seed={2**64} must be 0 or more and below 2**63"),
        (f"count={10**11}", f"count={10**11} must be at most 10000000"),
        ("shard_size=2 count=1000000", "shard_size=2 makes more than 100000 files of 1000000 images; take 10"),
        ("study.name=../x", "study.name=../x: a study's name is the name of a folder"),
        ("decoder.schedule.offset=2", "decoder.schedule.offset=2 must lie in 0 to 1"),
        ("sampling.top_k=99", "sampling.top_k=99 must lie in [0, 32]"),
        ("sampling.temperature=nan", "sampling.temperature=nan must be a number"),
        ("sampling.guidance_scale=0.5", "sampling.guidance_scale=0.5 must be at least 1"),
        ("sampling.guidance_interval=-2", "sampling.guidance_interval=-2 must be -1"),
        ("prompts.classes=[0,4]", "prompts.classes has 4; class ids of model=tiny are 0 to 3"),
        ("decoder.drafter.hit_rates=[]", "decoder.structure.name=fitted needs a rate"),
        ("decoder.structure.nodes=3", "decoder.structure.nodes=3 must be at least 6"),
        ("decoder.structure.depth=0", "decoder.structure.depth=0 must be at least 1"),
        ("decoder.structure.nodes=1000000", "decoder.structure.nodes=1000000 is more than a tree can use; 1024 nodes"),
        ("decoder.drafter.dim=64", "decoder.drafter.dim=64 does not fit the target's model.dim=32"),
        ("decoder.drafter.grid=8", "decoder.drafter.grid=8 does not fit the target's model.grid=4"),
        ("model.grid=8", "model.grid=8 but the checkpoint"),
        ("model.classes=9", "model.classes=9 but the checkpoint"),
        ("model.layers=2", "model.layers=2 but the checkpoint"),
        ("model.vocab=64", "model.tokenizer.codebook_size=32 is not model.vocab=64"),
        ("model.checkpoint=/nowhere/x.pt", "model.checkpoint=/nowhere/x.pt: weights not found: /nowhere/x.pt"),
        ("decoder.drafter=null", "decoder.drafter: there is none of that name"),
        ("decoder.drafter=null model.name=x", "decoder.drafter: none is known for model=x"),
        ("metrics=tiny metrics.splits=9 count=16", "count=16 is too few for metrics.splits=9"),
        ("metrics=tiny", "count=8 is too few for metrics=tiny; take 16 or more"),
        ("metrics.values=[fdi]", "metrics.values=fdi is unknown"),
    ],
)
def test_a_contradiction_names_its_key(weights, override, message):
    found = problems(weights, *override.split())
    assert any(message in problem for problem in found), found


@pytest.mark.parametrize(
    ("structure", "sizes", "wrong"),
    [
        ("chain", ["depth=1023"], ["depth=1024"]),
        ("window", ["window=1024", "siblings=1024"], ["window=1025", "siblings=1025"]),
        ("dynamic", ["nodes=1024"], ["nodes=1025"]),
        ("fitted", ["nodes=1024"], ["nodes=1025"]),
    ],
)
def test_a_tree_has_a_size_that_a_machine_can_hold(weights, structure, sizes, wrong):
    def refused(settings):
        words = [f"structure@decoder.structure={structure}", *(f"decoder.structure.{one}" for one in settings)]
        return [text for text in problems(weights, *words) if "1024 nodes at most" in text]

    assert refused(sizes) == []
    assert [text.split(" is ")[0] for text in refused(wrong)] == [f"decoder.structure.{one}" for one in wrong]


def test_a_grid_that_is_not_the_checkpoints_says_what_to_set(weights):
    (problem, *_) = [text for text in problems(weights, "model.grid=8") if "checkpoint" in text]
    assert "set model.grid=4" in problem


def test_sizes_that_no_shape_shows_are_read_from_the_file_itself(weights, tmp_path):
    named = tmp_path / "drafter.safetensors"
    save_file({"fc.weight": np.zeros((2, 2), np.float32)}, named, {"config": '{"heads": 4, "dim": 32, "grid": 8}'})
    found = problems(weights, f"decoder.drafter.checkpoint={named}")
    assert [text.split(" but ")[0] for text in found] == ["decoder.drafter.heads=2", "decoder.drafter.grid=4"]


def test_a_drafter_of_other_target_weights_is_remarked_on(weights, tmp_path):
    for name, digest in (("own", checkpoints.digest(weights / "target.safetensors")), ("other", "0" * 64)):
        file = tmp_path / f"{name}.safetensors"
        save_file({"fc.weight": np.zeros((2, 2), np.float32)}, file, {"target_digest": digest})
        run = composed(["decoder=vvs", *nano.overrides(weights, True), f"decoder.drafter.checkpoint={file}"])
        assert len(remarks(run)) == (name == "other")


def test_captions_must_exist(weights, tmp_path):
    captioned = ["model.condition=caption", "prompts=captions"]
    assert any("does not exist" in text for text in problems(weights, *captioned, "prompts.file=nowhere.txt"))
    (tmp_path / "captions.csv").write_text("a cat")
    assert any(
        "must end in .txt" in text for text in problems(weights, *captioned, f"prompts.file={tmp_path}/captions.csv")
    )
    (tmp_path / "few.txt").write_text("a cat\na dog\n", encoding="utf-8")
    few = [*captioned, f"prompts.file={tmp_path}/few.txt"]
    assert any("has captions for 2 of 3 images" in text for text in problems(weights, *few, "count=3"))
    assert not any("captions" in text for text in problems(weights, *few, "count=2"))
    assert not any("captions" in text for text in problems(weights, *few, "count=3", "stage=speed"))
    assert any("prompts.kind=classes does not fit" in text for text in problems(weights, "model.condition=caption"))


def test_a_truncated_file_is_named(weights, tmp_path):
    half = tmp_path / "half.safetensors"
    half.write_bytes((weights / "target.safetensors").read_bytes()[:500])
    assert any("is not a readable safetensors file" in text for text in problems(weights, f"model.checkpoint={half}"))


def test_a_hugging_face_folder_tells_its_grid(weights, tmp_path):
    save_file({"model.embed_tokens.weight": np.zeros((32, 32), np.float32)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text('{"block_size": 64}')
    assert any("has 8" in text for text in problems(weights, f"model.checkpoint={tmp_path}"))


def test_a_gpu_that_is_not_there_is_named(weights, monkeypatch):
    monkeypatch.setattr("vvsbench.validation.device", lambda asked: "cpu")
    assert any("device=cuda: torch finds no GPU" in text for text in problems(weights, "device=cuda"))


def test_validation_imports_no_torch(weights):
    code = (
        "import sys; from vvsbench.composition import composed; from vvsbench.validation import validate; "
        "assert not validate(composed(sys.argv[1:])); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, "decoder=vvs", *nano.overrides(weights, True)], check=True)


def test_settings_are_plain_dataclasses(weights):
    assert dataclasses.is_dataclass(composed(nano.overrides(weights)))


def test_a_file_of_another_kind_is_no_drafter(weights, tmp_path):
    (problem,) = problems(weights, f"decoder.drafter.checkpoint={weights}/target.safetensors")
    assert "target.safetensors is no EAGLE head, but a whole model as a target is" in problem
    described = {"hidden_size": nano.DIM, "rms_norm_eps": 1e-5, "cls_token_num": 120}
    (tmp_path / "config.json").write_text(json.dumps(described), encoding="utf-8")
    (problem,) = problems(weights, f"decoder.drafter.checkpoint={tmp_path}")
    assert "is a whole model, as a target is" in problem
