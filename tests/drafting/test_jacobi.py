"""What the target said in earlier rounds is what the next round proposes, and nothing of it outlives its image."""

from __future__ import annotations

import pytest
import torch

from tests.decoding.toys import autoregressive, toy_target
from vvsbench.axes import Candidates, Guarantee
from vvsbench.decoding.acceptance import Match, Sequential
from vvsbench.decoding.base import Decoder
from vvsbench.decoding.schedule import Always, Schedule, Uniform
from vvsbench.decoding.speculative import Grid, Speculative
from vvsbench.drafting.growing import Growth, StaticTree
from vvsbench.drafting.jacobi import JacobiSource, JacobiState
from vvsbench.drafting.structures import DynamicConfig, JointConfig, WindowConfig
from vvsbench.drafting.tree import TokenTree, ancestors
from vvsbench.models.toy import ToySource, ToyTarget, noisy, random_table
from vvsbench.noise import gumbel
from vvsbench.sampling import Sampling

CPU = torch.device("cpu")
TOKENS = 16
TARGET = toy_target(vocab=2, tokens=TOKENS, seed=3)
RATES = [0.5, 0.2]


def window(size: int, siblings: int) -> StaticTree:
    built = WindowConfig(window=size, siblings=siblings).build(RATES, CPU)
    assert isinstance(built, StaticTree)
    return built


def jacobi(
    size: int = 6,
    siblings: int = 3,
    source: type[JacobiSource] = JacobiSource,
    schedule: Schedule | None = None,
    target: ToyTarget = TARGET,
) -> Speculative:
    grid = Grid(window(size, siblings), Candidates.shared_noise, Match(), schedule or Always())
    return Speculative(target, source(target), grid, Sampling())


def generate(decoder: Decoder, images: range | list[int], rows: int = 0) -> tuple[torch.Tensor, list[tuple[int, int]]]:
    """Tokens, and each image's forwards."""
    conditions = decoder.target.conditions([0] * len(images))
    tokens, traces = decoder.generate_all(conditions, images, 0, rows or len(images))
    found = [row for trace in traces for row in trace.rows()]  # type: ignore[attr-defined]
    return tokens, sorted((row["image"], row["target_forwards"]) for row in found)


@pytest.mark.parametrize(("size", "siblings"), [(2, 0), (6, 0), (6, 3), (TOKENS, 6), (3 * TOKENS, 0)])
@pytest.mark.parametrize("rows", [1, 7, 30])
def test_tokens_are_those_of_ar_for_any_window_also_one_past_the_end(size: int, siblings: int, rows: int) -> None:
    expected, _ = generate(autoregressive(TARGET), range(30))
    decoder = jacobi(size, siblings)
    assert decoder.guarantee is Guarantee.exact
    tokens, forwards = generate(decoder, range(30), rows)
    assert torch.equal(tokens, expected)
    assert sum(count for _, count in forwards) < 30 * (TOKENS - 1)
    assert all(row["draft_forwards"] == 0 for row in decoder.generate(TARGET.conditions([0]), [0], 0)[1].rows())


def test_a_wider_window_and_siblings_save_forwards() -> None:
    counts = [sum(n for _, n in generate(jacobi(*sizes), range(200))[1]) for sizes in ((2, 0), (6, 0), (6, 3), (16, 6))]
    assert counts == sorted(counts, reverse=True)
    assert len(set(counts)) == len(counts)


class Kept(JacobiSource):
    """Wrong on purpose: the next image of a row goes on from what was said of the one before."""

    def place(self, state: JacobiState, rows: list[int], fresh: JacobiState) -> None:
        laws = state.laws.clone()
        super().place(state, rows, fresh)
        state.laws.copy_(laws)


class Thrown(JacobiSource):
    """Wrong on purpose: what lies behind a rejection is forgotten."""

    def extend(self, state: JacobiState, features: torch.Tensor, tokens: torch.Tensor, added: torch.Tensor) -> None:
        super().extend(state, features, tokens, added)
        state.laws.zero_()


@pytest.mark.parametrize("rows", [1, 3])
def test_forwards_do_not_depend_on_who_had_the_row_before(rows: int) -> None:
    _, alone = generate(jacobi(), range(40), 40)
    assert generate(jacobi(), range(40), rows)[1] == alone
    tokens, kept = generate(jacobi(source=Kept), range(40), rows)
    assert kept != alone
    assert torch.equal(tokens, generate(autoregressive(TARGET), range(40))[0])  # match forgives any proposal


