"""The images that a speculative loop has in flight, and what a step adds to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from enum import IntEnum

import torch
from torch import Tensor

from vvsbench.decoding.finite import peak
from vvsbench.decoding.trace import Origin
from vvsbench.fusing import fusible


@dataclass
class Gain:
    """What a step added, per row.

    Attributes:
        tokens: int64 [B, M], new known tokens; row b has count[b], the last of them the next root.
        origin: int8 [B, M], an `Origin` for each.
        features: [B, G, M, D], at the positions before the tokens: the target's, or stand-ins on a skip.
        count: int64 [B].
        rewound: int64 [B], known tokens that were taken back before: those of a skip, which the gain decides anew.
        accepted: int64 [B], drafts of the tree among the tokens.
        agreed: int64 [B], tokens of the skip before that the target would have drawn itself; -1 where nobody looked.
        rolled: int64 [B], 1 where some of these were taken back for good.
        kept: int64 [B, K], slots of the target's last block that stay in its cache, in order.
        added: int64 [B], how many of them.
    """

    tokens: Tensor
    origin: Tensor
    features: Tensor
    count: Tensor
    rewound: Tensor
    accepted: Tensor
    agreed: Tensor
    rolled: Tensor
    kept: Tensor
    added: Tensor

    def replace(self, rows: Tensor, other: Gain) -> Gain:
        """These gains with those of some rows taken from another."""
        pairs = ((getattr(self, field.name), getattr(other, field.name)) for field in fields(self))
        return Gain(*(own.index_copy(0, rows, new.to(own.dtype)) for own, new in pairs))

    def spread(self, rows: Tensor, size: int) -> Gain:
        """These gains as those of some rows of a batch, whose other rows gain nothing."""
        values = (getattr(self, field.name) for field in fields(self))
        return Gain(*(own.new_zeros(size, *own.shape[1:]).index_copy_(0, rows, own) for own in values))

    def where(self, chosen: Tensor, other: Gain) -> Gain:
        """These gains in the chosen rows, bool [B], another's elsewhere."""
        pairs = ((getattr(self, field.name), getattr(other, field.name)) for field in fields(self))
        return Gain(
            *(torch.where(chosen.view(-1, *[1] * (own.ndim - 1)), own, new.to(own.dtype)) for own, new in pairs)
        )

    def without(self, rows: Tensor) -> Gain:
        """These gains, but nothing in some rows, bool [B]."""
        counts = ("count", "rewound", "accepted", "rolled", "added")
        return replace(self, **{name: getattr(self, name).masked_fill(rows, 0) for name in counts})

    @property
    def numbers(self) -> Tensor:
        """What the host wants to know, int64 [B, 5] (see `GainOnHost`)."""
        return torch.stack([self.count, self.rewound, self.accepted, self.agreed, self.rolled], 1)


@dataclass(frozen=True)
class GainOnHost:
    """The numbers of a `Gain` for one row."""

    count: int
    rewound: int
    accepted: int
    agreed: int
    rolled: int

    @property
    def more(self) -> int:
        """Known tokens that it added."""
        return self.count - self.rewound


class Role(IntEnum):
    """What a row does in a step; one that waits has no tree yet, or no image any more."""

    VERIFY = 0
    SKIP = 1
    WAIT = 2


