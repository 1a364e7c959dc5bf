"""`vvsbench export`: an image set in the forms that other people's evaluators read."""

from __future__ import annotations

import contextlib
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

DEFAULTS = {"study": "", "size": "", "cell": "", "to": "", "format": "png", "output_root": "outputs"}
FORMATS = ("npz", "png")
USAGE = """\
usage: vvsbench export study=NAME to=FOLDER [size=SIZE] [cell=LABEL or KEY] [format=png|npz] [output_root=outputs]

Writes the image set of one finished cell: format=png as FOLDER/000000.png and so on, format=npz as FOLDER/images.npz
with arr_0 uint8 [N, H, W, 3], which ADM's evaluator reads. FOLDER must not hold anything yet.
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
    shape = write(cell, target, settings["format"])
    stale = f" (stale: {cell.stale_because})" if cell.stale else ""
    print(f"{cell.record.label} {cell.record.key}{stale}: {shape[0]} images of {shape[2]}x{shape[1]} in {target}")
    return 0


def _problems(settings: dict[str, str]) -> list[str]:
    found = [] if settings["to"] else ["to has no value; name the folder to write: to=FOLDER."]
    if settings["format"] not in FORMATS:
        found.append(f"format={settings['format']}: choose from {', '.join(FORMATS)}.")
    return found


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
    record = cell.record
    if record.status != "ok":
        raise ExportError(
            f"{record.label} ({record.key}) is not complete: {record.status.replace('_', ' ')}, {record.done} of "
            f"{record.count} images. Run the same command again to finish it."
        )
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ExportError(f"to={target} is there already; name a folder that is not, or empty it first.")
    _, height, width = next(cell.shards()).images.shape[1:]
    shape = (record.count, height, width, 3)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir(parents=True)
        if form == "npz":
            adm.write(temporary / "images.npz", shape, _verified(cell))
        else:
            _pictures(temporary, _verified(cell))
        if target.is_dir():
            target.rmdir()
        temporary.replace(target)
    except OSError as error:
        raise from_system(error, target) from error
    finally:
        with contextlib.suppress(OSError):
            shutil.rmtree(temporary)
    return shape


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
