"""What makes two cells the same: a key over everything that can change the images, their counts or their times.

The key names a cell's folder, so the same command finds its own work, and a changed setting, weights file or decoder
never reuses another's. It is computed before any model is loaded and without torch.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from vvsbench.config import PACKAGE, PLUGINS, folder
from vvsbench.models import checkpoints
from vvsbench.models.settings import FAMILIES

WITHOUT_EFFECT = ("study", "logger", "metrics", "stage", "speed", "search", "output_root", "rerun", "shards", "hydra")
"""Settings that cannot change an image set: how it is named, scored, timed, found, logged, chosen, shared, kept."""

CODE = (
    "noise.py",
    "sampling.py",
    "selection.py",
    "selection_kernels.py",
    "fusing.py",
    "models",
    "drafting",
    "decoding",
)
"""Modules that draw the tokens and images. Whatever else changes leaves the records valid."""


def cell_key(config: Mapping[str, Any]) -> str:
    """First 12 hexadecimal digits of the sha256 over settings, code and weights.

    Args:
        config: the resolved settings as plain containers (see `plain`).

    Raises:
        CheckpointError: a weights file is missing.
    """
    settings = {key: value for key, value in config.items() if key not in WITHOUT_EFFECT}
    settings["device"] = device(str(config["device"]))
    identity = {"settings": settings, "code": code_digest(config), "weights": weights_digests(config)}
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]


def weights_names(config: Mapping[str, Any]) -> dict[str, str]:
    """The checkpoints that a run reads: setting to name, those of the target first."""
    return dict(_checkpoints({group: config[group] for group in ("model", "decoder")}))


def _checkpoints(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield from _checkpoints(value, f"{prefix}{key}.")
        elif key.endswith("checkpoint") and value:
            yield f"{prefix}{key}", value


def weights_digests(config: Mapping[str, Any]) -> dict[str, str]:
    """Sha256 of every weights file of a run, by the name it has in the settings.

    Raises:
        CheckpointError: one of them is missing.
    """
    digests = {name: checkpoints.digest(checkpoints.locate(name)) for name in weights_names(config).values()}
    captions = config["prompts"].get("file")
    if captions and Path(captions).is_file():
        digests[captions] = checkpoints.digest(Path(captions))
    encoder = config["model"].get("text_encoder")
    if encoder and checkpoints.resolve(encoder).is_dir():
        digests[encoder] = checkpoints.digest(checkpoints.resolve(encoder))
    return digests


def code_digest(config: Mapping[str, Any] | None = None) -> str:
    """Sha256 over the code that draws a cell; comments, docstrings and layout do not count.

    Args:
        config: settings as plain containers; they name the plug-ins that take part. None stands for no plug-in.
    """
    decoder = config["decoder"] if config else {}
    chosen = {group: (decoder if group == "decoder" else decoder.get(group) or {}).get("name") for group in PLUGINS}
    added = [
        _meaning(plugin.source)
        for group, name in chosen.items()
        for plugin in (PLUGINS[group] if name and not _is_own(group, name) else ())
        if plugin.name == name
    ]
    added += _family_source(config["model"].get("family", "") if config else "")
    return hashlib.sha256("\n".join([_own_code(), *added]).encode()).hexdigest()


def _family_source(name: str) -> list[str]:
    """The code of another package's family of models; read and not imported, since it imports torch."""
    found = (find_spec(entry.module) for entry in entry_points(group=FAMILIES) if entry.name == name)
    return [_meaning(Path(spec.origin).read_text(encoding="utf-8")) for spec in found if spec and spec.origin]


def _is_own(group: str, name: str) -> bool:
    """Whether a choice is the package's own: the common case need not look for plug-ins."""
    return (folder("conf") / group / f"{name}.yaml").is_file()


@cache
def _own_code() -> str:
    """Digest of the package's own modules."""
    total = hashlib.sha256()
    for name in CODE:
        path = PACKAGE / name
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            meaning = _meaning(file.read_text(encoding="utf-8"))
            total.update(f"{file.relative_to(PACKAGE).as_posix()}\n{meaning}\n".encode())
    return total.hexdigest()


def _meaning(source: str) -> str:
    """A module's code without what only people read."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        node.body = [line for line in node.body if not _is_remark(line)] or [ast.Pass()]
    return ast.unparse(tree)


def _is_remark(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def device(asked: str) -> str:
    """Which device `auto` means on this machine: "cuda" when torch was built for it and a GPU answers, else "cpu"."""
    if asked != "auto":
        return asked
    return "cuda" if _torch_has_cuda() and _gpu_answers() else "cpu"


@cache
def _torch_has_cuda() -> bool:
    """Read from torch's version file: importing torch takes seconds."""
    spec = find_spec("torch")
    if spec is None or spec.origin is None:
        return False
    version = Path(spec.origin).with_name("version.py")
    said = version.read_text(encoding="utf-8") if version.is_file() else ""
    return bool(re.search(r"^cuda[^=\n]*=\s*['\"]", said, re.MULTILINE))


@cache
def _gpu_answers() -> bool:
    if os.environ.get("CUDA_VISIBLE_DEVICES", "all") in {"", "-1"}:
        return False
    import pynvml

    try:
        pynvml.nvmlInit()
        return bool(pynvml.nvmlDeviceGetCount())
    except pynvml.NVMLError:
        return False
