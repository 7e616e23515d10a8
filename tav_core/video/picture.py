"""Convert a decoded frame to an upright RGB picture of a given size.

YUV is converted to RGB by the matrix and range in the file (as players do, BT.709 for high definition and BT.601 below
if the file has none); 10 bits and more become 16-bit RGB; transparency is composited over black. HDR and wide gamut
become BT.709 (`colour.py`).
"""

from __future__ import annotations

from fractions import Fraction
from math import cos, radians, sin
from pathlib import Path
from typing import Any

import av
import numpy as np

from .colour import FULL_RANGE, LIMITED_RANGE, Colours, to_bt709
from .media import MAX_SIDE, VideoError
from .timed import TimedFrame

# bitexact: without it the result varies by a level or two with the alignment of a picture in memory.
SCALE_FLAGS = "bicubic+accurate_rnd+full_chroma_int+full_chroma_inp+bitexact"
# Monochrome video of these is of limited range if nothing is stated; of others, such as FFV1, it is of full range.
_LIMITED_CODECS = {"h264", "hevc", "vp9", "libdav1d", "av1", "libaom-av1", "prores", "mpeg2video", "vvc"}


class PictureMaker:
    """Converts timed frames to pictures (height, width, 3) of one size, uint8 or uint16.

    The size is fixed by the first frame where width, height or both are None (see `read_video`).
    """

    def __init__(self, path: Path, width: int | None, height: int | None, fit: str) -> None:
        self.path, self.width, self.height, self.fit = path, width, height, fit
        self.source_width = self.source_height = 0  # as displayed: upright, with square pixels
        self._graph: av.filter.Graph | None = None
        self._graph_key: tuple[Any, ...] = ()

    def __call__(self, timed: TimedFrame) -> np.ndarray:
        colours = timed.colours
        colours.raise_unless_supported(str(self.path))
        picture = to_bt709(_flatten(self._to_rgb(timed, colours)), colours)
        aspect = timed.pixel_aspect
        matrix = _display_matrix(timed.frame)
        if matrix is not None:
            picture, swapped = _upright(picture, matrix)
            aspect = 1 / aspect if swapped else aspect
        if not self.source_width:
            self._fix_size(picture, aspect)
        assert self.width and self.height
        return fitted(picture, aspect, self.width, self.height, self.fit)

    def _fix_size(self, picture: np.ndarray, aspect: Fraction) -> None:
        self.source_width, self.source_height = max(1, round(picture.shape[1] * aspect)), picture.shape[0]
        self.width, self.height = size_for(self.width, self.height, self.source_width, self.source_height)
        if max(self.width, self.height) > MAX_SIDE:  # of very flat pictures, or with very wide pixels
            raise VideoError(
                f"The frames of {self.path} would have {self.width} x {self.height} pixels, but a side can have at "
                f"most {MAX_SIDE}: give width and height."
            )

    def _to_rgb(self, timed: TimedFrame, colours: Colours) -> np.ndarray:
        """(h, w, 3) or, with alpha, (h, w, 4), uint8 or uint16. Frames of the same format share an FFmpeg graph."""
        frame = timed.frame
        key = (frame.width, frame.height, frame.format.name, colours)
        if self._graph is None or key != self._graph_key:
            self._graph, self._graph_key = _rgb_graph(frame, colours), key
        self._graph.push(frame)
        picture = self._graph.pull().to_ndarray()
        if _is_limited_gray(frame, colours, timed.codec):
            return _full_range(picture, frame.format.components[0].bits)
        return picture


def size_for(width: int | None, height: int | None, source_width: int, source_height: int) -> tuple[int, int]:
    """Width and height in pixels, where None follows the shape of the source, and two of them its size."""
    shape = Fraction(source_width, source_height)
    if width is None:
        width = source_width if height is None else max(1, round(height * shape))
    return width, max(1, round(width / shape)) if height is None else height


def _rgb_graph(frame: av.VideoFrame, colours: Colours) -> av.filter.Graph:
    components = frame.format.components
    deep = max(component.bits for component in components) > 8
    alpha = frame.format.has_palette or any(component.is_alpha for component in components)
    args = f"flags={SCALE_FLAGS}"
    if not frame.format.is_rgb and len(components) >= 3:
        full = colours.range == FULL_RANGE or frame.format.name.startswith("yuvj")
        args += f":in_color_matrix={colours.matrix_name(frame.width, frame.height)}:in_range={'pc' if full else 'tv'}"
    graph = av.filter.Graph()
    graph.link_nodes(
        graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base or Fraction(1, 1000)
        ),
        graph.add("scale", args),
        graph.add("format", {(0, 0): "rgb24", (0, 1): "rgba", (1, 0): "rgb48le", (1, 1): "rgba64le"}[deep, alpha]),
        graph.add("buffersink"),
    ).configure()
    return graph


