"""The speeds that this program sets itself, in one place: every number is a ratio of two times of one run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """A ratio and the side on which it must lie.

    Attributes:
        text: what is asked for.
        limit: the ratio.
        least: whether the ratio must be at least that, or at most.
    """

    text: str
    limit: float
    least: bool

    def met(self, value: float) -> bool:
        """Whether a measured ratio is good enough."""
        return value >= self.limit if self.least else value <= self.limit

    @property
    def asked(self) -> str:
        """The limit in words."""
        return f"at {'least' if self.least else 'most'} {self.limit:g}"


TARGETS = {
    "ar_over_reference_cpu": Target("ar against the reference loop, on a CPU", 1.3, least=True),
    "host_share": Target("share of an ar step outside the networks, LlamaGen-B size", 0.05, least=False),
    "time_per_image": Target("time per image of many images against that of few", 1.1, least=False),
    "memory": Target("peak memory of many images against that of few", 1.1, least=False),
    "ar_over_floor": Target("an ar step against its bandwidth floor, LlamaGen-XL size, batch 1", 1.5, least=False),
    "ar_over_reference_gpu": Target("ar against the eager reference loop, LlamaGen-XL size, batch 1", 5.0, least=True),
    "round_dynamic": Target("a round with the dynamic tree of 59 nodes, in ar steps", 1.25, least=False),
    "round_static": Target("a round with a static tree, in ar steps", 1.15, least=False),
    "skipped_step": Target("a skipped step, in ar steps", 0.2, least=False),
    "kept": Target(
        "share of vvs' forward reduction that is kept in seconds, at the paper's acceptance", 0.8, least=True
    ),
    "batch_ar": Target("images per second of ar at batch 16 over batch 1", 8.0, least=True),
    "batch_speculative": Target("images per second of sd and vvs at batch 16 over batch 1", 6.0, least=True),
}
