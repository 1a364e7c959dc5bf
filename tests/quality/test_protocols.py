"""The shipped protocols: pinned, valid, and every line explained."""

from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from vvsbench.quality.config import PINNED_RECIPES, MetricsConfig, problems, protocol_version

FOLDER = Path(__file__).parents[2] / "conf" / "metrics"
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml"))


def read(name: str) -> MetricsConfig:
    content = OmegaConf.load(FOLDER / f"{name}.yaml")
    assert isinstance(content, DictConfig)
    bases = [base for base in content.pop("defaults", []) if base != "_self_"]
    layers = [OmegaConf.load(FOLDER / f"{base}.yaml") for base in bases]
    return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(MetricsConfig), *layers, content))


def test_every_protocol_is_pinned():
    assert {f"{name} v1" for name in NAMES} == set(PINNED_RECIPES)


@pytest.mark.parametrize("name", NAMES)
def test_a_protocol_is_what_its_version_says(name):
    """A recipe that differs from its pinned digest needs a new version, and a new line in PINNED_RECIPES."""
    config = read(name)
    assert config.name == name
    assert protocol_version(config) == "v1"
    config.subsets += 1
    assert protocol_version(config).startswith("v1+changed-")


@pytest.mark.parametrize("name", NAMES)
def test_a_protocol_is_sound_once_its_paths_are_given(name):
    config = read(name)
    config.reference.path = config.reference.path or "reference"
    assert problems(config) == []


@pytest.mark.parametrize("name", NAMES)
def test_every_line_is_explained(name):
    for line in (FOLDER / f"{name}.yaml").read_text().splitlines():
        assert "#" in line or line.endswith(":"), line
