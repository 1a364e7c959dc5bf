"""How the benches time: whole generations, in interleaved rounds, with the prefill and the networks told apart."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import nn

from vvsbench.decoding.base import Decoder
from vvsbench.decoding.phases import Phase, listening
from vvsbench.decoding.speculative import Speculative
from vvsbench.drafting.eagle import EagleSource
from vvsbench.measure.clock import Stopwatch
from vvsbench.measure.repeats import Limits, interleaved
from vvsbench.measure.statistics import Interval, median_ratio
from vvsbench.models.llamagen import LlamaGen

WARM_UP = 2
"""Runs before anything is timed: what is compiled is so in the first, and graphs are recorded in the second."""
NARROW = 0.02
"""Width of an interval, as a share of its value, that needs no further round."""


class NetworkClock:
    """Adds up the time spent inside some modules, none of which calls another."""

    def __init__(self, device: torch.device) -> None:
        self.watch, self.seconds = Stopwatch(device), 0.0

    def _enter(self, module: nn.Module, arguments: Any) -> None:
        self.watch.__enter__()

    def _leave(self, module: nn.Module, arguments: Any, output: Any) -> None:
        self.watch.__exit__(None, None, None)
        self.seconds += self.watch.seconds

    @contextmanager
    def watching(self, modules: Sequence[nn.Module]) -> Iterator[None]:
        """Time the forwards of these modules."""
        with ExitStack() as hooks:
            for module in modules:
                hooks.callback(module.register_forward_pre_hook(self._enter).remove)
                hooks.callback(module.register_forward_hook(self._leave).remove)
            yield


class PrefillClock:
    """Adds up the time of prefills, which are no steps; the device is waited for at both ends of each.

    Attributes:
        seconds: of all of them.
        inside: how much of that the networks took.
    """

    def __init__(self, networks: NetworkClock) -> None:
        self.watch, self.networks = Stopwatch(networks.watch.device), networks
        self.seconds = self.inside = 0.0

    @contextmanager
    def __call__(self, phase: Phase) -> Iterator[None]:
        """Listen to a mark."""
        if phase is not Phase.prefill:
            yield
            return
        before = self.networks.seconds
        with self.watch:
            yield
        self.seconds += self.watch.seconds
        self.inside += self.networks.seconds - before


def networks(decoder: Decoder) -> list[nn.Module]:
    """The modules whose time is model time: the target, its output layer, the drafter and the layer at its entrance."""
    target = decoder.target
    assert isinstance(target, LlamaGen)
    found: list[nn.Module] = [target.transformer, target.transformer.output]
    if not isinstance(decoder, Speculative):
        return found
    assert isinstance(decoder.source, EagleSource)
    return [*found, decoder.source.head, decoder.source.head.fc]


@dataclass(frozen=True)
class Taken:
    """What a generation took.

    Attributes:
        seconds: from the first token on; the prefill is not among them.
        whole: with the prefill.
        tokens: per row of the batch, first tokens of images not counted.
        verified, skipped: steps per row, means over the rows.
        compression: image tokens per target forward, prefill included.
        inside: of `seconds`, those inside the networks; 0 where nobody looked.
    """

    seconds: float
    whole: float
    tokens: float
    verified: float
    skipped: float
    compression: float
    inside: float = 0.0

    @property
    def per_step(self) -> float:
        """Seconds of a step of vanilla decoding."""
        return self.seconds / self.tokens

    @property
    def reduction(self) -> float:
        """Tokens per target forward after the prefill."""
        return self.tokens / self.verified

    @property
    def outside(self) -> float:
        """Share of the time outside the networks."""
        return 1 - self.inside / self.seconds

    @classmethod
    def sum(cls, parts: Sequence[Taken]) -> Taken:
        """Several generations one after the other; the compression is their mean."""
        totals = {field.name: sum(getattr(part, field.name) for part in parts) for field in fields(cls)}
        return cls(**totals | {"compression": totals["compression"] / len(parts)})


def generated(decoder: Decoder, rows: int, images: int = 0, *, inside: bool = False) -> Taken:
    """Generate images and time it.

    Args:
        decoder: whose target takes class ids, or makes up its captions.
        rows: images in flight.
        images: in all; 0 for as many as rows.
        inside: whether to time the networks too, which costs a little.
    """
    wanted, device = range(images or rows), decoder.target.device
    conditions = decoder.target.conditions([image % 10 for image in wanted])
    own = NetworkClock(device)
    prefill = PrefillClock(own)
    with own.watching(networks(decoder) if inside else []), listening(prefill), Stopwatch(device) as watch:
        tokens, traces = decoder.generate_all(conditions, wanted, 0, rows)
    found = [row for trace in traces for row in trace.rows()]
    return Taken(
        seconds=watch.seconds - prefill.seconds,
        whole=watch.seconds,
        tokens=(tokens.shape[1] - 1) * len(wanted) / rows,
        verified=sum(row["verified_steps"] for row in found) / rows,
        skipped=sum(row["skipped_steps"] for row in found) / rows,
        compression=sum(row["step_compression"] for row in found) / len(found),
        inside=own.seconds - prefill.inside,
    )


def compared(
    contenders: Mapping[str, Callable[[], Taken]],
    rounds: int,
    left: Callable[[], float],
    warm_up: int = WARM_UP,
    once: Collection[str] = (),
) -> dict[str, list[Taken]]:
    """Contenders in turn, until the time of the last as a share of the first's is narrow.

    Before that each runs unseen.

    Args:
        contenders: by name, the baseline first.
        rounds: at most; the first is taken whatever time is left.
        left: seconds that are left.
        warm_up: unseen runs of each.
        once: those that have warmed up after one, since nothing of theirs is recorded.

    Returns:
        By name, round by round.
    """
    for name, contender in contenders.items():
        for _ in range(min(warm_up, 1) if name in once else warm_up):
            contender()
    first, last = next(iter(contenders)), list(contenders)[-1]
    runs = {name: (lambda number, own=own: own()) for name, own in contenders.items()}
    return interleaved(runs, lambda taken: ratio(taken[first], taken[last]), Limits(NARROW, rounds, left())).taken


def ratio(baseline: Sequence[Taken], candidate: Sequence[Taken]) -> Interval:
    """How many times faster than the baseline a step is, prefills apart."""
    return median_ratio([one.seconds for one in baseline], [one.seconds for one in candidate])
