"""Studies: their cells are a union, crossed with the command line, and every one of them composes."""

from __future__ import annotations

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from hydra_plugins.vvsbench_cells.sweeper import combinations, crossed
from vvsbench import catalog
from vvsbench.composition import composed
from vvsbench.errors import ConfigError

STUDIES = [option.name for option in catalog.options("study")]


@pytest.mark.parametrize("study", STUDIES)
def test_every_cell_of_every_study_composes(study):
    whole = composed([f"study={study}"])
    assert whole.study.name == study
    assert whole.study.title
    decoders = [composed([f"study={study}", *cell]).decoder.name for cell in whole.study.cells]
    assert whole.study.baseline in decoders
    assert not whole.study.front or whole.study.front in decoders


@pytest.mark.parametrize("study", STUDIES)
def test_every_study_says_how_to_run_it(study):
    (option,) = [option for option in catalog.options("study") if option.name == study]
    assert option.summary


def test_cells_are_a_union_crossed_with_the_command_line():
    jobs = crossed([["decoder=ar"], ["decoder=vvs", "decoder.schedule.interval=2"]], [["seed=0"], ["seed=1"]], "s")
    assert jobs == [
        ["seed=0", "decoder=ar"],
        ["seed=0", "decoder=vvs", "decoder.schedule.interval=2"],
        ["seed=1", "decoder=ar"],
        ["seed=1", "decoder=vvs", "decoder.schedule.interval=2"],
    ]


def test_repeated_cells_run_once():
    assert crossed([["decoder=ar"], ["decoder=ar"]], [[]], "s") == [["decoder=ar"]]


def test_the_command_line_lists_and_ranges():
    parser = OverridesParser.create()
    jobs = combinations(parser.parse_overrides(["seed=0,1", "a=range(1,3)", "b=x"]))
    assert jobs == [[f"seed={seed}", f"a={a}", "b=x"] for seed in (0, 1) for a in (1, 2)]
    with pytest.raises(ConfigError, match="only lists and ranges of values"):
        combinations(parser.parse_overrides(["a=interval(0,1)"]))


def test_studies_in_the_users_own_folder_are_found(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "experiments" / "study").mkdir(parents=True)
    text = "# @package _global_\n# Mine.\nstudy:\n  name: mine\ncount: 3\n"
    (tmp_path / "experiments" / "study" / "mine.yaml").write_text(text)
    assert composed(["study=mine"]).count == 3
    (option,) = [option for option in catalog.options("study") if option.name == "mine"]
    assert (option.summary, option.origin) == ("Mine.", "./experiments")


def test_the_command_line_may_not_set_what_the_cells_set():
    with pytest.raises(ConfigError, match="decoder: the cells of study=s set it themselves"):
        crossed([["decoder=ar"]], [["study=s", "decoder=sd"]], "s")
