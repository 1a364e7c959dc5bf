"""The one speculative loop: draft a tree, then verify it or skip the verification.

Speculative decoding, LANTERN and VVS are settings of its parts: draft source, structure, candidates, acceptance rule,
verify schedule. Every row of the batch has its own length, accepts its own number of tokens, skips when its own
schedule says so and leaves the batch when it is finished. A step reads the device once, to learn how many tokens
every row gained; a schedule that asks for signals of the tree reads it a second time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from vvsbench.axes import Candidates, Features, Guarantee, Recheck
from vvsbench.decoding.acceptance import AcceptanceRule, Match, Verdict
from vvsbench.decoding.base import Decoder
from vvsbench.decoding.batch import Batch, Gain, GainOnHost
from vvsbench.decoding.schedule import Moment, Schedule
from vvsbench.decoding.settings import AblationConfig, SkipConfig
from vvsbench.decoding.skipping import choose_leaf, first_leaf, last_features, path_length
from vvsbench.decoding.trace import CallCounter, DecodeTrace, Origin, StepKind, StepLog
from vvsbench.drafting.growing import Growth, Structure
from vvsbench.drafting.protocols import DraftSource
from vvsbench.drafting.tree import TokenTree
from vvsbench.models.protocols import Block, TokenModel
from vvsbench.noise import Purpose, gumbel, uniform
from vvsbench.sampling import Sampling, draw


@dataclass(frozen=True)
class Grid:
    """A point of the grid: everything that makes a speculative decoder beside its models and its sampling setting.

    Attributes:
        structure: which nodes a tree has.
        candidates: which tokens a node proposes.
        rule: which part of a verified tree is accepted.
        schedule: which steps are skipped.
        skip: what a skipped step commits.
        ablation: studies that change verified steps.
        sharpness: of the drafter, see `Growth`.
        surplus: tokens decided past the end of an image before its loop stops; the released VVS code has 2.
    """

    structure: Structure
    candidates: Candidates
    rule: AcceptanceRule
    schedule: Schedule
    skip: SkipConfig = field(default_factory=SkipConfig)
    ablation: AblationConfig = field(default_factory=AblationConfig)
    sharpness: float = 1.0
    surplus: int = 0


@dataclass
class _Path:
    """What a skip would commit: the path to a leaf [B], followed for so many nodes [B], the root included."""

    leaf: Tensor
    nodes: Tensor


class Speculative(Decoder):
    """Drafts with one model and verifies with another, or skips the verification.

    Args:
        target: the model whose distribution is wanted.
        source: proposes tokens.
        grid: everything else.
        sampling: how guided logits become a distribution, for target and drafter alike.
    """

    target: TokenModel[Any]

    def __init__(self, target: TokenModel[Any], source: DraftSource[Any], grid: Grid, sampling: Sampling) -> None:
        self.target, self.source, self.grid, self.sampling = target, source, grid, sampling
        self.structure, self.skip = grid.structure, grid.skip
        self.candidates, self.drafting = grid.candidates, sampling
        """What trees are grown with."""
        if sampling.greedy and grid.candidates is not Candidates.sampled:
            # every law is one token and noise decides nothing: rank by what the drafter says unsharpened (EAGLE-2)
            self.candidates, self.drafting = Candidates.top_k, Sampling()
        self.end = target.spec.tokens + grid.surplus
        """Known tokens at which an image is finished."""
        self.reach = self.structure.levels + 1
        """The most tokens that a step can add."""
        self.chain = self.skip.in_a_row * self.structure.levels if grid.schedule.ever_skips else 0
        """The most tokens that can be pending."""
        wanted = self.skip.scored or bool(grid.schedule.signals)
        self.scored = self.structure.scored or (grid.schedule.ever_skips and wanted)

    @property
    def guarantee(self) -> Guarantee:
        """The rule's own, unless tokens that are not the target's stay in the image: then none."""
        taken_back = self.skip.recheck is Recheck.rollback and isinstance(self.grid.rule, Match)
        unverified = self.grid.schedule.ever_skips and not taken_back
        return Guarantee.none if unverified or self.grid.ablation.changes else self.grid.rule.guarantee

    @torch.inference_mode()
    def generate(self, conditions: Tensor, images: Sequence[int], seed: int) -> tuple[Tensor, DecodeTrace]:
        """See `Decoder.generate`."""
        with (
            CallCounter().watching(self.target.network) as target_calls,
            CallCounter().watching(self.source.network) as draft_calls,
        ):
            tokens, origin, steps = self._generate(conditions, images, seed)
        return tokens, DecodeTrace(list(images), origin, steps, target_calls, draft_calls)

    def _generate(
        self, conditions: Tensor, images: Sequence[int], seed: int
    ) -> tuple[Tensor, Tensor, list[list[StepLog]]]:
        length = self.target.spec.tokens
        margin = self.end - length + self.chain + self.reach
        steps: list[list[StepLog]] = [[] for _ in images]
        state = self.target.start(conditions, images, room=self.structure.nodes + margin)
        first = self._first(state.first_logits, images, seed)
        stale = max([self.skip.staleness, *self.grid.ablation.staleness])
        features = state.prefix_features[:, :, -1:]
        batch = Batch.begin(images, first, features, length + margin, 2 * self.reach + self.chain + stale)
        draft = self.source.start(state, first, room=self.structure.expanded + margin)
        tokens, origin = batch.tokens.clone(), batch.origin.clone()
        alive = [row for row in range(len(images)) if self._unfinished(batch, row)]
        while alive:
            tree = self.structure.grow(self._growth(batch, draft, seed), batch.roots)
            path = self._path(batch, tree, seed) if self.grid.schedule.ever_skips else None
            skips = self._due(batch, tree, path)
            gain = self._gain(state, draft, batch, tree, path, skips, seed)
            numbers = gain.on_host()  # the one synchronisation of the step
            _log(steps, batch, skips, numbers, length)
            before = batch.known.copy()
            batch.take_in(gain, numbers, skips)
            self.target.commit(state, gain.kept, gain.added, batch.cached)
            alive = [row for row in range(len(batch.rows)) if self._unfinished(batch, row)]
            if len(alive) < len(batch.rows):
                tokens[batch.rows], origin[batch.rows] = batch.tokens, batch.origin
                if not alive:
                    break
                batch.keep(alive)
                numbers, before = [numbers[row] for row in alive], [before[row] for row in alive]
                gain = gain.take(torch.tensor(alive, device=tokens.device))
                self.target.select(state, alive, batch.cached)
                self.source.select(draft, alive, before)
            if any(number.rewound for number in numbers):
                kept = [known - number.rewound for known, number in zip(before, numbers, strict=True)]
                self.source.rewind(draft, gain.rewound, kept)
            self.source.extend(draft, gain.features, gain.tokens, gain.count, batch.known)
        return tokens[:, :length], origin[:, :length], steps

    def _first(self, logits: Tensor, images: Sequence[int], seed: int) -> Tensor:
        """The first token int64 [B] of every image, from its guided logits [B, V]."""
        keys = torch.tensor(list(images), device=logits.device)
        noise = gumbel(seed, keys, torch.zeros_like(keys), self.target.spec.vocab)
        return draw(self.sampling.scores(logits), noise)

    def _unfinished(self, batch: Batch, row: int) -> bool:
        """Whether tokens are missing, or some must not stay as they are."""
        return batch.known[row] < self.end or (self.skip.recheck is Recheck.rollback and batch.pending[row] > 0)

    def _growth(self, batch: Batch, draft: Any, seed: int) -> Growth:
        """The noise of the next positions and everything else that a tree is grown with."""
        keys, vocab = batch.keys[:, None], self.target.spec.vocab
        positions = batch.known_count[:, None] + torch.arange(self.reach, device=self.target.device)
        own = None
        if self.candidates is Candidates.sampled:
            own = gumbel(seed, keys, positions[:, :-1], vocab, Purpose.DRAFT)
        return Growth(
            source=self.source,
            state=draft,
            sampling=self.drafting,
            candidates=self.candidates,
            noise=gumbel(seed, keys, positions, vocab),
            own_noise=own,
            sharpness=self.grid.sharpness,
            scored=self.scored,
        )

    def _path(self, batch: Batch, tree: TokenTree, seed: int) -> _Path:
        """What a skip would commit."""
        chance = uniform(seed, batch.keys, batch.known_count, Purpose.SKIP_PATH)
        leaf = choose_leaf(tree, self.skip.selector, chance, self.target.codebook)
        return _Path(leaf, path_length(tree, leaf, self.skip))

    def _due(self, batch: Batch, tree: TokenTree, path: _Path | None) -> list[bool]:
        """Which rows skip this step."""
        rows = zip(batch.in_a_row, batch.known, strict=True)
        free = [skips < self.skip.in_a_row and known < self.end for skips, known in rows]
        if path is None or not any(free):
            return [False] * len(free)
        asked = self.grid.schedule.signals
        signals: list[list[float]] = [[] for _ in free]
        if asked:
            measured = [one.measure(tree, path.leaf, path.nodes - 1, self.target.codebook) for one in asked]
            signals = torch.stack(measured, 1).tolist()
        return [
            may and self.grid.schedule.skips(self._moment(batch, row, signals[row])) for row, may in enumerate(free)
        ]

    def _moment(self, batch: Batch, row: int, signals: list[float]) -> Moment:
        """What the schedule may know of a row that could skip; the row remembers what it was shown."""
        before = batch.signals[row]
        batch.signals[row] = [*before, signals]
        return Moment(
            step=batch.steps[row],
            committed=batch.known[row] - 1,
            tokens=self.target.spec.tokens,
            accepted=batch.accepted[row],
            skipped=batch.skipped[row],
            signals=signals,
            before=before,
        )

    def _gain(
        self, state: Any, draft: Any, batch: Batch, tree: TokenTree, path: _Path | None, skips: list[bool], seed: int
    ) -> Gain:
        """Skip or verify every row; rows that skip take no part in the target's forward."""
        verifying = [row for row, skip in enumerate(skips) if not skip]
        if len(verifying) == len(skips):
            return self._verify(state, batch, tree, verifying, seed)
        assert path is not None
        skipped = self._skip(draft, batch, tree, path)
        if not verifying:
            return skipped
        rows = torch.tensor(verifying, device=tree.tokens.device)
        return skipped.replace(rows, self._verify(state, batch, tree.take(rows), verifying, seed))

    def _verify(self, state: Any, batch: Batch, tree: TokenTree, verifying: list[int], seed: int) -> Gain:
        """One target forward over the pending chains and the trees of some rows."""
        rows = torch.tensor(verifying, device=tree.tokens.device)
        pending, known = batch.pending_count[rows], batch.known_count[rows]
        width = max(batch.pending[row] for row in verifying)
        block = _chain_and_tree(batch.tokens[rows], known, pending, width, tree)
        block.rows = rows if len(verifying) < len(batch.rows) else None
        logits, features = self.target.forward(state, block)
        verdict = self._judged(batch, tree, logits[:, width:], verifying, seed)
        path = tree.path_to(verdict.node)
        seen = _Chain(features[:, :, :width], pending, torch.full_like(pending, -1), torch.zeros_like(pending))
        if width and self.skip.recheck is not Recheck.none:
            seen = self._rechecked(batch, rows, logits[:, :width], seen, seed)
        on_path = features[:, :, width:].gather(2, _wide(path, features))
        length = torch.where(seen.rolled > 0, 0, verdict.accepted + 1)
        batch.remember(rows, seen.features, seen.count, on_path, length)
        return self._verified(batch, rows, tree, verdict, path, on_path, seen, width)

    def _judged(self, batch: Batch, tree: TokenTree, logits: Tensor, verifying: list[int], seed: int) -> Verdict:
        """What the rule accepts of the trees, from the guided logits [R, T, V] at their nodes."""
        rows = torch.tensor(verifying, device=logits.device)
        positions = batch.known_count[rows, None] - 1 + tree.depths
        chance = uniform(seed, batch.keys[rows, None], positions, Purpose.ACCEPTANCE, tree.tokens)
        rule, ablation = self.grid.rule, self.grid.ablation
        verdict = rule.judge(tree, rule.judged(self.sampling).scores(logits), chance)
        swapped = [ablation.swaps(batch.steps[row]) for row in verifying]
        if not any(swapped):
            return verdict
        other = tree.path_to(first_leaf(tree))
        depth = tree.depths.expand(len(rows), -1).gather(1, other[:, -1:])[:, 0].minimum(verdict.accepted)
        swap = torch.tensor(swapped, device=rows.device)
        node = torch.where(swap, other.gather(1, depth[:, None])[:, 0], verdict.node)
        return Verdict(node, torch.where(swap, depth, verdict.accepted), verdict.bonus)

    def _rechecked(self, batch: Batch, rows: Tensor, logits: Tensor, chain: _Chain, seed: int) -> _Chain:
        """Compare skipped tokens with what the target would have drawn, from the chain's guided logits [R, W, V]."""
        slot = torch.arange(logits.shape[1], device=logits.device)
        positions = (batch.known_count[rows] - chain.count)[:, None] + slot
        noise = gumbel(seed, batch.keys[rows, None], positions, logits.shape[-1])
        wanted = draw(self.sampling.scores(logits), noise)
        real = slot < chain.count[:, None]
        alike = (wanted == batch.tokens[rows].gather(1, positions)) | ~real
        agreed = torch.where(chain.count > 0, (alike & real).sum(1), -1)
        if self.skip.recheck is not Recheck.rollback:
            return _Chain(chain.features, chain.count, agreed, chain.rolled)
        rolled = ~alike.all(1)
        first = (~alike).long().argmax(1)
        count = torch.where(rolled, first + 1, chain.count)
        corrected = wanted.gather(1, first[:, None])[:, 0]
        return _Chain(chain.features, count, agreed, rolled.long(), corrected)

    def _verified(
        self,
        batch: Batch,
        rows: Tensor,
        tree: TokenTree,
        verdict: Verdict,
        path: Tensor,
        on_path: Tensor,
        chain: _Chain,
        width: int,
    ) -> Gain:
        """What the verification of some rows adds: the accepted path, behind the chain where that is decided anew."""
        tokens = torch.cat([tree.tokens.gather(1, path)[:, 1:], torch.zeros_like(path[:, :1])], 1)
        tokens = tokens.scatter(1, verdict.accepted[:, None], verdict.bonus[:, None])
        added = chain.count + torch.where(chain.rolled > 0, 0, verdict.accepted + 1)
        gain = Gain(
            tokens=tokens,
            origin=_origins(tokens, verdict.accepted, Origin.ACCEPTED),
            features=self._continued(batch, rows, on_path, verdict.accepted + 1),
            count=verdict.accepted + 1,
            rewound=torch.zeros_like(verdict.accepted),
            accepted=torch.where(chain.rolled > 0, 0, verdict.accepted),
            agreed=chain.agreed,
            rolled=chain.rolled,
            kept=_behind(
                torch.arange(width, device=path.device).expand(len(path), -1), path + width, chain, self.chain
            ),
            added=added,
        )
        return self._with_chain(gain, batch, rows, on_path, chain, width) if self.skip.rewinds else gain

    def _with_chain(self, gain: Gain, batch: Batch, rows: Tensor, on_path: Tensor, chain: _Chain, width: int) -> Gain:
        """The same with the skipped tokens in front, as far as they stay, and the features that belong to them."""
        pending, known = batch.pending_count[rows], batch.known_count[rows]
        slot = torch.arange(width, device=known.device)
        skipped = batch.tokens[rows].gather(1, (known - pending)[:, None] + slot)
        marks = torch.full_like(skipped, Origin.SKIPPED, dtype=torch.int8)
        gain.tokens = _behind(skipped, gain.tokens, chain, self.chain)
        gain.origin = _behind(marks, gain.origin, chain, self.chain)
        if chain.corrected is not None:
            last, rolled = (chain.count - 1).clamp_min(0)[:, None], chain.rolled[:, None] > 0
            kept = gain.tokens.gather(1, last), gain.origin.gather(1, last)
            drawn = torch.full_like(kept[1], Origin.DRAWN)
            gain.tokens = gain.tokens.scatter(1, last, torch.where(rolled, chain.corrected[:, None], kept[0]))
            gain.origin = gain.origin.scatter(1, last, torch.where(rolled, drawn, kept[1]))
        gain.features = _behind(chain.features.transpose(1, 2), gain.features.transpose(1, 2), chain, self.chain)
        gain.features = gain.features.transpose(1, 2)
        gain.count, gain.rewound = gain.added, pending
        return gain

    def _continued(self, batch: Batch, rows: Tensor, fresh: Tensor, count: Tensor) -> Tensor:
        """What the drafter goes on from after a verified step: the fresh features [R, G, M, D], or older ones."""
        index = rows.tolist() if self.grid.ablation.staleness else []
        stale = [self.grid.ablation.stale(batch.steps[row], batch.known[row] - 1) for row in index]
        if all(value < 0 for value in stale):
            return fresh
        back = torch.tensor(stale, device=fresh.device)
        older = last_features(batch.recent[rows], count, fresh.shape[2], count + back.clamp_min(0))
        return torch.where((back < 0)[:, None, None, None], fresh, older)

    def _skip(self, draft: Any, batch: Batch, tree: TokenTree, choice: _Path) -> Gain:
        """Follow one path of the tree without asking the target; its last token becomes the next root."""
        path, count = tree.path_to(choice.leaf), choice.nodes - 1
        nothing = torch.zeros_like(count)
        room = self.chain if self.skip.rewinds else 0
        if self.skip.features is Features.reuse:
            features = last_features(batch.recent, count, path.shape[1], self.skip.staleness)
        else:
            features = self.source.predicted(draft, tree.expansions.expand(len(path), -1).gather(1, path))
        tokens = torch.nn.functional.pad(tree.tokens.gather(1, path)[:, 1:], (0, 1 + room))
        return Gain(
            tokens=tokens,
            origin=_origins(tokens, count, Origin.SKIPPED),
            features=torch.nn.functional.pad(features, (0, 0, 0, room)),
            count=count,
            rewound=nothing,
            accepted=count,
            agreed=nothing - 1,
            rolled=nothing,
            kept=path.new_zeros(len(path), self.chain + path.shape[1]),
            added=nothing,
        )


