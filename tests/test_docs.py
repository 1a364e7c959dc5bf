"""The worked examples of docs/adding.md, run word for word; every page's commands, links and anchors."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from docs import build
from tests import nano
from vvsbench import catalog, cli, config
from vvsbench.analysis import frame, tables
from vvsbench.composition import composed
from vvsbench.decoding.schedule.base import Moment
from vvsbench.models.settings import FAMILIES
from vvsbench.quality import config as protocols
from vvsbench.quality import scorers
from vvsbench.runs import store

ADDING = Path(__file__).parent.parent / "docs" / "adding.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
NAMED = re.compile(r"^```\w+ (\S+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^ *vvsbench run (.+)$", re.MULTILINE)
USES = {
    "cheap": ["decoder=vvs", "schedule@decoder.schedule=cheap", "decoder.schedule.most=2"],
    "generous": ["decoder=eagle2", "acceptance@decoder.acceptance=generous", "decoder.acceptance.factor=3"],
    "binary": ["decoder=sd", "structure@decoder.structure=binary", "decoder.structure.depth=2"],
    "bold": ["decoder=sd", "structure@decoder.structure=chain", "drafter@decoder.drafter=bold"],
    "cooling": ["decoder=cooling", "decoder.last=0.3"],
}
LABELS = {
    "cheap": "vvs m=2",
    "generous": "eagle2 generous",
    "binary": "sd",
    "bold": "sd chain 5",
    "cooling": "cooling 0.3",
}


@pytest.fixture
def examples(tmp_path, monkeypatch):
    """The page's modules on the path, and its entry points announced as those of an installed package."""
    blocks = BLOCK.findall(ADDING.read_text())
    for _, module in (block for block in blocks if block[0] == "python"):
        name = module.splitlines()[0].removeprefix("# ")
        (tmp_path / name).write_text(module)
    about = tmp_path / "examples-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: examples\nVersion: 1.0\n")
    tables = "\n".join(text for kind, text in blocks if kind == "toml")
    points = re.sub(r'\[project\.entry-points\."([\w.]+)"\]', r"[\1]", tables).replace('"', "")
    (about / "entry_points.txt").write_text(re.sub(r"^#.*\n", "", points, flags=re.MULTILINE))
    monkeypatch.syspath_prepend(tmp_path)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    nano.write(folder)
    return folder


