"""The one speculative loop: draft a tree, then verify it or skip the verification.

Speculative decoding, LANTERN and VVS are settings of its parts: draft source, structure, candidates, acceptance rule,
verify schedule. Every row of the batch has its own length, accepts its own number of tokens, skips when its own
schedule says so, and when its image is finished takes the next one of the queue, or leaves.

A step has three stages (see `engine`): draft a tree, gain tokens by verifying or skipping, settle what was gained. It
reads the device once, after the draft: how many tokens the last step gained, and what the schedule wants to know of
the new tree. So the host learns that an image is finished when a tree has been drafted for it in vain.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from vvsbench.axes import Candidates, Features, Guarantee, Recheck
from vvsbench.decoding.acceptance import AcceptanceRule, Match, Verdict
from vvsbench.decoding.base import Decoder, Finished, ignored
from vvsbench.decoding.batch import Batch, Gain, GainOnHost, Role, of_rows
from vvsbench.decoding.chain import Chain, behind, chain_and_tree
from vvsbench.decoding.engine import Charge, Eager, Engine
from vvsbench.decoding.finite import dtype_of, peak, target_logits
from vvsbench.decoding.flight import Flight, Next, Wanted
from vvsbench.decoding.phases import Phase, phase
from vvsbench.decoding.schedule import Moment, Schedule
from vvsbench.decoding.settings import AblationConfig, SkipConfig
from vvsbench.decoding.skipping import choose_leaf, first_leaf, last_features, path_length
from vvsbench.decoding.trace import CallCounter, DecodeTrace, Origin, StepKind, StepLog
from vvsbench.drafting.growing import Growth, Structure
from vvsbench.drafting.protocols import DraftSource, Redraft
from vvsbench.drafting.tree import TokenTree
from vvsbench.errors import NotFiniteError
from vvsbench.fusing import fusible
from vvsbench.models.protocols import TokenModel
from vvsbench.noise import Purpose, gumbel, gumbel_of, kept, uniform
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
        sharpness: of the drafter, see `Growth`: one for all depths, or one for each.
        surplus: tokens decided past the end of an image before its loop stops; the released VVS code has 2.
    """

    structure: Structure
    candidates: Candidates
    rule: AcceptanceRule
    schedule: Schedule
    skip: SkipConfig = field(default_factory=SkipConfig)
    ablation: AblationConfig = field(default_factory=AblationConfig)
    sharpness: float | Sequence[float] = 1.0
    surplus: int = 0


@dataclass
class _Path:
    """What a skip would commit: the path to a leaf [B], followed for so many nodes [B], the root included."""

    leaf: Tensor
    nodes: Tensor

    def take(self, rows: Tensor) -> _Path:
        """The paths of some rows."""
        return _Path(self.leaf[rows], self.nodes[rows])


