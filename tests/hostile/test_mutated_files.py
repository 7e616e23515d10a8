"""A few damaged files through every reader, and cases that `make soak` found."""

import sys
from fractions import Fraction
from pathlib import Path

import pytest
from PIL import Image

from tav_core import read_video
from tav_core.video import VideoError
from tav_core.video.media import MAX_SIDE
from tav_core.video.sound import read_audio

from .readers import KINDS, make_video, read_mutated


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="bounds memory by means of Linux")
@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_mutated_files(kind: str, tmp_path: Path) -> None:
    count = 15 if kind == "model" else 50
    report = read_mutated(kind, tmp_path, count)
    assert report.tried == count
    assert report.faults == []


@pytest.mark.parametrize("rest", [b"", b"\xff", b"\x00", b"\x01" + b"\xff" * 7, b"\x00" + b"\xff" * 8, b"\x80\x18\x53"])
def test_a_webm_truncated_in_its_header(tmp_path: Path, rest: bytes) -> None:
    (tmp_path / "cut.webm").write_bytes(b"\x1a\x45\xdf\xa3" + rest)
    with pytest.raises(VideoError, match="cut.webm is truncated"):
        read_video(tmp_path / "cut.webm")


def test_sound_of_frames_hours_apart_raises(tmp_path: Path) -> None:
    video = make_video(tmp_path, ".mp4")
    with pytest.raises(VideoError, match=r"sound of .*good.mp4 .* has 2 x 480000000 samples.* request fewer frames"):
        read_audio(video, Fraction(0), Fraction(10_000))


def test_frames_that_are_too_wide_raise(tmp_path: Path) -> None:
    Image.new("RGB", (MAX_SIDE + 1, 2)).save(tmp_path / "wide.png")
    with pytest.raises(VideoError, match=r"wide.png would have 16385 x 2 pixels.* give width and height"):
        read_video(tmp_path / "wide.png")
    assert read_video(tmp_path / "wide.png", width=16, height=2).frames.shape == (1, 2, 16, 3)
