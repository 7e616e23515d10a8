"""The pictures that the bundled model is trained on: drawn once, kept as memory-mapped arrays.

    python -m bundled_model.data --output build/data

Writes two sets, `train` and `test`, each a folder of

    pictures.npy  (n, 128, 128, 3) uint8
    masks.npy     (n, 128, 16) uint8, bits of the figure's mask, packed along x
    joints.npy    (n, 11, 2) float32, pixels
    words.npy     (n, 5) uint8, indices into VOCABULARY, in its order

`train` shows the four actions alone; every other picture of `test` shows a held-out motion. A picture depends on its
number alone, so an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from tav_core.atomic import write_text
from tav_core.demo.world import JOINTS, SIZE, VOCABULARY, Scene, Words, random_scene
from tav_core.demo.world.render import snapshot
from tav_core.demo.world.scene import LONGEST

TEST_SEED = 10_000_000  # seeds from here on are never trained on
_CHUNK = 200  # pictures between two notes of how many are drawn
_ARRAYS: dict[str, tuple[tuple[int, ...], type]] = {
    "pictures": ((SIZE, SIZE, 3), np.uint8),
    "masks": ((SIZE, SIZE // 8), np.uint8),
    "joints": ((len(JOINTS), 2), np.float32),
    "words": ((len(VOCABULARY),), np.uint8),
}


@dataclass(frozen=True)
class PictureSet:
    """The arrays of one set, cut to the pictures drawn so far."""

    pictures: NDArray[np.uint8]
    masks: NDArray[np.uint8]
    joints: NDArray[np.float32]
    words: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.pictures)

    def mask(self, chosen: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Masks of the figure, (b, 128, 128)."""
        return np.unpackbits(self.masks[chosen], axis=-1).astype(bool)

    def words_of(self, index: int) -> Words:
        pairs = zip(VOCABULARY.items(), self.words[index], strict=True)
        return {kind: words[number] for (kind, words), number in pairs}


def picture_of(name: str, index: int) -> tuple[Scene, Words, float]:
    """Scene, words and time (in frames) of a picture of a set."""
    held_out = name == "test" and index % 2 == 1
    seed = index + (TEST_SEED if name == "test" else 0)
    time = float(np.random.default_rng((7, seed)).integers(LONGEST))
    return *random_scene(seed, held_out), time


def draw_set(folder: Path, name: str, count: int) -> None:
    """Draw the pictures of a set that are not drawn yet."""
    folder = folder / name
    folder.mkdir(parents=True, exist_ok=True)
    drawn = _drawn(folder)
    arrays = {key: _open(folder / f"{key}.npy", (count, *shape), kind) for key, (shape, kind) in _ARRAYS.items()}
    for start in range(drawn, count, _CHUNK):
        stop = min(count, start + _CHUNK)
        for index in range(start, stop):
            _draw_into(arrays, name, index)
        for array in arrays.values():
            array.flush()
        _note(folder, stop)
        print(json.dumps(dict(set=name, drawn=stop)), flush=True)


def load_set(folder: Path, name: str) -> PictureSet:
    """The pictures of a set drawn so far, memory-mapped."""
    drawn = _drawn(folder / name)
    return PictureSet(**{key: np.load(folder / name / f"{key}.npy", mmap_mode="r")[:drawn] for key in _ARRAYS})


def _draw_into(arrays: dict[str, np.memmap], name: str, index: int) -> None:
    scene, words, time = picture_of(name, index)
    shot = snapshot(scene, words, time)
    arrays["pictures"][index] = shot.picture
    arrays["masks"][index] = np.packbits(shot.mask, axis=-1)
    arrays["joints"][index] = shot.joints
    arrays["words"][index] = [VOCABULARY[kind].index(word) for kind, word in words.items()]


def _open(path: Path, shape: tuple[int, ...], kind: type) -> np.memmap:
    if not path.exists():
        return np.lib.format.open_memmap(path, "w+", kind, shape)
    array = np.lib.format.open_memmap(path, "r+")
    if array.shape != shape:
        raise ValueError(
            f"{path} holds an array {array.shape}, not {shape}: give the same --count, or another --output"
        )
    return array


def _drawn(folder: Path) -> int:
    note = folder / "drawn.json"
    return int(json.loads(note.read_text())["drawn"]) if note.exists() else 0


def _note(folder: Path, drawn: int) -> None:
    write_text(folder / "drawn.json", json.dumps(dict(drawn=drawn)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--count", type=int, default=24_000, help="pictures of the training set")
    parser.add_argument("--test-count", type=int, default=1_200)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    draw_set(args.output, "test", args.test_count)
    draw_set(args.output, "train", args.count)


if __name__ == "__main__":
    main()
