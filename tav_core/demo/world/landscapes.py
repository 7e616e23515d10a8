"""The six places. Each maker draws the positions and sizes of its things from a generator: that is a layout."""

from __future__ import annotations

from collections.abc import Callable

from . import elements
from .canvas import SIZE
from .geometry import Colour, Shape, box, oval, shade
from .layers import FAR, HORIZON, MIDDLE_ROW, SKY, Layer, Place, Rng, spread


def _clouds(rng: Rng, colour: Colour, low: float = 44.0) -> Layer:
    spots = spread(rng, 44.0)
    return Layer(
        SKY, [s for x in spots for s in elements.cloud(x, rng.uniform(10, low), rng.uniform(0.7, 1.2), colour)]
    )


def _hills(rng: Rng, colour: Colour, spacing: float, height: tuple[float, float]) -> Shape:
    xs = spread(rng, spacing)
    tops: list[tuple[float, float]] = []
    for x in xs:
        tops += [(x, HORIZON - rng.uniform(*height)), (x + spacing / 2, HORIZON - rng.uniform(1, 6))]
    return elements.ridge([x for x, _ in tops], [y for _, y in tops], HORIZON + 1, colour)


def _round_hills(rng: Rng, colour: Colour) -> list[Shape]:
    return [Shape(oval(x, HORIZON + 3, rng.uniform(26, 36), rng.uniform(13, 21)), colour, 1) for x in spread(rng, 40.0)]


def _park_behind(rng: Rng) -> list[Layer]:
    return [_clouds(rng, (255, 255, 255)), Layer(FAR, _round_hills(rng, (116, 178, 138)))]


def _park_middle(rng: Rng) -> list[Shape]:
    return [s for x in spread(rng, 34.0) for s in elements.tree(x, MIDDLE_ROW, rng.uniform(0.85, 1.2), (84, 156, 84))]


def _desert_behind(rng: Rng) -> list[Layer]:
    sun = elements.disc(rng.uniform(16, 112), rng.uniform(15, 26), 9.5, (255, 240, 190))
    mesas = []
    for x in spread(rng, 54.0, 0.12):
        half, top = rng.uniform(12, 17), HORIZON - rng.uniform(13, 24)
        mesas.append(
            elements.ridge(
                [x - half - 6, x - half, x + half, x + half + 6],
                [HORIZON, top, top, HORIZON],
                HORIZON + 1,
                (208, 132, 92),
            )
        )
    return [Layer(SKY, [sun]), Layer(FAR, mesas)]


def _desert_middle(rng: Rng) -> list[Shape]:
    return [s for x in spread(rng, 42.0) for s in elements.cactus(x, MIDDLE_ROW, rng.uniform(0.8, 1.15), (74, 142, 96))]


def _city_behind(rng: Rng) -> list[Layer]:
    skyline = []
    for x in spread(rng, 17.0, 0.1):
        top = HORIZON - rng.uniform(24, 50)
        skyline.append(Shape(box(x - 8.5, top, x + 8.5, HORIZON + 1), (150, 154, 184), 1))
    return [_clouds(rng, (224, 222, 236), 24.0), Layer(FAR, skyline)]


def _city_middle(rng: Rng) -> list[Shape]:
    shapes = []
    for x in spread(rng, 40.0, 0.12):
        wall: Colour = ((104, 108, 148), (122, 110, 146), (96, 118, 146))[rng.integers(3)]
        lit = [bool(b) for b in rng.random(10) < 0.6]
        shapes += elements.house(x, MIDDLE_ROW, rng.uniform(22, 28), rng.uniform(34, 56), wall, lit)
        shapes += elements.lamp_post(x + 20, MIDDLE_ROW + 1, 0.95)
    return shapes


def _snow_behind(rng: Rng) -> list[Layer]:
    xs = spread(rng, 44.0, 0.2)
    tops = [HORIZON - rng.uniform(26, 42) for _ in xs]
    slope = 1.15
    peaks = [
        elements.ridge([x - 40, x, x + 40], [t + 40 * slope, t, t + 40 * slope], t + 40 * slope, (156, 176, 208), k)
        for k, (x, t) in enumerate(zip(xs, tops, strict=True))
    ]
    caps = [elements.snow_cap(x, top, slope) for x, top in zip(xs, tops, strict=True)]
    return [
        _clouds(rng, (238, 243, 250), 30.0),
        Layer(FAR, [s for pair in zip(peaks, caps, strict=True) for s in pair]),
    ]


