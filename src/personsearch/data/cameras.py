"""Which camera a composite is by: its backgrounds, its colours, its noise.

The cameras of composites are those of the crops, under their numbers. A crop is only pasted on backgrounds of its
own camera, so that two renders of one person by two cameras differ in what two cameras differ in: the person's pose
and light as that camera saw them, place, perspective, colour response and noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from personsearch.core.seeding import rng_for
from personsearch.data.backgrounds import Background
from personsearch.data.perspective import Perspective
from personsearch.data.sample import FloatArray, Frame, IntArray
from personsearch.data.transforms import colour_matrix

_DealtT = TypeVar("_DealtT")
_NOISE_MARGIN = 64
_MAX_NOISE = 4.0
# Light changes while a camera stays what it is.
_LIGHT = 0.1


@dataclass(frozen=True, eq=False)
class Scene:
    """What a camera shows before anybody is pasted.

    Attributes:
        image_bgr: ``(H, W, 3)`` uint8.
        boxes_xyxy: ``(N, 4)`` the people already there, pixels.
        person_ids: ``(N,)``.
        perspective: in pixels of ``image_bgr``.
        ground: ``(H, W)`` uint8, 1 where feet may stand.
        things: ``(H, W)`` rows of the source where what hides people ends; none where nothing does.
        source_rows: first row of the view in its source, and rows of the source for one of the view.
        softness: factor, at least 1, by which the view has less detail than pixels.
    """

    image_bgr: Frame
    boxes_xyxy: FloatArray
    person_ids: IntArray
    perspective: Perspective
    ground: Frame
    things: NDArray[np.int16] | None
    source_rows: tuple[float, float]
    softness: float

    def hidden_at(self, rows: slice, columns: slice, feet_y: float) -> NDArray[np.bool_] | None:
        """Where somebody with feet at ``feet_y`` is behind a thing; ``(rows, columns)``, none for nowhere."""
        if self.things is None:
            return None
        hidden: NDArray[np.bool_] = self.things[rows, columns] > self.source_rows[0] + feet_y * self.source_rows[1]
        return hidden if hidden.any() else None


def deal(items: Sequence[_DealtT], hands: int) -> list[list[_DealtT]]:
    """Cuts a row into stretches of neighbours, one a hand; with fewer items than hands they go round.

    Neighbours by name are frames of one recording, so that two cameras seldom show the same street.
    """
    if len(items) < hands:
        return [[items[hand % len(items)]] for hand in range(hands)] if items else [[] for _ in range(hands)]
    return [[items[place] for place in places] for places in np.array_split(np.arange(len(items)), hands)]


def hold_out(items: list[_DealtT], share: float, held: bool) -> list[_DealtT]:
    """The last ``share`` of a stretch, rounded down, or all but that; the whole where that leaves nothing out."""
    kept = len(items) - int(share * len(items))
    return items if kept == len(items) else items[kept:] if held else items[:kept]


class Camera:
    """One camera of the composites.

    Args:
        number: as the crops' names have it; with ``seed`` it fixes the colour response and the noise.
        plain: its backgrounds.
        real: its backgrounds with real people; may be empty.
        image_wh: pixels of a view.
        colour: strength of the colour response, see `colour_matrix`.
        seed: of the specification.
    """

    def __init__(
        self,
        number: int,
        plain: list[Background],
        real: list[Background],
        *,
        image_wh: tuple[int, int],
        colour: float,
        seed: int,
    ) -> None:
        self.number, self.plain, self.real = number, plain, real
        self._image_wh, self._colour = image_wh, colour
        rng = rng_for(seed, "camera", number)
        self._response = colour_matrix(colour, rng)
        self._gammas = np.exp(rng.uniform(-0.4, 0.4) * colour + rng.normal(0, 0.08 * colour, 3))  # (3,)
        height, width = image_wh[1] + _NOISE_MARGIN, image_wh[0] + _NOISE_MARGIN
        noise = rng.standard_normal((height, width, 3), dtype=np.float32) * np.float32(rng.uniform(0, _MAX_NOISE))
        # Two saturating steps on bytes are several times faster than one on signed numbers.
        self._brighter = np.rint(np.maximum(noise, 0)).astype(np.uint8)
        self._darker = np.rint(np.maximum(-noise, 0)).astype(np.uint8)

    def view(self, real_share: float, rng: np.random.Generator) -> Scene:
        """A part of one of the camera's backgrounds, on a frame with real people with ``real_share``."""
        use_real = rng.random() < real_share
        pool = self.real if use_real and self.real else self.plain
        return _window(pool[int(rng.integers(len(pool)))], self._image_wh, rng)

    def expose(self, image_bgr: Frame, rng: np.random.Generator) -> Frame:
        """The camera's colour response and noise over a finished composite, in a light of the moment."""
        draws = rng.normal(0, _LIGHT * self._colour, 6)
        levels = np.linspace(0, 1, 256)[:, None] ** (self._gammas * np.exp(draws[:3]))
        table = np.clip(np.rint(levels * np.exp(draws[3:]) * 255), 0, 255).astype(np.uint8)[None]  # (1, 256, 3)
        seen = cv2.LUT(cv2.transform(image_bgr, self._response), table)
        y, x = (int(start) for start in rng.integers(0, _NOISE_MARGIN, 2))
        place = np.s_[y : y + seen.shape[0], x : x + seen.shape[1]]
        return np.asarray(cv2.subtract(cv2.add(seen, self._brighter[place]), self._darker[place]), dtype=np.uint8)


def _window(background: Background, image_wh: tuple[int, int], rng: np.random.Generator) -> Scene:
    image_w, image_h = image_wh
    source_h, source_w = background.image_bgr.shape[:2]
    fit = min(source_w / image_w, source_h / image_h) * float(rng.uniform(0.7, 1.0))
    width, height = max(1, int(image_w * fit)), max(1, int(image_h * fit))
    left, top = int(rng.integers(source_w - width + 1)), int(rng.integers(source_h - height + 1))
    window = np.s_[top : top + height, left : left + width]
    flip = rng.random() < 0.5

    def shown(plane: NDArray[Any], interpolation: int) -> NDArray[Any]:
        resized = cv2.resize(plane[window], image_wh, interpolation=interpolation)
        return np.asarray(cv2.flip(resized, 1) if flip else resized)

    image = np.asarray(shown(background.image_bgr, cv2.INTER_LINEAR), dtype=np.uint8)
    ground = np.asarray(shown(background.ground, cv2.INTER_NEAREST), dtype=np.uint8)
    things = None
    if background.things is not None:
        things = np.asarray(shown(background.things, cv2.INTER_NEAREST), dtype=np.int16)
    scale = np.array([image_w / width, image_h / height] * 2, dtype=np.float32)
    boxes = (background.boxes_xyxy - np.array([left, top, left, top], dtype=np.float32)) * scale
    if flip:
        boxes = boxes[:, [2, 1, 0, 3]]
        boxes[:, [0, 2]] = image_w - boxes[:, [0, 2]]
    return Scene(
        image,
        boxes,
        background.person_ids,
        background.perspective.seen_through(top, image_h / height),
        ground,
        things,
        (float(top), height / image_h),
        max(1.0, 1.0 / fit),
    )
