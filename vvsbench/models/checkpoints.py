"""Weights on disk: where they are, what is in them, and a strict, safe way to read them.

The official files carry positional tables of no kind, so a wrong grid loads in silence, and the authors' loaders pass
`strict=False`, so a wrong file does too. Here every difference is an error that names the tensors.
Torch is imported only by the functions that return tensors: validation reads headers without it.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from vvsbench.errors import CheckpointError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

ZOO = Path(__file__).resolve().parent.parent / "zoo"
ZOO_PREFIX = "zoo:"
WEIGHTS_VARIABLE = "VVSBENCH_WEIGHTS"
PICKLE_SUFFIXES = {".pt", ".pth", ".bin", ".ckpt"}
STATE_ENTRIES = ("model", "module", "state_dict")
"""Entries under which the official trainers keep a state dict, in the order in which their loader looks."""
AVERAGED = ("model_ema",)
"""Entries under which they keep the moving average of the weights beside it."""

SHOWN = 6
"""Tensors of each kind that a message names."""


@dataclass(frozen=True)
class Header:
    """What a safetensors file says about itself before any tensor is read."""

    metadata: dict[str, str] = field(default_factory=dict)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)


def user_cache() -> Path:
    """The user's cache folder; a relative one is ignored, as the XDG base directory specification says."""
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return named if named.is_absolute() else Path("~/.cache").expanduser()


def weights_root() -> Path:
    """The folder in which relative checkpoint names are looked up."""
    return Path(os.environ.get(WEIGHTS_VARIABLE, "weights")).expanduser()


def resolve(name: str) -> Path:
    """Turn a checkpoint name of a config into a path, whether or not there is anything at it.

    Args:
        name: "zoo:FILE" for a file shipped in the package, an absolute path, or a path below the weights folder
            ($VVSBENCH_WEIGHTS, by default ./weights). What is not there and has the form of a hub's name,
            OWNER/NAME or OWNER/NAME/FOLDER, is looked for in the hub's local cache; nothing is downloaded.
    """
    if name.startswith(ZOO_PREFIX):
        return ZOO / name.removeprefix(ZOO_PREFIX)
    path = Path(name).expanduser()
    if path.is_absolute():
        return path
    own = weights_root() / path
    return own if own.exists() else _in_hub_cache(name) or own


def _in_hub_cache(name: str) -> Path | None:
    """The folder of a hub's repository, or a folder in it, that was downloaded before."""
    owner, _, rest = name.partition("/")
    repository, _, inside = rest.partition("/")
    if not repository or Path(name).suffix in {".safetensors", *PICKLE_SUFFIXES}:
        return None
    from huggingface_hub import try_to_load_from_cache

    try:
        found = try_to_load_from_cache(f"{owner}/{repository}", f"{inside}/config.json".lstrip("/"))
    except ValueError:  # no name that a hub could have
        return None
    return Path(found).parent if isinstance(found, str) else None


def locate(name: str) -> Path:
    """Like `resolve`, but the file or folder must exist.

    Raises:
        CheckpointError: there is nothing there; the message says what to put where.
    """
    path = resolve(name)
    if path.exists():
        return path
    if name.startswith(ZOO_PREFIX):
        inner = name.removeprefix(ZOO_PREFIX).rpartition("/")[0]
        hint = f"it is not in the package yet. Train it (vvsbench train {inner}/{path.stem}) and copy it there."
        whole = "the tiny zoo is incomplete. Install vvsbench again, or run make zoo."
        raise CheckpointError(f"{path} is missing: {hint if inner else whole}")
    where = "" if Path(name).is_absolute() else f" or set ${WEIGHTS_VARIABLE} to the folder that holds {name}"
    raise CheckpointError(f"weights not found: {path.absolute()}. Put the file there{where}.")


def header(path: Path) -> Header:
    """Read metadata and shapes of a safetensors file without torch and without reading its tensors.

    Raises:
        CheckpointError: the file is no complete safetensors file.
    """
    try:
        with path.open("rb") as file:
            size = struct.unpack("<Q", file.read(8))[0]
            if size > path.stat().st_size:
                raise ValueError("truncated header")
            content = json.loads(file.read(size))
        metadata = content.pop("__metadata__", {})
        shapes = {key: tuple(entry["shape"]) for key, entry in content.items()}
        if not all(isinstance(text, str) for text in metadata.values()):
            raise ValueError("its metadata is not text")
        if not all(type(size) is int and size >= 0 for shape in shapes.values() for size in shape):
            raise ValueError("a shape is not of whole numbers")
    except (struct.error, ValueError, OSError, AttributeError, LookupError, TypeError, RecursionError) as error:
        reason = error if isinstance(error, (ValueError, OSError, struct.error)) else "its header is of another form"
        raise CheckpointError(f"{path} is not a readable safetensors file ({reason}); fetch it again.") from error
    return Header(dict(metadata), shapes)


def digest(path: Path) -> str:
    """Sha256 of a file, or of a folder's files in name order; a file's is remembered as long as it does not change."""
    if path.is_file():
        return _file_digest(path)
    total = hashlib.sha256()
    for file in sorted(child for child in path.rglob("*") if child.is_file()):
        total.update(f"{file.relative_to(path)}:{_file_digest(file)}\n".encode())
    _remember(path, "")
    return total.hexdigest()


