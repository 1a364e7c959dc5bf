"""`make certify`: make all certificates, print them, and write them where the report looks for them."""

from __future__ import annotations

import argparse
import datetime
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from vvsbench import config, identity
from vvsbench.certify import controls, exact, relaxed, showing
from vvsbench.certify.continuous import proofs

VERSION = 2
ALPHA = 1e-3
"""Chance of a false alarm among all tests of laws, were all of them exact."""


@dataclass(frozen=True)
class Plan:
    """How much is drawn.

    Attributes:
        exact: for exact combinations.
        controls: images for a negative control.
        relaxed: images for a relaxed decoder.
        continuous: samples of a continuous case.
        continuous_controls: samples for a negative control of these.
        decoded: images of a continuous decoder, exact or control.
        relaxed_every: one of the relaxed in so many is measured.
    """

    exact: exact.Size
    controls: int
    relaxed: int
    continuous: int
    continuous_controls: int
    decoded: int
    relaxed_every: int = 1


FULL = Plan(
    exact.Size(law=30_000, identity=400),
    controls=10_000,
    relaxed=20_000,
    continuous=1_000_000,
    continuous_controls=100_000,
    decoded=40_000,
)
SMALL = Plan(
    exact.Size(law=6_000, identity=100, every=5),
    controls=10_000,
    relaxed=4_000,
    continuous=10_000,
    continuous_controls=20_000,
    decoded=4_000,
    relaxed_every=5,
)
"""For every change of the code: one in five of all combinations, which meets each value of each axis; every continuous
case, and every control."""


def main(argv: Sequence[str] | None = None) -> int:
    """Make certificates.

    Returns:
        1 if an exact combination fails or a control is not caught.
    """
    parser = argparse.ArgumentParser(prog="python -m vvsbench.certify", description=__doc__)
    parser.add_argument("--out", type=Path, default=config.folder("experiments") / "certificates.json")
    parser.add_argument("--draws", type=int, help="images for each test of a law and each distance")
    parser.add_argument("--small", action="store_true", help="one combination in five, and fewer images")
    chosen = parser.parse_args(argv)
    plan = SMALL if chosen.small else FULL
    if chosen.draws is not None:
        if chosen.draws < 100:
            parser.error(f"--draws={chosen.draws} must be at least 100")
        size = exact.Size(chosen.draws, plan.exact.identity, plan.exact.every)
        plan = replace(plan, exact=size, relaxed=chosen.draws, continuous=chosen.draws)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the toys are so small that threads only wait for each other
    try:
        return _made(plan, chosen.out, Console())
    finally:
        torch.set_num_threads(threads)


def _made(plan: Plan, out: Path, console: Console) -> int:
    found = showing.Found(
        exact=exact.certificates(plan.exact, ALPHA),
        controls=controls.certificates(plan.controls),
        relaxed=relaxed.certificates(plan.relaxed, plan.relaxed_every),
        continuous=proofs.certificates(plan.continuous, plan.decoded, ALPHA),
        continuous_controls=proofs.controls(plan.continuous_controls, plan.decoded),
    )
    showing.show(console, found)
    parts: dict[str, Sequence[Any]] = vars(found)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(_text({"version": VERSION, "made": _made_how(plan)}, parts), encoding="utf-8")
    kept, wrong = (len(found.exact) + len(found.continuous), len(found.controls) + len(found.continuous_controls))
    console.print(f"{kept - len(found.failed)} of {kept} exact combinations pass, ", end="")
    console.print(f"{wrong - len(found.missed)} of {wrong} controls are caught; written to {out}")
    return int(bool(found.failed or found.missed))


def _made_how(plan: Plan) -> dict[str, Any]:
    power = exact.power(ALPHA, plan.exact)
    off = proofs.detectable(plan.continuous, ALPHA)
    seen = ", ".join(f"{value:.3f} ({name})" for name, value in power["law_tv"].items())
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "code_digest": identity.code_digest(),
        "draws": plan.exact.law,
        "alpha": ALPHA,
        "power": (
            f"with probability 0.99 a law at a total variation of {seen} or more fails its test; so does a decoder "
            f"that is compared with ar image by image and differs in {power['identity_tv']:.3f} of the images or more, "
            "which bounds its total variation; and so does the exact rule of continuous tokens if along one of the "
            f"directions looked at the distribution function of what it draws is off by {off:.4f} or more"
        ),
        "correction": (
            f"Holm, over {power['law_tests']} tests of laws; comparisons image by image need none; continuous: "
            f"Bonferroni, over {proofs.tests()} tests of laws"
        ),
        "continuous_draws": plan.continuous,
        "caught_below": controls.CAUGHT,
        "toys": {
            "law": exact.TOY.size,
            "skips taken back": exact.LONG.size,
            "relaxed rules": relaxed.NEIGHBOURS.size,
            "relaxed skips": relaxed.SKIPPED.size,
        },
        **power,
    }


def _text(head: dict[str, Any], parts: dict[str, Sequence[Any]]) -> str:
    """JSON with one line per certificate."""
    lists = {
        name: ",\n".join("    " + json.dumps(asdict(one), allow_nan=False) for one in members)
        for name, members in parts.items()
    }
    start = json.dumps(head, indent=2)[:-2]
    return start + "".join(f',\n  "{name}": [\n{lines}\n  ]' for name, lines in lists.items()) + "\n}\n"


if __name__ == "__main__":
    sys.exit(main())
