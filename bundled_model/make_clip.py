"""Draw the bundled clip and its truth: a pink star that flies an arc over a navy background.

    python -m bundled_model.make_clip --output tav_core/assets

Writes demo-clip.mp4 (16 frames, 8 a second), demo-clip.json (the scene of each frame: words, position, radius) and
demo-clip-masks.png (the share of each pixel that the object covers, 0 to 255, frames from top to bottom).
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from tav_core.demo import shapes as world
from tav_core.video import write_video

NUM_FRAMES = 16
FPS = Fraction(8)


def arc(num_frames: int) -> np.ndarray:
    """From the lower left over the top to the lower right: (f, 2) positions in pixels."""
    t = np.linspace(0, 1, num_frames)
    return np.stack([36 + 56 * t, 90 - 52 * np.sin(np.pi * t)], axis=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    folder = parser.parse_args().output
    scene = world.Scene("star", "pink", "navy", x=0.0, y=0.0, radius=23.0)
    scenes = world.moving(scene, arc(NUM_FRAMES))
    drawn = [world.draw(s) for s in scenes]
    write_video(folder / "demo-clip.mp4", np.stack([picture for picture, _ in drawn]), FPS)
    truth = {"caption": scene.caption, "fps": str(FPS), "frames": [asdict(s) for s in scenes]}
    (folder / "demo-clip.json").write_text(json.dumps(truth, indent=1) + "\n")
    masks = np.concatenate([mask for _, mask in drawn])
    (folder / "demo-clip-masks.png").write_bytes(
        cv2.imencode(".png", np.round(masks * 255).astype(np.uint8))[1].tobytes()
    )


if __name__ == "__main__":
    main()
