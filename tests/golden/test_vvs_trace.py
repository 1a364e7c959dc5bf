"""Whole images of the speculative loop are those of the released VVS code, step by step, given its random numbers.

The recorded numbers come in through the parts of the grid: a rule that replays the uniforms of the tries in their order
and draws as the recording drew, and a loop that starts from the recorded first token and skips along recorded paths.
Everything else, trees, features, caches, schedules and bookkeeping, is the project's own under the released settings.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.golden.conftest import GoldenFolder, each_run
from tests.golden.test_eagle_drafter import head_of, sizes
from vvsbench.axes import Candidates, Guarantee, Residual
from vvsbench.decoding.acceptance import (
    AcceptanceRule,
    GreedyLantern,
    Lantern,
    Match,
    Relaxation,
    Sequential,
    Verdict,
)
from vvsbench.decoding.acceptance.sequential import Walk
from vvsbench.decoding.batch import Batch
from vvsbench.decoding.schedule import Always, Dynamic, Moment, Schedule, Uniform
from vvsbench.decoding.similarity import sorted_paths
from vvsbench.decoding.skipping import path_length
from vvsbench.decoding.speculative import Grid, Speculative, _Path
from vvsbench.decoding.trace import DecodeTrace, StepKind
from vvsbench.drafting.eagle import EagleSource
from vvsbench.drafting.growing import DynamicTree, Growth
from vvsbench.drafting.tree import TokenTree, ancestors
from vvsbench.models import checkpoints
from vvsbench.models.guidance import Guidance
from vvsbench.models.llamagen import LlamaGen, join_caption
from vvsbench.models.llamagen_layouts import to_official
from vvsbench.models.t5 import rotate_left
from vvsbench.models.transformer import Transformer
from vvsbench.sampling import Sampling

Open = Callable[[str], GoldenFolder]
LOGITS, SIMILARITY = 2e-4, 1e-5
ROUNDING = 3e-5
"""Where two scores of a tree lie closer than this, rounding may decide which node comes first."""
SURPLUS = 2
"""The released loop runs until more than N tokens are committed, and the root of its next tree is known by then."""
NEVER = (1, 1024)
"""Intervals by which the released code never skips: 0 is the only remainder of 1, and 1024 is its word for never."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every run of the fixture is replayed."""
    if "run" in metafunc.fixturenames:
        each_run(metafunc, "vvs_trace")


class Recording:
    """What the released code did in one run."""

    def __init__(self, folder: GoldenFolder, run: str) -> None:
        self.folder, self.run, self.settings = folder, run, folder.config["runs"][run]

    def __getitem__(self, name: str) -> Tensor:
        return self.folder[f"{self.run}_{name}"]

    def row(self, step: int) -> list[int]:
        """Nodes of the path that a step followed, the root included, as far as the tree has them."""
        row = self["retrieve_indices"][step, int(self["best_candidate"][step])]
        return row[row >= 0].tolist()

    def path(self, step: int) -> list[int]:
        """Tokens of that path."""
        return self["draft_tokens"][step][self.row(step)].tolist()

    def tree(self, step: int) -> tuple[Tensor, Tensor]:
        """Tokens and parents int64 [T] of the tree of a step; the root's parent is 0."""
        return self["draft_tokens"][step].long(), self["tree_parents"][step].long().clamp_min(0)

    def ordered(self, step: int) -> bool:
        """Whether no rounding can have chosen another node, or another order of the nodes."""
        return bool(self["tree_order_gap"][step] >= ROUNDING)

    def tries(self, step: int) -> list[float]:
        """Uniforms of the tries of a verified step, in the order in which they were drawn."""
        first, end = self["accept_uniform_offsets"][step : step + 2].tolist()
        return self["accept_uniforms"][first:end].tolist()

    @property
    def verified(self) -> list[int]:
        """The steps that were not skipped."""
        return (self["skipped"] == 0).nonzero()[:, 0].tolist()


def drawn(law: Tensor, uniform: float) -> Tensor:
    """Inverse CDF, int64 [1]: the first token at which the sum of a law [1, V] exceeds its share of the whole."""
    total = law.double().cumsum(-1)
    return (total / total[:, -1:] > uniform).long().argmax(-1)


@dataclass
class Judged:
    """One verified step: what the rule decided, and the law [V] of the bonus where there is one."""

    path: list[int]
    verdict: Verdict
    law: Tensor | None


