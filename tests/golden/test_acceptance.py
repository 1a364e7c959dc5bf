"""The sequential rule and LANTERN's relaxation decide as the authors' `evaluate_posterior` does, given its uniforms."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from tests.golden.conftest import GoldenFolder
from vvsbench.axes import Residual
from vvsbench.decoding.acceptance import GreedyLantern, Lantern, Match, Relaxation, Sequential
from vvsbench.decoding.acceptance.neighbours import nearest
from vvsbench.drafting.tree import TokenTree
from vvsbench.sampling import Sampling

Open = Callable[[str], GoldenFolder]


def tree_of(folder: GoldenFolder, case: str, order: torch.Tensor | None = None) -> TokenTree:
    """The tree of a case, with its nodes numbered in another order if one is given."""
    tokens, parents = folder[f"{case}_tokens"], folder[f"{case}_parents"].clamp_min(0)
    if order is not None:
        tokens, parents = tokens[order], order.argsort()[parents[order]]
    tokens, parents = tokens[None], parents[None]
    nodes = parents.shape[1]
    visible = torch.eye(nodes, dtype=torch.bool)[None].clone()
    for node in range(1, nodes):
        visible[0, node] |= visible[0, parents[0, node]]
    depths = visible.sum(-1) - 1
    width = int(torch.bincount(parents[0, 1:]).max())
    levels = int(depths.max())
    noise = torch.zeros(1, levels + 1, folder[f"{case}_node_logits"].shape[1])
    return TokenTree(tokens, parents, depths, visible, noise, levels, width, parents - 1)


def placed(folder: GoldenFolder, case: str, tree: TokenTree, accepted: list[int]) -> torch.Tensor:
    """The authors' uniforms, listed in the order of the tries, at the nodes that they were drawn for."""
    chance = torch.full(tree.tokens.shape, 0.5, dtype=torch.float64)
    values = iter(folder[f"{case}_uniforms"].tolist())
    for node, following in zip(accepted, [*accepted[1:], None], strict=True):
        children = [child for child in range(1, tree.tokens.shape[1]) if int(tree.parents[0, child]) == node]
        for child in children:
            chance[0, child] = next(values)
            if child == following:
                break
    assert next(values, None) is None
    return chance


def relaxation(folder: GoldenFolder, case: str) -> Relaxation:
    """With a table that was cut to the columns that the released rule needs."""
    k, delta = int(folder[f"{case}_settings"][5]), float(folder[f"{case}_settings"][6])
    return Relaxation(folder["nearest_latents"][:, : k + 1], k, delta)


def cases(folder: GoldenFolder, sampled: bool) -> list[str]:
    every = sorted(name.removesuffix("_settings") for name in folder.tensors if name.endswith("_settings"))
    return [case for case in every if bool(folder[f"{case}_settings"][0]) is sampled]


def test_sampled_cases(golden: Open) -> None:
    folder = golden("acceptance")
    for case in cases(folder, sampled=True):
        _, temperature, top_k, top_p, relaxed, _, _ = folder[f"{case}_settings"].tolist()
        rule = Lantern(relaxation(folder, case), Residual.released) if relaxed else Sequential()
        tree = tree_of(folder, case)
        row = folder[f"{case}_retrieve_indices"][int(folder[f"{case}_best_candidate"])]
        accepted = row[: int(folder[f"{case}_accept_length"]) + 1].tolist()
        scores = Sampling(temperature, int(top_k), top_p, top_p_first=True).scores(folder[f"{case}_node_logits"])[None]
        chance = placed(folder, case, tree, accepted)
        node, rest = rule.walk(tree, scores, chance)
        assert torch.equal(rule.judge(tree, scores, chance).node, node), case
        assert tree.path_to(node)[0, : len(accepted)].tolist() == accepted, case
        assert int(tree.depths[0, node[0]]) == len(accepted) - 1, case
        torch.testing.assert_close(rest[0].float(), folder[f"{case}_sample_p"], atol=1e-5, rtol=0, msg=case)


def test_greedy_cases(golden: Open) -> None:
    folder = golden("acceptance")
    for case in cases(folder, sampled=False):
        rows = folder[f"{case}_retrieve_indices"]
        # equally long paths are told apart by the number of their leaves, and these rows are sorted by path
        order = torch.tensor(list(dict.fromkeys(rows[rows >= 0].tolist())))
        tree = tree_of(folder, case, order)
        rule = GreedyLantern(relaxation(folder, case)) if folder[f"{case}_settings"][4] else Match()
        logits = folder[f"{case}_node_logits"][None, order]
        scores = rule.judged(Sampling(temperature=0.0)).scores(logits)
        verdict = rule.judge(tree, scores, torch.full(tree.tokens.shape, 0.5))
        row = rows[int(folder[f"{case}_best_candidate"])]
        accepted = int(folder[f"{case}_accept_length"])
        assert verdict.accepted.tolist() == [accepted], case
        assert int(order[verdict.node]) == int(row[accepted]), case
        torch.testing.assert_close(logits[0, verdict.node[0]], folder[f"{case}_sample_p"])
        assert verdict.bonus.tolist() == [int(folder[f"{case}_sample_p"].argmax())], case


@pytest.mark.parametrize("name", ["acceptance", "vvs_trace"])
def test_neighbour_table(golden: Open, name: str) -> None:
    """Neighbours are as far away as the recorded ones; which of two equally far ones comes first, float32 decides."""
    folder = golden(name)
    codes, table = folder["codebook"].double(), folder["nearest_latents"].long()
    squares = torch.cdist(codes, codes, compute_mode="donot_use_mm_for_euclid_dist") ** 2
    rounding = 1e-6 * float(codes.square().sum(-1).max())
    for count in (table.shape[1], 11):
        ours = nearest(folder["codebook"], count, normalised=False).long()
        assert all(len({own, *row}) == count + 1 for own, row in enumerate(ours.tolist()))
        torch.testing.assert_close(squares.gather(1, ours), squares.gather(1, table[:, :count]), atol=rounding, rtol=0)
