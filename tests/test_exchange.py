"""`vvsbench export` and `vvsbench import`: the images arrive unchanged, and what is not an image set is one message."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from tests import synthetic
from vvsbench import cli
from vvsbench.analysis import report
from vvsbench.quality.config import MetricsConfig
from vvsbench.runs import store
from vvsbench.runs.shards import ranges
from vvsbench.runs.store import Store

COUNT = 6


@pytest.fixture
def root(tmp_path):
    synthetic.write(tmp_path / "outputs", count=COUNT, cells=synthetic.recipes()[:2])
    return tmp_path / "outputs"


@pytest.fixture
def verb(capsys, root):
    """Runs a verb in this process: returns (exit code, standard output, standard error)."""

    def run(name, *arguments):
        code = cli.main([name, *map(str, arguments), f"output_root={root}"])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def images(root, label):
    (cell,) = [cell for cell in Store(root).cells("demo") if cell.record.label == label]
    return cell.images


def test_a_set_goes_out_and_comes_back_the_same(verb, root, tmp_path):
    expected = images(root, "sd")
    code, out, _ = verb("export", "study=demo", "cell=sd", f"to={tmp_path / 'png'}")
    assert code == 0
    assert f"{COUNT} images of 32x32" in out
    assert sorted(path.name for path in (tmp_path / "png").iterdir()) == [f"{i:06d}.png" for i in range(COUNT)]
    key = Store(root).cells("demo")[1].record.key
    assert verb("export", "study=demo", f"cell={key[:8]}", f"to={tmp_path / 'npz'}", "format=npz")[0] == 0
    with np.load(tmp_path / "npz" / "images.npz") as stored:
        assert stored["arr_0"].dtype == np.uint8
        assert (stored["arr_0"].transpose(0, 3, 1, 2) == expected).all()
    for source, label in ((tmp_path / "png", "a"), (tmp_path / "npz" / "images.npz", "b")):
        code, out, _ = verb("import", source, "study=demo", f"label={label}", "metrics=none")
        assert code == 0
        assert (images(root, label) == expected).all()
        assert "are here already" in verb("import", source, "study=demo", f"label={label}", "metrics=none")[1]


@pytest.fixture
def imported(verb, tmp_path):
    """A folder of two pictures, 10.png after 9.png, taken in with captions."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    for number in (9, 10):
        Image.fromarray(np.full((32, 32, 3), number, dtype=np.uint8)).save(folder / f"{number}.png")
    (tmp_path / "captions.txt").write_text("a red circle\na blue ring\n")
    captions = f"captions={tmp_path / 'captions.txt'}"
    assert verb("import", folder, "study=demo", "label=theirs", captions, "metrics=none")[0] == 0
    return folder


def test_an_imported_set_is_external_and_nothing_else(imported, root, monkeypatch):
    (cell,) = [cell for cell in Store(root).cells("demo") if cell.record.external]
    record = cell.record
    assert (record.label, record.status, record.count, record.guarantee) == ("theirs", "ok", 2, "none")
    assert (record.external.source, record.external.captions) == (str(imported), True)
    assert (record.summaries, record.timing, cell.stale) == ({}, {}, False)
    assert cell.images[:, 0, 0, 0].tolist() == [9, 10]
    assert cell.trace["prompt"].tolist() == ["a red circle", "a blue ring"]
    monkeypatch.setattr(report, "_figures", lambda study, target: [])
    paths = report.write("demo", root)
    for path in (paths.html, paths.markdown, paths.latex):
        assert "theirs" in path.read_text()
    assert "| **theirs** | external |" in paths.markdown.read_text()
    assert "theirs" not in paths.table.read_text()
    assert "theirs" in (paths.table.parent / "external.csv").read_text()


