"""What was compared and where it comes from, in words: settings, protocol, promises, machine, and the commands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd

from vvsbench import catalog
from vvsbench.analysis.frame import StudyFrame, hardware
from vvsbench.analysis.sentences import GUARANTEES, Claim, capital
from vvsbench.analysis.troubles import several
from vvsbench.commands import again, command, own
from vvsbench.config import PromptsConfig, SamplingConfig
from vvsbench.runs.record import CellRecord, QualityRecord
from vvsbench.runs.store import StoredCell

DIGEST = 16
"""Hexadecimal digits of a digest that a reader sees; the records hold all of it."""


def glance(studies: Sequence[StudyFrame]) -> list[tuple[str, str]]:
    """What a reader wants to know of a study before its numbers, in names and a few words.

    Args:
        studies: the study under every protocol.
    """
    rows = studies[0].usable
    if rows.empty:
        return []
    configs = [studies[0].cells[str(key)].record.config for key in rows.index]
    images = sorted(set(rows["count"]))
    protocols = [name for study in studies for name in dict.fromkeys(study.usable["protocol"]) if name]
    promised = ", ".join(f"{kind} {count}" for kind, count in rows["guarantee"].value_counts(sort=False).items())
    apart = ", each in figures and tables of its own" if len(protocols) > 1 else ""
    each = "" if len(rows) == 1 else " each"
    return [
        ("compared", f"{len(rows)} cells of {', '.join(map(str, images))} images{each}; their guarantees: {promised}"),
        ("target", several(list(dict.fromkeys(str(config["model"]["name"]) for config in configs)))),
        ("seeds", ", ".join(str(seed) for seed in sorted(set(rows["seed"].dropna())))),
        ("quality", (several(protocols) + apart) if protocols else "not measured"),
        ("machine", "; ".join(dict.fromkeys(rows["hardware"]))),
    ]


def described(study: StudyFrame, rows: pd.DataFrame) -> list[tuple[str, str]]:
    """The settings that the cells of a comparison share, as names and sentences."""
    cell = study.cells[str(rows.index[0])]
    config = cell.record.config
    found = [
        ("Target", _target(config["model"])),
        ("Images", _images(config, cell.record)),
        ("Sampling", _sampling(config["sampling"], config["model"])),
        ("Decoding", f"batches of {config['batch_size']}, {config['dtype']}, on {_device(cell)}"),
        ("Promises", _promises(rows)),
    ]
    if quality := next((one for key in rows.index if (one := study.quality(str(key)))), None):
        found.append(("Quality", _protocol(quality, config.get("metrics") or {})))
    found.append(("Comparison", _comparison(str(config["batch_size"]), rows)))
    machines = list(dict.fromkeys(rows["hardware"]))
    found.append(("Machine", "; ".join(machines)))
    return [(name, capital(text)) for name, text in found]


def decoders(study: StudyFrame, rows: pd.DataFrame) -> list[Claim]:
    """What the decoders of each family do, in a sentence for those that do the same."""
    said = []
    for family, members in rows.groupby("family", sort=False):
        named: dict[str, list[str]] = {}
        for key, row in members.iterrows():
            named.setdefault(_does(study.cells[str(key)].record.config["decoder"]), []).append(str(row["label"]))
        for text, labels in named.items():
            label = str(family) if len(named) == 1 < len(labels) else several(labels)
            said += [Claim(label, str(family), text)] if text else []
    return said


def _does(decoder: Mapping[str, Any]) -> str:
    """From a decoder's settings; empty for one that this page has no words for."""
    if decoder["name"] in ALONE:
        return ALONE[decoder["name"]]
    if "mode" in decoder:
        return _judges(decoder)
    structure, schedule = decoder.get("structure"), decoder.get("schedule")
    if not structure or not schedule:
        return ""
    candidates = str(structure.get("candidates", ""))
    drafted = f"drafts {_tree(structure)}, {SOURCES.get(candidates, candidates)}"
    if schedule["name"] == "always":
        return f"{drafted}, and verifies each tree with one target forward."
    when = WHEN.get(schedule["name"], f"of those trees that the schedule {schedule['name']} names")
    back = " It takes back what the target would not have drawn." if _takes_back(decoder) else ""
    return f"{drafted}, and commits a path {when} with no target forward.{back}"


ALONE = {
    "ar": "draws one token per target forward.",
    "masked": "has no draft: it takes the AR steps per image and the denoising steps per token that its name says.",
}
"""Decoders without a draft, in words."""

