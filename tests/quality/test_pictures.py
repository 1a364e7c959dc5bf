"""Picture files become RGB with 8 bits per channel the one right way, or are refused by name."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from vvsbench.quality.config import QualityError
from vvsbench.quality.pictures import Reader, listed, pixels

GREYS = np.arange(0, 65536, 257, dtype=np.uint16).reshape(16, 16)
"""All 256 greys in 16 bits."""


def png16(path, values, colour):
    """Write a PNG of 16 bits per channel: values uint16 [H, W] (colour 0) or [H, W, C] (2: RGB, 6: RGBA)."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    height, width = values.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)


def read(path):
    return pixels(Reader().read(path))


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_grey_with_16_bits_is_grey_and_not_white(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(GREYS).save(path)
    reader = Reader()
    found = pixels(reader.read(path))
    assert (found == np.arange(256).reshape(16, 16)).all()
    assert reader.told == ["grey pictures with 16 bits, of which the upper 8 are kept: 1"]


def test_colours_with_16_bits_are_the_same_colours(tmp_path):
    colours = np.stack([GREYS, GREYS.T, GREYS[::-1]], axis=2)
    png16(tmp_path / "a.png", colours, 2)
    assert (read(tmp_path / "a.png") == (colours >> 8).transpose(2, 0, 1)).all()
    png16(tmp_path / "b.png", GREYS, 0)
    assert (read(tmp_path / "b.png") == GREYS >> 8).all()


def test_transparent_pixels_lie_on_white_and_it_is_said_once(tmp_path):
    picture = np.zeros((2, 2, 4), np.uint8)
    picture[0, 0] = (30, 60, 90, 196)  # the pixel that was stored as 30
    picture[0, 1] = (10, 20, 30, 255)
    for name in ("a.png", "b.webp", "c.tiff"):
        Image.fromarray(picture).save(tmp_path / name, **({"lossless": True, "exact": True} if "webp" in name else {}))
        found = read(tmp_path / name)
        assert found[:, 0, 0].tolist() == [round((one * 196 + 255 * 59) / 255) for one in (30, 60, 90)]
        assert found[:, 0, 1].tolist() == [10, 20, 30]
        assert (found[:, 1] == 255).all()
    reader = Reader()
    for _ in range(3):
        reader.read(tmp_path / "a.png")
    assert reader.told == ["transparent pictures, put on white: 3"]
    picture[..., 3] = 255
    Image.fromarray(picture).save(tmp_path / "opaque.png")
    solid = Reader()
    assert (pixels(solid.read(tmp_path / "opaque.png")) == picture[..., :3].transpose(2, 0, 1)).all()
    assert solid.told == []


def test_a_palette_with_a_transparent_colour_lies_on_white(tmp_path):
    picture = Image.new("P", (2, 1))
    picture.putpalette([0, 0, 0, 200, 10, 20])
    picture.putpixel((1, 0), 1)
    picture.save(tmp_path / "a.gif", transparency=0)
    picture.save(tmp_path / "a.png", transparency=0)
    for name in ("a.gif", "a.png"):
        assert read(tmp_path / name)[:, 0].T.tolist() == [[255, 255, 255], [200, 10, 20]]


@pytest.mark.parametrize(("mode", "colour"), [("L", 90), ("1", 1), ("CMYK", (0, 255, 255, 0)), ("LA", (90, 255))])
@pytest.mark.parametrize("suffix", ["tif", "png", "jpg"])
def test_other_kinds_of_pixels_become_rgb(tmp_path, mode, colour, suffix):
    if (mode, suffix) in (("CMYK", "png"), ("LA", "jpg")):
        pytest.skip("there is no such file")
    path = tmp_path / f"a.{suffix}"
    Image.new(mode, (8, 8), colour).save(path)
    expected = {"L": (90, 90, 90), "1": (255, 255, 255), "CMYK": (255, 0, 0), "LA": (90, 90, 90)}[mode]
    assert np.abs(read(path)[:, 4, 4].astype(int) - expected).max() <= (2 if suffix == "jpg" else 0)


def test_several_pictures_in_a_file_are_refused(tmp_path):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    for name in ("a.gif", "a.tiff", "a.webp", "a.png"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
        with pytest.raises(QualityError, match=rf"{name} holds 2 pictures, an animation or pages"):
            Reader().read(tmp_path / name)


def test_numbers_without_a_range_and_damaged_files_are_refused(tmp_path, monkeypatch):
    Image.fromarray(np.ones((4, 4), np.float32)).save(tmp_path / "float.tiff")
    with pytest.raises(
        QualityError, match=r"float\.tiff has pixels of the kind F, whose black and white are not known"
    ):
        Reader().read(tmp_path / "float.tiff")
    Image.new("RGB", (64, 64)).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:60])
    with pytest.raises(QualityError, match=r"cut\.png is not a readable picture"):
        Reader().read(tmp_path / "cut.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(QualityError, match=r"whole\.png is not a readable picture .*bomb"):
        Reader().read(tmp_path / "whole.png")


def test_what_is_no_picture_is_counted_and_named(tmp_path):
    (tmp_path / "inside").mkdir()
    for name in ("a.PNG", "inside/b.jpeg", "c.tif", "d.gif", "e.heic", "captions.txt", "f.npy", "g.svg", ".hidden"):
        (tmp_path / name).write_bytes(b"")
    found = listed(tmp_path)
    assert sorted(path.name for path in found.pictures) == ["a.PNG", "b.jpeg", "c.tif", "d.gif"]
    assert found.left_out == (
        f"left out of {tmp_path}, no pictures by their names: 4 (captions.txt, e.heic, f.npy, ...)"
    )