class Replayed(AcceptanceRule):
    """A rule under recorded randomness: a try takes the next uniform, whichever node it is for."""

    guarantee = Guarantee.none

    def __init__(self, rule: AcceptanceRule, recording: Recording) -> None:
        self.rule, self.recording = rule, recording
        self.steps = iter(recording.verified)
        self.judgements: list[Judged] = []

    def judged(self, sampling: Sampling) -> Sampling:
        return self.rule.judged(sampling)

    def judge(self, tree: TokenTree, scores: Tensor, chance: Tensor) -> Verdict:
        step, law = next(self.steps, None), None
        assert step is not None, "the loop verifies more steps than the recording"
        if isinstance(self.rule, Walk):
            chance = self._placed(self.rule, tree, scores, iter(self.recording.tries(step)))
            node, rest = self.rule.walk(tree, scores, chance)
            assert torch.equal(self.rule.judge(tree, scores, chance).node, node), "judged otherwise than walked"
            law = rest[0]
            verdict = Verdict(node, tree.depths[0, node], drawn(rest, float(self.recording["sample_uniform"][step])))
        else:
            verdict = self.rule.judge(tree, scores, chance)
        accepted = tree.path_to(verdict.node)[0, : int(verdict.accepted) + 1]
        self.judgements.append(Judged(tree.tokens[0, accepted].tolist(), verdict, law))
        return verdict

    @staticmethod
    def _placed(rule: Walk, tree: TokenTree, scores: Tensor, uniforms: Iterator[float]) -> Tensor:
        """Walk once per try: a uniform is placed when it is known for which node it was drawn, float64 [1, T]."""
        chance = torch.full(tree.tokens.shape, 2.0, dtype=torch.float64)  # above every probability
        node: int | None = 0
        while node is not None:
            children = ((tree.parents[0] == node) & (tree.depths[0] > 0)).nonzero()[:, 0].tolist()
            node = None
            for child in children:
                uniform = next(uniforms, None)
                assert uniform is not None, "the loop tries more candidates than the recording"
                chance[0, child] = uniform
                if int(rule.walk(tree, scores, chance)[0]) == child:
                    node = child
                    break
        assert next(uniforms, None) is None, "the recording tries more candidates than the loop"
        return chance


class Watched(DynamicTree):
    """Keeps every tree that it has grown, and goes on with the recorded one where rounding may have made another."""

    def __init__(self, levels: int, top_k: int, nodes: int, recording: Recording) -> None:
        super().__init__(levels, top_k, nodes)
        self.recording = recording
        self.grown: list[TokenTree] = []

    def grow(self, growth: Growth, roots: Tensor) -> TokenTree:
        tree, step = super().grow(growth, roots), len(self.grown)
        self.grown.append(tree)
        if step == len(self.recording["skipped"]) or self.recording.ordered(step):
            return tree
        tokens, parents = (nodes[None] for nodes in self.recording.tree(step))
        visible = ancestors(parents, tree.levels)
        ran = torch.full_like(tokens, -1)  # read under other settings only
        return replace(
            tree, tokens=tokens, parents=parents, visible=visible, depths=visible.sum(-1) - 1, expansions=ran
        )


class Replay(Speculative):
    """The loop from the recorded first token, skipping along recorded paths; notes what no trace keeps."""

    def __init__(
        self, target: LlamaGen, source: EagleSource, grid: Grid, sampling: Sampling, recording: Recording
    ) -> None:
        super().__init__(target, source, grid, sampling)
        self.recording, self.begun = recording, False
        self.moments: dict[int, Moment] = {}
        self.logits: list[Tensor] = []
        self.committed: list[int] = []
        self.batch: Batch | None = None

    def _noise(self, batch: Batch, rows: Tensor | None, positions: Tensor, seed: int) -> Tensor:
        noise = super()._noise(batch, rows, positions, seed)
        if self.begun:
            return noise
        self.begun = True  # the first draw is that of the first token; see `test_prefill` for its law
        wanted = torch.full_like(noise, -float("inf"))
        wanted[..., int(self.recording["prefill_token"])] = 0.0
        return wanted

    def _path(self, batch: Batch, tree: TokenTree, seed: int) -> _Path:
        assert isinstance(self.structure, Watched)
        step = len(self.structure.grown) - 1  # the host has not heard of the last step yet
        if step >= len(self.recording["skipped"]) or not self.recording["skipped"][step]:
            return super()._path(batch, tree, seed)
        paths = {tuple(tree.tokens[0, tree.visible[0, leaf]].tolist()): leaf for leaf in leaves(tree)}
        recorded = tuple(self.recording.path(step))
        assert recorded in paths, f"the tree of step {step} lacks the path that the recording skips along"
        leaf = torch.tensor([paths[recorded]])
        return _Path(leaf, path_length(tree, leaf, self.skip))

    def _moment(self, batch: Batch, row: int, signals: list[float]) -> Moment:
        moment = super()._moment(batch, row, signals)
        self.moments[moment.step] = moment
        return moment

    def _judged(
        self, batch: Batch, tree: TokenTree, logits: Tensor, rows: Tensor, row_list: list[int], seed: int
    ) -> Verdict:
        self.logits.append(logits[0])
        return super()._judged(batch, tree, logits, rows, row_list, seed)

    def _unfinished(self, batch: Batch, row: int) -> bool:
        self.batch = batch
        self.committed.append(batch.known[row] - 1)
        return super()._unfinished(batch, row)


