"""Studies: their cells are a union, crossed with the command line, and every one of them composes, at every size."""

from __future__ import annotations

import copy
from functools import cache

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from hydra_plugins.vvsbench_cells.sweeper import combinations, crossed
from vvsbench import catalog, config
from vvsbench.composition import composed, prepare, typed
from vvsbench.errors import ConfigError
from vvsbench.sizes import sized
from vvsbench.validation import validate

STUDIES = [option.name for option in catalog.options("study") if option.origin == "vvsbench"]
ZOO = {"tiny", "tiny_mar", "tiny_causal"}
"""Models whose weights are here, so that cells on them can be validated as well."""


@cache
def _chosen(*groups):
    """Settings by the choices of groups alone: few among many cells, and most of the time of composing."""
    prepare()
    with initialize_config_dir(str(config.folder("conf")), version_base="1.3"):
        return compose("run", overrides=list(groups))


def _composes(model, cell):
    """A cell's groups composed and its values set, with the schema's own checks of keys and types."""
    own = [] if any(word.startswith("model=") for word in cell) else [f"model={model}"]
    groups = [word for word in cell if word.split("=")[0].split("@")[0] in config.GROUPS]
    run = copy.deepcopy(_chosen(*own, *groups, "metrics=none"))
    for word in cell:
        if word not in groups:
            OmegaConf.update(run, *_parsed(word))
    return run


@cache
def _parsed(word):
    override = OverridesParser.create().parse_override(word)
    return override.get_key_element(), override.value()


@pytest.mark.parametrize("study", STUDIES)
def test_every_cell_of_every_study_composes_at_every_size(study):
    whole = composed([f"study={study}"])
    study_config = whole.study
    assert study_config.name == study
    assert study_config.title
    runs = [_composes(whole.model.name, cell) for cell in study_config.cells]
    decoders = {run.decoder.name for run in runs}
    assert study_config.baseline in decoders
    assert not study_config.front or study_config.front in decoders
    assert all((config.folder("experiments") / "published" / f"{name}.csv").is_file() for name in study_config.claims)
    assert "smoke" in study_config.sizes or {run.model.name for run in runs} <= ZOO
    words = {word for cell in study_config.cells for word in cell}
    for size, changes in study_config.sizes.items():
        assert set(changes.instead) <= words, "replaces an override that no cell has"
        other = composed(sized([f"study={study}", f"size={size}"]))
        assert other.study.name == f"{study}_{size}"
        once = dict.fromkeys(tuple(changes.instead.get(word, word) for word in cell) for cell in study_config.cells)
        assert other.study.cells == [list(cell) for cell in once], "every cell of the file, those that coincide once"
        if size == "smoke":
            smoke = [typed(_composes(other.model.name, cell)) for cell in once]
            assert {run.model.name for run in smoke} <= ZOO
            assert not [problem for run in smoke for problem in validate(run)]


@pytest.mark.parametrize("study", STUDIES)
def test_every_study_says_how_to_run_it(study):
    (option,) = [option for option in catalog.options("study") if option.name == study]
    assert option.summary
    assert study in (config.folder("experiments") / "README.md").read_text()


def test_the_command_line_wins_over_a_size():
    assert composed([*sized(["study=vvs_table_stage1", "size=smoke"]), "count=3"]).count == 3


def test_a_size_keeps_the_study_and_names_what_stands_for_what():
    study = composed(sized(["study=vvs_table_stage1", "size=smoke"])).study
    assert study.title == composed(["study=vvs_table_stage1"]).study.title
    assert study.stands_for["model=llamagen_t2i_xl_256"] == "model=tiny"
    assert study.stands_for["count=5000"] == "count=16"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["size=smoke"], "is a size of one study"),
        (["study=demo", "size=smoke"], "study=demo has no such size. Choose from: full"),
        (["study=vvs_table_stage1", "size=huge"], "Choose from: full, smoke"),
        (["study=nothing", "size=smoke"], "there is no such study"),
    ],
)
def test_a_wrong_size_is_answered(words, said):
    with pytest.raises(ConfigError, match=said):
        sized(words)


def test_full_is_the_file_as_it_is_written():
    assert sized(["study=vvs_table_stage1", "size=full"]) == ["study=vvs_table_stage1"]


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
