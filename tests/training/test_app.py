from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from vvsbench.errors import ConfigError, UserError
from vvsbench.training import app
from vvsbench.training.settings import ImageSettings, SampleSettings, TargetSettings


@pytest.mark.parametrize("name", app.names())
def test_every_part_has_a_configuration(name: str) -> None:
    part = name.rpartition("/")[2]
    settings = app.composed(name, ["seed=3"])
    assert isinstance(settings, app.PARTS[part])
    assert (settings.part, settings.seed) == (part, 3)


@pytest.mark.parametrize("name", [name for name in app.names() if "/" in name])
def test_the_parts_of_another_zoo_are_of_its_data_and_lie_together(name: str) -> None:
    settings = app.composed(name, [])
    assert settings.folder == f"outputs/{name.partition('/')[0]}"
    if isinstance(settings, ImageSettings):
        assert settings.data_set == name.partition("/")[0]
    if isinstance(settings, SampleSettings):
        assert settings.model == name.partition("/")[0]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["tokeniser"], "Did you mean tokenizer"),
        (["scenes/tokeniser"], "Did you mean scenes/tokenizer"),
        (["target", "layer=3"], "Did you mean layers"),
        (["target", "layers=many"], "layers"),
        (["target", "steps=0", "device=tpu"], "2 problems"),
        (["drafter", "--verbose"], "no option"),
    ],
)
def test_mistakes_are_told_in_a_line(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        app.main(words)


def test_settings_can_be_looked_at(capsys: pytest.CaptureFixture[str]) -> None:
    assert app.main(["target", "layers=7", "--cfg"]) == 0
    assert "layers: 7" in capsys.readouterr().out


def test_what_comes_first_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="train the tokenizer first"):
        app.build(TargetSettings(part="target", folder=str(tmp_path), device="cpu"))


def test_checking_settings_loads_no_torch() -> None:
    code = (
        "import sys; from vvsbench.training import app; app.main(['clip', '--cfg']); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL).returncode == 0
