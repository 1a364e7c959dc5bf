"""The fastest shape follows from what rounds cost and what trees are worth."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vvsbench import cli
from vvsbench.measure import tune

RATES = [0.6, 0.2, 0.1, 0.05]
SHAPES = [*tune.fitted(RATES), *tune.windows(RATES, most=6, siblings=6)]


@given(st.tuples(*[st.floats(0.1, 2.0)] * 4))
def test_the_curve_finds_the_costs_that_rounds_were_made_of(factors: tuple[float, ...]) -> None:
    true = tune.Costs(factors)
    probes = [*tune.spread(list(tune.fitted(RATES)), 8), *tune.spread(list(tune.windows(RATES)), 4)]
    found = tune.Costs.fit(probes, [true.of(shape) for shape in probes])
    assert all(found.of(shape) == pytest.approx(true.of(shape), rel=1e-6) for shape in SHAPES)


def test_shapes_are_closed_under_ancestors_and_differ() -> None:
    assert len({shape.paths for shape in tune.fitted(RATES)}) == len(list(tune.fitted(RATES)))
    for shape in SHAPES:
        known = {(), *shape.paths}
        assert all(path[:-1] in known for path in shape.paths)


def test_a_machine_whose_nodes_are_dear_gets_a_small_tree_and_one_whose_rounds_are_dear_a_large_one() -> None:
    shapes = list(tune.fitted(RATES))
    dear_nodes = tune.ranked(shapes, RATES, tune.Costs((0.8, 0.05, 0.2, 0.0)))[0]
    dear_rounds = tune.ranked(shapes, RATES, tune.Costs((1.2, 0.0, 0.001, 0.0)))[0]
    assert dear_nodes.shape.nodes < 8 < dear_rounds.shape.nodes
    assert dear_nodes.speed_up > 1


def test_a_decoder_is_not_for_the_user_to_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["tune", "model=tiny", "decoder=sd"]) == 2
    assert "tune tries the lossless ones itself" in capsys.readouterr().err
