"""What can be told wrong about a published figure without its paper: its model, its quantity, its arithmetic."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator

import pytest

from vvsbench import config
from vvsbench.analysis.claims import Claim, read

FILES = {path.stem: read(path) for path in sorted((config.folder("experiments") / "published").glob("*.csv"))}
EVERY = [claim for claims in FILES.values() for claim in claims]
MODELS = re.compile(
    r"(LlamaGen(-(B|L|XL|XXL|3B))?( t2i( stage II?)?)?( (256|384|512))?( architecture)?"
    r"|Lumina-mGPT(-7B)?( 768)?|Emu3|Emu3\.5-Image-34B|Anole|Janus-Pro(-7B)?|Tar(-7B)?( 512| 1024)?|Cosmos"
    r"|Meissonic|STAR|VAR-d(16|20|30)|(MAR|xAR|Harmon)(-(B|L|H))?( alone)?|TransDiff|NextStep-1"
    r"|PAR-(3B|XXL)|RandAR-L|LPD-L|VQ ds(8|16)|Vicuna 13B)"
)
"""Targets and tokenizers that papers name."""
UNNAMED = ("own", "several", "several models", "one of its models", "text to image", "language models")
SIZES = re.compile(r"(LlamaGen|MAR|xAR|Harmon)")
"""Families of several sizes, of which a quality or a time is about one."""
OF_ONE_SIZE = ("FID", "IS", "CLIP", "precision", "recall", "seconds per image", "target forwards")
UNITS = {
    "speed-up": {"x"},
    "step compression": {"x", "tokens"},
    "accepted length": {"tokens"},
    "seconds per image": {"s"},
    "seconds per batch": {"s"},
    "acceptance": {"share"},
    "CLIP": {"cosine", "cosine x100"},
    "FID": {""},
    "IS": {""},
    "precision": {""},
    "recall": {""},
    "target forwards": {""},
}
SPANS = {
    "speed-up": (0.3, 250),
    "step compression": (1, 20),
    "accepted length": (1, 10),
    "acceptance": (0, 1),
    "precision": (0, 1),
    "recall": (0, 1),
    "FID": (1, 100),
    "IS": (100, 400),
}
VANILLA = ("vanilla AR", "vanilla", "MAR", "target")
SOURCES = {"speed-up": "seconds per image", "step compression": "target forwards"}
"""Ratios of vanilla's number and a method's."""


@pytest.mark.parametrize("name", FILES)
def test_every_model_is_one_that_is_known(name: str) -> None:
    for claim in FILES[name]:
        parts = re.split(r", | <- | and (?=-|d\d)", claim.model.removesuffix(", batched"))
        known = [part for part in parts if MODELS.fullmatch(part)]
        rest = [part for part in parts if part not in known and not re.fullmatch(r"-L|d16|\d+x\d+", part)]
        assert claim.model in UNNAMED or (known and not rest), f"{name}: no model is called {claim.model}"


@pytest.mark.parametrize("name", FILES)
def test_a_figure_of_one_model_says_its_size(name: str) -> None:
    for claim in FILES[name]:
        if claim.metric in OF_ONE_SIZE and SIZES.fullmatch(claim.model):
            assert "not said" in claim.note, f"{name}: {claim.metric} {claim.value} is of {claim.model}, of which size?"


def test_quantities_have_their_units_and_a_possible_size() -> None:
    for claim in EVERY:
        assert claim.unit in UNITS.get(claim.metric, {claim.unit}), claim
        low, high = SPANS.get(claim.metric, (0, float("inf")))
        assert low <= claim.value <= high, claim
        assert claim.spread is None or 0 < claim.spread < claim.value / 10, claim


def test_a_table_counts_steps_in_one_way() -> None:
    """Tokens per forward and accepted drafts differ by one; a table that has both has one of them wrong."""
    counted = defaultdict(set)
    for name, claims in FILES.items():
        for claim in claims:
            if claim.metric in ("step compression", "accepted length"):
                counted[name, claim.table].add(claim.metric)
    assert [where for where, metrics in counted.items() if len(metrics) > 1] == []


def test_a_paper_has_one_number_and_a_number_one_paper() -> None:
    numbers, papers = defaultdict(set), defaultdict(set)
    for claim in EVERY:
        numbers[claim.paper].add(claim.arxiv)
        papers[claim.arxiv].add(claim.paper)
        assert not claim.arxiv or 1 <= int(claim.arxiv[2:4]) <= 12, claim
    assert {paper: found for paper, found in numbers.items() if len(found) > 1} == {}
    assert {number: found for number, found in papers.items() if number and len(found) > 1} == {}


def ratios() -> Iterator[tuple[str, Claim, float]]:
    """Every claimed ratio that its file gives both numbers for, and what they give."""
    for name, claims in FILES.items():
        for ratio in claims:
            if ratio.metric not in SOURCES or ratio.method in VANILLA:
                continue
            same = [one for one in claims if one.metric == SOURCES[ratio.metric] and one.model == ratio.model]
            own = [one for one in same if one.method == ratio.method]
            plain = [one for one in same if one.method in VANILLA and one.setting in ("", *(o.setting for o in own))]
            if len(own) == len(plain) == 1:
                yield name, ratio, plain[0].value / own[0].value


def test_a_ratio_is_that_of_its_numbers() -> None:
    found = list(ratios())
    assert {name for name, _, _ in found} >= {"flashar", "scd", "gsd"}
    for name, ratio, given in found:
        assert ratio.value == pytest.approx(given, rel=0.01), f"{name}: {ratio.method} {ratio.metric} of {ratio.model}"