def leaves(tree: TokenTree) -> list[int]:
    return tree.leaves[0].nonzero()[:, 0].tolist()


class Target(LlamaGen):
    """The target of the folder: it stops where the recording did and takes its codes from there."""

    def __init__(self, folder: GoldenFolder, scale: float) -> None:
        path = folder.path / "base"
        config, _ = sizes(folder, "base", round(json.loads((path / "config.json").read_text())["block_size"] ** 0.5))
        network = Transformer(config).eval()
        checkpoints.load_strict(network, to_official(checkpoints.read(path), str(path)), str(path))
        super().__init__(network, None, Guidance(scale))
        self.spread_pads = True
        self.spec = replace(self.spec, tokens=folder.config["max_length"])
        self.codes = folder["codebook"]

    @property
    def codebook(self) -> Tensor:
        return self.codes


def conditions_of(folder: GoldenFolder) -> Tensor:
    return join_caption(*rotate_left(folder["caption"], folder["caption_mask"].bool()))


def schedule_of(settings: dict[str, Any]) -> Schedule:
    if settings["skip_policy"] == "dynamic":
        return Dynamic(threshold=settings["sim_threshold"])
    return Always() if settings["skip_interval"] in NEVER else Uniform(interval=settings["skip_interval"])


def sampling_of(settings: dict[str, Any]) -> Sampling:
    return Sampling(settings["temperature"], settings["top_k"], settings["top_p"], top_p_first=True)


def rule_of(folder: GoldenFolder, settings: dict[str, Any]) -> AcceptanceRule:
    if not settings["lantern"]:
        return Sequential() if settings["temperature"] > 0 else Match()
    k = settings["lantern_k"]
    relaxation = Relaxation(folder["nearest_latents"].int()[:, : k + 1], k, settings["lantern_delta"])
    return Lantern(relaxation, Residual.released) if settings["temperature"] > 0 else GreedyLantern(relaxation)


@dataclass
class Played:
    """One run of the loop beside the recording that it replays."""

    recording: Recording
    loop: Replay
    rule: Replayed
    grown: list[TokenTree]
    tokens: Tensor
    trace: DecodeTrace


def play(folder: GoldenFolder, run: str) -> Played:
    recording = Recording(folder, run)
    settings, shape = recording.settings, folder.config["tree"]
    target = Target(folder, settings["cfg"])
    rule = Replayed(rule_of(folder, settings), recording)
    # the released depth counts the levels below the first
    structure = Watched(shape["depth"] + 1, shape["top_k"], shape["total_tokens"], recording)
    grid = Grid(structure, Candidates.top_k, rule, schedule_of(settings), surplus=SURPLUS)
    sampling = sampling_of(settings)
    loop = Replay(target, EagleSource(head_of(folder), target), grid, sampling, recording)
    tokens, trace = loop.generate(conditions_of(folder), [0], seed=0)
    return Played(recording, loop, rule, structure.grown, tokens, trace)


def check_steps(played: Played) -> None:
    """Skips, lengths, accepted tokens and target forwards."""
    recording, (steps,) = played.recording, played.trace.steps
    skipped = [step.kind is StepKind.SKIPPED for step in steps]
    assert skipped == recording["skipped"].bool().tolist()
    lengths = [0, *recording["length_after"].tolist()]
    assert played.loop.committed == lengths
    gained = [after - before for before, after in pairwise(lengths)]
    assert gained == recording["accept_list"].tolist()
    forwards = list(accumulate(not skip for skip in skipped))
    assert forwards == recording["target_forwards_after"].tolist()
    (row,) = played.trace.rows()
    assert row["target_forwards"] + row["prefill_forwards"] == int(recording["total_target_forwards"])
    assert (row["target_forwards"], row["prefill_forwards"]) == (forwards[-1], 1)
    end = len(recording["tokens"])
    for number, (step, before) in enumerate(zip(steps, lengths, strict=False)):
        # what lies past the end of the image is in no trace; the root is known and not yet committed
        assert step.accepted == min(int(recording["accept_length"][number]), max(0, end - before - 1)), number


