from __future__ import annotations

import base64
import csv
import io
import json
import math
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from tests import synthetic
from vvsbench.analysis import certificates, pictures, report, selection
from vvsbench.analysis.report import ReportPaths

MIB = 2**20


class Page(HTMLParser):
    """Collects what a browser would fetch and whether elements are closed."""

    VOID = frozenset({"meta", "link", "img", "br", "circle", "line", "rect", "polygon", "polyline"})

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.ids: list[str] = []
        self.open: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data")]
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.fixture(scope="module")
def paths(root: Path) -> ReportPaths:
    return report.write("demo", root)


@pytest.fixture(scope="module")
def page(paths: ReportPaths) -> Page:
    parsed = Page()
    parsed.feed(paths.html.read_text())
    return parsed


def test_everything_is_written_where_it_is_said(paths: ReportPaths, root: Path) -> None:
    assert paths.html == root / "reports" / "demo" / "index.html"
    for path in (paths.html, paths.markdown, paths.latex, paths.table, *paths.figures):
        assert path.stat().st_size > 0
    assert {path.name for path in paths.figures} >= {"fronts.pdf", "fronts.svg", "lengths.pdf", "samples.svg"}


def test_the_page_stands_alone(page: Page, paths: ReportPaths) -> None:
    assert not page.open
    assert page.addresses
    inside = [address[1:] for address in page.addresses if address.startswith("#")]
    assert "front-1" in inside
    assert set(inside) <= set(page.ids)
    assert len(set(page.ids)) == len(page.ids)
    assert all(address.startswith(("data:", "#")) for address in page.addresses)
    content = paths.html.read_text()
    assert not re.search(r"url\(|@import|fetch\(|XMLHttpRequest|https?://", content)
    assert len(content) < 6 * MIB


def test_the_page_says_all_of_it(page: Page, root: Path) -> None:
    text = " ".join(page.text)
    for words in (
        "Skipping verification on the tiny model",
        "draws ar’s images token for token",
        "FID rises by 9.4",
        "What it costs",
        "How good the images are",
        "64 of 64",
        "a red circle",
        "of these one that skipped verification",
        "In pairs with ar: same prompts, same noise",
        "tokens that differ",
        "Fronts by family",
        "the same for all: one token per forward, and an FID 10 % above the worst here",
        "Where the tokens come from",
        "Acceptance by depth of the draft",
        "eagle2 is dominated by sd.",
        "is a better front than",
        "paired delete-a-group jackknife",
        "Wrong decoders, which the tests must catch",
        "Hypervolume",
        "Protocol tiny v1",
        "Nothing is promised by vvs i=5, vvs i=4",
        "commits a path of every i-th tree with no target forward",
        "Invented Processor 9000",
        "vvsbench run study=demo",
        f"vvsbench report study=demo output_root={root}",
        "git checkout 0123456789abcdef0123456789abcdef01234567",
    ):
        assert words in text, words


def test_markdown_shows_the_figures_of_each_comparison(paths: ReportPaths, root: Path, tmp_path: Path) -> None:
    names = [f"{name}.svg" for name in ("fronts", "lengths", "depths", "positions", "samples")]
    assert re.findall(r"!\[.*?\]\((.*?)\)", paths.markdown.read_text()) == names
    cells = synthetic.recipes()[:2]
    synthetic.write(tmp_path, 8, cells=cells + [replace(cell, changes={"seed": 1}) for cell in cells])
    both = report.write("demo", tmp_path)
    shown = re.findall(r"!\[.*?\]\((.*?)\)", both.markdown.read_text())
    assert shown == ["attainment.svg", *names, *(f"{name[:-4]}-2.svg" for name in names)]
    assert all((both.markdown.parent / name).is_file() for name in shown)


def test_every_form_shows_the_same_numbers(paths: ReportPaths, page: Page) -> None:
    rows = {row["label"]: row for row in csv.DictReader(io.StringIO(paths.table.read_text()))}
    shown = f"{float(rows['vvs i=2']['step_compression']):.2f}"
    for text in (" ".join(page.text), paths.markdown.read_text(), paths.latex.read_text()):
        assert shown in text
        assert "28.0" in text


def test_the_same_records_give_the_same_bytes(paths: ReportPaths, root: Path) -> None:
    every = (paths.html, paths.markdown, paths.latex, paths.table, *paths.figures)
    before = {path: path.read_bytes() for path in every}
    report.write("demo", root)
    assert {path: path.read_bytes() for path in every} == before


