from __future__ import annotations

from typing import Any

from vvsbench.analysis.settings import ABSENT, families, firsts, setting


def decoder(name: str, schedule: str | None = None, **more: Any) -> dict[str, Any]:
    return {"decoder": {"name": name, **({"schedule": {"name": schedule}} if schedule else {}), **more}}


def test_settings_are_found_by_dotted_names() -> None:
    config = decoder("vvs", "uniform", drafter={"kind": "oracle", "noise": 0.5})
    assert setting(config, "decoder.drafter.noise") == 0.5
    assert setting(config, "decoder.schedule") == "uniform"  # of a group the chosen option
    assert setting(config, "decoder.drafter") == "oracle"
    assert setting(config, "decoder.skip.selector") is ABSENT
    assert setting(config, "decoder.name.first") is ABSENT


def test_the_first_declared_decoder_of_each_setting() -> None:
    configs = [decoder("masked", steps=steps) for steps in (4, 64, 16)]
    declared = [["decoder=masked", "decoder.steps=64"], ["decoder=masked"], ["decoder=masked", "decoder.steps=16"]]
    assert firsts(configs, ["s"] * 3, declared) == {"s": configs[1]["decoder"]}
    assert firsts(configs, ["a", "b", "a"], declared) == {"b": configs[1]["decoder"], "a": configs[0]["decoder"]}
    assert firsts(configs, ["s"] * 3, []) == {"s": configs[0]["decoder"]}  # undeclared: the first that ran


def test_families_share_their_settings_and_have_the_shortest_names() -> None:
    keys = ["decoder.name", "decoder.schedule.name"]
    configs = [decoder("ar"), decoder("sd", "always"), decoder("vvs", "uniform"), decoder("vvs", "dynamic")]
    assert families(configs, keys) == ["ar", "sd", "vvs uniform", "vvs dynamic"]
    assert families([*configs[:3], configs[2]], keys) == ["ar", "sd", "vvs", "vvs"]


def test_a_family_of_a_number_says_what_it_is_the_number_of() -> None:
    configs = [decoder("sd", noise=0.5), decoder("sd", noise=1.0), decoder("ar")]
    assert families(configs, ["decoder.name", "decoder.noise"]) == ["sd noise=0.5", "sd noise=1.0", "ar"]


def test_a_cell_without_any_of_the_settings_is_named_by_its_decoder() -> None:
    assert families([decoder("ar"), decoder("vvs", "uniform")], ["decoder.schedule.name"]) == ["ar", "uniform"]
