"""Image sets that somebody else's code made: checked, kept in the store's own layout, and never taken for ours.

Their records say `external`: they have no counts, no times and no guarantee, belong to no decoder and are never stale.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vvsbench.errors import UserError
from vvsbench.quality import adm
from vvsbench.quality.pictures import SUFFIXES, Reader, listed, pixels
from vvsbench.runs import files, provenance, shards, store, tables
from vvsbench.runs.failures import from_system
from vvsbench.runs.prompts import enough, read_captions
from vvsbench.runs.record import CellRecord, External, Provenance

SHARD_SIZE = 256


class NotAnImageSet(UserError):
    """Pictures cannot be taken in as an image set."""


@dataclass(frozen=True)
class Pictures:
    """Image files of one size, in the order of their names; numbers in names count by their value.

    Attributes:
        paths: of the files.
        shape: [N, H, W, 3].
        left_out: what else is in the folder, in a sentence.
        reader: reads them, and knows what it had to convert.
    """

    paths: Sequence[Path]
    shape: tuple[int, int, int, int]
    left_out: str = ""
    reader: Reader = field(default_factory=Reader)

    def parts(self, size: int) -> Iterator[NDArray[np.uint8]]:
        """Images uint8 [n, 3, H, W], at most `size` at a time.

        Raises:
            QualityError: one is damaged or of a kind that cannot be read.
            NotAnImageSet: one is of another size.
        """
        for first in range(0, len(self.paths), size):
            yield np.stack([self._picture(path) for path in self.paths[first : first + size]])

    def _picture(self, path: Path) -> NDArray[np.uint8]:
        picture = pixels(self.reader.read(path))
        _, height, width = picture.shape
        if (height, width) != self.shape[1:3]:
            raise NotAnImageSet(
                f"{path} is {width}x{height}, but {self.paths[0].name} is {self.shape[2]}x{self.shape[1]}: the "
                "pictures of a set must be of one size."
            )
        return picture

    @property
    def told(self) -> list[str]:
        """What is not as it was in the folder, a sentence each."""
        return [sentence for sentence in (self.left_out, *self.reader.told) if sentence]


def pictures(source: Path) -> Pictures | adm.Images:
    """Open a folder of pictures, or an .npz file of ADM's layout.

    Raises:
        UserError: there is nothing to import.
    """
    if source.is_file():
        return adm.images(source)
    if not source.is_dir():
        raise NotAnImageSet(f"{source} does not exist; name a folder of pictures or an .npz file.")
    found = listed(source)
    if not found.pictures:
        raise NotAnImageSet(f"{source} holds no pictures ({', '.join(SUFFIXES)}). {found.left_out}".rstrip())
    paths = sorted(found.pictures, key=lambda path: _natural(path.relative_to(source).as_posix()))
    width, height = Reader().read(paths[0]).size
    return Pictures(paths, (len(paths), height, width, 3), found.left_out)


def _natural(name: str) -> list[tuple[int, int, str]]:
    """Sorts 2.png before 10.png."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", name) if part]


def add(root: Path, study: str, label: str, source: Path, captions: Path | None) -> tuple[Path, bool]:
    """Take an image set into a study.

    Args:
        root: the output root.
        study: its name.
        label: of the set, one that no other cell of the study has.
        source: folder of pictures, or .npz file.
        captions: file with as many captions as there are images, in their order; None for none.

    Returns:
        Its folder, and whether it is new.

    Raises:
        UserError: it cannot be read, or the label is taken; nothing was written.
    """
    found = pictures(source)
    texts = None if captions is None else _captions(captions, found.shape[0])
    temporary = Path(root) / f".import-{os.getpid()}.tmp"
    try:
        temporary.mkdir(parents=True)
        record = _written(temporary, found, texts, study=study, label=label, source=str(source.resolve()))
        folder = Path(root) / "cells" / study / f"external-{record.key}"
        if store.read_record(folder) is not None:
            return folder, False
        _free(store.Store(root), study, label)
        store.write_record(temporary, record)
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary.replace(folder)
    except OSError as error:
        raise from_system(error, temporary) from error
    finally:
        with contextlib.suppress(OSError):
            shutil.rmtree(temporary)
    return folder, True


def _captions(path: Path, count: int) -> list[str]:
    """The captions of a set of so many images."""
    captions = read_captions(path)
    enough(captions, path, count)
    if len(captions) > count:
        raise NotAnImageSet(
            f"{path} has {len(captions)} captions and there are {count} images: number {count + 1} belongs to none. "
            "Take out the captions whose images are missing, or add the images."
        )
    return captions


def _free(known: store.Store, study: str, label: str) -> None:
    taken = [cell for cell in known.cells(study) if cell.record.label == label]
    if taken:
        what = "other imported images" if taken[0].record.external else "a cell of this program"
        raise NotAnImageSet(f"label={label} names {what} in study {study} already; choose another one.")


def _written(
    folder: Path,
    found: Pictures | adm.Images,
    captions: Sequence[str] | None,
    *,
    study: str,
    label: str,
    source: str,
) -> CellRecord:
    """Write shards and trace of a set, and describe it; the record itself is not written."""
    count = found.shape[0]
    ranges = shards.ranges(count, SHARD_SIZE)
    rows: list[dict[str, Any]] = []
    digests = []
    for where, images in zip(ranges, found.parts(SHARD_SIZE), strict=True):
        mine = [_row(image, captions) for image in range(where.first, where.end)]
        tokens = np.zeros((len(images), 0), dtype=np.int32)
        digests.append(shards.write(folder, where, shards.Shard(where.first, images, tokens, mine), []))
        rows += mine
    trace = tables.to_parquet(tables.trace_frame(rows))
    files.write(folder / tables.TRACE, trace)
    image_digest = files.digest("\n".join(digests).encode())
    now = provenance.now()
    return CellRecord(
        status="ok",
        study=study,
        label=label,
        key=hashlib.sha256(json.dumps([label, image_digest]).encode()).hexdigest()[:12],
        config=_config(study, count),
        external=External(
            source=source,
            captions=captions is not None,
            remarks=found.told if isinstance(found, Pictures) else [],  # known once every picture has been read
        ),
        provenance=Provenance(
            code_digest="",
            weights={},
            git=None,
            versions={},
            hardware={},
            host="",
            command=os.environ.get(provenance.COMMAND, ""),
        ),
        count=count,
        done=count,
        image_digest=image_digest,
        files={tables.TRACE: files.digest(trace)},
        started=now,
        finished=now,
    )


def _row(image: int, captions: Sequence[str] | None) -> dict[str, Any]:
    return {"image": image} | ({"prompt": captions[image]} if captions else {})


def _config(study: str, count: int) -> dict[str, Any]:
    """The least that a reader of records looks for; everything else about these images is unknown."""
    return {
        "study": {"name": study},
        "model": {"name": "external"},
        "decoder": {"name": "external"},
        "count": count,
        "shard_size": SHARD_SIZE,
    }