def test_latex_is_balanced_and_escaped(paths: ReportPaths) -> None:
    content = paths.latex.read_text()
    proven = len(certificates.proofs(certificates.path()).tables)
    assert content.count(r"\begin{table}") == content.count(r"\end{table}") == 6 + proven
    assert content.count("{") - content.count(r"\{") == content.count("}") - content.count(r"\}")
    assert not re.search(r"(?<!\\)%(?! Study)", content)
    for table in content.split(r"\begin{table}")[1:]:
        columns = re.search(r"\\begin\{tabular\}\{([lr]+)\}", table)
        assert columns
        for line in table.splitlines():
            if line.endswith(r"\\") and "&" in line:
                assert line.count("&") == len(columns[1]) - 1, line
    content.encode("ascii")


def test_names_from_records_cannot_break_the_page(tmp_path: Path) -> None:
    cells = synthetic.recipes()[:2]
    cells[1].label = '<script>alert(1)</script> & "sd"'
    synthetic.write(tmp_path, 8, cells=cells)
    content = report.write("demo", tmp_path).html.read_text()
    assert "<script>alert" not in content
    assert "&lt;script&gt;" in content


def test_a_study_without_quality_or_baseline_is_still_reported(tmp_path: Path) -> None:
    for folder in synthetic.write(tmp_path, 8, cells=synthetic.recipes()[1:3]):
        (folder / "quality" / "tiny.json").unlink()
    content = report.write("demo", tmp_path).html.read_text()
    assert "What it costs" in content
    assert "Hypervolume" not in content


def test_troubles_come_before_the_numbers(tmp_path: Path) -> None:
    cells = synthetic.recipes()[:3]
    cells[2].stale = True
    synthetic.write(tmp_path, 8, cells=cells)
    content = report.write("demo", tmp_path).html.read_text()
    assert 0 < content.index("Before the numbers") < content.index("What is won")
    assert "is stale" in content


def test_troubles_are_told_for_each_seed(tmp_path: Path) -> None:
    first, sd, eagle2, vvs = synthetic.recipes()[:4]
    seeds = [replace(cell, changes={"seed": seed}) for seed in (0, 1) for cell in (first, sd)]
    broken = [replace(eagle2, changes={"seed": 0}), replace(eagle2, stale=True, changes={"seed": 1})]
    again = [replace(first, seconds=0.3, stale=True, changes={"seed": 1}), replace(vvs, status="failed")]
    synthetic.write(tmp_path, 8, cells=[*seeds, *broken, *again])
    told = {trouble.subject: trouble.what for trouble in synthetic.frame("demo", tmp_path).troubles}
    assert told["eagle2 seed=1"].startswith("is stale (the code that draws tokens has changed)")
    assert told["vvs i=2 seed=0"] == "failed: stopped by the user"
    assert told["Older records"].endswith("run again: ar seed=1")
    assert "seed=1 decoder=vvs decoder.schedule.interval=2" in told["Not run yet"]


def test_the_terminal_shows_the_front(root: Path) -> None:
    console = Console(width=80, record=True, file=io.StringIO())
    report.print_front("demo", root, console)
    text = console.export_text()
    looks = {"●": {"vvs i=3", "vvs i=2"}, "◐": {"sd", "vvs i=5", "vvs i=4"}, "○": {"ar", "eagle2"}}
    lines = {}
    for look, labels in looks.items():
        found = {line.split("  ")[0].strip(): line for line in text.splitlines() if f" {look} " in line}
        lines |= {label: line for label, line in found.items() if label in labels}
        assert labels <= set(found)
    assert "● on the front   ◐ cannot be told   ○ dominated" in text
    assert "28.0 [26.7, 29.3]" in text
    assert all(len(line) <= 80 for line in text.splitlines())
    assert all(line.rstrip().endswith(" %") for line in lines.values())


def test_further_tables_are_written_unrounded(paths: ReportPaths) -> None:
    tables = {path.name: list(csv.DictReader(io.StringIO(path.read_text()))) for path in paths.more}
    proofs = {f"certificates-{name}.csv" for name in certificates.KINDS}
    assert set(tables) == {"families.csv", "differences.csv", "depths.csv"} | proofs
    pairs = {(line["family"], line["less"]): float(line["hypervolume"]) for line in tables["differences.csv"]}
    assert len(pairs) == 6
    assert pairs["vvs", "sd"] == pytest.approx(-pairs["sd", "vvs"])
    first = next(line for line in tables["depths.csv"] if line["label"] == "sd")
    assert float(first["share"]) == pytest.approx(int(first["accepted"]) / int(first["steps"]))
    rows = {row["label"]: row for row in csv.DictReader(io.StringIO(paths.table.read_text()))}
    assert {"changed_tokens", "pixel_change_low", "clip_change_high", "tokens_per_skip"} <= rows["ar"].keys()


def test_records_without_images_are_reported_and_it_is_told(tmp_path: Path) -> None:
    for folder in synthetic.write(tmp_path, 16, cells=synthetic.recipes()):
        shutil.rmtree(folder / "images")
    paths = report.write("demo", tmp_path)
    text = paths.html.read_text()
    assert "only the records; pictures and differences of tokens and pixels are left out" in text
    assert "The same images under every decoder" not in text
    assert "tokens that differ" not in text
    assert "FID rises by 9.4" in text  # paired intervals need only the records
    assert "samples.svg" not in {path.name for path in paths.figures}
    assert "lengths.svg" in {path.name for path in paths.figures}


