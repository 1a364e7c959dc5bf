"""An imported image set is scored by the very stage that scores ours, and comes to the same numbers."""

from __future__ import annotations

import numpy as np
from PIL import Image

from vvsbench.quality import evaluate
from vvsbench.runs import external
from vvsbench.runs.console import Console
from vvsbench.runs.scoring import measure
from vvsbench.runs.store import StoredCell, read_record


def test_pictures_of_others_get_the_numbers_that_ours_would(protocol, draw, tmp_path):
    images, captions = draw(0, 48)
    folder = tmp_path / "theirs"
    folder.mkdir()
    for number, image in enumerate(images):
        Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0))).save(folder / f"{number}.png")
    (tmp_path / "captions.txt").write_text("\n".join(captions), encoding="utf-8")
    place, new = external.add(tmp_path / "outputs", "s", "theirs", folder, tmp_path / "captions.txt")
    assert new
    cell = StoredCell(place, read_record(place))
    assert measure(cell, protocol, tmp_path / "cache", Console())
    assert not measure(cell, protocol, tmp_path / "cache", Console())  # it is known now
    ours = evaluate(images, captions, protocol, tmp_path / "cache", "digest")
    theirs = StoredCell(place, cell.record).quality["tiny"]
    assert theirs.values == ours.values
    assert theirs.groups == ours.groups
