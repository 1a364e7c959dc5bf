"""What a search varies: read from Hydra's grammar, with alternatives, and refused where it is none."""

from __future__ import annotations

import optuna
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from vvsbench.errors import ConfigError
from vvsbench.search.space import Interval, Listed, space

PARSER = OverridesParser.create()


def read(*alternatives, added=()):
    return space(PARSER, alternatives, PARSER.parse_overrides(list(added)))


def dimension(text):
    ((found,),) = (one.open for one in read([text]).alternatives)
    return found


def test_every_form_of_hydras_grammar_is_read():
    assert dimension("decoder.a=interval(0.5,2)") == Interval("decoder.a", "decoder.a=interval(0.5,2)", 0.5, 2.0, False)
    assert dimension("decoder.a=tag(log,interval(0.5,2))").log
    whole = dimension("decoder.a=int(interval(1,9))")
    assert (whole.ends, isinstance(whole.low, int)) == (["1", "9"], True)
    steps = dimension("decoder.a=range(2,8,3)")
    assert (steps.values, steps.ordered, list(steps.ends)) == (("2", "5"), True, ["2", "5"])
    for text in ("decoder.a=choice(x,y)", "decoder.a=x,y", "decoder.a=shuffle(choice(x,y))"):
        found = dimension(text)
        assert isinstance(found, Listed)
        assert (found.values, found.ordered) == (("x", "y"), False)


def test_a_trial_has_the_settings_of_one_alternative_and_all_that_was_added():
    found = read(
        ["schedule@decoder.schedule=confident", "decoder.schedule.chance=interval(0.123456,0.123457)"],
        ["schedule@decoder.schedule=uniform", "decoder.schedule.interval=range(2,8)"],
        added=["decoder=vvs", "decoder.skip.in_a_row=choice(1,2)"],
    )
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=optuna.samplers.RandomSampler(seed=0))
    seen = {tuple(found.suggest(study.ask())) for _ in range(60)}
    assert all(words[0] == "decoder=vvs" for words in seen)
    kinds = {words[1]: words[2:] for words in seen}
    assert set(kinds) == {"schedule@decoder.schedule=confident", "schedule@decoder.schedule=uniform"}
    assert {words[3] for words in seen if "uniform" in words[1]} == {
        f"decoder.schedule.interval={i}" for i in range(2, 8)
    }
    # rounded to four digits, and not out of the interval
    assert {words[3] for words in seen if "confident" in words[1]} == {"decoder.schedule.chance=0.123456"} or {
        words[3] for words in seen if "confident" in words[1]
    } == {"decoder.schedule.chance=0.123457"}
    one = next(words for words in seen if "uniform" in words[1])
    assert found.told(one) == " ".join(["schedule=uniform", *(word.removeprefix("decoder.") for word in one[2:])])


def test_probes_put_one_value_at_a_time_at_an_end():
    (alternative,) = read(["decoder.a=interval(1,2)", "decoder.b=choice(x,y,z)"]).alternatives
    pairs = list(alternative.probes())
    assert [one for one, _ in pairs] == [
        ["decoder.a=1.0", "decoder.b=x"],
        ["decoder.a=2.0", "decoder.b=x"],
        ["decoder.a=1.0", "decoder.b=y"],
        ["decoder.a=1.0", "decoder.b=z"],
    ]
    assert [other for _, other in pairs][1:] == [
        ["decoder.a=2.0", "decoder.b=z"],
        ["decoder.a=2.0", "decoder.b=y"],
        ["decoder.a=2.0", "decoder.b=z"],
    ]


@pytest.mark.parametrize(
    ("alternative", "added", "said"),
    [
        (["decoder.a=1"], [], "search.trials has nothing to vary"),
        (["decoder.a=interval(2,1)"], [], "first end of an interval must lie below"),
        (["decoder.a=tag(log,interval(0,1))"], [], "both ends must lie above 0"),
        (["decoder.a=tag(lin,interval(0,1))"], [], "the only tag that a search knows is log"),
        (["decoder.a=range(3,3)"], [], "has no values"),
        (["seed=choice(0,1)"], [], "differ in their decoder alone"),
        (["decoder.a=interval(0,1)"], ["seed=1,2"], "seed=1,2: a search compares cells"),
        (["decoder.a=interval(0,1)"], ["decoder.a=2"], "decoder.a: search.space sets it itself"),
        (["decoder.a=interval(0,1)", "~decoder.b"], [], "cannot leave a setting out"),
    ],
)
def test_what_is_no_space_is_refused(alternative, added, said):
    with pytest.raises(ConfigError, match=said.replace("(", r"\(")):
        read(alternative, added=added)
