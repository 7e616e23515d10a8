"""The demo world: one drawn object on one background, with its caption.

A scene is a shape of one colour, somewhere in a 128 x 128 picture, on one of ten backgrounds. Everything is drawn from
signed distances with one pixel of anti-aliasing, so a scene has an exact mask and an exact position. The bundled model
is trained on these pictures, the bundled clip is drawn from them, and `judge.py` reads pictures back into scenes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import numpy as np

SIZE = 128  # pixels, both ways
RADIUS_RANGE = (20.0, 26.0)  # pixels; radius of the disc that an object's area is comparable to
MARGIN = 4.0  # pixels between the object and the edge of the picture

SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")

COLOURS = {
    "red": (255, 100, 92),
    "green": (120, 228, 110),
    "blue": (110, 155, 255),
    "yellow": (255, 240, 100),
    "orange": (255, 168, 80),
    "purple": (200, 130, 255),
    "pink": (255, 180, 220),
    "cyan": (115, 238, 250),
    "white": (255, 255, 255),
    "silver": (186, 190, 200),
}

# Dark, under bright objects: whatever the words, an object differs from its ground in much the same direction. Noise
# that was inverted from one object then favours the same place for another; where an edit turned that difference
# around (black on grey to white on grey), the place was lost. A pattern is drawn between its two colours.
BACKGROUNDS = {
    "grey": ((46, 46, 50), (46, 46, 50)),
    "brown": ((66, 40, 16), (66, 40, 16)),
    "navy": ((14, 20, 70), (14, 20, 70)),
    "maroon": ((72, 12, 28), (72, 12, 28)),
    "forest": ((10, 54, 26), (10, 54, 26)),
    "striped": ((8, 34, 48), (28, 66, 80)),
    "checkered": ((50, 20, 64), (20, 6, 32)),
    "dotted": ((12, 12, 16), (60, 56, 50)),
    "wavy": ((12, 32, 28), (42, 74, 60)),
    "sunset": ((84, 42, 32), (20, 12, 46)),
}


@dataclass(frozen=True)
class Scene:
    """What a picture shows: the words of its caption, and where (x right, y down, in pixels) and how large it is."""

    shape: str
    colour: str
    background: str
    x: float
    y: float
    radius: float

    @property
    def caption(self) -> str:
        return caption(self.shape, self.colour, self.background)

    def edited(self, shape: str | None = None, colour: str | None = None, background: str | None = None) -> Scene:
        """The same scene with other words: what an edit of this scene ought to show."""
        return replace(
            self,
            shape=shape or self.shape,
            colour=colour or self.colour,
            background=background or self.background,
        )


def caption(shape: str, colour: str, background: str) -> str:
    article = "an" if colour[0] in "aeiou" else "a"
    return f"{article} {colour} {shape} on a {background} background"


def random_scene(rng: np.random.Generator) -> Scene:
    """A scene drawn uniformly: every word is as likely as its neighbours, every position inside the margin too."""
    radius = float(rng.uniform(*RADIUS_RANGE))
    reach = 1.25 * radius + MARGIN
    x, y = rng.uniform(reach, SIZE - reach, size=2)
    shape, colour, background = (str(rng.choice(names)) for names in (SHAPES, tuple(COLOURS), tuple(BACKGROUNDS)))
    return Scene(shape, colour, background, float(x), float(y), radius)


def draw(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """Draw a scene.

    Returns:
        picture: (SIZE, SIZE, 3) float32 in [0, 1].
        mask: (SIZE, SIZE) float32 in [0, 1], the share of each pixel that the object covers.
    """
    mask = draw_mask(scene.shape, scene.x, scene.y, scene.radius)
    colour = np.asarray(COLOURS[scene.colour], dtype=np.float32) / 255
    ground = draw_background(scene.background)
    return ground + mask[..., None] * (colour - ground), mask


@cache
def draw_background(name: str) -> np.ndarray:
    """A background without an object: (SIZE, SIZE, 3) float32 in [0, 1]. Patterns are fixed to the picture's grid."""
    first, second = (np.asarray(c, dtype=np.float32) / 255 for c in BACKGROUNDS[name])
    y, x = _grid()
    turn = 2 * np.pi / 32  # every pattern repeats after 32 pixels
    wave = {
        "striped": lambda: np.sin(turn * x),
        "checkered": lambda: 1.6 * np.sin(turn * x) * np.sin(turn * y),
        "dotted": lambda: 1.6 * (np.cos(turn * x) * np.cos(turn * y) - 0.35),
        "wavy": lambda: np.sin(turn * y + 1.5 * np.sin(turn * x)),
        "sunset": lambda: 2 * y / SIZE - 1,
    }.get(name, lambda: np.zeros_like(x))()
    share = (np.clip(wave, -1, 1) + 1) / 2
    return (first + share[..., None] * (second - first)).astype(np.float32)


