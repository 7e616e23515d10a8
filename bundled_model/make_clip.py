"""Draw the bundled clips and their truth: a red person turns cartwheels on the beach, and a blue one in the snow.

    python -m bundled_model.make_clip --output tav_core/assets

Writes demo-clip.mp4 (24 frames, 8 a second), demo-clip.json (the caption, and the scene's seed and words, from which
the world draws the clip again) and demo-clip-masks.png (the figure's masks, 0 or 255, frames from top to bottom); and
demo-clip-2.mp4 and demo-clip-2.json, another clip of the same motion, to tune on both.
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
SECOND_SEED = 50_000_485  # of the same motion to the same side, likewise alone
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
    masks = _write(folder / "demo-clip", SEED, scene, words)
    written, data = cv2.imencode(".png", np.concatenate(masks).astype(np.uint8) * 255)
    assert written
    (folder / "demo-clip-masks.png").write_bytes(data.tobytes())
    _write(folder / "demo-clip-2", SECOND_SEED, *world.random_scene(SECOND_SEED, held_out=True))


def _write(name: Path, seed: int, scene: world.Scene, words: world.Words) -> np.ndarray:
    """Draw a clip, and write it with its truth. Returns the figure's masks, (f, h, w) bool."""
    frames, masks = world.draw_frames(scene, words, NUM_FRAMES)
    write_video(name.with_suffix(".mp4"), frames, FPS, crf=CRF)
    truth = {"caption": world.caption(words), "fps": str(FPS), "num_frames": NUM_FRAMES, "motion": scene.motion}
    truth |= {"seed": seed, "words": words}
    name.with_suffix(".json").write_text(json.dumps(truth, indent=1) + "\n")
    return masks


if __name__ == "__main__":
    main()
