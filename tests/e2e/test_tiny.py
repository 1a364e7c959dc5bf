"""The main job on the shipped model: three decoders, all metrics and the report, from the command line."""

from __future__ import annotations

import numpy as np

from vvsbench.runs.store import Store

COMMAND = ["run", "-m", "model=tiny", "decoder=ar,sd,vvs", "study.name=trio", "count=32", "shard_size=32", "device=cpu"]


def test_the_tiny_model_from_images_to_report(vvsbench, tmp_path):
    code, out, err = vvsbench(*COMMAND)
    assert (code, "warning" in err) == (0, False)
    for label in ("ar", "sd", "vvs i=2"):  # there is no terminal, so progress is lines
        assert f"{label}: loading the model" in err
        assert f"{label}: 32 of 32 images after " in err
        assert f"{label}: measuring fid, is" in err
    numbers = [line for line in out.splitlines() if line.startswith("    ")]
    assert sum("] tokens per forward   FID " in line for line in numbers) == 2
    assert sum("1 tokens per forward   FID " in line for line in numbers) == 1
    assert (out.count("drew 32 of 32 images in "), out.count(", scored in ")) == (3, 3)
    ar, sd, vvs = Store(tmp_path / "outputs").cells("trio")
    assert [cell.record.guarantee for cell in (ar, sd, vvs)] == ["exact", "exact", "none"]
    assert np.array_equal(ar.tokens, sd.tokens)
    forwards = [cell.record.summaries["target_forwards"].mean for cell in (ar, sd, vvs)]
    assert forwards[0] == 63
    assert forwards[1] < 63 / 2
    assert forwards[2] < forwards[1]
    for cell in (ar, sd, vvs):
        names = [value.name for value in cell.quality["tiny"].values]
        assert names == ["fid", "is", "kid", "precision", "recall", "clip", "accuracy"]
    accuracy = {value.name: value.value for value in ar.quality["tiny"].values}["accuracy"]
    assert accuracy >= 0.8

    code, out, err = vvsbench(*COMMAND)
    assert (code, err) == (0, "")
    assert out.count("done already, nothing to do") == 3

    code, out, err = vvsbench("report", "study=trio")
    assert (code, err) == (0, "")
    page = tmp_path / "outputs" / "reports" / "trio" / "index.html"
    assert str(page.relative_to(tmp_path)) in out
    assert "<html" in page.read_text()


def test_another_metric_never_samples_again(vvsbench, tmp_path):
    command = [*COMMAND, "decoder=ar", "count=16", "shard_size=16", "metrics.values=[accuracy]"]
    command.remove("decoder=ar,sd,vvs")
    code, out, _ = vvsbench(*command)
    assert (code, "drew 16 of 16 images in " in out) == (0, True)
    shards = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    code, out, _ = vvsbench(*command[:-1], "metrics.values=[accuracy,is]")
    assert (code, "scored in" in out, "drew" in out) == (0, True, False)
    assert shards == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
