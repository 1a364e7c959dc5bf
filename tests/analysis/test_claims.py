"""Published figures: every file can be read, a wrong line is named, a claim finds its cell at any size of a study."""

from __future__ import annotations

import pandas as pd
import pytest

from tests import synthetic
from vvsbench import config
from vvsbench.analysis import claims, report

FILES = sorted((config.folder("experiments") / "published").glob("*.csv"))
HEAD = ",".join(claims.Claim.model_fields)
AR = {"model": {"name": "llamagen_t2i_xl_256"}, "decoder": {"name": "ar"}}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_of_published_figures_is_sound(path):
    found = claims.read(path)
    assert found
    assert len({tuple(claim.model_dump().values()) for claim in found}) == len(found), "a figure is there twice"
    assert all(claim.target for claim in found if claim.cell), "a cell without a model is never found"


def _written(tmp_path, *lines):
    path = tmp_path / "one.csv"
    path.write_text("\n".join([HEAD, *lines]) + "\n")
    return path


LINE = "VVS,2511.13587,main,VVS-U,LlamaGen,i=2,A40,FID,47.19,,,reading notes,someone,,llamagen_t2i_xl_256,decoder=ar"


def test_a_wrong_line_is_named(tmp_path):
    assert claims.read(_written(tmp_path, LINE))[0].value == 47.19
    for wrong, said in (
        (("FID,4", "FIT,4"), ("metric='FIT'", "line 3")),
        (("47.19", "much"), ("value='much'", "number")),
    ):
        with pytest.raises(claims.ClaimsError) as error:
            claims.read(_written(tmp_path, LINE, LINE.replace(*wrong)))
        assert all(text in str(error.value) for text in said), str(error.value)
    with pytest.raises(claims.ClaimsError, match="grade='inferred'"):
        claims.read(_written(tmp_path, LINE.replace("reading notes", "inferred")))
    with pytest.raises(claims.ClaimsError, match="by"):
        claims.read(_written(tmp_path, LINE.rsplit(",", 6)[0]))


def test_a_missing_file_is_answered_with_those_that_are_there():
    with pytest.raises(claims.ClaimsError, match="study.claims can name .*vvs"):
        claims.published(["nothing"])


def _row(**values):
    row = {"label": "ar", "family": "ar", "step_compression": 1.0, "speed_up": None, "clip": 32.5} | values
    return pd.DataFrame([row], index=["k"])


def test_a_claim_finds_its_cell_and_the_difference():
    vvs = claims.published(["vvs"])
    found = claims.beside(vvs, {}, _row(), {"k": AR})
    assert found is not None
    told = {line.entries[1].text: [entry.text for entry in line.entries] for line in found.table.lines}
    assert set(told) == {"speed-up, x", "step compression, tokens", "FID", "CLIP, cosine", "precision", "recall"}
    assert told["CLIP, cosine"][2:5] == ["0.325", "0.322 †", "+0.003"]
    assert told["FID"][2:5] == ["not measured", "24.88 †", "– (not measured)"]
    assert "A40" in found.sources[0]
    assert "zhaoyang97/Paper-Notes" in found.sources[0]
    assert "another model" not in found.about


def test_at_another_size_a_claim_is_about_another_model():
    tiny = {"model": {"name": "tiny"}, "decoder": {"name": "ar"}}
    stands_for = {"model=llamagen_t2i_xl_256": "model=tiny"}
    found = claims.beside(claims.published(["vvs"]), stands_for, _row(), {"k": tiny})
    assert found is not None
    assert {line.entries[4].text for line in found.table.lines} == {"– (another model)"}
    assert "what was run here is tiny: nothing can be compared" in found.about
    assert claims.beside(claims.published(["vvs"]), {}, _row(), {"k": tiny}) is None


def test_settings_of_a_file_stand_for_those_of_a_size():
    cell = {"model": {"name": "tiny_mar"}, "batch_size": 2, "decoder": {"name": "csd", "length": 8}}
    line = LINE.replace("decoder=ar", "decoder=csd decoder.length=32 batch_size=8")
    claim = claims.Claim.model_validate(dict(zip(HEAD.split(","), line.split(","), strict=True)))
    words = {"decoder.length=32": "decoder.length=8", "batch_size=8": "batch_size=2"}
    assert claim.of(cell, words | {"model=llamagen_t2i_xl_256": "model=tiny_mar"}) == (True, False)
    assert claim.of(cell, {}) == (False, False)
    other = claim.model_copy(update={"cell": "decoder=csd decoder.length=8"})
    assert other.of(cell, words | {"model=llamagen_t2i_xl_256": "model=tiny_mar"}) == (False, False)


def test_a_report_sets_claims_beside_ours_and_keeps_them_apart(tmp_path, no_figures):
    changes = {"model": {"name": "llamagen_t2i_xl_256", "dim": 1280, "layers": 36, "grid": 8, "vocab": 16384}}
    cells = [synthetic.Recipe("ar", {"name": "ar"}, study={"claims": ["vvs"]}, changes=changes)]
    synthetic.write(tmp_path, cells=cells)
    paths = report.write("demo", tmp_path)
    text = paths.markdown.read_text()
    before, after = text.split("### Claims beside ours")
    assert "24.88" in after
    assert "24.88" not in before
    assert "24.88" not in paths.table.read_text()
    assert "Beside what papers claim" in paths.html.read_text()