JUDGES = {
    "exact": "has the target judge each drafted token given those before it, so that its own law is kept",
    "published": "does the same by the paper’s rule, whose ratio holds the product of variances",
    "released": "judges a whole block from what was verified before it, each token by itself, and takes nothing back.",
}
"""Modes of continuous speculative decoding, in words."""

SOURCES = {
    "shared_noise": "drawn under the target’s own noise",
    "top_k": "the drafter’s likeliest",
    "sampled": "sampled from the drafter without replacement",
}
"""Kinds of candidates, in words."""

WHEN = {
    "uniform": "of every i-th tree",
    "dynamic": "of trees whose paths are alike",
    "confident": "that the target would probably draw itself",
    "accepting": "of trees that follow well accepted ones",
    "rows": "of every i-th tree in some rows of the image",
    "budget": "of as many trees as the wanted compression takes",
}
"""Schedules, in words."""


def _judges(decoder: Mapping[str, Any]) -> str:
    """How a decoder of continuous tokens treats its drafts."""
    if decoder["mode"] == "released":
        return JUDGES["released"]
    how = JUDGES.get(decoder["mode"], f"judges drafts in the mode {decoder['mode']}")
    if decoder.get("tolerance"):
        how = (
            "keeps every drafted token that is no further than its tolerance from the target’s own under the same noise"
        )
    return f"{how}, and takes back what was drafted after the first that fails."


def _tree(structure: Mapping[str, Any]) -> str:
    if structure["name"] == "chain":
        return f"a chain of {structure.get('depth', '?')} tokens"
    nodes = structure.get("nodes") or 1 + len(structure.get("paths") or [])
    return f"a {structure['name']} tree of {nodes} tokens"


def _takes_back(decoder: Mapping[str, Any]) -> bool:
    return bool((decoder.get("skip") or {}).get("recheck") == "rollback")


def _target(model: Mapping[str, Any]) -> str:
    grid = model.get("grid", "?")
    if "family" in model:  # its sizes are in the folder's own config.json
        columns = model["columns"] or grid
        text = f"The {model.get('name')} model, run by transformers"
        return f"{text}; an image is {grid} × {columns} tokens out of {model.get('vocab', '?')}"
    layers, width = (
        (model.get("layers", "?"), model.get("dim", "?"))
        if "encoder_depth" not in model
        else (f"{model['encoder_depth']} + {model.get('decoder_depth', '?')}", model.get("encoder_dim", "?"))
    )
    text = f"The {model.get('name')} model: {layers} layers of width {width}"
    if "head_depth" in model:
        text += f" with a diffusion head of {model['head_depth']} blocks of width {model.get('head_width', '?')}"
    tokens = f"of {model['channels']} numbers" if "channels" in model else f"out of {model.get('vocab', '?')}"
    return f"{text}; an image is {grid} × {grid} tokens {tokens}"


def _device(cell: StoredCell) -> str:
    asked = str(cell.record.config["device"])
    return asked if asked != "auto" else "the GPU" if cell.record.provenance.hardware.get("gpu") else "the CPU"


def _images(config: Mapping[str, Any], record: CellRecord) -> str:
    prompts = asdict(PromptsConfig()) | dict(config["prompts"])
    cut = record.captions_cut
    short = f"; {cut} of the captions are longer than the text encoder reads and were cut" if cut else ""
    source = "class labels" if prompts["kind"] == "classes" else f"the captions of {prompts.get('file')}"
    return (
        f"{record.count} per decoder, from {source}{short}; image number i has the same prompt and the same stream of "
        f"noise, that of (seed {config['seed']}, i), under every decoder"
    )


def _sampling(sampling: Mapping[str, Any], model: Mapping[str, Any]) -> str:
    sampling = asdict(SamplingConfig()) | dict(sampling)
    parts = [f"temperature {sampling['temperature']:g}"]
    if "vocab" in model:
        parts.append(f"top-k {sampling['top_k']}" if sampling["top_k"] else "no top-k")
    if sampling["top_p"] < 1:
        parts.append(f"top-p {sampling['top_p']:g}")
    if sampling["guidance_scale"] == 1:
        return ", ".join([*parts, "no guidance"])
    rising = " rising linearly" if sampling.get("guidance_schedule") == "linear" else ""
    parts.append(f"classifier-free guidance {sampling['guidance_scale']:g}{rising}")
    return ", ".join(parts)


def _promises(rows: pd.DataFrame) -> str:
    kinds = rows.groupby("guarantee", sort=False)["label"].apply(list)
    return ". ".join(f"{GUARANTEES[str(kind)]} {several(labels)}" for kind, labels in kinds.items())


