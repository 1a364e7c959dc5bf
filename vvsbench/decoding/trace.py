"""What a generation cost and where its tokens came from, kept on the device and read after the clock stops.

Calls are counted by hooks on the networks, never by a decoder's own arithmetic: a forward that a decoder forgets to
mention is counted all the same. A call is charged to the images that took part in it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from torch import Tensor, nn

from vvsbench.decoding.finite import Outputs


class Origin(IntEnum):
    """Where an image token came from."""

    DRAWN = 0
    ACCEPTED = 1
    SKIPPED = 2


class StepKind(IntEnum):
    """What an image did in a step."""

    VERIFIED = 0
    SKIPPED = 1


@dataclass(frozen=True)
class StepLog:
    """One step of one image.

    Attributes:
        kind: verified or skipped.
        tokens: image tokens that it decided, past the end of the image not counted. A verification that took skipped
            tokens back may have decided fewer than none.
        accepted: drafts of the step's own tree that were accepted, or committed by a skip.
        agreed: how many of the tokens skipped just before it the target would have drawn itself; None where there were
            none, or nobody looked.
        rolled_back: whether some of them were taken back.
    """

    kind: StepKind
    tokens: int
    accepted: int
    agreed: int | None = None
    rolled_back: bool = False


@dataclass
class Calls:
    """Forwards of one network for one image."""

    decode: int = 0
    prefill: int = 0
    positions: int = 0


@dataclass
class CallCounter:
    """Counts the forwards of a network by a hook.

    Attributes:
        log: one entry per forward: the images that took part, token positions per image, whether it was a prefill.
    """

    log: list[tuple[list[int], int, bool]] = field(default_factory=list)

    @contextmanager
    def watching(self, network: nn.Module | None) -> Iterator[CallCounter]:
        """Count the calls of a network whose forward takes (input [R*G, T, D], step)."""
        if network is None:
            yield self
            return
        handle = network.register_forward_hook(self._seen)
        try:
            yield self
        finally:
            handle.remove()

    def _seen(self, module: nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
        x, step = arguments
        self.log.append((list(step.images), x.shape[1], step.prefill))

    def repeat(self, seen: Sequence[tuple[list[int], int, bool]], images: list[int]) -> None:
        """Count forwards that are run again without their hooks, for these images."""
        self.log.extend((images, positions, prefill) for _, positions, prefill in seen)

    def per_image(self) -> dict[int, Calls]:
        """Calls by image index."""
        calls: dict[int, Calls] = defaultdict(Calls)
        for images, positions, prefill in self.log:
            for image in images:
                entry = calls[image]
                entry.prefill += prefill
                entry.decode += not prefill
                entry.positions += positions
        return calls


@dataclass
class DecodeTrace:
    """The record of one `Decoder.generate` call.

    Attributes:
        images: indices of the images, one per row.
        origin: int8 [B, N], an `Origin` per image token, on the device.
        steps: per image, what each step was and did.
        target, draft: calls of the two networks.
        outputs: what was kept of the target's logits; None where the loop has looked at them itself.
        forced: tokens of an image that are no choice of the model's; they count for nothing in tokens per forward.
    """

    images: list[int]
    origin: Tensor
    steps: list[list[StepLog]]
    target: CallCounter
    draft: CallCounter
    outputs: Outputs | None = None
    forced: int = 0

    def rows(self) -> list[dict[str, Any]]:
        """See `vvsbench.decoding.base.Trace.rows`."""
        if self.outputs is not None:
            self.outputs.check(self.images)
        target, draft = self.target.per_image(), self.draft.per_image()
        return [
            _row(image, target.get(image, Calls()), draft.get(image, Calls()), origin, steps, self.forced)
            for image, origin, steps in zip(self.images, self.origin.cpu().tolist(), self.steps, strict=True)
        ]


def _row(
    image: int, target: Calls, draft: Calls, origin: list[int], steps: list[StepLog], forced: int
) -> dict[str, Any]:
    accepted = [step.accepted for step in steps if step.kind is StepKind.VERIFIED]
    skipped = [step.accepted for step in steps if step.kind is StepKind.SKIPPED]
    return {
        "image": image,
        "target_forwards": target.decode,
        "prefill_forwards": target.prefill,
        "draft_forwards": draft.decode + draft.prefill,
        "target_positions": target.positions,
        "draft_positions": draft.positions,
        "verified_steps": len(accepted),
        "skipped_steps": len(skipped),
        "step_compression": (len(origin) - forced) / (target.decode + target.prefill),
        "accepted": accepted,
        "skipped": skipped,
        "agreed": [step.agreed for step in steps if step.agreed is not None],
        "rolled_back": sum(step.rolled_back for step in steps),
        "origin": origin,
    }