def _snow_middle(rng: Rng) -> list[Shape]:
    return [s for x in spread(rng, 31.0) for s in elements.pine(x, MIDDLE_ROW, rng.uniform(0.8, 1.15), (58, 112, 108))]


def _beach_behind(rng: Rng) -> list[Layer]:
    sea = Shape(box(-SIZE, HORIZON - 15, 2 * SIZE, HORIZON + 1), (38, 128, 196), 1)
    boats = [s for x in spread(rng, 62.0) for s in elements.boat(x, HORIZON - 8, rng.uniform(0.9, 1.25))]
    return [_clouds(rng, (255, 255, 255), 36.0), Layer(FAR, [sea, *boats])]


def _beach_middle(rng: Rng) -> list[Shape]:
    return [s for x in spread(rng, 54.0) for s in elements.palm(x, MIDDLE_ROW, rng.uniform(0.95, 1.3), (48, 156, 98))]


def _moon_behind(rng: Rng) -> list[Layer]:
    stars = [elements.disc(x, rng.uniform(4, 58), rng.uniform(0.7, 1.1), (232, 234, 250), -1) for x in spread(rng, 9.0)]
    x, y = rng.uniform(18, 110), rng.uniform(18, 30)
    earth = [
        elements.disc(x, y, 11, (88, 152, 220)),
        Shape(oval(x - 3, y - 2, 4.5, 3.2, 0.5), (104, 188, 118), -1),
        Shape(oval(x + 4.5, y + 4, 3, 2.4), (104, 188, 118), -1),
    ]
    return [Layer(SKY, [*stars, *earth]), Layer(FAR, [_hills(rng, (92, 92, 116), 36.0, (10, 22))])]


def _moon_middle(rng: Rng) -> list[Shape]:
    rocks = [
        s for x in spread(rng, 58.0) for s in elements.rock(x, MIDDLE_ROW + 1, rng.uniform(0.5, 0.8), (112, 112, 134))
    ]
    return rocks


def _spots(colour: Colour) -> Callable[[float, float, float], list[Shape]]:
    return lambda x, row, size: [Shape(oval(x, row, 6.5 * size, 1.5 * size), colour, -1)]


_GRASS, _SAND, _ASPHALT, _SNOW, _BEACH, _DUST = (
    (150, 204, 98),
    (240, 206, 146),
    (122, 122, 134),
    (234, 242, 250),
    (248, 224, 168),
    (150, 150, 168),
)
PLACES = {
    "park": Place(
        ((118, 190, 244), (222, 242, 250)),
        _GRASS,
        _park_behind,
        _park_middle,
        _spots(shade(_GRASS, 0.88)),
        lambda x, y, s: elements.bush(x, y, s, (58, 128, 72)),
    ),
    "desert": Place(
        ((252, 190, 116), (255, 226, 170)),
        _SAND,
        _desert_behind,
        _desert_middle,
        _spots(shade(_SAND, 0.89)),
        lambda x, y, s: elements.rock(x, y, s, (176, 112, 80)),
    ),
    "city": Place(
        ((164, 176, 214), (214, 210, 224)),
        _ASPHALT,
        _city_behind,
        _city_middle,
        lambda x, row, size: [
            Shape(box(x - 8 * size, row - 0.9 * size, x + 8 * size, row + 0.9 * size), (206, 204, 200), -1)
        ],
        lambda x, y, s: elements.hydrant(x, y, s),
    ),
    "snow": Place(
        ((158, 190, 226), (226, 236, 246)),
        _SNOW,
        _snow_behind,
        _snow_middle,
        _spots(shade(_SNOW, 0.91)),
        lambda x, y, s: elements.rock(x, y, s, (170, 186, 208)),
    ),
    "beach": Place(
        ((84, 184, 236), (198, 234, 248)),
        _BEACH,
        _beach_behind,
        _beach_middle,
        _spots(shade(_BEACH, 0.9)),
        lambda x, y, s: elements.sand_castle(x, y, s, _BEACH),
    ),
    "moon": Place(
        ((24, 24, 56), (66, 62, 112)),
        _DUST,
        _moon_behind,
        _moon_middle,
        lambda x, row, size: elements.crater(x, row, size, _DUST),
        lambda x, y, s: elements.rock(x, y, s, (98, 98, 120)),
    ),
}
