"""How many tokens each AR step decides, and how strongly it is guided: MAR's cosine schedule."""

from __future__ import annotations

import math
from dataclasses import dataclass

from vvsbench.models.latents import LatentGuidance


@dataclass(frozen=True)
class Reveal:
    """The AR steps of an image.

    Attributes:
        counts: tokens decided before each step, and after the last one: S + 1 numbers from 0 to N.
        scales: guidance scale of each step, S numbers.
    """

    counts: tuple[int, ...]
    scales: tuple[float, ...]

    @property
    def steps(self) -> int:
        """AR steps, S."""
        return len(self.scales)

    def size(self, step: int) -> int:
        """Tokens that a step decides."""
        return self.counts[step + 1] - self.counts[step]

    def sizes(self, first: int, end: int) -> list[int]:
        """Tokens that each of the steps from first to end, exclusive, decides."""
        return [self.size(step) for step in range(first, min(end, self.steps))]


def reveal(tokens: int, steps: int, guidance: LatentGuidance) -> Reveal:
    """MAR's schedule: after step s floor(N cos(pi/2 (s + 1)/S)) tokens are left, at least one step's worth fewer.

    The published code never lets the number of tokens that are left fall below one when it computes the linear guidance
    scale, so the last step is guided as if one were left. Kept, because the images depend on it.

    Args:
        tokens: per image, N.
        steps: AR steps S, from 1 to N.
        guidance: of the sampling setting.

    Raises:
        ValueError: more steps than tokens, or none.
    """
    if not 1 <= steps <= tokens:
        raise ValueError(f"{steps} AR steps: choose from 1 to {tokens}, the number of tokens.")
    left, counts, scales = tokens, [0], []
    for step in range(steps):
        wanted = math.floor(tokens * math.cos(math.pi / 2 * (step + 1) / steps))
        left = max(1, min(left - 1, wanted))
        scales.append(guidance.at((tokens - left) / tokens))
        counts.append(tokens - left)
    counts[-1] = tokens
    return Reveal(tuple(counts), tuple(scales))
