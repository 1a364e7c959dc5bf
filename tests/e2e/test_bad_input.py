"""Bad input from outside: one message, the right exit code, no traceback, and nothing written."""

from __future__ import annotations

import pickle

import pytest
import torch

from tests import nano
from vvsbench.runs.store import read_record


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["decoder=nope"],
            "decoder=nope: there is no such decoder. Choose from: ar, cool_sd, csd, eagle2, gsd, jacobi, ",
        ),
        (["bacth_size=3"], "bacth_size: there is no such setting. Did you mean batch_size?"),
        (["-m", "decoder=vvs", "decoder.schedule.interval=1,0"], "decoder.schedule.interval=0 must be at least 2"),
        (["model.checkpoint=nowhere.pt"], "model.checkpoint=nowhere.pt: weights not found: "),
        (["model=tiny_mar", "decoder=vvs"], "decoder.name=vvs draws discrete tokens and model=tiny_mar has continuous"),
        (["model=tiny_mar", "sampling.guidance_schedule=cosine"], "no such choice. Choose from: constant, linear."),
        (["model=tiny_mar", "decoder=csd", "decoder.length=62"], "decoder.length=62 is more than the 61 AR steps that"),
        (["study=demo", "decoder=sd"], "decoder: the cells of study=demo set it themselves"),
    ],
)
def test_wrong_settings_are_refused_before_anything_is_written(vvsbench, tmp_path, arguments, message):
    code, out, err = vvsbench("run", *arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


class Evil:
    """Runs code when it is unpickled."""

    def __reduce__(self):
        return (open, ("owned", "w"))


def test_a_pickle_with_code_is_refused(vvsbench, weights, tmp_path):
    (tmp_path / "evil.pt").write_bytes(pickle.dumps({"model": Evil()}))
    code, _, err = vvsbench("run", *nano.overrides(weights), f"model.checkpoint={tmp_path}/evil.pt")
    assert code == 1
    assert "evil.pt is refused" in err
    assert "Traceback" not in err
    assert not (tmp_path / "owned").exists()
    (record,) = [read_record(path.parent) for path in tmp_path.rglob("record.json")]
    assert record.status == "failed"


def test_a_checkpoint_of_another_size_names_its_tensors(vvsbench, weights, tmp_path):
    state = {"tok_embeddings.weight": torch.zeros(nano.VOCAB, 2 * nano.DIM)}
    torch.save({"model": state}, tmp_path / "other.pt")
    code, _, err = vvsbench("run", *nano.overrides(weights), f"model.checkpoint={tmp_path}/other.pt")
    assert code == 1
    assert "does not fit this model" in err
    assert "tok_embeddings.weight: file has (32, 64), model needs (32, 32)" in err
    assert "missing: " in err
    assert "Traceback" not in err


def test_a_continuous_checkpoint_of_another_size_names_its_tensors(vvsbench, tmp_path):
    nano.write_latent(tmp_path)
    state = {"class_emb.weight": torch.zeros(4, 16)}
    torch.save({"model": {}, "model_ema": state}, tmp_path / "other.pth")
    code, _, err = vvsbench("run", *nano.latent_overrides(tmp_path), f"model.checkpoint={tmp_path}/other.pth")
    assert code == 1
    assert "other.pth does not fit this model" in err
    assert "class_emb.weight: file has (4, 16), model needs (4, 8)" in err
    assert "Traceback" not in err


def test_one_failing_cell_does_not_stop_the_others(vvsbench, weights, tmp_path):
    (tmp_path / "broken.pt").write_bytes(b"not a checkpoint")
    files = f"{tmp_path}/broken.pt,{weights}/target.safetensors"
    arguments = [text for text in nano.overrides(weights) if not text.startswith("model.checkpoint")]
    code, out, err = vvsbench("run", "-m", *arguments, f"model.checkpoint={files}")
    assert code == 1
    assert "drew 8 of 8 images" in out
    assert "1 of 2 cells failed" in err
    assert "broken.pt" in err
