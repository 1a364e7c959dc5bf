"""How many operations a step dispatches: a cost that is the same on every machine, and on a fast one nearly all of it.

An operation that only looks at its input in another way launches nothing. What torch dispatches as one operation and a
processor may do in several counts as one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

from vvsbench.decoding.base import Decoder
from vvsbench.decoding.trace import DecodeTrace


class KernelCounter(TorchDispatchMode):
    """Counts the operations inside `with` that are no views.

    Attributes:
        seen: how often each was dispatched, by its name in torch.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not func.is_view:
            self.seen[str(func)] += 1
        return func(*args, **(kwargs or {}))


def per_step(decoder: Decoder, prompts: Sequence[int] = (0,)) -> float:
    """Operations per step of a batch, those of its prefill shared out; the second batch is looked at.

    Args:
        decoder: of discrete tokens.
        prompts: one image each, all in flight together.
    """
    conditions, images = decoder.target.conditions(prompts), range(len(prompts))
    decoder.generate(conditions, images, 0)
    with KernelCounter() as counter:
        _, trace = decoder.generate(conditions, images, 0)
    assert isinstance(trace, DecodeTrace)
    return counter.seen.total() / max(len(steps) for steps in trace.steps)