def trusted(path: Path) -> bool:
    """Whether a path that a record names may be opened: below the weights folder or the zoo, or read here before.

    A record may come from anybody, and name whatever is on this machine.
    """
    place = Path(os.path.normpath(path.absolute()))  # links stay what they are: weights often lie on another disk
    if any(place.is_relative_to(os.path.normpath(root.absolute())) for root in (ZOO, weights_root())):
        return True
    return _memory(path).is_file()


def _file_digest(path: Path) -> str:
    stat = path.stat()
    state = f"{stat.st_size}:{stat.st_mtime_ns}:"
    try:
        known = _memory(path).read_text(encoding="utf-8")
        if known.startswith(state) and len(known) == len(state) + 64:
            return known.removeprefix(state)
    except (OSError, ValueError):
        pass
    with path.open("rb") as file:
        value = hashlib.file_digest(file, "sha256").hexdigest()
    _remember(path, state + value)
    return value


def _memory(path: Path) -> Path:
    """Where the digest of a file is remembered, and that a folder was read."""
    name = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()
    return user_cache() / "vvsbench" / "digests" / name


def _remember(path: Path, text: str) -> None:
    place = _memory(path)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        temporary = place.with_suffix(f".{os.getpid()}")
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(place)
    except OSError:
        pass  # a memory that cannot be written costs time, not truth


def read(path: Path, prefer: Sequence[str] = ()) -> dict[str, Tensor]:
    """Read a state dict from `.safetensors`, or from the official pickles with code execution switched off.

    A folder stands for the one weights file in it (the Hugging Face layout).

    Args:
        path: file or folder.
        prefer: entries of a pickle to look at before the usual ones, such as `AVERAGED`. A file with a single copy of
            the weights, as every safetensors file is, does not say which one it is, and is taken for any.

    Raises:
        CheckpointError: unreadable, of an unknown kind, or a pickle that wants to run code.
    """
    if path.is_dir():
        path = _weights_file_in(path)
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if path.suffix in PICKLE_SUFFIXES:
        return _read_pickle(path, (*prefer, *STATE_ENTRIES))
    known = ", ".join(sorted({".safetensors", *PICKLE_SUFFIXES}))
    raise CheckpointError(f"{path}: unknown kind of weights file; expected one of {known}.")


def _weights_file_in(folder: Path) -> Path:
    for name in ("model.safetensors", "pytorch_model.bin"):
        if (folder / name).exists():
            return folder / name
    raise CheckpointError(f"{folder} holds neither model.safetensors nor pytorch_model.bin.")


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(str(path))
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is not a readable safetensors file ({error}); fetch it again.") from error


def _read_pickle(path: Path, entries: Sequence[str]) -> dict[str, Tensor]:
    import argparse
    import pickle

    import torch

    try:
        with torch.serialization.safe_globals([argparse.Namespace]):  # the trainer's arguments: attributes, no code
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} is refused: it is damaged, or holds more than tensors and could run code when opened. "
            "Fetch it from its authors again, or convert it to .safetensors in a place you trust."
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}); fetch it again.") from error
    except (LookupError, TypeError, AttributeError) as error:  # bytes that only look like a pickle
        raise CheckpointError(f"{path} is damaged, or no file of weights; fetch it again.") from error
    for entry in entries:
        if isinstance(content, dict) and isinstance(content.get(entry), dict):
            content = content[entry]
            break
    if not isinstance(content, dict) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise CheckpointError(f"{path} holds no state dict (looked at the top level and under {', '.join(entries)}).")
    return {key: value for key, value in content.items()}


def load_strict(module: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Load a state dict into a module; anything missing, left over or of another shape is an error that names it.

    Args:
        module: takes copies of the tensors in its own dtypes; on the meta device it takes them as they are.
        state: tensor names to tensors, already in the module's own layout.
        source: where the tensors come from, for the message.

    Raises:
        CheckpointError: with every difference listed.
    """
    own = module.state_dict()
    both = sorted(own.keys() & state.keys())
    differences = [
        *_few("of another shape", [_shapes(name, state, own) for name in both if own[name].shape != state[name].shape]),
        *_few("missing", [f"missing: {name}" for name in sorted(own.keys() - state.keys())]),
        *_few("unexpected", [f"unexpected: {name}" for name in sorted(state.keys() - own.keys())]),
    ]
    if differences:
        listing = "\n  - ".join(differences)
        raise CheckpointError(f"{source} does not fit this model:\n  - {listing}\nIs it a checkpoint of another size?")
    module.load_state_dict(dict(state), strict=True, assign=any(value.is_meta for value in own.values()))


def _shapes(name: str, state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> str:
    return f"{name}: file has {tuple(state[name].shape)}, model needs {tuple(own[name].shape)}"


def _few(kind: str, lines: list[str]) -> list[str]:
    """The first differences of a kind, and how many more there are: none of the kinds crowds out the others."""
    more = len(lines) - SHOWN
    return lines[:SHOWN] + ([f"... and {more} more {kind}"] if more > 0 else [])


def save(path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file under a temporary name and rename it, so that a half-written file is never found."""
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    save_file({key: value.detach().contiguous() for key, value in tensors.items()}, str(temporary), dict(metadata))
    temporary.replace(path)
