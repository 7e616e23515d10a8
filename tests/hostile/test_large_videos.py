"""Long and large videos: only the requested frames are stored, memory is bounded by one picture of the source.

Stated bound: 160 MiB, and 24 bytes for each pixel of a picture of the source.
"""

import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tav_core import read_video

from .sandbox import read_all

BASE, PER_PIXEL = 160 * 2**20, 24
STARTS = {"good": 0, "wide": 0, "long": 650, "longest": 3300}  # seconds


def make(path: Path, width: int, height: int, count: int) -> Path:
    """Grey frames with a key frame each 250, as MPEG-4; as Motion JPEG where that is too small for them."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg" if width > 8000 else "mpeg4", rate=30)
        stream.width, stream.height, stream.gop_size = width, height, 250
        stream.pix_fmt = "yuvj420p" if width > 8000 else "yuv420p"
        frame = av.VideoFrame.from_ndarray(np.full((height * 3 // 2, width), 128, np.uint8), format=stream.pix_fmt)
        for index in range(count):
            frame.pts, frame.time_base = index, Fraction(1, 30)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def read_the_end(path: Path) -> None:
    """A few frames far into the clip, as an edit takes them."""
    clip = read_video(path, num_frames=8, start=STARTS[path.stem], width=64, height=64)
    assert clip.frames.shape == (8, 64, 64, 3) or path.stem == "good"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="bounds memory by means of Linux")
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "width", "height", "count"),
    [
        ("long", 16, 16, 20_000),
        pytest.param("longest", 16, 16, 100_000, marks=pytest.mark.soak),
        ("wide", 16_000, 2_000, 9),
    ],
)
def test_memory(tmp_path: Path, name: str, width: int, height: int, count: int) -> None:
    video = make(tmp_path / f"{name}.mp4", width, height, count)
    good = make(tmp_path / "good.mp4", 64, 64, 9)
    report = read_all(read_the_end, good, [video], 4 * 2**30, seconds=120)
    assert (report.read, report.faults) == (1, [])
    assert report.peak < BASE + PER_PIXEL * width * height
