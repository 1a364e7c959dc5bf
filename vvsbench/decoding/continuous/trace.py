"""What an image of continuous tokens cost, counted by hooks around all four networks, and how its drafts fared."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from vvsbench.decoding.finite import Outputs
from vvsbench.models.latents import LatentModel
from vvsbench.models.stages import Call


@dataclass
class Spent:
    """What one network did for one image.

    Attributes:
        calls: evaluations that the image took part in.
        rows: its rows in all of them (a call may hold several rows of an image).
        positions: token positions of these rows.
        flops: multiply-adds x 2 of these rows.
    """

    calls: int = 0
    rows: int = 0
    positions: int = 0
    flops: float = 0.0


@dataclass
class Meter:
    """Counts what a network does, by a hook on the stage around it.

    Attributes:
        log: the calls seen.
    """

    log: list[Call] = field(default_factory=list)

    @contextmanager
    def watching(self, stage: nn.Module) -> Iterator[Meter]:
        """Count the calls of a stage, whose first argument is a `Call`."""
        handle = stage.register_forward_hook(self._seen)
        try:
            yield self
        finally:
            handle.remove()

    def _seen(self, module: nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
        self.log.append(arguments[0])

    def per_image(self) -> dict[int, Spent]:
        """What was spent by image index."""
        spent: dict[int, Spent] = defaultdict(Spent)
        for call in self.log:
            for image in set(call.images):
                spent[image].calls += call.evaluations
            for image in call.images:
                entry = spent[image]
                entry.rows += call.evaluations
                entry.positions += call.evaluations * call.positions
                entry.flops += call.evaluations * call.flops
        return spent


@dataclass
class Meters:
    """Of the four networks at work, two of which are heads."""

    target: Meter = field(default_factory=Meter)
    target_head: Meter = field(default_factory=Meter)
    draft: Meter = field(default_factory=Meter)
    draft_head: Meter = field(default_factory=Meter)

    @contextmanager
    def watching(self, target: LatentModel[Any], draft: LatentModel[Any] | None = None) -> Iterator[Meters]:
        """Count what target and draft do."""
        with ExitStack() as stack:
            stack.enter_context(self.target.watching(target.counted))
            stack.enter_context(self.target_head.watching(target.head.counted))
            if draft is not None:
                stack.enter_context(self.draft.watching(draft.counted))
                stack.enter_context(self.draft_head.watching(draft.head.counted))
            yield self

    def per_image(self) -> list[dict[int, Spent]]:
        """What was spent by image index: by target, target's head, draft, draft's head."""
        return [meter.per_image() for meter in (self.target, self.target_head, self.draft, self.draft_head)]


@dataclass(frozen=True)
class Judged:
    """One drafted token on which the target was asked.

    Attributes:
        kept: whether it stands.
        raw: whether it would have stood without any tolerance.
        distance: between it and the target's own draw under the same noise, Euclidean, in latent units.
        fallback: whether what took its place is no draw of any kind (see the rules).
    """

    kept: bool
    raw: bool
    distance: float
    fallback: bool


@dataclass(frozen=True)
class Round:
    """One verification of one image.

    Attributes:
        judged: the drafts, in order.
        used: how many of them were decided by it; the others were discarded with the first rejection before them.
    """

    judged: list[Judged]
    used: int

    @property
    def accepted(self) -> int:
        """Drafted tokens that are in the image."""
        return sum(one.kept for one in self.judged[: self.used])


@dataclass
class ContinuousTrace:
    """The record of one `generate` call of a continuous decoder.

    Attributes:
        images: indices of the images.
        origin: int8 [B, N], an `Origin` per token.
        rounds: verifications of each image.
        meters: what the networks did.
        unit: FLOPs of one full call of the target's transformer for one image.
        outputs: what was kept of the tokens.
    """

    images: list[int]
    origin: Tensor
    rounds: list[list[Round]]
    meters: Meters
    unit: float
    outputs: Outputs

    def rows(self) -> list[dict[str, Any]]:
        """See `vvsbench.decoding.base.Trace.rows`."""
        self.outputs.check(self.images)
        spent = self.meters.per_image()
        origins = self.origin.cpu().tolist()
        return [
            self._row(image, [each.get(image, Spent()) for each in spent], origin, rounds)
            for image, origin, rounds in zip(self.images, origins, self.rounds, strict=True)
        ]

    def _row(self, image: int, spent: list[Spent], origin: list[int], rounds: list[Round]) -> dict[str, Any]:
        target, target_head, draft, draft_head = spent
        return {
            "image": image,
            "target_forwards": target.calls,
            "prefill_forwards": 0,
            "draft_forwards": draft.calls,
            "target_positions": target.positions,
            "draft_positions": draft.positions,
            "target_head_evaluations": target_head.rows,
            "draft_head_evaluations": draft_head.rows,
            "cost": sum(one.flops for one in spent) / self.unit,
            "verified_steps": len(rounds),
            "skipped_steps": 0,
            "step_compression": len(origin) / target.calls,
            "accepted": [one.accepted for one in rounds],
            "skipped": [],
            "agreed": [],
            "rolled_back": sum(one.used < len(one.judged) for one in rounds),
            "origin": origin,
            **_drafts([judged for one in rounds for judged in one.judged[: one.used]]),
        }


def _drafts(judged: list[Judged]) -> dict[str, Any]:
    """How the drafts fared that were decided on; shares are NaN where there were none."""
    count = len(judged)
    nothing = float("nan")
    return {
        "drafted": count,
        "kept": sum(one.raw for one in judged) / count if count else nothing,
        "kept_relaxed": sum(one.kept for one in judged) / count if count else nothing,
        "distance": sum(one.distance for one in judged) / count if count else nothing,
        "fallback": sum(one.fallback for one in judged),
    }