def check_trees(played: Played) -> None:
    """The tree of every step: tokens and parents in their order, and the rows of its paths."""
    recording = played.recording
    assert len(played.grown) == len(recording["skipped"]) + 1  # the last one in vain
    for step, tree in enumerate(played.grown[:-1]):
        nodes, parents = recording.tree(step)
        if not recording.ordered(step):  # one tie in a beam may put another node with its children into the tree
            recorded = {token_path(nodes, parents, node) for node in range(len(nodes))}
            ours = {token_path(tree.tokens[0], tree.parents[0], node) for node in range(len(nodes))}
            assert len(ours - recorded) <= recording.folder.config["tree"]["top_k"], step
            continue
        assert torch.equal(tree.tokens[0], nodes), step
        assert torch.equal(tree.parents[0], parents), step
        rows = recording["retrieve_indices"][step]
        recorded_rows = [row[row > 0].tolist() for row in rows if row[0] == 0]
        if recording.settings["temperature"] == 0:
            recorded_rows.sort()  # the released code sorts them only where it samples
        paths, real = sorted_paths(tree)
        assert [path[path > 0].tolist() for path in paths[0][real[0]]] == recorded_rows, step


def token_path(tokens: Tensor, parents: Tensor, node: int) -> tuple[int, ...]:
    path = [int(tokens[node])]
    while node:
        node = int(parents[node])
        path.append(int(tokens[node]))
    return tuple(path)


def check_judgements(played: Played) -> None:
    """Accepted paths, bonus tokens and, for some steps, the numbers behind them."""
    recording, tensors = played.recording, played.recording.folder.tensors
    verified = zip(recording.verified, played.rule.judgements, played.loop.logits, strict=True)
    for step, judgement, logits in verified:
        accepted = int(recording["accept_length"][step])
        assert int(judgement.verdict.accepted) == accepted, step
        assert judgement.path == recording.path(step)[: accepted + 1], step
        bonus = int(recording["sampled_token"][step])
        if bonus >= 0:  # at temperature 0 nothing was drawn; there the root of the next tree shows it
            assert int(judgement.verdict.bonus) == bonus, step
        name = f"{recording.run}_{{}}_it{step}"
        if name.format("node_logits") in tensors:
            torch.testing.assert_close(logits, tensors[name.format("node_logits")], atol=LOGITS, rtol=0)
        if name.format("sample_p") in tensors:
            assert judgement.law is not None
            torch.testing.assert_close(judgement.law, tensors[name.format("sample_p")], atol=LOGITS, rtol=0)


def check_similarity(played: Played) -> None:
    """What the schedule was told, wherever the recording looked at it."""
    for step, expected in enumerate(played.recording["similarity"].tolist()):
        if expected > -2:
            (measured,) = played.loop.moments[step].signals
            assert measured == pytest.approx(expected, abs=SIMILARITY), step


def check_tokens(played: Played) -> None:
    """The image, and what was committed past its end."""
    recording, batch = played.recording, played.loop.batch
    assert batch is not None
    committed = recording["input_ids"]
    assert torch.equal(batch.tokens[0, : len(committed)], committed)
    assert torch.equal(played.tokens[0], recording["tokens"])


def test_the_loop_replays_the_released_code(golden: Open, run: str) -> None:
    played = play(golden("vvs_trace"), run)
    check_trees(played)
    check_judgements(played)
    check_steps(played)
    check_similarity(played)
    check_tokens(played)


@torch.inference_mode()
def test_prefill(golden: Open, run: str) -> None:
    recording = Recording(golden("vvs_trace"), run)
    folder, settings = recording.folder, recording.settings
    target = Target(folder, settings["cfg"])
    state = target.start(conditions_of(folder), [0], room=1)
    logits = target.transformer.logits(state.prefix_features[0, :, -1])
    torch.testing.assert_close(logits, folder["prefill_logits"], atol=LOGITS, rtol=0)
    law, uniform = sampling_of(settings).probabilities(state.first_logits), float(recording["prefill_uniform"])
    first = drawn(law, uniform) if uniform >= 0 else law.argmax(-1)  # at temperature 0 nothing was drawn
    assert int(first) == int(recording["prefill_token"])
