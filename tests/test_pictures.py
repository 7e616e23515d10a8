"""The tools that draw pictures of the documentation."""

from pathlib import Path

from PIL import Image

from tav_core.video import write_video
from tests.clips import clip_of
from tools.make_moving_picture import write_webp


def test_the_moving_picture_plays_all_frames_at_their_rate_without_end(tmp_path: Path) -> None:
    write_video(tmp_path / "comparison.mp4", clip_of(3), 8)
    write_webp(tmp_path / "comparison.mp4", tmp_path / "demo.webp")
    with Image.open(tmp_path / "demo.webp") as picture:
        assert (picture.format, picture.size, picture.n_frames) == ("WEBP", (128, 128), 3)
        assert picture.info["loop"] == 0
        picture.seek(1)
        picture.load()
        assert picture.info["duration"] == 125
