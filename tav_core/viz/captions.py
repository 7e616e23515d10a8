"""Captions as strips of pixels, in any script for which a font is installed.

The font is DejaVu Sans, which comes with matplotlib and covers Latin, Greek and Cyrillic. Other text is drawn in the
first installed font that has all its characters. If none has, those that DejaVu Sans lacks are left out: no caption
shows boxes or question marks in place of letters. So the Last Resort font, which comes with matplotlib and macOS and
draws a box for every character, is ignored.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from matplotlib import font_manager
from matplotlib.ft2font import FT2Font
from PIL import Image, ImageDraw, ImageFont

_SIZE, _LINE, _MARGIN = 13, 16, 4  # pixels: of the letters, from line to line, on either side
_MOST_LINES, _MOST_LETTERS = 20, 2000  # of a caption; the rest is replaced by three dots
_INK = (20, 20, 20)
_BOXES = "lastresort"  # in the name of a font, written as one word
_CACHED_FONTS = 8  # fonts whose characters are cached: those of a large font take megabytes


def caption_strip(text: str, width: int, least_lines: int = 2) -> np.ndarray:
    """Text on white, wrapped into at most twenty lines: uint8 (height, width, 3)."""
    path, text = drawable(text)
    font = _font(path)
    lines = _wrapped(text[:_MOST_LETTERS], width - 2 * _MARGIN, font)
    if len(lines) > _MOST_LINES or len(text) > _MOST_LETTERS:
        lines[_MOST_LINES - 1 :] = ["..."]
    strip = Image.new("RGB", (width, _LINE * max(len(lines), least_lines) + 6), "white")
    draw = ImageDraw.Draw(strip)
    for index, line in enumerate(lines):
        draw.text((_MARGIN, _LINE * (index + 1)), line, fill=_INK, font=font, anchor="ls")
    return np.asarray(strip)


@lru_cache(maxsize=256)
def drawable(text: str) -> tuple[str, str]:
    """The file of a font, and the part of the text that it can draw."""
    default = font_manager.findfont("DejaVu Sans")
    characters = frozenset(text) - frozenset(" \t\n")
    if characters <= _characters(default):
        return default, text
    fonts = (font for font in font_manager.fontManager.ttflist if _BOXES not in font.name.replace(" ", "").lower())
    for path in sorted(font.fname for font in fonts):
        if characters <= _characters(path):
            return path, text
    return default, "".join(letter for letter in text if letter.isspace() or letter in _characters(default))


@lru_cache(_CACHED_FONTS)
def _characters(path: str) -> frozenset[str]:
    """The characters that a font file draws; none if it cannot be read."""
    try:
        return frozenset(map(chr, FT2Font(path).get_charmap()))
    except (OSError, RuntimeError):
        return frozenset()


@lru_cache(_CACHED_FONTS)
def _font(path: str) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, _SIZE)


def _wrapped(text: str, width: int, font: ImageFont.FreeTypeFont) -> list[str]:
    """Lines of at most `width` pixels, broken at spaces, and within words that are too wide alone."""
    lines = [""]
    for word in text.split():
        space = " " if lines[-1] else ""
        if font.getlength(lines[-1] + space + word) > width and lines[-1]:
            lines.append("")
            space = ""
        lines[-1] += space
        for letter in word:
            if font.getlength(lines[-1] + letter) > width and lines[-1].strip():
                lines.append("")
            lines[-1] += letter
    return lines
