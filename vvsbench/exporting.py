"""`vvsbench export`: an image set in the forms that other people's evaluators read."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vvsbench.errors import ConfigError, UserError
from vvsbench.quality import adm
from vvsbench.reporting import exists, named, parse
from vvsbench.runs import files
from vvsbench.runs.failures import from_system
from vvsbench.runs.store import Store, StoredCell

DEFAULTS = {
    "study": "",
    "size": "",
    "cell": "",
    "to": "",
    "format": "png",
    "diffusion_seconds": "",
    "output_root": "outputs",
}
FORMATS = ("npz", "png", "glm_image")
USAGE = """\
usage: vvsbench export study=NAME to=FOLDER [size=SIZE] [cell=LABEL or KEY] [format=png|npz|glm_image]
       [output_root=outputs]

Writes the image set of one finished cell: format=png as FOLDER/000000.png and so on, format=npz as FOLDER/images.npz
with arr_0 uint8 [N, H, W, 3], which ADM's evaluator reads. format=glm_image writes the tokens of GLM-Image's AR stage
as its diffusion stage reads them, FOLDER/prior_token_ids.npy and FOLDER/prompts.json; diffusion_seconds=S, what that
stage takes for an image, shows the AR stage's share of the time. FOLDER must not hold anything yet.
"""


class ExportError(UserError):
    """An image set cannot be written as asked: it is incomplete, or the place is taken."""


def main(arguments: Sequence[str]) -> int:
    """Write the image set of a cell.

    Args:
        arguments: settings as key=value.

    Raises:
        UserError: the cell cannot be exported; nothing was written.
    """
    if {"-h", "--help"} & set(arguments):
        print(USAGE)
        return 0
    settings = parse(arguments, DEFAULTS)
    if problems := _problems(settings):
        raise ConfigError(problems)
    root = Path(settings["output_root"])
    study = named(settings, root)
    exists(study, root)
    cell = Store(root).cell(study, settings["cell"])
    target = Path(settings["to"]).expanduser()
    if settings["format"] == "glm_image":
        count, length = write_tokens(cell, target)
        print(f"{cell.record.label} {cell.record.key}: {count} x {length} tokens in {target}")
        print(_share(float(cell.repeats["seconds"].sum()) / count, settings["diffusion_seconds"]))
        return 0
    shape = write(cell, target, settings["format"])
    stale = f" (stale: {cell.stale_because})" if cell.stale else ""
    print(f"{cell.record.label} {cell.record.key}{stale}: {shape[0]} images of {shape[2]}x{shape[1]} in {target}")
    return 0


def _problems(settings: dict[str, str]) -> list[str]:
    found = [] if settings["to"] else ["to has no value; name the folder to write: to=FOLDER."]
    try:
        float(settings["diffusion_seconds"] or 0)
    except ValueError:
        found.append(f"diffusion_seconds={settings['diffusion_seconds']} must be a number: seconds an image.")
    if settings["format"] not in FORMATS:
        found.append(f"format={settings['format']}: choose from {', '.join(FORMATS)}.")
    return found


def _share(drawing: float, painting: str) -> str:
    """What the AR stage costs, and its share where the diffusion stage's seconds are known."""
    told = f"the AR stage took {drawing:.3g} s an image"
    if not painting:
        return f"{told}; diffusion_seconds=S shows its share"
    return f"{told}, {drawing / (drawing + float(painting)):.0%} of the time"


def write(cell: StoredCell, target: Path, form: str) -> tuple[int, int, int, int]:
    """Write an image set; the folder is either there, whole, or not there at all.

    Args:
        cell: a finished one.
        target: the folder, which must not be there or be empty.
        form: one of `FORMATS`.

    Returns:
        Shape of the set, [N, H, W, 3].

    Raises:
        ExportError: the set is incomplete, or the folder holds something.
        RecordError: a shard is missing or damaged.
    """
    _ready(cell, target)
    _, height, width = next(cell.shards()).images.shape[1:]
    shape = (cell.record.count, height, width, 3)
    with _whole(target) as temporary:
        if form == "npz":
            adm.write(temporary / "images.npz", shape, _verified(cell))
        else:
            _pictures(temporary, _verified(cell))
    return shape


def write_tokens(cell: StoredCell, target: Path) -> tuple[int, int]:
    """Write the large grids of GLM-Image's tokens as `GlmImagePipeline(prior_token_ids=...)` takes them.

    Its diffusion stage has twice as many rows and columns, so every token stands for a square of four.

    Args:
        cell: a finished one of that family.
        target: the folder, which must not be there or be empty.

    Returns:
        Shape of the tokens, [N, 4 rows columns].

    Raises:
        ExportError: the cell is of another family or incomplete, or the folder holds something.
    """
    model = cell.record.config["model"]
    if model.get("family") != "glm_image":
        raise ExportError(f"format=glm_image is for tokens of GLM-Image; {cell.record.label} is of {model['name']}.")
    _ready(cell, target)
    rows, columns = model["grid"], model["columns"] or model["grid"]
    large = cell.tokens[:, -rows * columns :].reshape(-1, rows, columns).astype(np.int64)
    tokens = large.repeat(2, 1).repeat(2, 2).reshape(len(large), -1)
    with _whole(target) as temporary:
        np.save(temporary / "prior_token_ids.npy", tokens)
        prompts = [row["prompt"] for shard in cell.shards() for row in shard.rows]
        (temporary / "prompts.json").write_text(json.dumps(prompts, ensure_ascii=False), encoding="utf-8")
    return len(tokens), tokens.shape[1]


def _ready(cell: StoredCell, target: Path) -> None:
    """Refuse a set that is not complete, or a folder that holds something."""
    record = cell.record
    if record.status != "ok":
        raise ExportError(
            f"{record.label} ({record.key}) is not complete: {record.status.replace('_', ' ')}, {record.done} of "
            f"{record.count} images. Run the same command again to finish it."
        )
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ExportError(f"to={target} is there already; name a folder that is not, or empty it first.")


@contextlib.contextmanager
def _whole(target: Path) -> Iterator[Path]:
    """A folder that is written under another name and is at `target` only if nothing went wrong."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        if target.is_dir():
            target.rmdir()
        temporary.replace(target)
    except OSError as error:
        raise from_system(error, target) from error
    finally:
        with contextlib.suppress(OSError):
            shutil.rmtree(temporary)


def _pictures(folder: Path, parts: Iterator[NDArray[np.uint8]]) -> None:
    number = 0
    for part in parts:
        for image in part:
            Image.fromarray(image.transpose(1, 2, 0)).save(folder / f"{number:06d}.png")
            number += 1


def _verified(cell: StoredCell) -> Iterator[NDArray[np.uint8]]:
    """The images shard by shard; at the end they must be those that the record was made from."""
    digests = []
    for shard in cell.shards():
        digests.append(shard.digest)
        yield shard.images
    if files.digest("\n".join(digests).encode()) != cell.record.image_digest:
        raise ExportError(
            f"{cell.folder} holds other images than its record says; run the same command again to mend it."
        )