def _protocol(quality: QualityRecord, metrics: Mapping[str, Any]) -> str:
    text = f"protocol {quality.protocol} {quality.version}"
    if quality.reference_count:
        text += f", against {quality.reference_count} reference images"
    kind = (metrics.get("extractor") or {}).get("kind")
    if kind and metrics.get("name") == quality.protocol:
        text += f", features of the {kind}"
    fid = next((value for value in quality.values if value.name == "fid"), None)
    if fid and fid.interval:
        text += f". Interval of FID: {fid.interval}"
    for value in quality.values:
        if value.captions_cut:
            text += f". For {value.name} {value.captions_cut} of {value.n} captions were too long and were cut"
    return text + ". Numbers of different protocols or image counts cannot be compared, nor these with published ones"


def _comparison(batch: str, rows: pd.DataFrame) -> str:
    text = (
        "Everything is compared in pairs: the same prompt and the same noise. Counts and seconds, image with image "
        "and shard with shard (paired bootstrap); the ratio is that of the totals. CLIP score, precision, class "
        "accuracy and hue agreement, image with image (paired bootstrap). FID, IS, KID and recall belong to a whole "
        "set: both sets leave out the same groups of images one after the other, and the interval of a change comes "
        "from the differences group by group (paired delete-a-group jackknife)"
    )
    texts = [str(text) for text in rows["unpaired"].dropna()] if "unpaired" in rows else []
    if unpaired := sorted({name for text in texts for name in text.split()}):
        text += (
            f". Not so for {', '.join(unpaired)}, whose record keeps nothing to pair: there a change joins both "
            "intervals as if the images were independent, which is rather too wide"
        )
    return text + (
        f". Seconds are wall clock over the images of a shard, at most {batch} in flight, divided by their number, "
        "after a warm-up, one decoder after the other"
    )


def commands(studies: Sequence[StudyFrame]) -> list[str]:
    """What to type to get the study again, from the records.

    Args:
        studies: the study under every protocol.
    """
    study, *others = studies
    records = [study.cells[str(key)].record for key in study.usable.index]
    commits = dict.fromkeys((git.commit, git.dirty) for record in records if (git := record.provenance.git) is not None)
    lines = [f"git checkout {commit}{'   # and uncommitted changes' if dirty else ''}" for commit, dirty in commits]
    typed = [record.provenance.command for record in records if own(record.provenance.command)]
    typed = list(dict.fromkeys(map(again, typed)))
    lines += typed
    for other in others:
        lines += _scoring(typed, other.protocol)
    config = next((cell.record.config for cell in study.cells.values()), {})
    root = str(config.get("output_root", "outputs"))
    return [*lines, command("report", f"study={study.name}", root=root)]


def _scoring(typed: Sequence[str], protocol: str) -> list[str]:
    """What scores the images of some commands under another protocol; a record keeps what drew them only."""
    if protocol not in catalog.names("metrics"):
        return [f"# protocol {protocol} has no file in conf/metrics, and no record keeps the settings it was made by"]
    return [f"{again(line, f'metrics={protocol}')}   # scores what is there" for line in typed]


def origin(cell: StoredCell, label: str) -> dict[str, Any]:
    """Where one cell's numbers come from."""
    record, provenance = cell.record, cell.record.provenance
    versions = ", ".join(f"{name} {version}" for name, version in provenance.versions.items())
    facts = [
        ("record", f"{cell.folder.name}, key {record.key}"),
        ("command", provenance.command or "unknown"),
        ("code", f"{provenance.code_digest[:DIGEST]}{_git(cell)}"),
        *((f"weights {name}", digest[:DIGEST]) for name, digest in provenance.weights.items()),
        ("images", record.image_digest[:DIGEST]),
        ("versions", versions),
        ("machine", f"{hardware(provenance.hardware)}, {provenance.hardware.get('memory_gib')} GiB, {provenance.host}"),
        (
            "seconds",
            ", ".join(
                f"{capital(name.replace('_seconds', '').replace('_', ' '))} {value:.1f}"
                for name, value in record.timing.items()
            ),
        ),
    ]
    for quality in cell.quality.values():
        text = f"{quality.seconds:.1f} s, reference {quality.reference_digest[:DIGEST] or 'none'}, key {quality.key}"
        facts.append((f"quality {quality.protocol} {quality.version}", text))
    return {"label": label, "when": (record.finished or record.started)[:19].replace("T", " ") + " UTC", "facts": facts}


def _git(cell: StoredCell) -> str:
    git = cell.record.provenance.git
    if git is None:
        return ", not in a checkout"
    return f", commit {git.commit[:12]}{' with uncommitted changes' if git.dirty else ''}"
