"""Every settings file composes, and a mistake is one line that names the key and the choices."""

from __future__ import annotations

import pytest

from vvsbench import catalog, config
from vvsbench.composition import composed, plain
from vvsbench.config import RunConfig
from vvsbench.errors import ConfigError

FILES = sorted(
    f"{path.parent.name}={path.stem}"
    for path in config.folder("conf").glob("*/*.yaml")
    if path.parent.name in {"model", "decoder", "sampling", "metrics", "logger"}
)


@pytest.mark.parametrize("choice", FILES)
def test_every_option_composes(choice):
    run = composed([choice])
    assert isinstance(run, RunConfig)
    assert plain(run)["count"] == 256


@pytest.mark.parametrize("schedule", ["always", "uniform"])
def test_every_schedule_composes(schedule):
    assert composed(["decoder=vvs", f"schedule@decoder.schedule={schedule}"]).decoder.schedule.name == schedule


@pytest.mark.parametrize("rule", [option.name for option in catalog.options("acceptance")])
def test_every_acceptance_rule_composes(rule):
    assert composed(["decoder=sd", f"acceptance@decoder.acceptance={rule}"]).decoder.acceptance.name == rule


@pytest.mark.parametrize("drafter", [option.name for option in catalog.options("drafter")])
def test_every_drafter_composes(drafter):
    assert composed(["decoder=sd", f"drafter@decoder.drafter={drafter}"]).decoder.drafter.name == drafter


def test_a_model_brings_its_sampling_and_its_drafter():
    run = composed(["model=llamagen_t2i_xl_512", "decoder=vvs"])
    assert (run.sampling.guidance_scale, run.sampling.top_k) == (7.5, 1000)
    assert run.decoder.drafter.grid == run.model.grid == 32
    assert run.prompts.kind == "captions"


def test_the_command_line_beats_what_a_model_brings():
    run = composed(["model=llamagen_b_256", "sampling=plain", "sampling.top_k=7"])
    assert (run.sampling.guidance_scale, run.sampling.top_k) == (1.0, 7)


def test_a_model_without_a_drafter_composes():
    assert composed(["model=llamagen_b_256", "decoder=sd"]).decoder.drafter is None


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "decoder=nope",
            "decoder=nope: there is no such decoder. Choose from: ar, cool_sd, csd, eagle2, gsd, jacobi",
        ),
        ("decoder=vsv", "Did you mean vvs?"),
        ("decoder=", "Choose from: ar, cool_sd, csd, eagle2, gsd, jacobi, lantern"),
        ("model=llamagen_b_265", "Did you mean llamagen_b_256?"),
        (
            "bacth_size=3",
            "bacth_size: there is no such setting. Did you mean batch_size? Choose from: batch_size, count",
        ),
        ("+foo=1", "foo: there is no such setting"),
        ("+sampling.topk=1", "Did you mean sampling.top_k?"),
        ("sampling.topk=1", "sampling.topk: there is no such setting. Did you mean sampling.top_k?"),
        ("decoder.structure.depth=2", "decoder.structure.depth: the chosen decoder has no such setting"),
        ("count=abc", "count=abc: must be a whole number."),
        ("sampling.top_p=high", "sampling.top_p=high: must be a number."),
        ("dtype=fp33", "dtype=fp33: no such choice. Did you mean fp32? Choose from: bf16, fp16, fp32, fp64."),
        ("device=tpu", "Choose from: auto, cpu, cuda."),
        ("count", "count"),
        ("count=1,2", "count=1,2: several values need a sweep: vvsbench run -m count=1,2"),
        ("count=null", "count=null: field 'count' is not Optional"),
        ("count=(", "count=(: cannot be read; a value with special characters is written KEY="),
        ("prompts.classes=3", "prompts.classes=3: Invalid value assigned"),
        ("schedule=uniform", "write schedule@decoder.schedule=NAME"),
        ("drafter=tiny", "write drafter@decoder.drafter=NAME"),
        ("drafter.checkpoint=x", "drafter.checkpoint: is a setting inside the decoder; write decoder.d"),
        ("model=/a/b.pt", "model=/a/b.pt: there is no such model (a name, not a path; files are named by settings"),
        ("study=demos", "study=demos: there is no such study. Did you mean demo?"),
        ("study.cells=[[a=b] [c=d]]", "study.cells=[[a=b] [c=d]]: cannot be read; a list is written study.cells=[A,B]"),
    ],
)
def test_a_mistake_is_one_line_with_the_key_and_the_choices(override, message):
    with pytest.raises(ConfigError) as caught:
        composed([override])
    assert len(caught.value.problems) == 1
    assert message in caught.value.problems[0]


def test_a_misspelt_setting_of_a_schedule_is_found():
    with pytest.raises(ConfigError, match=r"Did you mean decoder\.schedule\.interval\?"):
        composed(["decoder=vvs", "decoder.schedule.intervall=3"])
