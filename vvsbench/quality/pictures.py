"""Picture files, read one way for generated sets and references alike: RGB with 8 bits per channel, or not at all.

A reader that takes what it does not understand for something else changes FID without a word: 16 bits become white, and
the colour below a transparent pixel, which nobody sees, is measured. What is converted is counted, and told once.
Imports no torch.
"""

from __future__ import annotations

import logging
import struct
import zlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vvsbench.quality.config import QualityError

log = logging.getLogger(__name__)

SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".gif", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".jp2", ".avif"),
)
"""What pictures are called; every other file of a folder is named as left out."""
BROKEN = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)
"""What pillow raises on a file that is not what it should be; a broken PNG is a SyntaxError to it."""
COLOURED = {"1", "L", "P", "RGB", "CMYK", "YCbCr", "HSV", "PA", "LA", "La", "RGBA", "RGBa", "RGBX"}
"""Kinds of pixels with at most 8 bits per channel, which become RGB without a choice to be made."""
SHOWN = 3
"""File names in a message."""


@dataclass(frozen=True)
class Listing:
    """A folder of pictures.

    Attributes:
        folder: searched with its subfolders; hidden files do not count.
        pictures: paths in no particular order.
        others: paths of all other files.
    """

    folder: Path
    pictures: list[Path]
    others: list[Path]

    @property
    def left_out(self) -> str:
        """What is no picture, in a sentence; empty where everything is one."""
        if not self.others:
            return ""
        names = ", ".join(sorted(path.relative_to(self.folder).as_posix() for path in self.others)[:SHOWN])
        more = ", ..." if len(self.others) > SHOWN else ""
        return f"left out of {self.folder}, no pictures by their names: {len(self.others)} ({names}{more})"


def listed(folder: Path) -> Listing:
    """The pictures of a folder, and what else is in it."""
    found = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")]
    pictures = [path for path in found if path.suffix.lower() in SUFFIXES]
    return Listing(folder, pictures, sorted(set(found) - set(pictures)))


@dataclass
class Reader:
    """Reads picture files, and remembers what it had to convert."""

    converted: Counter[str] = field(default_factory=Counter)

    def read(self, path: Path) -> Image.Image:
        """A picture in the mode RGB.

        Transparent pixels lie on white, as in a browser; of 16 bits per channel the upper 8 are kept; palettes, grey
        and CMYK become RGB.

        Raises:
            QualityError: it is damaged, holds several pictures, or pixels whose range cannot be known.
        """
        try:
            with Image.open(path) as opened:
                self._check(path, opened)
                return self._converted(opened)
        except BROKEN as error:
            raise QualityError(f"{path} is not a readable picture ({error}); replace it.") from error

    def _check(self, path: Path, opened: Image.Image) -> None:
        if (frames := getattr(opened, "n_frames", 1)) > 1:
            raise QualityError(f"{path} holds {frames} pictures, an animation or pages: save the one that is meant.")
        if opened.mode not in COLOURED and not opened.mode.startswith("I;16"):
            raise QualityError(
                f"{path} has pixels of the kind {opened.mode}, whose black and white are not known: save it with 8 "
                "bits per channel."
            )

    def _converted(self, opened: Image.Image) -> Image.Image:
        if opened.mode.startswith("I;16"):
            self.converted["grey pictures with 16 bits, of which the upper 8 are kept"] += 1
            grey = np.asarray(opened)
            return Image.fromarray((grey >> 8).astype(np.uint8)).convert("RGB")
        if not opened.has_transparency_data:
            return opened.convert("RGB")
        picture = opened.convert("RGBA")
        if picture.getchannel("A").getextrema()[0] == 255:
            return picture.convert("RGB")
        self.converted["transparent pictures, put on white"] += 1
        white = Image.new("RGBA", picture.size, "white")
        return Image.alpha_composite(white, picture).convert("RGB")

    @property
    def told(self) -> list[str]:
        """What was converted, a sentence each."""
        return [f"{what}: {count}" for what, count in self.converted.items()]


def pixels(picture: Image.Image) -> NDArray[np.uint8]:
    """An RGB picture as uint8 [3, H, W]."""
    return np.asarray(picture, dtype=np.uint8).transpose(2, 0, 1).copy()
