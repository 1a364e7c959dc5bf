"""The settings of a search, and what they can ask for."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Optional

COSTS = {
    "step_compression": True,
    "accepted_length": True,
    "cost": False,
    "target_forwards": False,
    "draft_forwards": False,
    "target_positions": False,
    "target_head_evaluations": False,
    "draft_head_evaluations": False,
    "seconds_per_image": False,
}
"""Counts of a record that a search can be for, and whether more of it is better."""

QUALITY = {
    "fid": False,
    "sfid": False,
    "kid": False,
    "is": True,
    "precision": True,
    "recall": True,
    "clip": True,
    "hps": True,
    "accuracy": True,
    "hue": True,
}
"""The same of metrics, as a protocol names them."""

OBJECTIVES = COSTS | QUALITY


@dataclass
class SearchConfig:
    """How a sweep searches, with `trials` above 0, instead of running every combination; none of it changes a cell."""

    trials: int = 0  # how many settings are tried; 0 for no search
    # alternatives, each the overrides of a trial as on the command line, of which some are intervals, ranges or choices
    space: list[list[str]] = field(default_factory=list)
    # names of OBJECTIVES; None for the cost of the study's fronts and FID
    objectives: Optional[list[str]] = None  # noqa: UP045  (Hydra reads this annotation)
    parallel: int = 1  # trials that the launcher is given at once
    seed: int = 0  # of the sampler

    def problems(self, measured: Sequence[str], protocol: str) -> Iterator[str]:
        """What is wrong with the settings, one line each.

        Args:
            measured: the metrics of the study's protocol.
            protocol: its name.
        """
        if self.trials < 1 and (self.trials or self.space):
            yield f"search.trials={self.trials} must be at least 1: how many settings are tried."
        if not self.trials:
            return
        if self.parallel < 1:
            yield f"search.parallel={self.parallel} must be at least 1: how many trials run at once."
        if not 0 <= self.seed < 2**32:
            yield f"search.seed={self.seed} must be 0 or more and below 2**32."
        if self.objectives is not None and not self.objectives:
            yield f"search.objectives is empty; name at least one of {', '.join(OBJECTIVES)}."
        if self.objectives and len(set(self.objectives)) < len(self.objectives):
            yield f"search.objectives names one twice: {', '.join(self.objectives)}."
        for name in ["fid"] if self.objectives is None else self.objectives:
            if name not in OBJECTIVES:
                near = difflib.get_close_matches(name, OBJECTIVES, n=1)
                hint = f" Did you mean {near[0]}?" if near else ""
                yield f"search.objectives={name} is unknown; choose from {', '.join(OBJECTIVES)}.{hint}"
            elif name in QUALITY and name not in measured:
                yield (
                    f"search.objectives: metrics={protocol} does not measure {name}; choose a protocol that does, as "
                    "metrics=tiny, or other objectives, as in search.objectives=[step_compression,target_positions]."
                )