@dataclass
class Batch:
    """The images in flight; finished ones leave, or lie idle until another takes their row.

    The `known` tokens of an image are decided; the last of them is the root of its tree, all others are committed.
    `pending` of the committed ones have no entry in the target's cache yet: the chain that a skip leaves behind.

    Attributes:
        places: where each image stands in the result; None for an idle row.
        keys: int64 [B], image indices on the device.
        roles: int8 [B], the `Role` of each row in the step.
        tokens: int64 [B, N + margin], known tokens.
        origin: int8 [B, N + margin], an `Origin` for each.
        noise: float32 [B, K, V], of the image's first K positions; K is 0 where that would be too large.
        recent: [B, G, K, D], the last K features that the target computed; K is 0 where nobody goes back to them.
        numbers: float64 [B, 5], of the last gain.
        peak: float [B], sum of the peaks of the target's logits so far, see `finite.peak`.
        known, pending, assigned: on the host; the same on the device are `known_count`, `pending_count` and `roles`.
        steps: steps taken.
        in_a_row: skips since the last verified step.
        accepted, skipped: drafts accepted by each verified step, tokens committed by each skip.
        signals: what the schedule has seen at each step at which the image could have skipped.
    """

    places: list[int | None]
    keys: Tensor
    roles: Tensor
    tokens: Tensor
    origin: Tensor
    noise: Tensor
    recent: Tensor
    numbers: Tensor
    peak: Tensor
    known_count: Tensor
    pending_count: Tensor
    known: list[int]
    pending: list[int]
    assigned: list[Role]
    steps: list[int]
    in_a_row: list[int]
    accepted: list[list[int]]
    skipped: list[list[int]]
    signals: list[list[list[float]]]

    @classmethod
    def begin(
        cls,
        places: Sequence[int],
        images: Sequence[int],
        first: Tensor,
        noise: Tensor,
        peak: Tensor,
        features: Tensor,
        room: int,
        remembered: int,
    ) -> Batch:
        """A batch that knows the first token of every image.

        Args:
            places: where the images stand in the result.
            images: their indices.
            first: int64 [B].
            noise: float32 [B, K, V].
            peak: float [B], of the logits that they were drawn from.
            features: [B, G, 1, D], the feature that the first tokens were drawn from.
            room: tokens that a row must hold.
            remembered: features that are kept, K.
        """
        size = len(images)
        tokens = first.new_zeros(size, room)
        tokens[:, 0] = first
        return cls(
            places=list(places),
            keys=torch.tensor(list(images), device=first.device),
            roles=torch.full_like(first, Role.VERIFY, dtype=torch.int8),
            tokens=tokens,
            origin=torch.full_like(tokens, Origin.DRAWN, dtype=torch.int8),
            noise=noise,
            recent=features.repeat(1, 1, remembered, 1),
            numbers=torch.zeros(size, 5, dtype=torch.float64, device=first.device),
            peak=peak.clone(),
            known_count=torch.ones_like(first),
            pending_count=torch.zeros_like(first),
            known=[1] * size,
            pending=[0] * size,
            assigned=[Role.VERIFY] * size,
            steps=[0] * size,
            in_a_row=[0] * size,
            accepted=[[] for _ in images],
            skipped=[[] for _ in images],
            signals=[[] for _ in images],
        )

    @property
    def roots(self) -> Tensor:
        """The last known token of every image, int64 [B]."""
        return self.tokens.gather(1, self.known_count[:, None] - 1)[:, 0]

    @property
    def cached(self) -> list[int]:
        """Image tokens in the target's cache, per row."""
        return [known - 1 - pending for known, pending in zip(self.known, self.pending, strict=True)]

    def meet(self, rows: Tensor | None, logits: Tensor) -> None:
        """Keep what tells whether the target's logits [R, T, V] of some rows, or of all, are finite."""
        if rows is None:
            self.peak.add_(peak(logits))
        else:
            self.peak.index_add_(0, rows, peak(logits))

    def assign(self, roles: Sequence[Role]) -> None:
        """Give every row its role in the step."""
        if list(roles) != self.assigned:
            self.assigned = list(roles)
            self.roles.copy_(torch.tensor(roles, dtype=torch.int8), non_blocking=True)

    def take_in(self, gain: Gain, *, chained: bool) -> None:
        """Add what a step gained, on the device; a skip's new tokens' predecessors join the pending chain.

        Args:
            gain: of the step.
            chained: whether any step of the loop skips.
        """
        base = self.known_count - gain.rewound if chained else self.known_count
        target = base[:, None] + torch.arange(gain.tokens.shape[1], device=base.device)
        target = target.clamp_max(self.tokens.shape[1] - 1)  # an idle row writes past its end, to no effect
        self.tokens.scatter_(1, target, gain.tokens)
        self.origin.scatter_(1, target, gain.origin)
        self.numbers.copy_(gain.numbers)
        if not chained:
            self.known_count.add_(gain.count)
            return
        self.known_count.copy_(base + gain.count)
        chain = torch.where(self.roles == Role.VERIFY, 0, self.pending_count)
        self.pending_count.copy_(torch.where(self.roles == Role.SKIP, chain + gain.count, chain))

    def hear(self, row: int, role: Role, number: GainOnHost) -> None:
        """Learn on the host what a row gained."""
        skip = role is Role.SKIP
        self.known[row] += number.more
        self.pending[row] = self.pending[row] + number.count if skip else 0
        self.in_a_row[row] = self.in_a_row[row] + 1 if skip else 0
        self.steps[row] += 1
        (self.skipped if skip else self.accepted)[row].append(number.accepted)

    def keep(self, index: Sequence[int]) -> None:
        """Drop every row that is not named."""
        on_device = torch.tensor(list(index), device=self.tokens.device)
        for field in fields(self):
            value = getattr(self, field.name)
            setattr(self, field.name, value[on_device] if isinstance(value, Tensor) else [value[row] for row in index])

    def place(self, rows: Sequence[int], fresh: Batch) -> None:
        """Put the images of a fresh batch into these rows."""
        index = torch.tensor(list(rows), device=self.tokens.device)
        for field in fields(self):
            own, new = getattr(self, field.name), getattr(fresh, field.name)
            if isinstance(own, Tensor):
                own.index_copy_(0, index, new)
                continue
            for row, value in zip(rows, new, strict=True):
                own[row] = value

    def remember(self, rows: Tensor | None, chain: Tensor, pending: Tensor, path: Tensor, length: Tensor) -> None:
        """Append features that the target computed and keep the last K.

        Args:
            rows: int64 [R], whose, or all; those that do not verify keep theirs.
            chain: [R, G, W, D], of the pending chain; row r has pending[r] of them.
            pending: int64 [R].
            path: [R, G, M, D], of the root and the accepted nodes; row r has length[r] of them.
            length: int64 [R].
        """
        verified = of_rows(self.roles, rows) == Role.VERIFY
        fresh = _appended(of_rows(self.recent, rows), chain, pending, path, length, verified)
        if rows is None:
            self.recent.copy_(fresh)
        else:
            self.recent.index_copy_(0, rows, fresh)


def of_rows(values: Tensor, rows: Tensor | None) -> Tensor:
    """Rows [R] of values [B, ...]; None stands for all of them."""
    return values if rows is None else values[rows]


@fusible
def _appended(recent: Tensor, chain: Tensor, pending: Tensor, path: Tensor, length: Tensor, verified: Tensor) -> Tensor:
    """The last K features of the rows that verify, see `Batch.remember`; the others' as they were."""
    kept, width = recent.shape[2], chain.shape[2]
    index = torch.arange(kept, device=length.device) + (pending + length)[:, None]
    behind = index - kept - pending[:, None]
    source = torch.where(behind < 0, index, kept + width + behind)
    everything = torch.cat([recent, chain, path], 2)
    fresh = everything.gather(2, source[:, None, :, None].expand(-1, everything.shape[1], -1, everything.shape[3]))
    return torch.where(verified[:, None, None, None], fresh, recent)