def test_status_shows_an_imported_set(imported, verb, monkeypatch):
    monkeypatch.setenv("COLUMNS", "250")
    _, out, _ = verb("status", "study=demo")
    assert f"imported from {imported}" in out


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("one\n\ntwo\n", "line 2 of"),
        ("one\n", "has captions for 1 of 2 images (line 2 is missing)"),
        ("one\ntwo\nthree\n", "has 3 captions and there are 2 images: number 3 belongs to none"),
    ],
)
def test_captions_that_do_not_belong_to_the_images_are_refused(verb, root, tmp_path, text, said):
    for number in range(2):
        picture(tmp_path / f"{number}.png")
    (tmp_path / "captions.txt").write_text(text, encoding="utf-8")
    captions = f"captions={tmp_path / 'captions.txt'}"
    code, _, err = verb("import", tmp_path, "study=demo", "label=x", captions, "metrics=none")
    assert code == 2
    assert said in err
    assert not [cell for cell in Store(root).cells("demo") if cell.record.external]


def test_a_label_that_is_taken_is_refused(imported, verb, root):
    (imported / "9.png").unlink()
    code, _, err = verb("import", imported, "study=demo", "label=theirs", "metrics=none")
    assert (code, "choose another one" in err) == (2, True)
    code, _, err = verb("import", imported, "study=demo", "label=ar", "metrics=none")
    assert (code, "a cell of this program" in err) == (2, True)
    assert not list(root.glob(".import*"))


def picture(path, mode="RGB", size=(4, 4)):
    Image.new(mode, size).save(path)


def bad(kind, folder):
    """Makes a source of a kind that cannot be imported."""
    picture(folder / "0.png")
    if kind == "torn":
        (folder / "1.png").write_bytes((folder / "0.png").read_bytes()[:40])
    elif kind == "sizes":
        picture(folder / "1.png", size=(4, 5))
    elif kind == "deep":
        Image.fromarray(np.ones((4, 4), dtype=np.float32)).save(folder / "1.tiff")
    elif kind == "moving":
        frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
        frames[0].save(folder / "1.gif", save_all=True, append_images=frames[1:])
    elif kind == "empty":
        (folder / "0.png").unlink()
    elif kind == "nowhere":
        return folder / "nowhere"
    elif kind == "torn npz":
        np.savez(folder / "a.npz", arr_0=np.zeros((50, 4, 4, 3), dtype=np.uint8))
        (folder / "a.npz").write_bytes((folder / "a.npz").read_bytes()[:900])
        return folder / "a.npz"
    elif kind in NPZ:
        np.savez(folder / "a.npz", **NPZ[kind][0])
        return folder / "a.npz"
    return folder


NPZ = {
    "float": ({"arr_0": np.zeros((3, 4, 4, 3))}, "must be uint8 [N, H, W, 3] with values from 0 to 255, not float64"),
    "first": ({"arr_0": np.zeros((3, 3, 4, 4), dtype=np.uint8)}, "not uint8 [3, 3, 4, 4]"),
    "only statistics": ({"mu": np.zeros(3), "sigma": np.eye(3)}, "no array arr_0 with images; it holds mu, sigma"),
    "objects": ({"arr_0": np.array([None, 1], dtype=object)}, "not object"),
}
FOLDERS = {
    "torn": "1.png is not a readable picture",
    "sizes": "1.png is 4x5, but 0.png is 4x4",
    "deep": "1.tiff has pixels of the kind F, whose black and white are not known",
    "moving": "1.gif holds 2 pictures, an animation or pages",
    "empty": "holds no pictures",
    "nowhere": "does not exist",
    "torn npz": "is not a readable .npz file",
}


@pytest.mark.parametrize("kind", [*FOLDERS, *NPZ])
def test_what_is_no_image_set_is_one_message_and_leaves_nothing(verb, root, tmp_path, kind):
    folder = tmp_path / "bad"
    folder.mkdir()
    before = sorted(root.rglob("*"))
    code, _, err = verb("import", bad(kind, folder), "study=demo", "label=bad", "metrics=none")
    assert code == 2
    assert err.count("\n") == 1
    assert (FOLDERS.get(kind) or NPZ[kind][1]) in err
    assert sorted(root.rglob("*")) == before


