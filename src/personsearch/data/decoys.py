"""What is pasted without being a person: in the shape of people or of things, of textures of every origin.

If only people were pasted, a detector would learn the paste. Decoys go through the same finish in the same places, so
that a seam, a contact shadow or the grain of another camera says nothing about whether something is a person. Three
textures are needed for that: of streets (what surrounds), of what lay beside the people in their crops (their camera's
grain without a person), and of clothes and skin in the wrong shape (their grain and colours without their structure).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import cv2
import numpy as np

from personsearch.data.backgrounds import Background
from personsearch.data.crops import CropLibrary
from personsearch.data.cutouts import CROP_HW
from personsearch.data.sample import Frame, IntArray

Texture = Literal["street", "surroundings", "clothes"]
THINGS = ("block", "bush", "pole")
_ON_ITS_HEAD = 0.5
_STREET, _SURROUNDINGS = 0.25, 0.15
# In a crop these are mostly person whatever the pose.
_TORSO = np.s_[28:104, 18:46]
_MIN_STRIP_PX = 14
_TRIES = 8


class Decoys:
    """Shapes and textures for one camera.

    Args:
        crops: whose silhouettes and pixels are taken.
        rows: crops by that camera of the split's own people.
        streets: backgrounds of the same camera.
    """

    def __init__(self, crops: CropLibrary, rows: IntArray, streets: Sequence[Background]) -> None:
        self._crops, self._rows, self._streets = crops, rows, streets
        self._roomy = rows[crops.margins[rows].max(axis=1) >= _MIN_STRIP_PX]

    def person_shaped(self, rng: np.random.Generator) -> tuple[Texture, Frame, Frame]:
        """Texture, pixels and alpha of a decoy in somebody's silhouette, every other one on its head, of a crop's size.

        An upright one in clothes is close to a person where it is small, and too many of them would cost recall.
        """
        alpha = self._crops.alpha(_any(self._rows, rng))
        if rng.random() < _ON_ITS_HEAD:
            alpha = np.ascontiguousarray(alpha[::-1])
        texture = _drawn(rng)
        return texture, self._painted(texture, CROP_HW[::-1], rng), alpha

    def thing(self, kind: str, size_wh: tuple[int, int], rng: np.random.Generator) -> tuple[Frame, Frame]:
        """Pixels and alpha of one of `THINGS`, ``(h, w, 3)`` and ``(h, w)``."""
        return self._painted(_drawn(rng), size_wh, rng), shape_mask(kind, size_wh, rng)

    def _painted(self, texture: Texture, size_wh: tuple[int, int], rng: np.random.Generator) -> Frame:
        """``(h, w, 3)`` uint8 without a person's structure."""
        if texture == "street":
            return np.asarray(cv2.resize(self._street(size_wh, rng), size_wh), dtype=np.uint8)
        piece_of = self._strip if texture == "surroundings" else self._clothes
        return np.asarray(cv2.resize(_patchwork(piece_of, rng), size_wh), dtype=np.uint8)

    def _clothes(self, rng: np.random.Generator) -> Frame:
        """The middle of somebody, mostly clothes."""
        return self._crops.pixels(_any(self._rows, rng))[_TORSO]

    def _strip(self, rng: np.random.Generator) -> Frame:
        """What a crop shows left or right of the person, on the side with more room."""
        if not len(self._roomy):
            return self._clothes(rng)
        row = _any(self._roomy, rng)
        left, right = self._crops.margins[row].tolist()
        bgr = self._crops.pixels(row)
        return bgr[:, :left] if left >= right else bgr[:, -right:]

    def _street(self, size_wh: tuple[int, int], rng: np.random.Generator) -> Frame:
        for _ in range(_TRIES):
            background = self._streets[int(rng.integers(len(self._streets)))]
            height, width = background.image_bgr.shape[:2]
            zoom = float(rng.uniform(0.8, 3.0))
            side_w, side_h = min(width, max(4, int(size_wh[0] * zoom))), min(height, max(8, int(size_wh[1] * zoom)))
            x, y = int(rng.integers(width - side_w + 1)), int(rng.integers(height - side_h + 1))
            people = background.boxes_xyxy
            clear = (
                (people[:, 0] >= x + side_w) | (people[:, 2] <= x) | (people[:, 1] >= y + side_h) | (people[:, 3] <= y)
            )
            if clear.all():
                return np.ascontiguousarray(background.image_bgr[y : y + side_h, x : x + side_w])
        return np.full((8, 8, 3), int(rng.integers(30, 220)), dtype=np.uint8)


def _drawn(rng: np.random.Generator) -> Texture:
    draw = float(rng.random())
    return "street" if draw < _STREET else "surroundings" if draw < _STREET + _SURROUNDINGS else "clothes"


def _any(rows: IntArray, rng: np.random.Generator) -> int:
    return int(rows[int(rng.integers(len(rows)))])


def _patchwork(piece_of: Callable[[np.random.Generator], Frame], rng: np.random.Generator) -> Frame:
    """Four pieces side by side, of a crop's size; each keeps about its own sharpness, and some are turned."""
    height, width = CROP_HW
    made = np.empty((height, width, 3), dtype=np.uint8)
    column = int(rng.uniform(0.35, 0.65) * width)
    for left, right in ((0, column), (column, width)):
        row = int(rng.uniform(0.3, 0.7) * height)
        for top, bottom in ((0, row), (row, height)):
            piece = np.ascontiguousarray(piece_of(rng))
            turn = int(rng.integers(-1, 3))
            made[top:bottom, left:right] = cv2.resize(
                piece if turn == 2 else cv2.flip(piece, turn), (right - left, bottom - top)
            )
    return made


def shape_mask(kind: str, size_wh: tuple[int, int], rng: np.random.Generator) -> Frame:
    """``(h, w)`` uint8 alpha of one of `THINGS`."""
    width, height = size_wh
    mask = np.zeros((height, width), dtype=np.uint8)
    if kind == "bush":
        for _ in range(int(rng.integers(4, 9))):
            centre = (int(rng.uniform(0.25, 0.75) * width), int(rng.uniform(0.3, 0.8) * height))
            radius = (max(1, int(rng.uniform(0.15, 0.35) * width)), max(1, int(rng.uniform(0.15, 0.35) * height)))
            cv2.ellipse(mask, centre, radius, float(rng.uniform(0, 180)), 0, 360, 255, -1)
        return mask
    tilt = float(rng.uniform(-0.06, 0.06)) * width if kind == "block" else float(rng.uniform(-0.3, 0.3)) * width
    corners = np.array([[2 + tilt, 2], [width - 2 + tilt, 2], [width - 2, height - 2], [2, height - 2]])
    cv2.fillPoly(mask, [corners.astype(np.int32)], 255)
    return mask