@pytest.mark.parametrize("name", USES)
def test_an_example_runs_as_it_is_written(name, examples, weights, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    command = [*USES[name], *nano.overrides(weights, drafter=name != "cooling"), "count=2", "shard_size=2"]
    assert cli.main(["run", *command, "study.name=docs"]) == 0
    assert LABELS[name] in capsys.readouterr().out


def test_the_decoder_of_the_page_is_vanilla_ar_where_nothing_cools(examples, weights, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    few = [*nano.overrides(weights), "count=3", "batch_size=2", "shard_size=4", "study.name=docs"]
    for decoder in (["decoder=ar"], ["decoder=cooling", "decoder.last=1"], ["decoder=cooling", "decoder.last=0.3"]):
        assert cli.main(["run", *decoder, *few]) == 0
    drawn = {cell.record.label: cell for cell in store.Store(tmp_path / "outputs").cells("docs")}
    images = {label: cell.images.tolist() for label, cell in drawn.items()}
    assert images["ar"] == images["cooling 1"] != images["cooling 0.3"]
    forwards = {cell.record.summaries["target_forwards"].mean for cell in drawn.values()}
    assert forwards == {nano.GRID**2 - 1}  # the first token comes from the prefill


@pytest.fixture
def files(tmp_path, monkeypatch):
    """The page's files by name; those of settings lie where they say, below the working folder."""
    found = dict(NAMED.findall(ADDING.read_text()))
    for name, text in found.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    return found


def test_a_model_is_a_settings_file(files, weights):
    assert composed(["model=birds"]).sampling.guidance_scale == 1.5
    assert {"birds"} < set(catalog.names("model"))
    sizes = [setting for setting in nano.overrides(weights) if setting != "model=tiny"]
    assert cli.main(["run", "model=birds", "decoder=ar", *sizes, "count=2", "shard_size=2", "study.name=docs"]) == 0


def test_a_family_is_one_short_file(examples, files, tmp_path, capsys):
    """A language model as `save_pretrained` writes it, with its tokenizer, draws by the page's file and settings."""
    import torch
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers

    sizes = {"vocab_size": 40, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1}
    torch.manual_seed(0)
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1}
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes, **heads))
    model.save_pretrained(tmp_path / "weights" / "written")
    words = Tokenizer(models.WordLevel({"a": 0, "bird": 1, "<eos>": 2, "?": 3}, unk_token="?"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    transformers.PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<eos>", unk_token="?").save_pretrained(
        tmp_path / "weights" / "written"
    )
    (tmp_path / "captions.txt").write_text("a bird\nbird\na\n")
    asked = ["model=written", "prompts.file=captions.txt", "sampling.guidance_scale=2", "count=3", "shard_size=3"]
    for decoder in ("ar", "jacobi"):
        assert cli.main(["run", f"decoder={decoder}", *asked, "batch_size=3", "device=cpu", "study.name=docs"]) == 0
    drawn = {cell.record.label: cell.tokens.tolist() for cell in store.Store(tmp_path / "outputs").cells("docs")}
    first, second = drawn.values()
    assert first == second
    assert len((tmp_path / "written.py").read_text().splitlines()) < 60


def test_a_metric_is_a_function_and_its_name(files, weights, monkeypatch):
    monkeypatch.setattr(scorers, "SCORERS", dict(scorers.SCORERS))
    monkeypatch.setattr("vvsbench.quality.evaluation.SCORERS", scorers.SCORERS)
    monkeypatch.setattr(protocols, "METRICS", (*protocols.METRICS, "colour"))
    monkeypatch.setattr(frame, "METRICS", (*frame.METRICS, "colour"))
    exec(compile(files["scorers.py"], "scorers.py", "exec"), dict(vars(scorers)))
    few = ["count=16", "batch_size=16", "shard_size=16", "study.name=docs"]
    assert cli.main(["run", "decoder=ar", *nano.overrides(weights), *few, "metrics=colour"]) == 0
    (path,) = Path("outputs/cells/docs").glob("*/quality/*.json")
    record = json.loads(path.read_text())
    assert record["version"].startswith("v1+changed")
    (row,) = frame.frames("docs", Path("outputs"))[0].rows.to_dict("records")
    assert row["colour"] == record["values"][0]["value"] > 0
    assert tables.entry(tables.Column("colour", "colour ↑", ""), row).interval


def test_links_and_anchors_lead_somewhere():
    assert build.broken() == []
    assert {page.name for page in build.pages()} >= {"README.md", "index.md", "quick_start.md", "faq.md"}


def test_the_index_names_every_page():
    index = (ADDING.parent / "index.md").read_text()
    assert [page.name for page in ADDING.parent.glob("*.md") if f"({page.name})" not in index] == ["index.md"]


def test_a_link_to_nowhere_is_found(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text(
        "# A *b*, `c`!\n[1](docs/index.md#d) [2](#a-b-c) [3](x.md) [4](docs/index.md#e)"
    )
    (tmp_path / "docs" / "index.md").write_text("## d\n`[5](none.md)` [6](../README.md)\n## d\n[7](#d-1)")
    assert [line.split(": ")[1].split(" ")[0] for line in build.broken(tmp_path)] == ["x.md", "docs/index.md#e"]
    build.build(tmp_path / "out", tmp_path)
    assert 'href="docs/index.html#d"' in (tmp_path / "out" / "README.html").read_text()


def test_every_command_of_the_pages_is_one(tmp_path, monkeypatch):
    """Settings that do not exist are found; those with a placeholder (NAME) and of the tested examples are left out."""
    monkeypatch.chdir(tmp_path)
    own = tmp_path / "experiments" / "drafter" / "mine.yaml"  # what training writes
    own.parent.mkdir(parents=True)
    own.write_text((config.folder("conf") / "drafter" / "tiny.yaml").read_text())
    text = "\n".join(page.read_text() for page in build.pages() if page != ADDING)
    commands = [found for line in COMMAND.findall(text) if (found := _overrides(line))]
    seen: set[str] = set()
    for command in sorted(commands, key=len, reverse=True):
        settings = {re.sub(r"=[\d.]+$", "", word) for word in command}
        if not settings <= seen:  # every setting once, whatever its number, is enough and takes half the time
            composed(command)
            seen |= settings
    assert len(seen) > 30


def _overrides(line):
    """The settings of one cell of a command; None where it has placeholders or options of Hydra's."""
    words = [word for word in shlex.split(line.split("&&")[0], comments=True) if word not in ("-m", "\\")]
    if any(word.startswith("-") or re.search(r"=[A-Z_]+$", word) for word in words):
        return None
    kept = [re.sub(r"=[\w,(]*\(", "=", word) for word in words if not word.startswith("size=")]  # choice(1,2): 1
    return tuple(word if "[" in word else word.split(",")[0] for word in kept)


def test_the_schedule_is_one_short_file():
    module = next(text for kind, text in BLOCK.findall(ADDING.read_text()) if kind == "python")
    assert len(module.splitlines()) < 40


def test_every_axis_has_an_example(examples):
    text = ADDING.read_text()
    from vvsbench.config import PLUGINS

    announced = set(re.findall(r'entry-points\."([\w.]+)"', text))
    assert announced == {registry.group for registry in PLUGINS.values()} | {FAMILIES}


def test_the_keys_of_the_released_knobs_exist():
    """Every key in the table of docs/released_vvs.md is one of a run's settings."""
    table = (ADDING.parent / "released_vvs.md").read_text()
    keys = {key.split("=")[0] for key in re.findall(r"`(decoder\.[\w.]+(?:=[^`]*)?)`", table)}
    released = composed(["decoder=vvs_released"])
    dynamic = composed(["decoder=vvs", "schedule@decoder.schedule=dynamic"])
    assert len(keys) > 15
    for key in keys - {"decoder.drafter.checkpoint"}:
        found = [_has(run, key.split(".")) for run in (released, dynamic)]
        assert any(found), key


def test_what_never_skips_there_never_skips_here():
    """The released code's word for never is an interval, which here skips the first step that may be skipped."""
    lines = (ADDING.parent / "released_vvs.md").read_text(encoding="utf-8").splitlines()
    (line,) = (line for line in lines if line.startswith("| `skip_interval`"))
    assert "never, which is `schedule@decoder.schedule=always` here" in line
    first = Moment(step=1, committed=6, tokens=64)
    schedules = ["schedule@decoder.schedule=always", "decoder.schedule.interval=1024"]
    never, rarely = (composed(["decoder=vvs_released", words]).decoder.schedule for words in schedules)
    assert (never.skips(first), rarely.skips(first)) == (False, True)


def _has(node, path):
    return not path or (hasattr(node, path[0]) and _has(getattr(node, path[0]), path[1:]))
