"""Draw docs/demo.webp, the moving picture of the README, from what the demo wrote.

python -m tav_core demo --output tav-demo
python -m tools.make_moving_picture tav-demo
"""

import sys
from pathlib import Path

from PIL import Image

from tav_core.video import read_video

PICTURE = Path(__file__).parents[1] / "docs" / "demo.webp"
QUALITY = 70


def main(demo: Path) -> None:
    write_webp(demo / "comparison.mp4", PICTURE)
    print(f"{PICTURE.stat().st_size / 1e3:.0f} kB")


def write_webp(video: Path, picture: Path) -> None:
    """An animated WebP of a video, endless, at its frame rate."""
    clip = read_video(video)
    first, *others = (Image.fromarray(frame) for frame in (clip.frames * 255).round().byte().numpy())
    duration = round(1000 / clip.fps)  # milliseconds a frame
    first.save(picture, save_all=True, append_images=others, duration=duration, loop=0, quality=QUALITY, method=6)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]))
