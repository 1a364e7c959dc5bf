"""What was compared, in words."""

from __future__ import annotations

import pandas as pd

from vvsbench.analysis import facts
from vvsbench.analysis.frame import StudyFrame


def test_captions_that_were_cut_are_told_with_the_images_and_with_the_score(study: StudyFrame) -> None:
    key = str(study.usable.index[0])
    cell, quality = study.cells[key], study.quality(key)
    assert quality is not None
    rows = study.usable.loc[[key]]
    assert "were cut" not in str(told(study, rows))
    clip = next(value for value in quality.values if value.name == "clip")
    cell.record.captions_cut, clip.captions_cut = 3, 2
    try:
        said = told(study, rows)
    finally:
        cell.record.captions_cut = clip.captions_cut = 0
    assert "3 of the captions are longer than the text encoder reads and were cut" in said["Images"]
    assert f"For clip 2 of {clip.n} captions were too long and were cut" in said["Quality"]


def told(study: StudyFrame, rows: pd.DataFrame) -> dict[str, str]:
    return dict(facts.described(study, rows))
