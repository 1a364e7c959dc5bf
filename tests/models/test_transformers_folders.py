"""A downloaded folder is all that a target of transformers needs: weights in shards, tokenizer and chat template."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers

from tests.transformers_cases import Case, folders
from vvsbench import cli
from vvsbench.composition import composed
from vvsbench.decoding import build
from vvsbench.errors import CheckpointError, UserError
from vvsbench.models import checkpoints
from vvsbench.models.families.loading import load_model
from vvsbench.models.families.target import Transformers
from vvsbench.runs.store import Store
from vvsbench.validation import validate

FIXTURES = Path(__file__).parent.parent / "golden" / "fixtures"
WORDS = ["<pad>", "<bos>", "<eos>", "<boi>", "<eoi>", "<image>", "User", "Assistant", ":", "a", "red", "boat", "bird"]
TEMPLATE = (
    "<bos>{% for message in messages %}User : {% for part in message['content'] %}{{ part['text'] }}{% endfor %} "
    "{% endfor %}{% if add_generation_prompt %}Assistant : {% endif %}"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Janus as the hub has it, with random weights in several files."""
    place = tmp_path_factory.mktemp("hub") / "janus"
    case = Case(next(folder for folder in folders(FIXTURES) if folder.parent.name == "janus"))
    generation = case.model.generation_config
    generation.bos_token_id, generation.pad_token_id = WORDS.index("<bos>"), WORDS.index("<pad>")
    generation.generation_kwargs = {"boi_token_id": WORDS.index("<boi>")}
    generation._from_model_config = False  # a file of its own, as on the hub
    case.model.save_pretrained(place, max_shard_size="50KB")
    words = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="<eos>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = {"image_token": "<image>", "boi_token": "<boi>", "eoi_token": "<eoi>"}
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=words, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>", extra_special_tokens=special
    )
    painter = transformers.JanusImageProcessor()
    transformers.JanusProcessor(painter, tokenizer, chat_template=TEMPLATE).save_pretrained(place)
    return place


def overrides(folder: Path, captions: Path) -> list[str]:
    return [
        "model=janus_pro_1b",
        f"model.checkpoint={folder}",
        "model.grid=4",
        "model.vocab=48",
        "model.prompt_tokens=12",
        f"prompts.file={captions}",
        "device=cpu",
        "count=4",
    ]


@pytest.fixture
def captions(tmp_path: Path) -> Path:
    file = tmp_path / "captions.txt"
    file.write_text("a red boat\nbird\na bird\nred bird : a boat\n")
    return file


def test_the_preset_draws_from_captions(folder: Path, captions: Path) -> None:
    assert len(list(folder.glob("*.safetensors"))) > 1
    cfg = composed([*overrides(folder, captions), "decoder=ar"])
    assert validate(cfg) == []
    decoder = build(cfg, torch.device("cpu"), torch.float32)
    conditions = decoder.target.conditions(["a red boat", "bird"])
    said = [[WORDS[token] for token in row[row >= 0]] for row in conditions[:, 0]]
    assert said[0] == ["<bos>", "User", ":", "a", "red", "boat", "Assistant", ":", "<boi>"]
    assert said[1] == ["<bos>", "User", ":", "bird", "Assistant", ":", "<boi>"]
    null = [[WORDS[token] for token in row[row >= 0]] for row in conditions[:, 1]]
    assert null[1] == ["<bos>", *["<pad>"] * 5, "<boi>"]
    tokens, _ = decoder.generate(conditions, range(2), seed=0)
    assert decoder.target.to_images(tokens).shape == (2, 3, 8, 8)


def test_a_run_needs_nothing_but_the_folder(
    folder: Path, captions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    asked = [*overrides(folder, captions), "batch_size=3", "shard_size=3", "study.name=folder"]
    for decoder in ("ar", "jacobi"):
        assert cli.main(["run", f"decoder={decoder}", *asked]) == 0
    ar, jacobi = sorted(Store(tmp_path / "outputs").cells("folder"), key=lambda cell: cell.record.label)
    assert (ar.tokens == jacobi.tokens).all()
    assert jacobi.record.summaries["target_forwards"].mean < ar.record.summaries["target_forwards"].mean
    assert jacobi.record.summaries["draft_forwards"].mean == 0


def test_the_diffusion_stage_gets_every_token_four_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Transformers, "_branches", lambda self, prompt: [[50, 51, 40]])  # there is no tokenizer
    case = Case(next(folder for folder in folders(FIXTURES) if folder.parts[-2:] == ("glm_image", "oblong")))
    case.model.save_pretrained(tmp_path / "glm")
    (tmp_path / "captions.txt").write_text("a bird\na boat\n")
    asked = ["model=glm_image", f"model.checkpoint={tmp_path}/glm", "model.grid=3", "model.columns=5"]
    asked += ["model.vocab=32", "model.prompt_tokens=4", "prompts.file=captions.txt", "device=cpu", "count=2"]
    assert cli.main(["run", *asked, "decoder=ar", "batch_size=2", "shard_size=2"]) == 0
    assert cli.main(["export", "study=single", "to=tokens", "format=glm_image", "diffusion_seconds=1"]) == 0
    assert "% of the time" in capsys.readouterr().out
    (cell,) = Store(tmp_path / "outputs").cells("single")
    written = np.load(tmp_path / "tokens" / "prior_token_ids.npy").reshape(2, 6, 10)
    for row, column in ((0, 0), (1, 1), (0, 1)):
        assert (written[:, row::2, column::2] == cell.tokens[:, -15:].reshape(2, 3, 5)).all()
    assert json.loads((tmp_path / "tokens" / "prompts.json").read_text()) == ["a bird", "a boat"]
    assert cli.main(["export", "study=single", "to=tokens", "format=glm_image"]) == 2


def test_a_name_of_the_hub_is_found_in_its_cache(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    seen = []

    def cached(repository: str, file: str) -> str | None:
        seen.append((repository, file))
        return str(folder / "config.json") if repository == "owner/name" else None

    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", cached)
    monkeypatch.setenv(checkpoints.WEIGHTS_VARIABLE, str(tmp_path))
    assert checkpoints.resolve("owner/name") == folder
    assert checkpoints.resolve("owner/name/part") == folder
    assert checkpoints.resolve("owner/other") == tmp_path / "owner/other"
    assert seen == [("owner/name", "config.json"), ("owner/name", "part/config.json"), ("owner/other", "config.json")]


def test_a_caption_that_is_too_long_says_so(folder: Path, captions: Path) -> None:
    cfg = composed([*overrides(folder, captions), "decoder=ar"])
    decoder = build(cfg, torch.device("cpu"), torch.float32)
    with pytest.raises(UserError, match="model.prompt_tokens=15"):
        decoder.target.conditions(["a red boat a red boat a red bird"])


def test_weights_that_do_not_fit_are_refused(folder: Path, tmp_path: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["num_hidden_layers"] += 1
    for file in folder.iterdir():
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / "config.json").unlink()
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"missing or of another shape: .*layers\.2"):
        load_model(tmp_path, torch.float32)
    (tmp_path / "model.safetensors.index.json").unlink()
    with pytest.raises(CheckpointError, match="Fetch the whole folder"):
        load_model(tmp_path, torch.float32)


def test_a_target_without_pixels_is_not_scored_by_them(folder: Path, captions: Path) -> None:
    asked = [*overrides(folder, captions), "model.pixels=false", "metrics=inception"]
    assert any("draws tokens only" in line for line in validate(composed(asked)))