def test_guesses_that_survive_a_rejection_are_what_saves_forwards() -> None:
    """On a target whose tokens hang from their position more than from their context, as an image's do."""
    vocab, tokens = 3, 8
    lengths = [length for length in range(tokens) for _ in range(vocab**length)]
    place = torch.randn(tokens, vocab, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    target = ToyTarget(2 * place[lengths] + random_table(vocab, tokens, seed=1, spread=0.3), tokens)
    kept, thrown = (
        sum(n for _, n in generate(jacobi(source=one, target=target), range(100))[1]) for one in (JacobiSource, Thrown)
    )
    assert kept < 0.7 * thrown


def test_skips_leave_a_position_with_the_guess_that_it_had() -> None:
    decoder = jacobi(schedule=Uniform(interval=2, first_tokens=0))
    together, _ = generate(decoder, range(12))
    alone = torch.cat([generate(decoder, [image])[0] for image in range(12)])
    assert torch.equal(together, alone)


def test_the_laws_are_those_of_the_positions() -> None:
    """After a round a position's law is what the target said there, and beyond the window that of the row above."""
    source, levels = JacobiSource(TARGET), 3
    source.side = 2
    begun = TARGET.start(TARGET.conditions([0, 0]), [0, 1], 20)
    state = source.start(begun, torch.tensor([1, 0]), 8, levels)
    assert torch.equal(source.ahead(state, 4), begun.first_logits[:, None].expand(-1, 4, -1))
    decoder = jacobi(levels + 1, 2)
    noise = gumbel(0, torch.tensor([[0], [1]]), torch.arange(1, levels + 2), 2)
    growth = Growth(source, state, Sampling(), Candidates.shared_noise, noise, scored=False)
    tree = decoder.structure.grow(growth, torch.tensor([1, 0]))
    said = torch.arange(2 * decoder.structure.nodes * 2, dtype=torch.float64).view(2, -1, 2)
    source.observe(state, torch.arange(2), tree, said, torch.tensor([True, False]))
    source.extend(state, begun.prefix_features, torch.zeros(2, 1, dtype=torch.long), torch.tensor([2, 1]))
    nodes, _ = tree.first_of_depths
    spine = said[0, nodes[0]]  # what was said of the positions 1, 2, 3, 4
    assert torch.equal(source.ahead(state, 6)[0], spine[[2, 3, 2, 3, 2, 3]])  # 3, 4, then by rows of two
    assert torch.equal(source.ahead(state, 6)[1], begun.first_logits[1].expand(6, -1))  # it did not verify


@pytest.mark.parametrize("candidates", [Candidates.top_k, Candidates.sampled])
def test_other_candidates_go_with_the_window_and_stay_exact(candidates: Candidates) -> None:
    grid = Grid(window(4, 2), candidates, Sequential(), Always())
    decoder = Speculative(TARGET, JacobiSource(TARGET), grid, Sampling())
    assert decoder.guarantee is Guarantee.exact
    together, forwards = generate(decoder, range(20))
    refilled, same = generate(decoder, range(20), 3)
    assert torch.equal(refilled, together)
    assert same == forwards


def test_a_drafters_tree_and_a_window_are_one_tree() -> None:
    """All paths of both, and no path that neither has; together they save what the better of them saves, or more."""
    config = JointConfig(tree=DynamicConfig(depth=2, nodes=5, top_k=2), window=WindowConfig(window=5, siblings=2))
    config.stale.hit_rates = list(RATES)
    structure = config.build(RATES, CPU)
    drafter = ToySource(noisy(TARGET.table, 1.0, seed=7))
    grid = Grid(structure, Candidates.shared_noise, Match(), Always())
    decoder = Speculative(TARGET, config.source(drafter, TARGET), grid, Sampling())
    grown: list[TokenTree] = []
    grow = structure.grow

    def seen(growth: Growth, roots: torch.Tensor) -> TokenTree:
        grown.append(grow(growth, roots))
        return grown[-1]

    decoder.structure.grow = seen  # type: ignore[method-assign]
    tokens, forwards = generate(decoder, range(40), 7)
    assert torch.equal(tokens, generate(autoregressive(TARGET), range(40))[0])
    for tree in grown[:3]:
        assert tree.tokens.shape[1] == structure.nodes == 7 + 5 - 1
        parents = tree.parents.expand(len(tree.tokens), -1)
        assert torch.equal(ancestors(parents, tree.levels), tree.visible.expand(len(tree.tokens), -1, -1))
        assert torch.equal(tree.visible.expand(len(parents), -1, -1).sum(-1) - 1, tree.depths.expand(len(parents), -1))
    one = Grid(config.tree.build(RATES, CPU), Candidates.shared_noise, Match(), Always())
    alone = generate(Speculative(TARGET, drafter, one, Sampling()), range(40))[1]
    assert sum(n for _, n in forwards) < sum(n for _, n in alone)