@dataclass
class _Chain:
    """Skipped tokens as the target sees them one step later.

    Attributes:
        features: [R, G, W, D].
        count: int64 [R], tokens that stay in the target's cache.
        agreed, rolled: as in `Gain`.
        corrected: int64 [R], the target's own token where the chain is taken back.
    """

    features: Tensor
    count: Tensor
    agreed: Tensor
    rolled: Tensor
    corrected: Tensor | None = None


def _behind(front: Tensor, back: Tensor, chain: _Chain, room: int) -> Tensor:
    """The first chain.count[r] columns of front [R, W, ...], then all of back [R, M, ...]: [R, room + M, ...]."""
    width, column = front.shape[1], torch.arange(room + back.shape[1], device=front.device)
    after = (column - chain.count[:, None]).clamp(0, back.shape[1] - 1)
    index = torch.where(column < chain.count[:, None], column, width + after)
    both = torch.cat([front, back.to(front.dtype)], 1)
    return both.gather(1, index.view(*index.shape, *[1] * (both.ndim - 2)).expand(-1, -1, *both.shape[2:]))


def _origins(tokens: Tensor, drafted: Tensor, kind: Origin) -> Tensor:
    """Int8 [R, M]: `kind` for the first drafted[r] tokens, drawn for the rest."""
    column = torch.arange(tokens.shape[1], device=tokens.device)
    return torch.where(column < drafted[:, None], kind, Origin.DRAWN).to(torch.int8)


