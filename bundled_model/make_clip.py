"""Draw the bundled clip and its truth: a red person turns cartwheels on the beach.

    python -m bundled_model.make_clip --output tav_core/assets

Writes demo-clip.mp4 (24 frames, 8 a second), demo-clip.json (the caption, and the scene's seed and words, from which
the world draws the clip again) and demo-clip-masks.png (the figure's masks, 0 or 255, frames from top to bottom).
"""

from __future__ import annotations

import argparse
import json
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from tav_core.demo import world
from tav_core.video import write_video

SEED = 50_000_116  # of a held-out motion: a cartwheel, with nobody beside and nothing in front
COAT = "red"  # the seed's own, yellow, is near the sand
NUM_FRAMES = 24
FPS = Fraction(8)
CRF = 12


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    write_clip(parser.parse_args().output)


def write_clip(folder: Path) -> None:
    scene, words = world.random_scene(SEED, held_out=True)
    words["coat"] = COAT
    frames, masks = world.draw_frames(scene, words, NUM_FRAMES)
    write_video(folder / "demo-clip.mp4", frames, FPS, crf=CRF)
    truth = {"caption": world.caption(words), "fps": str(FPS), "num_frames": NUM_FRAMES, "motion": scene.motion}
    truth |= {"seed": SEED, "words": words}
    (folder / "demo-clip.json").write_text(json.dumps(truth, indent=1) + "\n")
    written, data = cv2.imencode(".png", np.concatenate(masks).astype(np.uint8) * 255)
    assert written
    (folder / "demo-clip-masks.png").write_bytes(data.tobytes())


if __name__ == "__main__":
    main()
