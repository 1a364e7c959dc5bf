"""Another package adds a schedule and a decoder: one dataclass and one line of packaging each."""

from __future__ import annotations

import textwrap

import pytest

from tests import nano
from vvsbench import cli
from vvsbench.composition import composed, plain
from vvsbench.errors import UserError
from vvsbench.identity import cell_key
from vvsbench.validation import validate

MODULE = '''
from dataclasses import dataclass

from vvsbench.decoding.settings import DecoderConfig
from vvsbench.decoding.acceptance.settings import AcceptanceConfig
from vvsbench.decoding.schedule import Schedule


@dataclass
class Late(Schedule):
    """Skips every step from a given one on."""

    name: str = "late"
    start: int = 3

    def skips(self, moment):
        return moment.step >= self.start

    def problems(self):
        return [f"start={self.start} must be 1 or more"] if self.start < 1 else []


@dataclass
class Mine(DecoderConfig):
    """Draws like vanilla AR."""

    name: str = "mine"
    colour: str = "red"

    def build(self, cfg, device, dtype):
        from vvsbench.decoding.autoregressive import Autoregressive
        from vvsbench.models.loading import load_target
        from vvsbench.sampling import Sampling

        return Autoregressive(load_target(cfg.model, cfg.sampling, device, dtype), Sampling())


@dataclass
class Shy(AcceptanceConfig):
    """Keeps no draft at all."""

    name: str = "shy"
    patience: int = 1

    def build(self, target, sampling, cache=None):
        import torch

        from vvsbench.axes import Guarantee
        from vvsbench.decoding.acceptance import AcceptanceRule, Verdict
        from vvsbench.sampling import draw

        class Never(AcceptanceRule):
            guarantee = Guarantee.exact

            def judge(self, tree, scores, chance):
                root = torch.zeros(len(scores), dtype=torch.long)
                return Verdict(root, root, draw(scores[:, 0], tree.noise[:, 0]))

        return Never()

    def problems(self, model, structure):
        return [f"patience={self.patience} must be 1 or more"] if self.patience < 1 else []


class NoDataclass:
    pass
'''


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """Installs the package; the argument adds an entry point line."""

    def install(*entries):
        (tmp_path / "skiplate.py").write_text(textwrap.dedent(MODULE))
        about = tmp_path / "skiplate-1.0.dist-info"
        about.mkdir(exist_ok=True)
        (about / "METADATA").write_text("Metadata-Version: 2.1\nName: skiplate\nVersion: 1.0\n")
        (about / "entry_points.txt").write_text("\n".join(entries))
        monkeypatch.syspath_prepend(tmp_path)

    added = {
        "schedules": "late = skiplate:Late",
        "decoders": "mine = skiplate:Mine",
        "acceptance": "shy = skiplate:Shy",
    }
    install(*(line for group, entry in added.items() for line in (f"[vvsbench.{group}]", entry)))
    return install


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    nano.write(folder)
    return folder


def test_a_plugin_is_listed_with_its_origin(plugin, capsys):
    assert cli.main(["list", "schedules", "decoders"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["late", "Skips", "every", "step", "from", "a", "given", "one", "on.", "skiplate"] in lines
    assert ["mine", "Draws", "like", "vanilla", "AR.", "skiplate"] in lines


def test_its_settings_are_typed_and_validated(plugin, weights):
    chosen = ["decoder=vvs", "schedule@decoder.schedule=late", *nano.overrides(weights, drafter=True)]
    assert composed(chosen).decoder.schedule.start == 3
    assert validate(composed([*chosen, "decoder.schedule.start=0"])) == ["decoder.schedule.start=0 must be 1 or more."]
    with pytest.raises(UserError, match="must be a whole number"):
        composed([*chosen, "decoder.schedule.start=soon"])


def test_its_code_is_part_of_a_cells_key(plugin, weights, tmp_path, monkeypatch):
    run = composed(["decoder=mine", *nano.overrides(weights)])
    before = cell_key(plain(run))
    monkeypatch.setattr("inspect.getsource", lambda module: "other = 1")
    assert cell_key(plain(run)) != before


def test_its_decoder_runs(plugin, weights, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    from vvsbench.runs.cell import Cell
    from vvsbench.runs.console import Console

    run = composed(["decoder=mine", "decoder.colour=blue", *nano.overrides(weights)])
    Cell(run, plain(run), tmp_path / "mine-x", Console()).run()
    assert "drew 8 of 8 images" in capsys.readouterr().out


def test_its_rule_is_listed_validated_keyed_and_run(plugin, weights, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    from vvsbench.runs.cell import Cell
    from vvsbench.runs.console import Console

    assert cli.main(["list", "rules"]) == 0
    assert "Keeps no draft at all." in capsys.readouterr().out
    chosen = ["decoder=sd", "acceptance@decoder.acceptance=shy", *nano.overrides(weights, drafter=True)]
    assert validate(composed([*chosen, "decoder.acceptance.patience=0"])) == [
        "decoder.acceptance.patience=0 must be 1 or more."
    ]
    run = composed(chosen)
    assert run.decoder.label(run.model) == "sd shy"
    before = cell_key(plain(run))
    Cell(run, plain(run), tmp_path / "shy-x", Console()).run()
    assert "    1 tokens per forward" in capsys.readouterr().out
    monkeypatch.setattr("inspect.getsource", lambda module: "other = 1")
    assert cell_key(plain(run)) != before


def test_a_plugin_of_the_wrong_kind_is_named(plugin):
    plugin("[vvsbench.schedules]", "broken = skiplate:NoDataclass")
    with pytest.raises(UserError, match=r"plug-in broken of package skiplate must be a dataclass"):
        composed([])


def test_a_plugin_that_cannot_be_imported_is_named(plugin):
    plugin("[vvsbench.schedules]", "gone = skiplate:Nothing")
    with pytest.raises(UserError, match="plug-in gone of package skiplate cannot be imported"):
        composed([])