def test_records_of_the_first_version_say_what_is_not_paired(tmp_path: Path, no_figures: None) -> None:
    synthetic.write(tmp_path, 16, cells=[replace(cell, keeps=False) for cell in synthetic.recipes()[::3]])
    text = report.write("demo", tmp_path).markdown.read_text()
    assert "Not so for accuracy, clip, fid, is, kid, precision, recall" in text
    assert "These records keep no jackknife" in text


@pytest.mark.parametrize("which", [slice(0, 1), slice(1, 2), slice(3, 4)])
def test_a_study_of_one_cell_is_reported(tmp_path: Path, which: slice) -> None:
    synthetic.write(tmp_path, 16, cells=synthetic.recipes()[which])
    assert "What it costs" in report.write("demo", tmp_path).html.read_text()


def test_a_decoder_whose_drafts_all_fail_is_reported(tmp_path: Path) -> None:
    cells = synthetic.recipes()[:3]
    synthetic.write(tmp_path, 16, cells=[cells[0], replace(cells[1], accept=-1.0)])
    paths = report.write("demo", tmp_path)
    assert "0.00 drafts kept per verified step" in paths.html.read_text()
    assert "depths.csv" not in {path.name for path in paths.more}


def many(number: int) -> list[synthetic.Recipe]:
    cells = synthetic.recipes()
    rest = [
        replace(cell, label=f"{cell.label} {turn}", decoder=cell.decoder | {"number": turn})
        for turn in range(number // 4 + 1)
        for cell in cells[3:]
    ]
    return [cells[0], *rest][:number]


def test_many_cells_are_all_in_the_tables_and_the_first_of_them_in_pictures(tmp_path: Path, no_figures: None) -> None:
    synthetic.write(tmp_path, 16, cells=many(60))
    paths = report.write("demo", tmp_path)
    parsed, content = Page(), paths.html.read_text()
    parsed.feed(content)
    assert not parsed.open
    assert paths.html.stat().st_size < 3 * MIB
    assert content.count('class="draft ') == selection.MOST - 1  # all that are chosen draft, but for the baseline
    assert re.search(r"Dominated: .*? and \d+ more\.", content)
    assert re.search(r"<summary>\d+ more decoders</summary>", content)
    table = content.split("<caption>What it costs")[1].split("</table>")[0]
    assert table.count("<tr data-key") == 60
    assert content.count("<img") >= 12 * 60


def test_every_protocol_is_shown_apart(tmp_path: Path) -> None:
    folders = synthetic.write(tmp_path, 16, cells=synthetic.recipes()[:4])
    for folder in folders[:3]:
        synthetic.score_again(folder)
    paths = report.write("demo", tmp_path)
    for text in (paths.html.read_text(), paths.markdown.read_text()):
        first, second = re.split("Under protocol vgg-pr v3", text, maxsplit=1)
        assert "18.6" in first
        assert "37.2" not in first
        assert "37.2" in second.split("Certificates")[0]
        assert "has no quality record under protocol vgg-pr" in first  # vvs i=2, told before the numbers
        assert "vvsbench run study=demo metrics=vgg-pr   # scores what is there" in second
    assert "(protocol vgg-pr)" in paths.latex.read_text()
    assert {path.name for path in paths.figures} >= {"fronts.svg", "fronts-vgg-pr.svg"}
    assert {path.name for path in paths.more} >= {"cells-vgg-pr.csv"}
    assert synthetic.frame("demo", tmp_path).protocol == "tiny"


def test_quality_of_another_version_is_told_and_left_out(tmp_path: Path) -> None:
    folders = synthetic.write(tmp_path, 16, cells=synthetic.recipes()[:4])
    quality = folders[3] / "quality" / "tiny.json"
    quality.write_text(json.dumps(json.loads(quality.read_text()) | {"version": "v2"}))
    rows = synthetic.frame("demo", tmp_path).rows.set_index("label")
    assert math.isnan(rows.loc["vvs i=2", "fid"])
    assert rows.loc["vvs i=2", "step_compression"] > 1
    assert rows.loc["vvs i=2", "trouble"].startswith("was scored as tiny v2; its quality is left out")


def test_large_images_become_thumbnails() -> None:
    large = np.random.default_rng(0).integers(0, 256, (3, 512, 512), dtype=np.uint8)
    address = pictures.uri(large)
    picture = Image.open(io.BytesIO(base64.b64decode(address.removeprefix("data:image/webp;base64,"))))
    assert max(picture.size) == pictures.LARGEST
    assert pictures.uri(large[:, :32, :32]).startswith("data:image/png")
