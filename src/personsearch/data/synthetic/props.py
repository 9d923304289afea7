"""Things that stand about: they hide people, and some of them look a little like people without being any."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from personsearch.data.synthetic.appearance import CLOTH, bgr
from personsearch.data.synthetic.backdrop import Place
from personsearch.data.synthetic.camera import Camera
from personsearch.data.synthetic.figure import Sprite, finish, render_solids
from personsearch.data.synthetic.solid import Colour, Light, Paint, Solid, lathe
from personsearch.data.synthetic.texture import F32

_OVERSAMPLING = 3
Point3 = tuple[float, float, float]


@dataclass(frozen=True)
class Prop:
    """A standing thing: its picture, where it stands and how much ground it takes."""

    sprite: Sprite
    x: float
    z: float
    radius_m: float


class Sketch:
    """Flat faces in metres, drawn in the order given; becomes one sprite."""

    def __init__(self, camera: Camera) -> None:
        self._camera = camera
        self._faces: list[tuple[np.ndarray, Colour]] = []

    def face(self, points: Sequence[Point3], colour: Colour, shade: float = 1.0) -> None:
        """A convex face."""
        x, y, z = np.array(points, dtype=np.float64).T
        columns, rows = self._camera.project(x, y, z)
        tone = (colour[0] * shade, colour[1] * shade, colour[2] * shade)
        self._faces.append((np.stack([columns, rows], 1) * _OVERSAMPLING, tone))

    def box(self, x: float, y: float, z: float, size: Point3, colour: Colour) -> None:
        """A box whose front lower middle is at x, y, z; ``size`` along X, Y, Z."""
        left, right, top, back = x - size[0] / 2, x + size[0] / 2, y + size[1], z + size[2]
        if left > 0:
            self.face([(left, y, z), (left, top, z), (left, top, back), (left, y, back)], colour, 0.62)
        if right < 0:
            self.face([(right, y, z), (right, top, z), (right, top, back), (right, y, back)], colour, 0.62)
        if top < self._camera.height_m:
            self.face([(left, top, z), (right, top, z), (right, top, back), (left, top, back)], colour, 1.12)
        self.face([(left, y, z), (right, y, z), (right, top, z), (left, top, z)], colour, 0.88)

    def disc(self, x: float, y: float, z: float, radius: float, colour: Colour) -> None:
        """An upright disc that faces the camera."""
        turn = np.linspace(0, 2 * np.pi, 20, endpoint=False)
        self.face([(x + radius * float(np.cos(a)), y + radius * float(np.sin(a)), z) for a in turn], colour)

    def sprite(self) -> Sprite:
        """What was drawn, averaged down to frame pixels."""
        points = np.concatenate([face for face, _ in self._faces])
        left, top = (int(np.floor(points[:, i].min() / _OVERSAMPLING)) - 1 for i in (0, 1))
        right, bottom = (int(np.ceil(points[:, i].max() / _OVERSAMPLING)) + 1 for i in (0, 1))
        shape = ((bottom - top) * _OVERSAMPLING, (right - left) * _OVERSAMPLING)
        colours = np.zeros((*shape, 3), np.float32)
        covered = np.zeros(shape, np.uint8)
        for face, colour in self._faces:
            shifted = np.round(face - np.array([left, top]) * _OVERSAMPLING).astype(np.int32)
            cv2.fillPoly(colours, [shifted], colour)
            cv2.fillPoly(covered, [shifted], 1)
        # Lower parts get less sky light.
        colours *= np.linspace(1.06, 0.84, shape[0], dtype=np.float32)[:, None, None]
        return finish(colours, covered.astype(bool), left, top, _OVERSAMPLING)


def _turned(
    camera: Camera,
    x: float,
    z: float,
    outline: Sequence[tuple[float, float]],
    paint: Paint | Colour,
    light: Light,
    extra: Sequence[tuple[float, Sequence[tuple[float, float]], Colour]] = (),
) -> Sprite:
    """Solids of revolution on one axis: outline of (height m, half width m), ground first; ``extra`` adds more."""
    unit = camera.scale(z) * _OVERSAMPLING
    solids = []
    for depth, profile, colour in [(0.0, outline, paint), *extra]:
        heights = [height for height, _ in profile]
        top, bottom = max(heights), min(heights)
        (x1, y1), (x2, y2) = (camera.project(x, y, z) for y in (top, bottom))
        first = (float(x1) * _OVERSAMPLING, float(y1) * _OVERSAMPLING, depth * unit)
        second = (float(x2) * _OVERSAMPLING, float(y2) * _OVERSAMPLING, depth * unit)
        length = second[1] - first[1]
        shares = [((top - height) / (top - bottom), radius) for height, radius in reversed(profile)]
        solids.append(
            Solid(
                first,
                second,
                lathe(length, unit, shares),
                colour,
                unit,
            )
        )
    return render_solids(solids, light, _OVERSAMPLING)


def _rings(first: Colour, second: Colour, period: float) -> Paint:
    def paint(down: F32, angle: F32) -> F32:
        return np.where(
            (np.mod(down, period) < period / 2)[:, None], np.asarray(first, np.float32), np.asarray(second, np.float32)
        )

    return paint


def _slats(first: Colour, second: Colour, count: int) -> Paint:
    def paint(down: F32, angle: F32) -> F32:
        return np.where(
            (np.sin(angle * count) > 0)[:, None], np.asarray(first, np.float32), np.asarray(second, np.float32)
        )

    return paint


def _lamp(rng: np.random.Generator, camera: Camera, x: float, z: float, light: Light) -> Prop:
    colour = (0.24, 0.24, 0.25) if rng.random() < 0.6 else (0.5, 0.52, 0.54)
    outline = [(0.0, 0.13), (0.35, 0.12), (0.4, 0.07), (4.6, 0.05)]
    return Prop(_turned(camera, x, z, outline, colour, light), x, z, 0.3)


def _bollard(rng: np.random.Generator, camera: Camera, x: float, z: float, light: Light) -> Prop:
    height = float(rng.uniform(0.9, 1.5))
    first, second = (CLOTH[int(i)] for i in rng.choice(len(CLOTH), 2, replace=False))
    outline = [(0.0, 0.2), (0.06, 0.14), (height * 0.9, 0.13), (height, 0.05)]
    return Prop(_turned(camera, x, z, outline, _rings(first, second, 0.36), light), x, z, 0.3)


def _bin(rng: np.random.Generator, camera: Camera, x: float, z: float, light: Light) -> Prop:
    colour = bgr(("3c4a40", "4a4d52", "2f4a7a", "7a3a30")[int(rng.integers(4))])
    dark = (colour[0] * 0.55, colour[1] * 0.55, colour[2] * 0.55)
    outline = [(0.0, 0.24), (0.05, 0.26), (0.95, 0.3), (1.0, 0.33), (1.06, 0.32), (1.14, 0.12)]
    return Prop(_turned(camera, x, z, outline, _slats(colour, dark, 12), light), x, z, 0.45)


def _mannequin(rng: np.random.Generator, camera: Camera, x: float, z: float, light: Light) -> Prop:
    """A dress form on a stand: the torso of a person without head, arms and legs."""
    first, second = (CLOTH[int(i)] for i in rng.choice(len(CLOTH), 2, replace=False))
    torso = [(0.85, 0.16), (0.95, 0.19), (1.15, 0.14), (1.38, 0.21), (1.46, 0.19), (1.52, 0.06), (1.6, 0.045)]
    stand = [(0.02, 0.24), (0.05, 0.04), (0.9, 0.025)]
    paint = first if rng.random() < 0.5 else _rings(first, second, 0.3)
    sprite = _turned(camera, x, z, torso, paint, light, [(-0.3, stand, (0.2, 0.2, 0.22))])
    return Prop(sprite, x, z, 0.4)


def _tree(rng: np.random.Generator, camera: Camera, x: float, z: float, light: Light) -> Prop:
    trunk = [(0.0, 0.24), (0.2, 0.17), (2.6, 0.12)]
    bark, leaf = bgr("5b4634"), np.array(bgr("4c6f35")) * rng.uniform(0.8, 1.2)
    blobs = []
    for _ in range(26):
        at, radius = float(rng.uniform(2.2, 4.6)), float(rng.uniform(0.3, 0.6))
        side, near = rng.normal(0, 0.55), rng.normal(0, 0.45)
        tone = leaf * (0.75 + 0.14 * (at - 2.2) + 0.12 * rng.random())
        blobs.append((at, radius, float(side), float(near), (float(tone[0]), float(tone[1]), float(tone[2]))))
    unit = camera.scale(z) * _OVERSAMPLING
    solids = []
    for at, radius, side, near, colour in blobs:
        column, row = (float(v) * _OVERSAMPLING for v in camera.project(x + side, at, z))
        size = radius * unit
        ball = [(-size, 0.0), (-0.8 * size, 0.6 * size), (0.0, size), (0.8 * size, 0.6 * size), (size, 0.0)]
        point = (column, row, near * unit)
        solids.append(Solid(point, (column, row + 0.01, point[2]), ball, colour, unit, 1.0, 0.0, 0.12))
    foot = [tuple(float(v) * _OVERSAMPLING for v in camera.project(x, y, z)) for y in (2.6, 0.0)]
    shares = [((2.6 - height) / 2.6, radius) for height, radius in reversed(trunk)]
    length = foot[1][1] - foot[0][1]
    solids.append(
        # Arithmetic on tuples loses their length.
        Solid((*foot[0], 0.0), (*foot[1], 0.0), lathe(length, unit, shares), bark, unit, 1.0, 0.0, 0.15)  # type: ignore[arg-type]
    )
    return Prop(render_solids(solids, light, _OVERSAMPLING), x, z, 0.4)


def _bench(rng: np.random.Generator, camera: Camera, x: float, z: float, light: Light) -> Prop:
    sketch, wood, iron = Sketch(camera), bgr("8a6238"), (0.22, 0.22, 0.23)
    for side in (-0.75, 0.75):
        sketch.box(x + side, 0.0, z + 0.4, (0.07, 0.85, 0.06), iron)
        sketch.box(x + side, 0.0, z, (0.07, 0.42, 0.06), iron)
    for row in (0.56, 0.7, 0.84):
        sketch.box(x, row, z + 0.42, (1.75, 0.1, 0.04), wood)
    for step in (0.3, 0.15, 0.0):
        sketch.box(x, 0.42, z + step, (1.75, 0.05, 0.13), wood)
    return Prop(sketch.sprite(), x, z + 0.2, 1.0)


def _planter(rng: np.random.Generator, camera: Camera, x: float, z: float, light: Light) -> Prop:
    sketch = Sketch(camera)
    width = float(rng.uniform(0.9, 1.7))
    stone = bgr(("9a948a", "7c6a5c", "5f6468")[int(rng.integers(3))])
    green = np.array(bgr("4f7a3a"))
    for depth in (0.45, 0.3, 0.15):
        for side in np.linspace(-width * 0.42, width * 0.42, 7):
            tone = green * rng.uniform(0.65, 1.15)
            height = 0.62 + float(rng.uniform(-0.05, 0.16))
            sketch.disc(x + float(side), height, z + depth, 0.17, (float(tone[0]), float(tone[1]), float(tone[2])))
    sketch.box(x, 0.0, z, (width, 0.55, 0.55), stone)
    return Prop(sketch.sprite(), x, z + 0.25, width / 2 + 0.3)


def _car(rng: np.random.Generator, camera: Camera, x: float, z: float, light: Light) -> Prop:
    sketch = Sketch(camera)
    colour = bgr(("9a2a2a", "c9cbd0", "2d4f7c", "3a3d42", "d8d4c8", "5f7f6a")[int(rng.integers(6))])
    glass, rubber = bgr("39444f"), (0.1, 0.1, 0.11)
    lower = [(-2.1, 0.3), (2.1, 0.3), (2.12, 0.72), (1.3, 0.92), (-1.9, 0.95), (-2.12, 0.75)]
    cabin = [(-1.65, 0.93), (1.15, 0.9), (0.5, 1.42), (-1.1, 1.42)]
    depth = 1.5
    sketch.box(x, 0.9, z + 0.1, (3.6, 0.02, depth), colour)
    sketch.face([(x + a, y, z + depth) for a, y in cabin], colour, 0.7)
    roof = [(x + a, 1.42, z + b) for a, b in ((-1.1, 0.15), (0.5, 0.15), (0.5, depth), (-1.1, depth))]
    sketch.face(roof, colour, 1.15)
    sketch.face([(x + a, y, z + 0.12) for a, y in cabin], colour, 0.95)
    rear = [(-1.45, 0.97), (-0.35, 0.96), (-0.35, 1.36), (-1.02, 1.36)]
    front = [(-0.25, 0.96), (0.95, 0.94), (0.42, 1.36), (-0.25, 1.36)]
    for pane in (rear, front):
        sketch.face([(x + a, y, z + 0.11) for a, y in pane], glass)
    sketch.face([(x + a, y, z) for a, y in lower], colour, 0.85)
    sketch.face([(x - 2.1, 0.3, z), (x + 2.1, 0.3, z), (x + 2.1, 0.45, z), (x - 2.1, 0.45, z)], colour, 0.6)
    for wheel in (-1.3, 1.3):
        sketch.disc(x + wheel, 0.34, z - 0.01, 0.34, rubber)
        sketch.disc(x + wheel, 0.34, z - 0.02, 0.18, bgr("a8abb0"))
    return Prop(sketch.sprite(), x, z + 0.7, 2.4)


def _sign(rng: np.random.Generator, camera: Camera, x: float, z: float, light: Light) -> Prop:
    """A board with the flat figure of a person on it."""
    sketch = Sketch(camera)
    board, ink = (bgr("2b5fa3"), bgr("f0efe9")) if rng.random() < 0.5 else (bgr("e6e2d6"), bgr("2c2c30"))
    low = float(rng.uniform(0.15, 0.5))
    sketch.box(x, 0.0, z, (0.08, low, 0.05), (0.3, 0.3, 0.32))
    sketch.box(x, low, z, (0.8, 1.45, 0.08), board)
    near = z - 0.01
    sketch.disc(x, low + 1.24, near, 0.1, ink)
    body = [(-0.16, 0.7), (0.16, 0.7), (0.2, 1.1), (-0.2, 1.1)]
    sketch.face([(x + a, low + y, near) for a, y in body], ink)
    for side in (-1, 1):
        leg = [(0.01, 0.72), (0.14, 0.72), (0.14, 0.16), (0.04, 0.16)]
        sketch.face([(x + side * a, low + y, near) for a, y in leg], ink)
    return Prop(sketch.sprite(), x, z, 0.5)


def _banner(rng: np.random.Generator, camera: Camera, x: float, z: float, light: Light) -> Prop:
    sketch = Sketch(camera)
    colours = [CLOTH[int(i)] for i in rng.choice(len(CLOTH), 3, replace=False)]
    sketch.box(x, 0.0, z, (0.5, 0.05, 0.3), (0.3, 0.3, 0.3))
    tall = float(rng.uniform(1.5, 2.0))
    stripes = 5
    for stripe in range(stripes):
        left = x - 0.28 + 0.56 * stripe / stripes
        right = left + 0.56 / stripes
        sketch.face([(left, 0.05, z), (right, 0.05, z), (right, tall, z), (left, tall, z)], colours[stripe % 3], 0.9)
    return Prop(sketch.sprite(), x, z, 0.4)


def _pillar(rng: np.random.Generator, camera: Camera, x: float, z: float, light: Light) -> Prop:
    colour = bgr(("a9a49a", "8d8f94", "b59f84")[int(rng.integers(3))])
    outline = [(0.0, 0.3), (0.3, 0.3), (0.32, 0.24), (6.0, 0.24)]
    return Prop(_turned(camera, x, z, outline, colour, light), x, z, 0.55)


Maker = Callable[[np.random.Generator, Camera, float, float, Light], Prop]
_KINDS: dict[Place, tuple[tuple[Maker, ...], tuple[Maker, ...]]] = {
    # In front (they hide people), and anywhere (they tempt a detector or fill the place).
    "plaza": ((_lamp, _planter, _bollard), (_bench, _bin, _tree, _sign, _banner, _planter, _bollard)),
    "street": ((_lamp, _bollard, _tree), (_car, _car, _bin, _sign, _lamp, _bollard)),
    "mall": ((_pillar, _planter, _banner), (_mannequin, _mannequin, _bin, _bench, _banner, _sign)),
    "platform": ((_pillar, _bench, _bin), (_bench, _sign, _bin, _pillar, _banner)),
    "park": ((_tree, _bench, _lamp), (_tree, _bench, _bin, _lamp, _tree, _sign)),
}


def draw_props(rng: np.random.Generator, place: Place, camera: Camera, light: Light) -> list[Prop]:
    """One or two things in front and four to six farther off, none of them inside another."""
    front, anywhere = _KINDS[place]
    span = camera.far_m - camera.near_m
    props: list[Prop] = []
    wanted = [(front, 0.04, 0.3)] * int(rng.integers(1, 3)) + [(anywhere, 0.35, 0.97)] * int(rng.integers(4, 7))
    for makers, nearest, farthest in wanted:
        maker = makers[int(rng.integers(len(makers)))]
        z = camera.near_m + span * float(rng.uniform(nearest, farthest))
        if maker is _car:
            z = camera.near_m + span * float(rng.uniform(0.6, 0.95))
        x = camera.ground_x(float(rng.uniform(0.04, 0.96)) * camera.frame_wh[0], z)
        prop = maker(rng, camera, x, z, light)
        if all(np.hypot(prop.x - other.x, prop.z - other.z) > prop.radius_m + other.radius_m for other in props):
            props.append(prop)
    return props