class Speculative(Decoder):
    """Drafts with one model and verifies with another, or skips the verification.

    Args:
        target: the model whose distribution is wanted.
        source: proposes tokens.
        grid: everything else.
        sampling: how guided logits become a distribution, for target and drafter alike.
        engine: how steps run; eagerly by default.
    """

    target: TokenModel[Any]

    def __init__(
        self,
        target: TokenModel[Any],
        source: DraftSource[Any],
        grid: Grid,
        sampling: Sampling,
        engine: Engine | None = None,
    ) -> None:
        self.target, self.source, self.grid, self.sampling = target, source, grid, sampling
        self.engine = engine or Eager()
        self.structure, self.skip = grid.structure, grid.skip
        self.candidates, self.drafting = grid.candidates, sampling
        """What trees are grown with."""
        if sampling.greedy and not grid.candidates.drawn:
            # every law is one token and noise decides nothing: rank by what the drafter says unsharpened (EAGLE-2)
            self.candidates, self.drafting = Candidates.top_k, Sampling()
        given = [grid.sharpness] if isinstance(grid.sharpness, float) else grid.sharpness
        self.sharpness = given[0] if len(set(given)) == 1 else torch.tensor(given, device=target.device)
        self.end = target.spec.tokens + grid.surplus
        """Known tokens at which an image is finished."""
        self.reach = self.structure.levels + 1
        """The most tokens that a step can add."""
        self.chain = self.skip.in_a_row * self.structure.levels if grid.schedule.ever_skips else 0
        """The most tokens that can be pending."""
        self.margin = grid.surplus + self.chain + self.reach
        """The most tokens that can be known past the end of an image."""
        self.remembered = 0
        """Features of the target that are kept for those who go back to them."""
        if grid.schedule.ever_skips or grid.ablation.staleness:
            self.remembered = 2 * self.reach + self.chain + max([self.skip.staleness, *grid.ablation.staleness])
        self._ahead = torch.arange(self.reach, device=target.device)
        wanted = self.skip.scored or bool(grid.schedule.signals)
        self.scored = self.structure.scored or (grid.schedule.ever_skips and wanted)
        self._idle: dict[tuple[int, int], Flight] = {}
        """What is kept for the next images of a static engine, by rows and seed."""

    @property
    def guarantee(self) -> Guarantee:
        """The rule's own, unless tokens that are not the target's stay in the image: then none."""
        taken_back = self.skip.recheck is Recheck.rollback and isinstance(self.grid.rule, Match)
        unverified = self.grid.schedule.ever_skips and not taken_back
        return Guarantee.none if unverified or self.grid.ablation.changes else self.grid.rule.guarantee

    def generate(self, conditions: Tensor, images: Sequence[int], seed: int) -> tuple[Tensor, DecodeTrace]:
        """See `Decoder.generate`."""
        tokens, (trace,) = self.generate_all(conditions, images, seed, len(images))
        return tokens, trace

    @torch.inference_mode()
    def generate_all(
        self, conditions: Tensor, images: Sequence[int], seed: int, rows: int, finished: Finished = ignored
    ) -> tuple[Tensor, list[DecodeTrace]]:
        """See `Decoder.generate_all`; a row whose image is finished takes the next image of the queue at once."""
        with (
            CallCounter().watching(self.target.network) as target_calls,
            CallCounter().watching(self.source.network) as draft_calls,
        ):
            wanted = Wanted.of(conditions, images, self.target.spec.tokens, finished)
            flight = self._begin(wanted, min(rows, len(images)), seed)
            flight.target_calls, flight.draft_calls = target_calls, draft_calls
            self._fly(flight, wanted)
        trace = DecodeTrace(
            list(images), wanted.origin, wanted.steps, target_calls, draft_calls, forced=self.target.spec.forced
        )
        return wanted.tokens, [trace]

    def _fly(self, flight: Flight, wanted: Wanted) -> None:
        """Step until every image is finished."""
        while True:
            tree, path, report = self._draft(flight)
            signals = self._hear(flight, wanted, report.tolist())  # the one synchronisation of the step
            gone = self._turn_over(flight, wanted)
            if not flight.flying:
                return
            if gone is not None:
                tree, path = tree.take(gone), None if path is None else path.take(gone)
                signals = [signals[row] for row in gone.tolist()]
            flight.roles = self._roles(flight.batch, flight.fresh, signals)
            flight.fresh = set()
            if any(role is not Role.WAIT for role in flight.roles):
                self._step(flight, tree, path)

    def _begin(self, wanted: Wanted, rows: int, seed: int) -> Flight:
        """Rows with their first images in them."""
        flight = self._idle.get((rows, seed))
        if flight is None:
            flight = self._started(wanted.take(rows), seed, self.engine.apart(), self._noise_kept(rows))
            if flight.engine.static:
                self.target.fix(flight.state)
                self.source.fix(flight.draft)
                self._idle[rows, seed] = flight
        else:
            self._place(flight, list(range(rows)), wanted)
        flight.roles, flight.fresh = [Role.WAIT] * rows, set()
        return flight

    @property
    def _room(self) -> int:
        """Positions that a row may come to hold."""
        return self.target.spec.tokens + 2 * self.margin

    def _noise_kept(self, rows: int) -> int:
        """Positions of an image whose noise is made when it starts: all of them, or none."""
        return self._room if kept(rows, self._room, self.target.spec.vocab) else 0

    def _started(self, next_: Next, seed: int, engine: Engine, noise_kept: int) -> Flight:
        """Make the noise of some images, prefill them and draw their first tokens."""
        keys = torch.tensor(list(next_.images), device=self.target.device)
        noise = gumbel_of(seed, keys, torch.zeros_like(keys[:1]), noise_kept, self.target.spec.vocab)
        with phase(Phase.prefill):
            state = self.target.start(next_.conditions, next_.images, self.structure.nodes + 2 * self.margin)
            batch = Batch.begin(
                next_.places,
                next_.images,
                torch.zeros_like(keys),
                noise,
                peak(state.first_logits[:, None]),
                state.prefix_features[:, :, -1:],
                self._room,
                self.remembered,
            )
            noise = self._noise(batch, None, torch.zeros_like(keys)[:, None], seed)[:, 0]
            first = draw(self.sampling.scores(state.first_logits), noise)
            batch.tokens[:, 0] = first
            draft = self.source.start(state, first, self.structure.expanded + 2 * self.margin, self.structure.levels)
        return Flight(engine, state, draft, batch, seed)

    def _noise(self, batch: Batch, rows: Tensor | None, positions: Tensor, seed: int) -> Tensor:
        """Noise float32 [R, K, V] that the target draws with at positions int64 [R, K] of some rows, or of all."""
        if not batch.noise.shape[1]:
            keys = batch.keys if rows is None else batch.keys[rows]
            return gumbel(seed, keys[:, None], positions, self.target.spec.vocab)
        if len(batch.noise) == 1:  # the common case of one image needs one launch less
            return batch.noise[0].index_select(0, positions[0])[None]
        index = torch.arange(len(positions), device=positions.device) if rows is None else rows
        return batch.noise[index[:, None], positions]

    def _place(self, flight: Flight, rows: list[int], wanted: Wanted) -> None:
        """Give the next images to rows without one."""
        fresh = self._started(wanted.take(len(rows)), flight.seed, flight.engine, flight.batch.noise.shape[1])
        self.target.place(flight.state, rows, fresh.state)
        self.source.place(flight.draft, rows, fresh.draft)
        flight.batch.place(rows, fresh.batch)

    def _draft(self, flight: Flight) -> tuple[TokenTree, _Path | None, Tensor]:
        """Grow a tree behind every root, and collect what the host wants to know, float64 [B, 7 + signals]."""
        batch = flight.batch
        self.source.note(flight.draft, [known + self.reach for known in batch.known], exact=False)
        charge = Charge(flight.draft_calls, flight.images)

        def stage() -> tuple[TokenTree, _Path | None, Tensor]:
            growth = self._growth(batch, flight.draft, flight.seed)
            tree = self.structure.grow(growth, batch.roots)
            path = self._path(batch, tree, flight.seed) if self.grid.schedule.ever_skips else None
            signals = (
                []
                if path is None
                else [
                    one.measure(tree, path.leaf, path.nodes - 1, self.target.codebook).double()[:, None]
                    for one in self.grid.schedule.signals
                ]
            )
            peaks = batch.peak[:, None], growth.peak[:, None]
            return tree, path, torch.cat([batch.numbers, *peaks, *signals], 1)

        with phase(Phase.draft):
            return flight.engine.run("draft", self.source.shape(flight.draft), stage, [charge])

    def _hear(self, flight: Flight, wanted: Wanted, report: list[list[float]]) -> list[list[float]]:
        """Take in on the host what the last step gained; returns the signals of the new trees."""
        batch, length = flight.batch, self.target.spec.tokens
        for row, role in enumerate(flight.roles):
            place = batch.places[row]
            if place is None:
                continue
            own, draft = report[row][5:7]
            self._check_target(flight, row, role, own)
            if role is not Role.WAIT:
                number = GainOnHost(*(int(value) for value in report[row][:5]))
                wanted.steps[place].append(_step_log(role, number, batch.known[row], length))
                batch.hear(row, role, number)
            self._check_draft(flight, row, draft)
        return [line[7:] for line in report]

    def _check_target(self, flight: Flight, row: int, role: Role, peak: float) -> None:
        """Refuse what was made of the target's logits if they are not finite; the host has not heard of it yet."""
        if not math.isfinite(peak):
            known = flight.batch.known[row]
            place = f"token {known if role is Role.VERIFY else known - 1}"
            raise NotFiniteError(*target_logits(self.target), flight.state.images[row], place, peak)

    def _check_draft(self, flight: Flight, row: int, peak: float) -> None:
        """Refuse a tree that was grown from logits that are not finite, unless it was grown in vain."""
        if not math.isfinite(peak) and self._unfinished(flight.batch, row):
            what = "logits of the drafter", dtype_of(self.source.network)
            place = f"the tree behind token {flight.batch.known[row] - 1}"
            raise NotFiniteError(*what, flight.state.images[row], place, peak)

    def _turn_over(self, flight: Flight, wanted: Wanted) -> Tensor | None:
        """Finished images leave and the next take their rows; returns the rows that stay where some are dropped."""
        batch = flight.batch
        flying = [row for row, place in enumerate(batch.places) if place is not None]
        done = [row for row in flying if not self._unfinished(batch, row)]
        if not done:
            self._note(flight)
            return None
        wanted.put(batch, done)
        fresh = done[: wanted.waiting]
        if fresh:
            self._place(flight, fresh, wanted)
            flight.fresh = set(fresh)
        for row in done[len(fresh) :]:
            batch.places[row] = None
        stay = [row for row, place in enumerate(batch.places) if place is not None]
        if not stay or flight.engine.static or len(stay) == len(batch.places):
            self._note(flight)
            return None
        batch.keep(stay)
        self.target.select(flight.state, stay, batch.cached)
        self.source.select(flight.draft, stay, batch.known)
        flight.fresh = {stay.index(row) for row in flight.fresh}
        return torch.tensor(stay, device=batch.tokens.device)

    def _note(self, flight: Flight) -> None:
        """Tell the caches how long the rows are."""
        self.target.note(flight.state, flight.batch.cached)
        self.source.note(flight.draft, flight.batch.known, exact=True)

    def _unfinished(self, batch: Batch, row: int) -> bool:
        """Whether tokens are missing, or some must not stay as they are."""
        return batch.known[row] < self.end or (self.skip.recheck is Recheck.rollback and batch.pending[row] > 0)

    def _growth(self, batch: Batch, draft: Any, seed: int) -> Growth:
        """The noise of the next positions and everything else that a tree is grown with."""
        positions = batch.known_count[:, None] + self._ahead
        own = redraft = None
        if self.candidates.drawn:
            keys, vocab, drawn = batch.keys[:, None], self.target.spec.vocab, positions[:, :-1]
            if self.candidates is not Candidates.sampled:
                # a position lies at another depth in every step: its number and the depth make a key of this step's own
                drawn = drawn + ((self._ahead[:-1] + 1) << 32)
            own = gumbel(seed, keys, drawn, vocab, Purpose.DRAFT)
            if self.candidates is Candidates.retained:
                redraft = Redraft(
                    uniform(seed, keys, drawn, Purpose.RETAIN), gumbel(seed, keys, drawn, vocab, Purpose.REDRAFT)
                )
        return Growth(
            source=self.source,
            state=draft,
            sampling=self.drafting,
            candidates=self.candidates,
            noise=self._noise(batch, None, positions, seed),
            own_noise=own,
            redraft=redraft,
            sharpness=self.sharpness,
            scored=self.scored,
        )

    def _path(self, batch: Batch, tree: TokenTree, seed: int) -> _Path:
        """What a skip would commit."""
        chance = uniform(seed, batch.keys, batch.known_count, Purpose.SKIP_PATH)
        leaf = choose_leaf(tree, self.skip.selector, chance, self.target.codebook)
        return _Path(leaf, path_length(tree, leaf, self.skip))

    def _roles(self, batch: Batch, fresh: set[int], signals: list[list[float]]) -> list[Role]:
        """Who verifies, who skips, and who waits: an idle row, or one whose image has come since the trees grew."""
        phases = {batch.steps[row] % self.period for row in range(len(batch.places)) if batch.steps[row]}
        roles = []
        for row, place in enumerate(batch.places):
            early = batch.steps[row] == 0 and bool(phases) and 0 not in phases
            if place is None or row in fresh or early:
                roles.append(Role.WAIT)
            elif self._skips(batch, row, signals[row]):
                roles.append(Role.SKIP)
            else:
                roles.append(Role.VERIFY)
        return roles

    @property
    def period(self) -> int:
        """Steps after which the schedule repeats itself, where rows in step with each other save whole forwards."""
        return self.grid.schedule.period if self.engine.static else 1

    def _skips(self, batch: Batch, row: int, signals: list[float]) -> bool:
        """Whether a row skips this step."""
        free = self.grid.schedule.ever_skips and batch.in_a_row[row] < self.skip.in_a_row
        if not free or batch.known[row] >= self.end:
            return False
        return self.grid.schedule.skips(self._moment(batch, row, signals))

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

    def _step(self, flight: Flight, tree: TokenTree, path: _Path | None) -> None:
        """Skip or verify, and let everybody know."""
        batch, roles, engine = flight.batch, flight.roles, flight.engine
        verifying = [row for row, role in enumerate(roles) if role is Role.VERIFY]
        width = max((batch.pending[row] for row in verifying), default=0)
        if engine.static and width:
            width = self.chain
        images = [flight.state.images[row] for row in verifying]
        batch.assign(roles)
        skips = Role.SKIP in roles
        shape = (bool(verifying), skips, width, self.target.shape(flight.state) if verifying else 0)
        gain = engine.run(
            "gain",
            shape,
            lambda: self._gain(flight, tree, path, verifying, images, width),
            [Charge(flight.target_calls, images)],
        )
        with phase(Phase.commit):
            engine.run(
                "settle",
                self.source.shape(flight.draft),
                lambda: self._settle(flight, gain),
                [Charge(flight.draft_calls, flight.images)],
            )

    def _settle(self, flight: Flight, gain: Gain) -> None:
        """Caches, known tokens and the drafter take in what was gained."""
        self.target.commit(flight.state, gain.kept, gain.added)
        flight.batch.take_in(gain, chained=self.chain > 0)
        if self.skip.rewinds:
            self.source.rewind(flight.draft, gain.rewound)
        self.source.extend(flight.draft, gain.features, gain.tokens, gain.count)

    def _gain(
        self,
        flight: Flight,
        tree: TokenTree,
        path: _Path | None,
        verifying: list[int],
        images: list[int],
        width: int,
    ) -> Gain:
        """What the step adds to every row. Rows that skip take no part in the target's forward, if shapes may vary."""
        batch, static = flight.batch, flight.engine.static
        skips = Role.SKIP in flight.roles
        skipped = None
        if skips:
            assert path is not None
            with phase(Phase.accept):
                skipped = self._skip(flight.draft, batch, tree, path)
        if not verifying:
            assert skipped is not None
            return skipped.without(batch.roles == Role.WAIT)
        size, rows = len(flight.roles), None
        if not static and len(verifying) < size:
            rows = torch.tensor(verifying, device=tree.tokens.device)
            tree = tree.take(rows)
        if not static:  # what lies past the end of every image is of no use
            left = self.end - min(batch.known[row] for row in verifying)
            tree = tree.first(self.structure.within(max(left, 0)))
        gain = self._verify(flight, tree, rows, list(range(size)) if rows is None else verifying, images, width)
        if rows is not None:
            gain = gain.spread(rows, size) if skipped is None else skipped.replace(rows, gain)
        elif skipped is not None:
            gain = skipped.where(batch.roles == Role.SKIP, gain)
        waits = static or Role.WAIT in flight.roles
        return gain.without(batch.roles == Role.WAIT) if waits else gain

    def _verify(
        self,
        flight: Flight,
        tree: TokenTree,
        rows: Tensor | None,
        row_list: list[int],
        images: list[int],
        width: int,
    ) -> Gain:
        """One target forward over the pending chains, right-padded to `width`, and the trees of some rows (or all)."""
        batch, seed = flight.batch, flight.seed
        block = chain_and_tree(batch, rows, width, tree)
        block.charged = images
        with phase(Phase.verify):
            logits, features = self.target.forward(flight.state, block)
        with phase(Phase.accept):
            batch.meet(rows, logits)
            verdict = self._judged(batch, tree, logits[:, width:], rows, row_list, seed)
            counted = batch.roles == Role.VERIFY if flight.engine.static else None
            seen_rows = torch.arange(len(logits), device=logits.device) if rows is None else rows
            self.source.observe(flight.draft, seen_rows, tree, logits[:, width:], counted)
            path = tree.path_to(verdict.node)
            on_path = features[:, :, width:].gather(2, _wide(path, features))
            gain = self._on_tree(tree, verdict, path, on_path)
            seen = Chain(features[:, :, :width], of_rows(batch.pending_count, rows), gain.agreed, gain.rolled)
            if width and self.skip.recheck is not Recheck.none:
                seen = self._rechecked(batch, rows, logits[:, :width], seen, seed)
            if self.remembered:
                length = torch.where(seen.rolled > 0, 0, verdict.accepted + 1)
                batch.remember(rows, seen.features, seen.count, on_path, length)
                gain.features = self._continued(batch, rows, row_list, on_path, verdict)
            return self._behind_chain(gain, batch, rows, seen, width) if self.chain else gain

    def _judged(
        self, batch: Batch, tree: TokenTree, logits: Tensor, rows: Tensor | None, row_list: list[int], seed: int
    ) -> Verdict:
        """What the rule accepts of the trees, from the guided logits [R, T, V] at their nodes."""
        rule, ablation = self.grid.rule, self.grid.ablation
        chance = logits[:, :0, 0]
        if rule.chancy:
            positions = of_rows(batch.known_count, rows)[:, None] - 1 + tree.depths
            keys = of_rows(batch.keys, rows)[:, None]
            chance = uniform(seed, keys, positions, Purpose.ACCEPTANCE, tree.tokens)
        verdict = rule.judge(tree, rule.judged(self.sampling).scores(logits), chance)
        swapped = [ablation.swaps(batch.steps[row]) for row in row_list]
        if not any(swapped):
            return verdict
        other = tree.path_to(first_leaf(tree))
        depth = tree.depths.expand(len(other), -1).gather(1, other[:, -1:])[:, 0].minimum(verdict.accepted)
        swap = torch.tensor(swapped, device=other.device)
        node = torch.where(swap, other.gather(1, depth[:, None])[:, 0], verdict.node)
        return Verdict(node, torch.where(swap, depth, verdict.accepted), verdict.bonus)

    def _rechecked(self, batch: Batch, rows: Tensor | None, logits: Tensor, chain: Chain, seed: int) -> Chain:
        """Compare skipped tokens with what the target would have drawn, from the chain's guided logits [R, W, V]."""
        slot = torch.arange(logits.shape[1], device=logits.device)
        positions = (of_rows(batch.known_count, rows) - chain.count)[:, None] + slot
        wanted = draw(self.sampling.scores(logits), self._noise(batch, rows, positions, seed))
        real = slot < chain.count[:, None]
        alike = (wanted == of_rows(batch.tokens, rows).gather(1, positions)) | ~real
        agreed = torch.where(chain.count > 0, (alike & real).sum(1), -1)
        if self.skip.recheck is not Recheck.rollback:
            return Chain(chain.features, chain.count, agreed, chain.rolled)
        rolled = ~alike.all(1)
        first = (~alike).long().argmax(1)
        count = torch.where(rolled, first + 1, chain.count)
        corrected = wanted.gather(1, first[:, None])[:, 0]
        return Chain(chain.features, count, agreed, rolled.long(), corrected)

    def _on_tree(self, tree: TokenTree, verdict: Verdict, path: Tensor, features: Tensor) -> Gain:
        """What the accepted paths [R, M] of trees add, if nothing is pending; the drafter goes on from the features."""
        accepted, bonus = verdict.accepted, verdict.bonus[:, None]
        tokens = torch.cat([tree.tokens.gather(1, path)[:, 1:], bonus], 1).scatter(1, accepted[:, None], bonus)
        count, nothing = accepted + 1, torch.zeros_like(accepted)
        return Gain(
            tokens=tokens,
            origin=_origins(tokens, accepted, int(Origin.ACCEPTED)),
            features=features,
            count=count,
            rewound=nothing,
            accepted=accepted,
            agreed=nothing - 1,
            rolled=nothing,
            kept=path,
            added=count,
        )

    def _behind_chain(self, gain: Gain, batch: Batch, rows: Tensor | None, chain: Chain, width: int) -> Gain:
        """The same behind the pending chain: its slots stay in front of the tree's, and it may be decided anew."""
        own, rolled = torch.arange(width, device=gain.kept.device), chain.rolled > 0
        more = replace(
            gain,
            accepted=torch.where(rolled, 0, gain.accepted),
            agreed=chain.agreed,
            rolled=chain.rolled,
            kept=behind(own.expand(len(gain.kept), -1), gain.kept + width, chain.count, self.chain),
            added=chain.count + torch.where(rolled, 0, gain.count),
        )
        return self._with_chain(more, batch, rows, chain, width) if self.skip.rewinds else more

    def _with_chain(self, gain: Gain, batch: Batch, rows: Tensor | None, chain: Chain, width: int) -> Gain:
        """The same with the skipped tokens in front, as far as they stay, and the features that belong to them."""
        pending, known = of_rows(batch.pending_count, rows), of_rows(batch.known_count, rows)
        slot = torch.arange(width, device=known.device)
        skipped = of_rows(batch.tokens, rows).gather(1, (known - pending)[:, None] + slot)
        marks = torch.full_like(skipped, Origin.SKIPPED, dtype=torch.int8)
        gain.tokens = behind(skipped, gain.tokens, chain.count, self.chain)
        gain.origin = behind(marks, gain.origin, chain.count, self.chain)
        if chain.corrected is not None:
            last, rolled = (chain.count - 1).clamp_min(0)[:, None], chain.rolled[:, None] > 0
            kept = gain.tokens.gather(1, last), gain.origin.gather(1, last)
            drawn = torch.full_like(kept[1], Origin.DRAWN)
            gain.tokens = gain.tokens.scatter(1, last, torch.where(rolled, chain.corrected[:, None], kept[0]))
            gain.origin = gain.origin.scatter(1, last, torch.where(rolled, drawn, kept[1]))
        gain.features = behind(chain.features.transpose(1, 2), gain.features.transpose(1, 2), chain.count, self.chain)
        gain.features = gain.features.transpose(1, 2)
        gain.count, gain.rewound = gain.added, pending.clone()  # the count itself is about to change
        return gain

    def _continued(
        self, batch: Batch, rows: Tensor | None, row_list: list[int], fresh: Tensor, verdict: Verdict
    ) -> Tensor:
        """What the drafter goes on from after a verified step: the fresh features [R, G, M, D], or older ones."""
        index = row_list if self.grid.ablation.staleness else []
        stale = [self.grid.ablation.stale(batch.steps[row], batch.known[row] - 1) for row in index]
        if all(value < 0 for value in stale):
            return fresh
        back, count = torch.tensor(stale, device=fresh.device), verdict.accepted + 1
        older = last_features(of_rows(batch.recent, rows), count, fresh.shape[2], count + back.clamp_min(0))
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
            origin=_origins(tokens, count, int(Origin.SKIPPED)),
            features=torch.nn.functional.pad(features, (0, 0, 0, room)),
            count=count,
            rewound=nothing,
            accepted=count,
            agreed=nothing - 1,
            rolled=nothing,
            kept=path.new_zeros(len(path), self.chain + path.shape[1]),
            added=nothing,
        )


@fusible
def _origins(tokens: Tensor, drafted: Tensor, kind: int) -> Tensor:
    """Int8 [R, M]: the `Origin` `kind` for the first drafted[r] tokens, drawn for the rest."""
    column = torch.arange(tokens.shape[1], device=tokens.device)
    return (column < drafted[:, None]).to(torch.int8) * kind  # what is drawn is 0


def _wide(index: Tensor, features: Tensor) -> Tensor:
    """Positions [R, K] as an index into features [R, G, T, D]."""
    return index[:, None, :, None].expand(-1, features.shape[1], -1, features.shape[3])


def _step_log(role: Role, number: GainOnHost, known: int, length: int) -> StepLog:
    """What an image that had `known` tokens did in a step, without the tokens that lie past its end."""
    return StepLog(
        kind=StepKind.SKIPPED if role is Role.SKIP else StepKind.VERIFIED,
        tokens=min(known + number.more, length) - min(known, length),
        accepted=min(number.accepted, max(0, length - known)),
        agreed=number.agreed if number.agreed >= 0 else None,
        rolled_back=bool(number.rolled),
    )
