"""Pasting cut-outs on a canvas, with everything that would give a paste away also done to what is no person."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from personsearch.data.sample import Frame

FloatImage = NDArray[np.float32]
NOBODY = 0


@dataclass(frozen=True)
class Finish:
    """How a patch meets its surroundings; drawn alike for people and for what is none.

    Attributes:
        softness: factor by which detail is reduced before pasting, at least 1.
        feather_px: standard deviation of the blur of the edge.
        edge: shift of the edge in alpha, negative is tighter.
        tone: 0 keeps the patch's colours, 1 takes over the light of the place.
        contrast: factor around the patch's mean.
        shadow: darkness of the contact shadow, 0..1.
    """

    softness: float
    feather_px: float
    edge: float
    tone: float
    contrast: float
    shadow: float

    @classmethod
    def draw(cls, softness: float, rng: np.random.Generator) -> Finish:
        """A finish for one patch in an image whose own detail is reduced by ``softness``."""
        draws = rng.random(6).tolist()
        return cls(
            softness=max(1.0, softness * (0.6 + 0.7 * draws[0])),
            feather_px=0.2 + 0.7 * draws[1] ** 2,
            edge=-0.25 + 0.3 * draws[2],
            tone=0.4 + 0.55 * draws[3],
            contrast=0.75 + 0.35 * draws[4],
            shadow=0.0 if draws[5] < 0.25 else 0.7 * draws[5],
        )


@dataclass(frozen=True, eq=False)
class Patch:
    """Something to paste.

    Attributes:
        bgr: ``(h, w, 3)`` uint8; outside the silhouette the colours of its edge go on.
        alpha: ``(h, w)`` uint8.
        surround_bgr: ``(3,)`` mean colour of what lay around it where it came from.
        extent_xyxy: the part that shows, in the patch's pixels.
    """

    bgr: Frame
    alpha: Frame
    surround_bgr: NDArray[np.float64]
    extent_xyxy: tuple[int, int, int, int]


def scaled_patch(bgr: Frame, alpha: Frame, target_wh: tuple[int, int], finish: Finish) -> Patch | None:
    """A cut-out resized, softened and feathered; none where nothing of it would show.

    What lay around it does not come along: at the edge the silhouette's own colours are carried on outwards.

    Args:
        bgr: ``(H, W, 3)`` uint8.
        alpha: ``(H, W)`` uint8.
        target_wh: size on the canvas, pixels.
        finish: see `Finish`.
    """
    outside = np.asarray(cv2.inRange(alpha, 0, 8))
    surround = np.array(cv2.mean(bgr, outside if cv2.countNonZero(outside) else None)[:3])
    coarse_wh = (max(2, round(target_wh[0] / finish.softness)), max(4, round(target_wh[1] / finish.softness)))
    method = cv2.INTER_AREA if coarse_wh[0] < bgr.shape[1] else cv2.INTER_LINEAR
    small_alpha: Any = cv2.resize(alpha, coarse_wh, interpolation=method)
    small_bgr: Any = _carried_outwards(cv2.resize(bgr, coarse_wh, interpolation=method), small_alpha)
    if coarse_wh != target_wh:
        small_bgr, small_alpha = cv2.resize(small_bgr, target_wh), cv2.resize(small_alpha, target_wh)
    edge: Any = cv2.LUT(cv2.GaussianBlur(small_alpha, (0, 0), finish.feather_px), _edge_table(finish.edge))
    x, y, width, height = cv2.boundingRect(np.asarray(cv2.inRange(edge, 128, 255)))
    if width == 0 or height == 0:
        return None
    return Patch(np.asarray(small_bgr, np.uint8), np.asarray(edge, np.uint8), surround, (x, y, x + width, y + height))


def _carried_outwards(bgr: Any, alpha: Any) -> Any:
    solid = cv2.inRange(alpha, 215, 255)
    if not cv2.countNonZero(solid):
        return bgr
    # Two reaches: near the edge its own colour, further out what is left of it.
    held = cv2.bitwise_and(bgr, bgr, mask=solid)
    for reach in (3, 9):
        weight = cv2.blur(solid, (reach, reach), borderType=cv2.BORDER_CONSTANT)
        spread = cv2.blur(held, (reach, reach), borderType=cv2.BORDER_CONSTANT)
        colours = cv2.divide(spread, cv2.merge([weight, weight, weight]), scale=255)
        reached = cv2.inRange(weight, 12, 255)
        missing = cv2.bitwise_and(reached, cv2.bitwise_not(solid))
        held = cv2.copyTo(colours, missing, held)
        solid = cv2.bitwise_or(solid, missing)
    return cv2.copyTo(held, solid, bgr)


def _edge_table(shift: float) -> Frame:
    level = np.arange(256) / 255
    return np.rint(np.clip(level + shift * 4 * level * (1 - level), 0, 1) * 255).astype(np.uint8)


class Canvas:
    """An image in the making, and who owns each of its pixels.

    Args:
        image_bgr: ``(H, W, 3)`` uint8; painted on.

    Attributes:
        owner: ``(H, W)`` uint16, the number of the paste that shows, counted from 1; `NOBODY` for the background.
        visible: how many pixels each paste still owns, `NOBODY`'s entry being of no use.
    """

    def __init__(self, image_bgr: Frame) -> None:
        self.image_bgr = image_bgr
        self.owner = np.zeros(image_bgr.shape[:2], dtype=np.uint16)
        self.visible = [0]

    def overlap(self, left: int, top: int, width: int, height: int) -> tuple[slice, slice, slice, slice] | None:
        """Rows and columns on the canvas, then on a patch at ``(left, top)``; none where they do not meet."""
        canvas_h, canvas_w = self.image_bgr.shape[:2]
        x1, y1, x2, y2 = max(left, 0), max(top, 0), min(left + width, canvas_w), min(top + height, canvas_h)
        if x1 >= x2 or y1 >= y2:
            return None
        return slice(y1, y2), slice(x1, x2), slice(y1 - top, y2 - top), slice(x1 - left, x2 - left)

    def paste(self, patch: Patch, left: int, top: int, finish: Finish, hidden: NDArray[np.bool_] | None = None) -> int:
        """Blends ``patch`` in, its top left corner at ``(left, top)``; it may reach over the edges.

        Args:
            patch: what is pasted.
            left: column of the canvas.
            top: row of the canvas.
            finish: tone and contrast are applied here.
            hidden: where the canvas stays in front, of the shape of the part of the patch on the canvas.

        Returns:
            The number of the paste.
        """
        number = len(self.visible)
        self.visible.append(0)
        height, width = patch.alpha.shape
        place = self.overlap(left, top, width, height)
        if place is None:
            return number
        rows, columns, patch_rows, patch_columns = place
        region, owner = self.image_bgr[rows, columns], self.owner[rows, columns]
        bgr, alpha = patch.bgr[patch_rows, patch_columns], patch.alpha[patch_rows, patch_columns]
        if hidden is not None:
            in_front: Any = cv2.blur(hidden.view(np.uint8) * np.uint8(255), (3, 3))
            alpha = np.asarray(cv2.subtract(alpha, in_front), dtype=np.uint8)
        weight = alpha * np.float32(1 / 255)
        toned = cv2.LUT(bgr, _toning(patch, region, finish))
        region[:] = cv2.blendLinear(toned, np.ascontiguousarray(region), weight, 1 - weight)
        solid = alpha > 127
        for covered, pixels in enumerate(np.bincount(owner[solid])[:number].tolist()):
            self.visible[covered] -= pixels
        owner[solid] = number
        self.visible[number] = int(np.count_nonzero(solid))
        return number

    def shade(self, centre_xy: tuple[float, float], radius_xy: tuple[float, float], strength: float) -> None:
        """Darkens a soft ellipse: a contact shadow."""
        if strength <= 0 or min(radius_xy) < 1:
            return
        left, top = int(centre_xy[0] - 2 * radius_xy[0]), int(centre_xy[1] - 2 * radius_xy[1])
        width, height = int(4 * radius_xy[0]), int(4 * radius_xy[1])
        place = self.overlap(left, top, width, height)
        if place is None:
            return
        rows, columns, patch_rows, patch_columns = place
        light: Any = cv2.resize(1 - np.float32(strength) * _BLOB, (width, height))[patch_rows, patch_columns]
        region = self.image_bgr[rows, columns]
        region[:] = cv2.multiply(np.ascontiguousarray(region), cv2.merge([light, light, light]), dtype=cv2.CV_8U)


def _toning(patch: Patch, region: Frame, finish: Finish) -> Frame:
    """``(1, 256, 3)``: the light changes by what lies around, so clothes keep their colour relative to it."""
    local = np.array(cv2.mean(np.ascontiguousarray(region))[:3])
    gain = np.clip((local + 25) / (patch.surround_bgr + 25), 0.3, 2.2) ** finish.tone
    mean = np.array(cv2.mean(patch.bgr, patch.alpha)[:3]) * gain
    table = (_LEVELS * gain - mean) * finish.contrast + mean
    return np.clip(np.rint(table), 0, 255).astype(np.uint8)[None]


def _blob() -> FloatImage:
    axis = np.linspace(-2, 2, 32, dtype=np.float32)
    blob: FloatImage = np.exp(-(axis[:, None] ** 2 + axis[None, :] ** 2)) * (np.hypot(axis[:, None], axis[None, :]) < 2)
    return blob.astype(np.float32)


_BLOB = _blob()
_LEVELS = np.arange(256, dtype=np.float64)[:, None]