def _chain_and_tree(tokens: Tensor, known: Tensor, pending: Tensor, width: int, tree: TokenTree) -> Block:
    """The pending chains, right-padded to `width`, in front of the trees, as one block behind each row's cache.

    Args:
        tokens: int64 [R, N + margin], known tokens.
        known, pending: int64 [R].
        width: the longest chain.
        tree: of the same rows.
    """
    batch, nodes = tree.tokens.shape
    if width == 0:
        return Block(tree.tokens, tree.depths, tree.visible)
    slot = torch.arange(width, device=tokens.device)
    chain = tokens.gather(1, (known - 1 - pending)[:, None] + slot)
    real = slot < pending[:, None]
    visible = torch.zeros(batch, width + nodes, width + nodes, dtype=torch.bool, device=tokens.device)
    visible[:, :width, :width] = torch.ones(width, width, dtype=torch.bool, device=tokens.device).tril()
    visible[:, width:, :width] = real[:, None]
    visible[:, width:, width:] = tree.visible
    offsets = torch.cat([slot.expand(batch, -1), pending[:, None] + tree.depths], 1)
    return Block(torch.cat([chain, tree.tokens], 1), offsets, visible)


def _wide(index: Tensor, features: Tensor) -> Tensor:
    """Positions [R, K] as an index into features [R, G, T, D]."""
    return index[:, None, :, None].expand(-1, features.shape[1], -1, features.shape[3])


def _log(
    steps: list[list[StepLog]], batch: Batch, skips: Sequence[bool], numbers: Sequence[GainOnHost], length: int
) -> None:
    """Note what each image did in this step, without the tokens that lie past its end."""
    for place, skip, number, known in zip(batch.rows, skips, numbers, batch.known, strict=True):
        after = known + number.count - number.rewound
        steps[place].append(
            StepLog(
                kind=StepKind.SKIPPED if skip else StepKind.VERIFIED,
                tokens=min(after, length) - min(known, length),
                accepted=min(number.accepted, max(0, length - known)),
                agreed=number.agreed if number.agreed >= 0 else None,
                rolled_back=bool(number.rolled),
            )
        )
