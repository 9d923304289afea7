"""What a camera sees when nobody is there: ground, wall and sky, textured in world coordinates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from personsearch.core.seeding import rng_for
from personsearch.data.synthetic.appearance import bgr
from personsearch.data.synthetic.camera import Camera
from personsearch.data.synthetic.solid import Colour
from personsearch.data.synthetic.texture import F32, Floats, cell_values, line_share, noise_tile, sample

Place = Literal["plaza", "street", "mall", "platform", "park"]
PLACES: tuple[Place, ...] = ("plaza", "street", "mall", "park", "platform")
_OVERSAMPLING = 2

GROUND = tuple(bgr(h) for h in ("a39d92", "8f8a84", "b4a48c", "9a8072", "7d8288"))
WALL = tuple(bgr(h) for h in ("9a5a42", "c2a070", "8f9498", "7f8f86", "d0bd98", "7a4a3c"))


@dataclass(frozen=True)
class _View:
    """Pixel grids of an oversampled frame: ground and wall coordinates, metres."""

    ground: NDArray[np.bool_]
    x: F32
    z: F32
    metre_x: F32
    metre_z: F32
    wall_x: F32
    wall_y: F32
    wall_pixel: float


def place_of(number: int) -> Place:
    """The kind of place a camera looks at; neighbouring numbers differ."""
    return PLACES[number % len(PLACES)]


def draw_backdrop(seed: int, camera_name: str, place: Place, camera: Camera) -> F32:
    """The empty scene, ``(H, W, 3)`` float32 BGR 0..1."""
    rng = rng_for(seed, "backdrop", camera_name)
    view = _view(camera)
    tile = noise_tile(rng)
    ground = {"plaza": _slabs, "mall": _polished, "street": _asphalt, "platform": _platform, "park": _park_ground}[
        place
    ](rng, view, tile, camera)
    wall = {"plaza": _facade, "mall": _shops, "street": _facade, "platform": _panels, "park": _hedge}[place](
        rng, view, tile
    )
    frame = np.where(view.ground[..., None], ground, wall)
    # Far ground lies in the wall's shade and in the haze.
    foot = np.clip(1 - np.abs(view.z - camera.far_m * 1.06) / 1.6, 0, 1) * view.ground
    shaded = np.asarray(frame * (1 - 0.35 * foot[..., None]), np.float32)
    small = cv2.resize(shaded, camera.frame_wh, interpolation=cv2.INTER_AREA)
    return np.asarray(np.clip(small, 0.01, 1), np.float32)


def _view(camera: Camera) -> _View:
    width, height = (side * _OVERSAMPLING for side in camera.frame_wh)
    columns = (np.arange(width, dtype=np.float32)[None, :] + 0.5) / _OVERSAMPLING - camera.frame_wh[0] / 2
    rows = (np.arange(height, dtype=np.float32)[:, None] + 0.5) / _OVERSAMPLING - np.float32(camera.horizon_y)
    columns, rows = np.broadcast_to(columns, (height, width)), np.broadcast_to(rows, (height, width))
    wall_z = camera.far_m * 1.06
    focal, lens = np.float32(camera.focal_px), np.float32(camera.height_m)
    with np.errstate(divide="ignore"):
        z = np.where(rows > 0.01, focal * lens / np.maximum(rows, 0.01), np.float32(1e4))
    ground = z < wall_z
    z = np.minimum(z, np.float32(wall_z)).astype(np.float32)
    x = (columns * z / focal).astype(np.float32)
    metre_x = (z / focal / _OVERSAMPLING).astype(np.float32)
    metre_z = (z * z / (focal * lens) / _OVERSAMPLING).astype(np.float32)
    wall_x = (columns * np.float32(wall_z) / focal).astype(np.float32)
    wall_y = (lens - rows * np.float32(wall_z) / focal).astype(np.float32)
    return _View(ground, x, z, metre_x, metre_z, wall_x, wall_y, wall_z / camera.focal_px / _OVERSAMPLING)


def _paint(shape: tuple[int, ...], colour: Colour) -> F32:
    return np.array(np.broadcast_to(np.asarray(colour, np.float32), (*shape[:2], 3)), np.float32)


def _choose(rng: np.random.Generator, colours: tuple[Colour, ...]) -> Colour:
    return colours[int(rng.integers(len(colours)))]


def _mix(base: Floats, colour: Colour, share: Floats) -> F32:
    weight = share[..., None].astype(np.float32)
    return np.asarray(base * (1 - weight) + np.asarray(colour, np.float32) * weight, np.float32)


def _slabs(rng: np.random.Generator, view: _View, tile: F32, camera: Camera) -> F32:
    size = float(rng.uniform(0.7, 1.3))
    x, z = view.x / size + 0.37, view.z / size
    if rng.random() < 0.5:
        x = x + np.mod(np.floor(z), 2) * np.float32(0.5)
    tone = 1 + 0.055 * cell_values(rng, x, z) + 0.05 * sample(tile, view.x, view.z, 5.0)
    base = _paint(view.x.shape, _choose(rng, GROUND)) * tone[..., None]
    joints = np.maximum(line_share(x, 0.035, view.metre_x / size), line_share(z, 0.035, view.metre_z / size))
    band = line_share(view.x / np.float32(rng.uniform(3.5, 5)), 0.12, view.metre_x / 4)
    base = _mix(base, _choose(rng, GROUND), band * 0.7)
    return _mix(base, (0.22, 0.23, 0.25), joints * 0.6)


def _polished(rng: np.random.Generator, view: _View, tile: F32, camera: Camera) -> F32:
    size = float(rng.uniform(0.9, 1.6))
    x, z = view.x / size + 0.2, view.z / size
    checker = np.mod(np.floor(x) + np.floor(z), 2)
    first, second = np.array(_choose(rng, GROUND)), np.array(bgr("cfc8bc"))
    base = np.where(checker[..., None] > 0, first * 0.95, second * rng.uniform(0.75, 1.0)).astype(np.float32)
    fade = np.clip(view.metre_z / size * 1.5, 0, 1)[..., None]
    base = base * (1 - fade) + ((first + second) / 2).astype(np.float32) * fade
    base *= (1 + 0.03 * sample(tile, view.x, view.z, 3.0))[..., None]
    lamps = np.exp(-((np.mod(view.x / 3.2 + 0.5, 1) - 0.5) ** 2) / 0.01) * np.clip(view.z / camera.far_m, 0, 1) ** 1.5
    base += 0.22 * lamps[..., None]
    joints = np.maximum(line_share(x, 0.02, view.metre_x / size), line_share(z, 0.02, view.metre_z / size))
    return _mix(base, (0.3, 0.32, 0.35), joints * 0.6)


def _asphalt(rng: np.random.Generator, view: _View, tile: F32, camera: Camera) -> F32:
    grain = 0.06 * sample(tile, view.x, view.z, 2.0) + 0.08 * sample(tile, view.z, view.x, 9.0)
    base = _paint(view.x.shape, bgr("6b6d70")) * (1 + grain)[..., None]
    span = camera.far_m - camera.near_m
    kerb = camera.near_m + span * float(rng.uniform(0.45, 0.7))
    paving = 1 + 0.05 * cell_values(rng, view.x / 0.9, view.z / 0.9)
    pavement = _paint(view.x.shape, _choose(rng, GROUND)) * paving[..., None]
    base = np.where((view.z > kerb)[..., None], pavement, base)
    base = _mix(base, bgr("c9c6be"), (np.abs(view.z - kerb) < 0.13).astype(np.float32) * 0.8)
    left = float(rng.uniform(-3, 1))
    crossing = (np.mod(view.x, 1.1) < 0.55) & (view.x > left) & (view.x < left + 4.4)
    crossing &= (view.z < kerb - 0.6) & (view.z > camera.near_m * 0.7)
    worn = np.clip(0.72 + 0.2 * sample(tile, view.x, view.z, 3.3), 0, 0.9)
    return _mix(base, bgr("dedbd2"), crossing * worn)


def _platform(rng: np.random.Generator, view: _View, tile: F32, camera: Camera) -> F32:
    base = _paint(view.x.shape, bgr("8b8d90")) * (1 + 0.07 * sample(tile, view.x, view.z, 4.0))[..., None]
    size = float(rng.uniform(1.4, 2.2))
    base = _mix(base, (0.3, 0.3, 0.32), line_share(view.x / size, 0.012, view.metre_x / size) * 0.7)
    base = _mix(base, (0.3, 0.3, 0.32), line_share(view.z / size, 0.012, view.metre_z / size) * 0.7)
    edge = camera.near_m + (camera.far_m - camera.near_m) * float(rng.uniform(0.72, 0.82))
    yellow = (np.abs(view.z - edge) < 0.22) & (np.mod(view.x, 0.5) < 0.46)
    base = _mix(base, bgr("d8a92c"), yellow.astype(np.float32) * 0.85)
    track = (view.z > edge + 0.8).astype(np.float32)
    gravel = np.clip(0.9 + 0.1 * sample(tile, view.x, view.z, 1.2), 0.3, 1)
    base = _mix(base, bgr("4b4641"), track * gravel)
    for rail in (edge + 1.2, edge + 2.4):
        base = _mix(base, bgr("9a8f86"), (np.abs(view.z - rail) < 0.09).astype(np.float32))
    return base


def _park_ground(rng: np.random.Generator, view: _View, tile: F32, camera: Camera) -> F32:
    grass = _paint(view.x.shape, bgr("5f7d3c"))
    grass *= (1 + 0.13 * sample(tile, view.x, view.z, 2.6) + 0.08 * sample(tile, view.z, view.x, 0.9))[..., None]
    path = _paint(view.x.shape, bgr("b8a78a")) * (1 + 0.06 * sample(tile, view.x, view.z, 1.7))[..., None]
    bend, shift = float(rng.uniform(0.15, 0.4)), float(rng.uniform(-1.5, 1.5))
    centre = shift + 1.4 * np.sin(view.z * np.float32(bend))
    half = 2.1 + 0.25 * sample(tile, view.z, view.x, 7.0)
    on_path = np.clip((half - np.abs(view.x - centre)) / 0.25, 0, 1)
    crossing = np.clip((1.3 - np.abs(view.z - camera.far_m * 0.62)) / 0.25, 0, 1)
    share = np.maximum(on_path, crossing)[..., None]
    return np.asarray(grass * (1 - share) + path * share, np.float32)


def _facade(rng: np.random.Generator, view: _View, tile: F32) -> F32:
    x, y = view.wall_x + float(rng.uniform(0, 3)), view.wall_y
    colour = _choose(rng, WALL)
    tone = 1 + 0.06 * sample(tile, x, y, 6.0)
    rows = y / 0.22
    bricks = x / 0.5 + np.mod(np.floor(rows), 2) * np.float32(0.5)
    tone = tone + 0.07 * cell_values(rng, bricks, rows)
    wall = _paint(x.shape, colour) * tone[..., None]
    pixel = np.full_like(x, view.wall_pixel)
    joints = np.maximum(line_share(rows, 0.14, pixel / 0.22), line_share(bricks, 0.06, pixel / 0.5))
    wall = _mix(wall, bgr("b9b0a4"), joints * 0.35)
    pitch, wide, tall = float(rng.uniform(2.2, 3.4)), float(rng.uniform(0.4, 0.65)), float(rng.uniform(1.2, 1.8))
    return _windows(rng, wall, x, y, pitch, wide, tall)


def _windows(rng: np.random.Generator, wall: F32, x: F32, y: F32, pitch: float, wide: float, tall: float) -> F32:
    across = np.abs(np.mod(x / pitch, 1) - 0.5) * 2
    storey = 3.1
    up = np.mod(y - 0.9, storey)
    frame = (across < wide + 0.08) & (up < tall + 0.1) & (y > 0.8)
    pane = (across < wide) & (up > 0.08) & (up < tall) & (y > 0.9) & (np.abs(across) > 0.04)
    lit = np.clip(0.32 + 0.16 * cell_values(rng, x / pitch, y / storey), 0.08, 0.75)
    glow = (0.85 + 0.3 * up / tall)[..., None] * lit[..., None] * np.array([1.05, 1.0, 0.9], np.float32)
    wall = _mix(wall, bgr("d8d4ca"), frame.astype(np.float32))
    wall = np.where(pane[..., None], glow, wall).astype(np.float32)
    plinth = (y < 0.55).astype(np.float32) * 0.5
    return _mix(wall, (0.28, 0.29, 0.31), plinth)


def _shops(rng: np.random.Generator, view: _View, tile: F32) -> F32:
    x, y = view.wall_x + float(rng.uniform(0, 5)), view.wall_y
    width = float(rng.uniform(3.0, 4.5))
    tints = np.array([bgr(h) for h in ("7d95a8", "b39a78", "8b6f86", "6f9484", "a87870", "c2b894")], np.float32)
    which = np.mod(np.floor(x / width).astype(np.int64) * 5 + int(rng.integers(6)), 6)
    wall = tints[which] * (0.75 + 0.05 * sample(tile, x, y, 4.0))[..., None]
    inside = np.mod(x / width, 1)
    glass = (inside > 0.08) & (inside < 0.92) & (y < 2.6) & (y > 0.25)
    wall = np.where(glass[..., None], _shelves(rng, x, y, tints), wall)
    board = (y > 2.75) & (y < 3.4)
    wall = np.where(board[..., None], tints[np.mod(which + 3, 6)] * 0.6, wall)
    letters = board & (np.abs(y - 3.07) < 0.16) & (np.abs(inside - 0.5) < 0.3)
    letters &= cell_values(rng, x / 0.16, y * 0) > 0.2
    wall = _mix(wall, (0.92, 0.94, 0.95), letters.astype(np.float32) * 0.9)
    mullions = line_share(x / width, 0.06, np.full_like(x, view.wall_pixel / width))
    return _mix(wall, (0.25, 0.25, 0.27), mullions * 0.8)


def _shelves(rng: np.random.Generator, x: F32, y: F32, tints: F32) -> F32:
    """A lit shop window: goods of many heights on three shelves before a warm wall."""
    level = np.mod(y - 0.25, 0.75)
    shelf = np.floor((y - 0.25) / 0.75)
    lamps = np.exp(-((np.mod(x / 1.1, 1) - 0.5) ** 2) / 0.05) * np.clip(y / 2.6, 0, 1) ** 2
    back = (0.3 + 0.1 * y / 2.6 + 0.35 * lamps)[..., None] * np.array([0.8, 0.95, 1.05], np.float32)
    tall = np.clip(0.36 + 0.12 * cell_values(rng, x / 0.27, shelf), 0.12, 0.6)
    kind = np.mod(np.abs(cell_values(rng, x / 0.27, shelf) * 3).astype(np.int64) + shelf.astype(np.int64), 6)
    goods = tints[kind] * (0.55 + 0.5 * lamps + 0.12 * cell_values(rng, x / 0.27, shelf))[..., None]
    gap = np.mod(x / 0.27, 1) < 0.12
    shown = np.where(((level < tall) & ~gap)[..., None], goods, back)
    return _mix(shown, (0.32, 0.36, 0.4), (level > 0.7).astype(np.float32))


def _panels(rng: np.random.Generator, view: _View, tile: F32) -> F32:
    x, y = view.wall_x, view.wall_y
    wall = _paint(x.shape, _choose(rng, WALL[2:5])) * (0.85 + 0.06 * sample(tile, x, y, 5.0))[..., None]
    pixel = np.full_like(x, view.wall_pixel)
    joints = np.maximum(line_share(x / 1.6, 0.02, pixel / 1.6), line_share(y / 1.1, 0.02, pixel / 1.1))
    wall = _posters(rng, _mix(wall, (0.2, 0.2, 0.22), joints * 0.7), x, y)
    stripe = (np.abs(y - 3.1) < 0.14).astype(np.float32)
    return _mix(wall, _choose(rng, (bgr("2f5f9a"), bgr("b0392f"), bgr("2f7a5a"))), stripe)


def _posters(rng: np.random.Generator, wall: F32, x: F32, y: F32) -> F32:
    """Framed posters: a tinted sheet, a disc and lines of print."""
    pitch, low, tall = 4.6, 0.8, 1.9
    inks = np.array([bgr(h) for h in ("d9c9a3", "4a7a9a", "b5533c", "3f5f4f", "c99a3f", "6b5a86")], np.float32)
    along = np.mod(x + float(rng.uniform(0, pitch)), pitch)
    number = np.floor((x + float(rng.uniform(0, pitch))) / pitch).astype(np.int64) + int(rng.integers(6))
    up = y - low
    sheet = (along < 1.5) & (up > 0) & (up < tall)
    disc = (along - 0.75) ** 2 + (up - 1.2) ** 2 < 0.22
    print_lines = (up < 0.45) & (np.mod(up, 0.15) < 0.07) & (along > 0.2) & (along < 1.3) & (up > 0.08)
    art = inks[np.mod(number, 6)] * (0.75 + 0.2 * up / tall)[..., None]
    art = np.where(disc[..., None], inks[np.mod(number + 2, 6)], art)
    art = np.where(print_lines[..., None], np.float32(0.9), art)
    edge = (np.minimum(along, 1.5 - along) < 0.06) | (np.minimum(up, tall - up) < 0.06)
    art = np.where(edge[..., None], np.float32(0.2), art)
    return np.asarray(np.where(sheet[..., None], art, wall), np.float32)


def _hedge(rng: np.random.Generator, view: _View, tile: F32) -> F32:
    x, y = view.wall_x, view.wall_y
    sky = np.clip(y / 12, 0, 1)[..., None]
    wall = _paint(x.shape, bgr("d9dee2")) * (1 - sky) + _paint(x.shape, bgr("9dbbd8")) * sky
    wall *= (1 + 0.03 * sample(tile, x, y * 2.5, 18.0))[..., None]
    layers = ((6.0, 1.6, "6f8a63"), (3.6, 1.0, "4f7040"), (1.5, 0.25, "3f5f2f"))
    for depth, (top, rough, colour) in enumerate(layers):
        edge = top + rough * sample(tile, x, x * 0 + depth, 11.0) + 0.3 * sample(tile, x, y, 1.6)
        leaf = 1 + 0.17 * sample(tile, x, y, 1.4) + 0.1 * sample(tile, y, x, 0.5) + 0.06 * (y - edge)
        green = _paint(x.shape, bgr(colour)) * np.clip(leaf, 0.3, 1.5)[..., None]
        share = np.clip((edge - y) / 0.12, 0, 1)[..., None]
        wall = wall * (1 - share) + green * share
    return wall.astype(np.float32)
