"""The one speculative loop: draft a tree, then verify it or skip the verification.

Speculative decoding, LANTERN and VVS are settings of its parts: draft source, structure, candidates, acceptance rule,
verify schedule. Every row of the batch has its own length, accepts its own number of tokens, skips when its own
schedule says so and leaves the batch when it is finished. A step reads the device once, to learn how many tokens
every row gained.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vvsbench.axes import Candidates, Features, Guarantee, Selector, Truncation
from vvsbench.decoding.acceptance import AcceptanceRule
from vvsbench.decoding.base import Decoder
from vvsbench.decoding.batch import Batch, Gain
from vvsbench.decoding.schedule import Schedule
from vvsbench.decoding.skipping import choose_leaf, last_features, path_length
from vvsbench.decoding.trace import CallCounter, DecodeTrace, StepKind
from vvsbench.drafting.protocols import DraftSource
from vvsbench.drafting.tree import Growth, Structure, TokenTree
from vvsbench.models.protocols import Block, TokenModel
from vvsbench.noise import Purpose, gumbel, uniform
from vvsbench.sampling import Sampling, draw


@dataclass(frozen=True)
class SkipRule:
    """What a skipped step commits."""

    selector: Selector = Selector.random
    truncation: Truncation = Truncation.dynamic
    features: Features = Features.reuse


class Speculative(Decoder):
    """Drafts with one model and verifies with another, or skips the verification.

    Args:
        target: the model whose distribution is wanted.
        source: proposes tokens.
        structure: which nodes a tree has.
        candidates: which tokens a node proposes.
        rule: which part of a verified tree is accepted.
        schedule: which steps are skipped.
        skip: what a skipped step commits.
        sampling: how guided logits become a distribution, for target and drafter alike.
    """

    def __init__(
        self,
        target: TokenModel[Any],
        source: DraftSource[Any],
        structure: Structure,
        candidates: Candidates,
        rule: AcceptanceRule,
        schedule: Schedule,
        skip: SkipRule,
        sampling: Sampling,
    ) -> None:
        self.target, self.source, self.structure, self.candidates = target, source, structure, candidates
        self.rule, self.schedule, self.skip, self.sampling = rule, schedule, skip, sampling

    @property
    def guarantee(self) -> Guarantee:
        """The rule's own, unless steps are skipped: then none."""
        return Guarantee.none if self.schedule.ever_skips else self.rule.guarantee

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
    ) -> tuple[Tensor, Tensor, list[list[tuple[StepKind, int]]]]:
        length, structure = self.target.spec.tokens, self.structure
        reach = structure.levels + 1
        steps: list[list[tuple[StepKind, int]]] = [[] for _ in images]
        state = self.target.start(conditions, images, room=structure.nodes + reach)
        keys = torch.tensor(list(images), device=self.target.device)
        noise = gumbel(seed, keys, torch.zeros_like(keys), self.target.spec.vocab)
        first = draw(self.sampling.scores(state.first_logits), noise)
        batch = Batch.begin(images, first, state.prefix_features[:, :, -1:], length, reach)
        draft = self.source.start(state, first, room=structure.expanded + reach)
        tokens, origin = batch.tokens.clone(), batch.origin.clone()
        while min(batch.known, default=length) < length:
            tree = structure.grow(self._growth(batch, draft, seed), batch.roots)
            skips = self._due(batch)
            gain = self._gain(state, draft, batch, tree, skips, seed)
            counts = gain.count.tolist()  # the one synchronisation of the step
            _log(steps, batch, skips, counts, length)
            before = batch.known
            batch.take_in(gain, counts, skips)
            self.target.commit(state, gain.kept, gain.added, batch.cached)
            alive = [row for row, known in enumerate(batch.known) if known < length]
            if len(alive) < len(batch.rows):
                tokens[batch.rows], origin[batch.rows] = batch.tokens, batch.origin
                if not alive:
                    break
                batch.keep(alive)
                gain = gain.take(torch.tensor(alive, device=tokens.device))
                self.target.select(state, alive, batch.cached)
                self.source.select(draft, alive, [before[row] for row in alive])
            self.source.extend(draft, gain.features, gain.tokens, gain.count, batch.known)
        return tokens[:, :length], origin[:, :length], steps

    def _growth(self, batch: Batch, draft: Any, seed: int) -> Growth:
        """The noise of the next positions and everything else that a tree is grown with."""
        reach = torch.arange(self.structure.levels + 1, device=self.target.device)
        noise = gumbel(seed, batch.keys[:, None], batch.known_count[:, None] + reach, self.target.spec.vocab)
        return Growth(self.source, draft, self.sampling, self.candidates, noise)

    def _due(self, batch: Batch) -> list[bool]:
        """Which rows skip this step; never two skips in a row, since one pending chain is all there is."""
        history = zip(batch.steps, batch.known, batch.skipped_last, strict=True)
        return [not last and self.schedule.skips(step, known - 1) for step, known, last in history]

    def _gain(self, state: Any, draft: Any, batch: Batch, tree: TokenTree, skips: list[bool], seed: int) -> Gain:
        """Skip or verify every row; rows that skip take no part in the target's forward."""
        verifying = [row for row, skip in enumerate(skips) if not skip]
        if not verifying:
            return self._skip(draft, batch, tree, seed)
        if len(verifying) == len(skips):
            return self._verify(state, batch, tree, verifying, seed)
        rows = torch.tensor(verifying, device=tree.tokens.device)
        return self._skip(draft, batch, tree, seed).replace(
            rows, self._verify(state, batch, tree.take(rows), verifying, seed)
        )

    def _verify(self, state: Any, batch: Batch, tree: TokenTree, verifying: list[int], seed: int) -> Gain:
        """One target forward over the pending chains and the trees of some rows."""
        rows = torch.tensor(verifying, device=tree.tokens.device)
        pending, known = batch.pending_count[rows], batch.known_count[rows]
        width = max(batch.pending[row] for row in verifying)
        block = _chain_and_tree(batch.tokens[rows], known, pending, width, tree)
        block.rows = rows if len(verifying) < len(batch.rows) else None
        logits, features = self.target.forward(state, block)
        positions = known[:, None] - 1 + tree.depths
        chance = uniform(seed, batch.keys[rows, None], positions, Purpose.ACCEPTANCE, tree.tokens)
        verdict = self.rule.judge(tree, self.rule.judged(self.sampling).scores(logits[:, width:]), chance)
        path = tree.path_to(verdict.node)
        on_path = features.gather(2, _wide(path + width, features))
        batch.remember(rows, features[:, :, :width], pending, on_path, verdict.accepted + 1)
        tokens = torch.cat([tree.tokens.gather(1, path)[:, 1:], torch.zeros_like(path[:, :1])], 1)
        return Gain(
            tokens=tokens.scatter(1, verdict.accepted[:, None], verdict.bonus[:, None]),
            features=on_path,
            count=verdict.accepted + 1,
            drafted=verdict.accepted,
            kept=self._kept(path, pending, width),
            added=pending + verdict.accepted + 1,
        )

    def _kept(self, path: Tensor, pending: Tensor, width: int) -> Tensor:
        """Slots of the block that stay, int64 [R, levels + reach]: the chain's, then those of the accepted path."""
        slot = torch.arange(self.structure.levels + path.shape[1], device=path.device)
        on_path = (slot - pending[:, None]).clamp(0, path.shape[1] - 1)
        return torch.where(slot < pending[:, None], slot, width + path.gather(1, on_path))

    def _skip(self, draft: Any, batch: Batch, tree: TokenTree, seed: int) -> Gain:
        """Follow one path of the tree without asking the target; its last token becomes the next root."""
        chance = uniform(seed, batch.keys, batch.known_count, Purpose.SKIP_PATH)
        leaf = choose_leaf(tree, self.skip.selector, chance)
        path = tree.path_to(leaf)
        count = path_length(tree, leaf, self.skip.truncation) - 1
        nothing = torch.zeros_like(count)
        if self.skip.features is Features.reuse:
            features = last_features(batch.recent, count, path.shape[1])
        else:
            features = self.source.predicted(draft, tree.expansions.expand(len(path), -1).gather(1, path))
        return Gain(
            tokens=torch.cat([tree.tokens.gather(1, path)[:, 1:], torch.zeros_like(path[:, :1])], 1),
            features=features,
            count=count,
            drafted=count,
            kept=path.new_zeros(len(path), self.structure.levels + path.shape[1]),
            added=nothing,
        )


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
    steps: list[list[tuple[StepKind, int]]], batch: Batch, skips: Sequence[bool], counts: Sequence[int], length: int
) -> None:
    """Note what each image did in this step, without the tokens that lie past its end."""
    for place, skip, count, known in zip(batch.rows, skips, counts, batch.known, strict=True):
        kind = StepKind.SKIPPED if skip else StepKind.VERIFIED
        steps[place].append((kind, min(count, length - known)))
