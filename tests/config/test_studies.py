"""Studies: their cells are a union, crossed with the command line, and every one of them composes."""

from __future__ import annotations

import pytest

from hydra_plugins.vvsbench_cells.sweeper import crossed
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


def test_the_command_line_may_not_set_what_the_cells_set():
    with pytest.raises(ConfigError, match="decoder: the cells of study=s set it themselves"):
        crossed([["decoder=ar"]], [["study=s", "decoder=sd"]], "s")