def draw_mask(shape: str, x: float, y: float, radius: float) -> np.ndarray:
    """Coverage of a shape centred at (x, y): (SIZE, SIZE) float32 in [0, 1]."""
    rows, columns = _grid()
    distance = _distance(shape, (columns - x) / radius, (rows - y) / radius) * radius
    return np.clip(0.5 - distance, 0, 1).astype(np.float32)


@cache
def _grid() -> tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32) + 0.5
    return y, x


def _distance(shape: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Signed distance to a shape of unit size, negative inside. Each shape has its centre of area at the origin."""
    if shape == "circle":
        return np.hypot(x, y) - 1.0
    if shape == "ring":
        return np.abs(np.hypot(x, y) - 0.82) - 0.28
    return _polygon_distance(_corners(shape), x, y)


@cache
def _corners(shape: str) -> np.ndarray:
    """Corners of a polygon shape, (n, 2) as x, y with y down."""
    if shape == "square":
        return 0.9 * np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)], dtype=np.float32)
    if shape == "cross":
        a, b = 0.38, 1.1
        return np.array(
            [
                (-a, -b),
                (a, -b),
                (a, -a),
                (b, -a),
                (b, a),
                (a, a),
                (a, b),
                (-a, b),
                (-a, a),
                (-b, a),
                (-b, -a),
                (-a, -a),
            ],
            dtype=np.float32,
        )
    count, radii = (3, (1.25,)) if shape == "triangle" else (10, (1.25, 0.53))
    angles = -np.pi / 2 + 2 * np.pi * np.arange(count) / count
    reach = np.resize(np.asarray(radii), count)
    return np.stack([reach * np.cos(angles), reach * np.sin(angles)], axis=1).astype(np.float32)


def _polygon_distance(corners: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Signed distance to a polygon: nearest point on any edge, and the crossing number for the sign."""
    nearest = np.full_like(x, np.inf)
    inside = np.zeros(x.shape, dtype=bool)
    for (ax, ay), (bx, by) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        ex, ey = bx - ax, by - ay
        along = np.clip(((x - ax) * ex + (y - ay) * ey) / (ex * ex + ey * ey), 0, 1)
        nearest = np.minimum(nearest, np.hypot(x - ax - along * ex, y - ay - along * ey))
        if ay != by:
            inside ^= ((y >= ay) != (y >= by)) & (x < ax + (y - ay) * ex / (by - ay))
    return np.where(inside, -nearest, nearest)


def moving(scene: Scene, path: np.ndarray) -> list[Scene]:
    """The scene along a path of (f, 2) positions in pixels, one scene a frame."""
    return [replace(scene, x=float(x), y=float(y)) for x, y in path]


def random_path(rng: np.random.Generator, num_frames: int, radius: float, travel: float = 40.0) -> np.ndarray:
    """A smooth path inside the picture: a quadratic curve whose ends are at least `travel` pixels apart, (f, 2)."""
    reach = 1.25 * radius + MARGIN
    while True:
        start, bend, end = rng.uniform(reach, SIZE - reach, size=(3, 2))
        if np.hypot(*(end - start)) >= travel:
            t = np.linspace(0, 1, num_frames)[:, None]
            return (1 - t) ** 2 * start + 2 * t * (1 - t) * bend + t**2 * end