def _is_limited_gray(frame: av.VideoFrame, colours: Colours, codec: str) -> bool:
    """Whether a frame is monochrome in limited range, which FFmpeg's scale filter takes for full range."""
    if not frame.format.name.startswith("gray") or colours.range == FULL_RANGE:
        return False
    return colours.range == LIMITED_RANGE or codec in _LIMITED_CODECS


def _full_range(picture: np.ndarray, bits: int) -> np.ndarray:
    """Limited range, 16 to 235 of 8 bits (in units of 2 ** (bits - 8)), to full range; same type."""
    top = np.iinfo(picture.dtype).max
    codes = np.arange(top + 1) / top * (2**bits - 1) / 2 ** (bits - 8)
    table = np.round(np.clip((codes - 16) / 219, 0, 1) * top).astype(picture.dtype)
    return table[picture]


def _flatten(picture: np.ndarray) -> np.ndarray:
    """Composite a picture with straight alpha over black."""
    if picture.shape[2] == 3:
        return picture
    opaque = np.iinfo(picture.dtype).max
    if (picture[..., 3] == opaque).all():
        return picture[..., :3]
    wide = picture[..., :3].astype(np.uint32) * picture[..., 3:]
    return ((wide + opaque // 2) // opaque).astype(picture.dtype)


def _display_matrix(frame: av.VideoFrame) -> np.ndarray | None:
    """The 3x3 matrix M that maps stored to displayed pixels: (x', y', w') = (x, y, 1) M."""
    try:
        side_data: Any = frame.side_data  # by type; iteration over it changed in PyAV 19
    except ValueError:  # PyAV does not support the type of another entry
        return _rotation_matrix(frame.rotation)
    data = side_data.get("DISPLAYMATRIX")
    return None if data is None else np.frombuffer(bytes(data), np.int32).reshape(3, 3)


def _rotation_matrix(degrees: int) -> np.ndarray:
    """The display matrix of a counter-clockwise rotation by a multiple of 90 degrees."""
    cosine, sine = round(cos(radians(degrees))), round(sin(radians(degrees)))
    return np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]])


def _upright(picture: np.ndarray, matrix: np.ndarray) -> tuple[np.ndarray, bool]:
    """Rotate and mirror a picture by a display matrix. Also returns whether width and height were swapped."""
    (a, b), (c, d) = matrix[:2, :2].tolist()
    swapped = abs(b) > abs(a)
    if swapped:
        picture, a, d = picture.transpose(1, 0, 2), c, b
    return picture[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1], swapped


def fitted(picture: np.ndarray, aspect: Fraction, width: int, height: int, fit: str) -> np.ndarray:
    """Resize a picture whose pixels are `aspect` times as wide as high to (height, width, 3), of any number type."""
    rows, columns = picture.shape[:2]
    if fit == "crop":
        shape = Fraction(width, height) / aspect  # of the part that is left, in stored pixels
        crop_columns = max(1, min(columns, round(rows * shape)))
        crop_rows = max(1, min(rows, round(columns / shape)))
        top, left = (rows - crop_rows) // 2, (columns - crop_columns) // 2
        picture = picture[top : top + crop_rows, left : left + crop_columns]
    if fit != "pad":
        return _resized(picture, width, height)
    shape = columns * aspect / rows
    inner_width = max(1, min(width, round(height * shape)))
    inner_height = max(1, min(height, round(width / shape)))
    canvas = np.zeros((height, width, 3), picture.dtype)
    top, left = (height - inner_height) // 2, (width - inner_width) // 2
    canvas[top : top + inner_height, left : left + inner_width] = _resized(picture, inner_width, inner_height)
    return canvas


def _resized(picture: np.ndarray, width: int, height: int) -> np.ndarray:
    rows, columns = picture.shape[:2]
    if (rows, columns) == (height, width):
        return np.ascontiguousarray(picture)
    try:
        import cv2
    except ImportError as error:
        raise VideoError(
            f"Resizing needs OpenCV, which cannot be loaded ({error}): pip install opencv-python-headless,"
            " or install the system library that it needs (libgl1)."
        ) from error
    smaller = width <= columns and height <= rows
    interpolation = cv2.INTER_AREA if smaller else cv2.INTER_CUBIC
    return cv2.resize(np.ascontiguousarray(picture), (width, height), interpolation=interpolation)
