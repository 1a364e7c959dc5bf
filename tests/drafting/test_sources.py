"""Draft sources as a user chooses them: each drafts for a real decoder, and one that does not fit is refused."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch

from tests import nano
from vvsbench.composition import composed, plain
from vvsbench.decoding import build
from vvsbench.errors import CheckpointError, ConfigError
from vvsbench.identity import cell_key, weights_names
from vvsbench.models import checkpoints
from vvsbench.validation import validate

CPU = torch.device("cpu")
IMAGES = [0, 1, 2]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    nano.write(folder)
    return folder


def chosen(weights: Path, source: str, *more: str, decoder: str = "sd") -> list[str]:
    sources = {
        "eagle": nano.overrides(weights, drafter=True),
        "ar": [*nano.overrides(weights), *nano.small_ar(weights)],
        "oracle": [*nano.overrides(weights), "drafter@decoder.drafter=oracle"],
    }
    return [f"decoder={decoder}", *sources[source], *more]


def generate(overrides: list[str], images: list[int]) -> tuple[torch.Tensor, list[dict[str, Any]]]:
    made = build(composed(overrides), CPU, torch.float64)
    tokens, trace = made.generate(made.target.conditions([image % nano.CLASSES for image in images]), images, seed=0)
    return tokens, trace.rows()


@pytest.mark.parametrize("source", ["eagle", "ar", "oracle"])
@pytest.mark.parametrize("images", [[0], IMAGES], ids=len)
def test_an_exact_decoder_returns_the_tokens_of_ar_whoever_drafts(
    weights: Path, source: str, images: list[int]
) -> None:
    overrides = chosen(weights, source)
    assert validate(composed(overrides)) == []
    expected, _ = generate(["decoder=ar", *nano.overrides(weights)], IMAGES)
    tokens, rows = generate(overrides, images)
    assert torch.equal(tokens, expected[: len(images)])
    assert all(row["draft_forwards"] for row in rows)


def test_every_draft_of_a_perfect_oracle_is_accepted(weights: Path) -> None:
    levels = 5
    _, rows = generate(chosen(weights, "oracle", "decoder.drafter.noise=0"), IMAGES)
    for row in rows:
        assert row["accepted"][:2] == [levels, levels]
        assert (row["target_forwards"], row["prefill_forwards"]) == (3, 1)  # 1 + 6 + 6 + 3 of 16 tokens
    noisy = generate(chosen(weights, "oracle", "decoder.drafter.noise=3"), IMAGES)[1]
    assert sum(row["target_forwards"] for row in noisy) > 3 * len(IMAGES)


@pytest.mark.parametrize("source", ["ar", "oracle"])
@pytest.mark.parametrize("features", ["reuse", "drafted"])
def test_skipping_with_a_source_that_ignores_features(weights: Path, source: str, features: str) -> None:
    overrides = chosen(weights, source, f"decoder.skip.features={features}", decoder="vvs")
    together, rows = generate(overrides, IMAGES)
    assert torch.equal(generate(overrides, [1])[0][0], together[1])
    assert any(row["skipped"] for row in rows)


@pytest.mark.parametrize("source", ["eagle", "ar", "oracle"])
@pytest.mark.parametrize("repair", ["true", "false"])
def test_a_source_takes_back_what_was_skipped(weights: Path, source: str, repair: str) -> None:
    """Skips whose wrong tokens are rolled back leave the tokens of vanilla AR, whoever drafts."""
    skipping = ["decoder.skip.recheck=rollback", f"decoder.skip.repair={repair}", "decoder.schedule.first_tokens=1"]
    tokens, rows = generate(chosen(weights, source, *skipping, decoder="vvs"), IMAGES)
    assert torch.equal(tokens, generate(["decoder=ar", *nano.overrides(weights)], IMAGES)[0])
    assert any(row["skipped"] for row in rows)


def test_an_oracle_has_no_file(weights: Path) -> None:
    run = plain(composed(chosen(weights, "oracle")))
    assert "decoder.drafter.checkpoint" not in weights_names(run)
    assert cell_key(run) != cell_key(plain(composed(chosen(weights, "oracle", "decoder.drafter.noise=0.5"))))


def test_settings_of_sources_import_no_torch(weights: Path) -> None:
    code = (
        "import sys; from vvsbench.composition import composed; from vvsbench.validation import validate; "
        "assert not validate(composed(sys.argv[1:])); assert 'torch' not in sys.modules"
    )
    for source in ("ar", "oracle"):
        subprocess.run([sys.executable, "-c", code, *chosen(weights, source)], check=True)


@pytest.mark.parametrize(
    ("source", "override", "message"),
    [
        ("ar", "decoder.drafter.grid=8", "decoder.drafter.grid=8 does not fit the target's model.grid=4"),
        ("ar", "decoder.drafter.vocab=64", "decoder.drafter.vocab=64 does not fit"),
        ("ar", "decoder.drafter.layers=2", "decoder.drafter.layers=2 but"),
        ("ar", "decoder.drafter.dim=32", "set decoder.drafter.dim=16 or name the right file"),
        ("oracle", "decoder.drafter.noise=-1", "decoder.drafter.noise=-1.0 must be 0 or more."),
        ("oracle", "decoder.drafter.seed=-1", "decoder.drafter.seed=-1 must be 0 or more."),
    ],
)
def test_a_contradiction_names_its_key(weights: Path, source: str, override: str, message: str) -> None:
    found = validate(composed(chosen(weights, source, override)))
    assert any(message in problem for problem in found), found


def published(weights: Path, folder: Path, **changes: object) -> Path:
    """The nano drafter as its authors would publish it: a pickle and a config.json."""
    folder.mkdir()
    state = checkpoints.read(weights / "drafter.safetensors")
    torch.save(state, folder / "pytorch_model.bin")
    own = {"hidden_size": 32, "num_attention_heads": 2, "vocab_size": 32, "rms_norm_eps": 1e-6}
    (folder / "config.json").write_text(json.dumps(own | changes))
    return folder


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vocab_size": 64}, "decoder.drafter.vocab=32 but"),
        ({"hidden_size": 64}, "has 64; set decoder.drafter.dim=64 or name the right file"),
        ({"num_attention_heads": 4}, "decoder.drafter.heads=2 but"),
        ({"rms_norm_eps": 1e-5}, "decoder.drafter.norm_eps=1e-06 but"),
        ({"input_type": "c2i"}, "decoder.drafter.grid=4 but"),
        ({"input_type": "t2i"}, "made for a target that draws from captions (input_type of its config.json)"),
    ],
)
def test_a_published_drafter_of_another_target_is_refused(
    weights: Path, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    folder = published(weights, tmp_path / "drafter", **changes)
    for named in (folder, folder / "pytorch_model.bin"):
        found = validate(composed(chosen(weights, "eagle", f"decoder.drafter.checkpoint={named}")))
        assert any(message in problem for problem in found), found


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"classes": 9}, "knows 9 classes, model=tiny has 4: name a drafter of the same classes"),
        ({"condition": "caption"}, "was made for a target that draws from captions"),
        ({"pads": "spread"}, "decoder.drafter.pads=isolated but"),
    ],
)
def test_what_a_file_says_of_its_target_is_heard(
    weights: Path, tmp_path: Path, said: dict[str, object], message: str
) -> None:
    file = tmp_path / "drafter.safetensors"
    state = checkpoints.read(weights / "drafter.safetensors")
    checkpoints.save(file, state, {"config": json.dumps({"dim": 32, **said})})
    found = validate(composed(chosen(weights, "eagle", f"decoder.drafter.checkpoint={file}")))
    assert len(found) == 1
    assert message in found[0]


def test_a_published_drafter_loads_with_the_bias_that_it_has(weights: Path, tmp_path: Path) -> None:
    folder = published(weights, tmp_path / "drafter")
    overrides = chosen(weights, "eagle", f"decoder.drafter.checkpoint={folder}")
    assert validate(composed(overrides)) == []
    state = torch.load(folder / "pytorch_model.bin", weights_only=True)
    for expected in (True, False):
        made: Any = build(composed(overrides), CPU, torch.float32)
        assert (made.source.head.fc.bias is not None) == expected
        state.pop("fc.bias", None)
        torch.save(state, folder / "pytorch_model.bin")
    state.pop("layers.0.mlp.up_proj.weight")
    torch.save(state, folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"missing: layers\.0\.feed_forward\.w3"):
        build(composed(overrides), CPU, torch.float32)


def test_the_settings_say_how_padding_attends(weights: Path) -> None:
    for pads, spread in (("isolated", False), ("spread", True)):
        made: Any = build(composed(chosen(weights, "eagle", f"decoder.drafter.pads={pads}")), CPU, torch.float32)
        assert made.target.spread_pads is spread
    assert composed(["model=llamagen_t2i_xl_256", "decoder=sd"]).decoder.drafter.pads == "spread"
    with pytest.raises(ConfigError, match=r"pads=some: no such choice\. Choose from: isolated, spread\."):
        composed(chosen(weights, "eagle", "decoder.drafter.pads=some"))


COPYCAT = '''
from dataclasses import dataclass, field

from vvsbench.drafting.sources import TokenDrafterConfig


@dataclass
class Copycat(TokenDrafterConfig):
    """Drafts with the target."""

    name: str = "copycat"
    hit_rates: list[float] = field(default_factory=lambda: [0.9, 0.05])
    shy: bool = False

    def build(self, target, device, dtype):
        from vvsbench.drafting.oracle import OracleSource

        return OracleSource(target, 0.0, 0)

    def problems(self, model):
        return ["shy=true cannot draft"] if self.shy else []
'''


def test_another_package_adds_a_source(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "copycat.py").write_text(textwrap.dedent(COPYCAT))
    about = tmp_path / "copycat-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: copycat\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[vvsbench.drafters]\ncopycat = copycat:Copycat\n")
    monkeypatch.syspath_prepend(tmp_path)
    overrides = ["decoder=sd", *nano.overrides(weights), "drafter@decoder.drafter=copycat"]
    assert validate(composed([*overrides, "decoder.drafter.shy=true"])) == ["decoder.drafter.shy=true cannot draft."]
    assert validate(composed(overrides)) == []
    assert all(row["accepted"][0] > 0 for row in generate(overrides, IMAGES)[1])
    before = cell_key(plain(composed(overrides)))
    monkeypatch.setattr("inspect.getsource", lambda module: "other = 1")
    assert cell_key(plain(composed(overrides))) != before