def test_what_is_converted_or_left_out_is_said_once_and_recorded(verb, root, tmp_path):
    """A pixel of alpha 196 and red 30 is no 30, a 16-bit grey no white, and no file is passed over in silence."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    for number in range(2):
        Image.new("RGBA", (4, 4), (30, 30, 30, 196)).save(folder / f"{number}.png")
    Image.fromarray(np.full((4, 4), 257 * 90, dtype=np.uint16)).save(folder / "2.png")
    Image.new("L", (4, 4), 7).save(folder / "3.tiff")
    Image.new("P", (4, 4)).save(folder / "4.gif")
    (folder / "5.heic").write_bytes(b"")
    code, out, _ = verb("import", folder, "study=demo", "label=theirs", "metrics=none")
    assert code == 0
    assert images(root, "theirs")[:, 0, 0, 0].tolist() == [82, 82, 90, 7, 0]
    said = [
        f"left out of {folder}, no pictures by their names: 1 (5.heic)",
        "transparent pictures, put on white: 2",
        "grey pictures with 16 bits, of which the upper 8 are kept: 1",
    ]
    assert [line.strip() for line in out.splitlines()[1:]] == said
    (cell,) = [cell for cell in Store(root).cells("demo") if cell.record.external]
    assert cell.record.external.remarks == said


@pytest.mark.parametrize("damage", ["missing", "flipped", "swapped", "unfinished"])
def test_a_set_that_is_not_whole_is_not_exported(verb, root, tmp_path, damage):
    cell, other = Store(root).cells("demo")
    (where,) = ranges(COUNT, 64)
    path = where.path(cell.folder)
    if damage == "missing":
        path.unlink()
    elif damage == "flipped":
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
    elif damage == "swapped":
        store.write_record(cell.folder, cell.record.model_copy(update={"image_digest": "0" * 64}))
    else:
        store.write_record(cell.folder, cell.record.model_copy(update={"status": "interrupted", "done": 3}))
    for form in ("png", "npz"):
        code, _, err = verb("export", "study=demo", "cell=ar", f"to={tmp_path / 'out'}", f"format={form}")
        assert code == 2
        assert "run the same command again" in err.lower()
    assert [path.name for path in tmp_path.iterdir()] == ["outputs"]


def test_export_says_what_it_needs(verb, tmp_path):
    code, _, err = verb("export", "study=demo", "format=jpg")
    assert (code, "to has no value" in err, "format=jpg: choose from npz, png" in err) == (2, True, True)
    code, _, err = verb("export", "study=demo", f"to={tmp_path / 'x'}")
    assert (code, "means 2 cells of study demo" in err) == (2, True)
    code, _, err = verb("export", "study=demo", "cell=ar", f"to={tmp_path}")
    assert (code, "is there already" in err) == (2, True)


def test_without_captions_what_needs_none_is_measured(verb, tmp_path, monkeypatch):
    measured = []
    monkeypatch.setattr("vvsbench.importing.measure", lambda cell, protocol, *rest: measured.append(protocol.values))
    monkeypatch.setattr(
        "vvsbench.importing.protocol_of", lambda *where: MetricsConfig("tiny", values=["fid", "clip", "is"])
    )
    folder = tmp_path / "theirs"
    folder.mkdir()
    picture(folder / "0.png")
    code, out, _ = verb("import", folder, "study=demo", "label=theirs")
    assert (code, measured) == (0, [["fid", "is"]])
    assert "without captions=FILE clip of tiny cannot be measured" in out
    code, _, err = verb("import", folder, "study=demo", "label=other", "metrics=tiny")
    assert (code, len(measured)) == (2, 1)
    assert "clip, accuracy need captions=FILE; without one metrics.values=[fid,is,kid,precision,recall]" in err
    assert not [cell for cell in Store(tmp_path / "outputs").cells("demo") if cell.record.label == "other"]
