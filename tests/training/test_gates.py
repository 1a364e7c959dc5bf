"""The gates on a zoo of scenes that was trained for a step or two: what is measured, not how good it is."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from vvsbench.models.checkpoints import ZOO
from vvsbench.training import app, gates, scenes
from vvsbench.training import card as cards
from vvsbench.training.loop import TrainingError, train
from vvsbench.training.settings import GatesSettings

SMALL = {
    "tokenizer": ["steps=3", "batch_size=16", "continuous_steps=1"],
    "target": ["steps=1", "batch_size=2", "images=4", "compile=false"],
    "classifier": ["steps=1", "batch_size=4"],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tokenizer and, trained on it, a target and a classifier."""
    torch.set_num_threads(1)
    where = tmp_path_factory.mktemp("zoo")
    for part, small in SMALL.items():
        settings = app.composed(f"scenes/{part}", [f"folder={where}", "device=cpu", *small])
        task = app.build(settings)
        task.evaluate = dict  # type: ignore[method-assign]
        train(task, settings)
    return where


def settings(folder: Path, **changes: object) -> GatesSettings:
    values = {"part": "gates", "folder": str(folder), "model": "scenes", "device": "cpu", "count": 16, **changes}
    return GatesSettings(**values)  # type: ignore[arg-type]


def test_what_is_trained_on_tokens_follows_the_tokenizers_data_set(folder: Path) -> None:
    target = app.build(app.composed("scenes/target", [f"folder={folder}", "device=cpu", "compile=false", "images=4"]))
    assert target.data.pictures is scenes  # type: ignore[attr-defined]
    assert target.config["classes"] == scenes.NUM_CLASSES
    assert target.data.take(0, 4)[0].tolist() == scenes.labels_of(torch.arange(4)).tolist()  # type: ignore[attr-defined]


def test_near_codes_start_as_near_embeddings(folder: Path) -> None:
    words = [f"folder={folder}", "device=cpu", "compile=false"]
    near, plain = (
        app.build(app.composed("scenes/target", [*words, f"code_embeddings={on}"])).network.tok_embeddings.weight  # type: ignore[attr-defined]
        for on in ("true", "false")
    )
    codes = app.build(app.composed("scenes/target", words)).data.tokenizer.quantize.codes()  # type: ignore[attr-defined]
    alike = (codes @ codes.T).flatten()

    def agreement(embeddings: torch.Tensor) -> float:
        unit = torch.nn.functional.normalize(embeddings.detach(), dim=-1)
        return float(torch.corrcoef(torch.stack([(unit @ unit.T).flatten(), alike]))[0, 1])

    assert agreement(near) > 0.7 > 0.3 > agreement(plain)


def test_gates_are_measured_on_the_parts_that_are_there(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = tmp_path / "alone"
    alone.mkdir()
    (alone / "tokenizer.safetensors").write_bytes((folder / "tokenizer.safetensors").read_bytes())
    found, _ = gates.measure(alone, settings(alone))
    assert set(found) == {"nearest_loss", "nearest_psnr", "random_loss", "hue_reconstructions", "hue_marginals"}
    told = list(gates.lines(found))
    assert ["e", gates.GATES["eagle2"].what, "at most 1.5", "–", "needs drafter"] in told
    with pytest.raises(TrainingError, match="train the tokenizer first"):
        gates.measure(tmp_path, settings(tmp_path))


def test_the_card_of_another_zoo_shows_its_gates_beside_those_of_the_first() -> None:
    shipped = json.loads((ZOO / "card.json").read_text(encoding="utf-8"))
    own, discrete = {"entropy": 4.7, "class": 0.85}, ("tokenizer", "target", "drafter", "small_ar", "classifier")
    card = {
        **shipped,
        "model": "scenes",
        "data": {**shipped["data"], "name": "scenes", "classes": 16, "size": 48},
        "gates": own,
        "gates_beside": dict.fromkeys(gates.GATES, 2.36),
        "parts": {part: shipped["parts"][part] for part in discrete},
    }
    text = cards.text(card)
    assert "# The zoo of scenes" in text
    assert "48 x 48 pixels in 16 classes" in text
    assert "| a | entropy of a token on own samples, nats | 4 to 5.5 | 4.7 | yes | 2.36 |" in text
    assert "| e | tokens per target forward of `eagle2` | at most 1.5 | – | needs drafter | 2.36 |" in text
    assert "clip/" not in text
    assert "causal_draft have a layout" not in text


def test_bounds_are_closed_and_told() -> None:
    entropy, overlap = gates.GATES["entropy"], gates.GATES["overlap"]
    assert entropy.bounds == "4 to 5.5"
    assert [entropy.passes(value) for value in (3.9, 4.0, 5.5, 5.6)] == [False, True, True, False]
    assert [overlap.passes(value) for value in (0.44, 0.5, 0.61)] == [False, True, False]
    row = next(line for line in gates.lines({"entropy": 2.4}, {"entropy": 4.7}) if line[1] == entropy.what)
    assert row == ["a", entropy.what, "4 to 5.5", "2.4", "**no**", "4.7"]


def test_one_command_writes_the_numbers_and_a_sheet(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gates.write(folder, settings(folder))
    found = gates.read(folder)
    assert found == json.loads((folder / gates.FILE).read_text())["gates"]
    assert set(gates.GATES) - set(found) == {"overlap", "eagle2", "mar_class", "mar_few"}
    assert found["entropy"] == pytest.approx(math.log(2048), abs=0.5), "an untrained target is nearly uniform"
    assert (folder / "gates.png").stat().st_size > 10_000
    assert "needs drafter" in capsys.readouterr().out
