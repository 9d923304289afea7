"""Random variation of a training frame: a pure function of the frame and a random stream.

Test cameras have a colour response that no training camera had, so colour is varied by a whole affine map
of BGR (gains, mixing between channels, hue, saturation, contrast, brightness) and a gamma for each channel,
not by brightness and hue alone.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from personsearch.core.geometry import Boxes, box_area
from personsearch.core.preprocess import Preprocess
from personsearch.core.recipes import DataRecipe
from personsearch.data.sample import IGNORE, FloatArray, Frame, IntArray

MIN_VISIBLE = 0.25
"""A person of whom the crop leaves less than this share is ignored."""
MIN_SIDE_PX = 2.0
"""A box narrower than this in the input is ignored."""
ERASED_SHARE = (0.02, 0.4)
"""Area of an erased rectangle over that of its box (Zhong et al., AAAI 2020, section 4)."""
ERASED_RATIO = (0.3, 1 / 0.3)
"""Its height over its width (there)."""
ERASE_TRIES = 20
"""Places tried for a rectangle on the background; in a crowd there may be none."""
# Columns: luma and two chroma axes; hue is a turn of the chroma plane (YIQ, rows for RGB reversed to BGR).
_BGR_TO_YIQ = np.array([[0.114, 0.587, 0.299], [-0.321, -0.275, 0.596], [0.311, -0.523, 0.212]])


class TrainingTransform:
    """Zoom and crop, letterbox, colour, sensor faults, flip, erased rectangles.

    Args:
        recipe: how strong and how often; see `DataRecipe`.
        preprocess: the letterbox; padding keeps its exact colour.
    """

    def __init__(self, recipe: DataRecipe, preprocess: Preprocess) -> None:
        self._recipe, self._preprocess = recipe, preprocess

    def draw_zoom(self, rng: np.random.Generator) -> float:
        """The frame's zoom, the first draw of its stream; above 1 a part of the frame fills the input."""
        low, high = self._recipe.zoom
        return float(np.exp(rng.uniform(np.log(low), np.log(high))))

    def reduction(self, source_wh: tuple[int, int], zoom: float) -> int:
        """By how much, 1, 2, 4 or 8, a source frame may be decoded smaller and still be shrunk to the input.

        It divides both sides, so that boxes stay exact.
        """
        input_wh = self._preprocess.input_wh
        scale = zoom * min(input_wh[0] / source_wh[0], input_wh[1] / source_wh[1])
        return next((r for r in (8, 4, 2) if r * scale <= 1 and source_wh[0] % r == source_wh[1] % r == 0), 1)

    def __call__(
        self,
        frame_bgr: Frame,
        boxes_xyxy: FloatArray,
        person_ids: IntArray,
        rng: np.random.Generator,
        zoom: float | None = None,
    ) -> tuple[Frame, FloatArray, IntArray]:
        """Varies one labelled frame.

        Args:
            frame_bgr: ``(H, W, 3)`` uint8; not written to.
            boxes_xyxy: ``(N, 4)`` source pixels.
            person_ids: ``(N,)``.
            rng: the only source of chance.
            zoom: what `draw_zoom` drew from ``rng``; drawn here where it is none.

        Returns:
            ``(input H, input W, 3)`` uint8; ``(M, 4)`` boxes in input pixels, cut at the edges; ``(M,)``
            ids. Nothing of a box lies in the padding. A person less than `MIN_VISIBLE` inside becomes a region
            to ignore; one outside is dropped.
        """
        recipe, preprocess = self._recipe, self._preprocess
        if zoom is None:
            zoom = self.draw_zoom(rng)
        source_wh = (frame_bgr.shape[1], frame_bgr.shape[0])
        window = _window(source_wh, boxes_xyxy[person_ids != IGNORE], zoom, rng)
        flip = rng.random() < recipe.flip
        image, letterbox = preprocess.letterbox(_cut(frame_bgr, window, preprocess))
        origin = np.tile(window[:2], 2)
        boxes = letterbox.to_input(boxes_xyxy - origin)
        # Of the frame only what lies in the window is shown; people in the rest must not reach into the padding.
        view = np.array([*letterbox.pad_xy, *np.add(letterbox.pad_xy, letterbox.resized_wh)])
        content = letterbox.to_input(np.array([[0.0, 0.0, *source_wh]]) - origin)
        x1, y1, x2, y2 = np.rint(_cut_at(content, view)[0]).astype(int)
        if image is frame_bgr or np.shares_memory(image, frame_bgr):
            image = image.copy()
        pixels = vary_colour(image[y1:y2, x1:x2], recipe.photometric, rng)
        image[y1:y2, x1:x2] = degrade(pixels, recipe.blur, rng)
        if flip:
            # Forty times as fast as a copy of NumPy's reversed view.
            image = np.asarray(cv2.flip(image, 1), dtype=np.uint8)
            boxes = boxes[:, [2, 1, 0, 3]]
            boxes[:, [0, 2]] = preprocess.input_wh[0] - boxes[:, [0, 2]]
            view[[0, 2]] = preprocess.input_wh[0] - view[[2, 0]]
        seen, ids = _visible(boxes, person_ids, view)
        # Drawn last: whatever else a seed gives stays the same with and without.
        people = seen[ids != IGNORE]
        if recipe.erase_in == "people":
            erase_in_people(image, people, recipe.erase, rng)
        else:
            erase_background(image, people, recipe.erase, rng)
        return image, seen, ids


def _window(
    source_wh: tuple[int, int], people_xyxy: FloatArray, zoom: float, rng: np.random.Generator
) -> tuple[int, int, int, int]:
    """Left, top, width, height of the part of the plane to show; beyond the frame it is padding.

    A window smaller than the frame holds one person drawn at random whole, where that person fits.
    """
    draws = rng.random(2)
    anchor = people_xyxy[rng.integers(len(people_xyxy))] if len(people_xyxy) else None
    corner, sides = [], []
    for axis in (0, 1):
        length = max(1, round(source_wh[axis] / zoom))
        low, high = sorted((0.0, float(source_wh[axis] - length)))
        if anchor is not None and length < source_wh[axis]:
            near, far = float(anchor[axis]), float(anchor[axis + 2])
            if far - near <= length:
                low, high = max(low, far - length), min(high, near)
        corner.append(int(np.floor(low + draws[axis] * (high - low) + 0.5)))
        sides.append(length)
    return corner[0], corner[1], sides[0], sides[1]


def _cut(frame_bgr: Frame, window: tuple[int, int, int, int], preprocess: Preprocess) -> Frame:
    x, y, width, height = window
    frame_h, frame_w = frame_bgr.shape[:2]
    inside = frame_bgr[max(y, 0) : min(y + height, frame_h), max(x, 0) : min(x + width, frame_w)]
    if inside.shape[:2] == (height, width):
        return np.ascontiguousarray(inside)
    canvas = preprocess.padding((width, height))
    top, left = max(-y, 0), max(-x, 0)
    canvas[top : top + inside.shape[0], left : left + inside.shape[1]] = inside
    return canvas


def _cut_at(boxes_xyxy: Boxes, view_xyxy: NDArray[np.int64]) -> Boxes:
    cut: Boxes = np.clip(boxes_xyxy, np.tile(view_xyxy[:2], 2), np.tile(view_xyxy[2:], 2))
    return cut


def _visible(boxes_xyxy: Boxes, person_ids: IntArray, view_xyxy: NDArray[np.int64]) -> tuple[FloatArray, IntArray]:
    clipped = _cut_at(boxes_xyxy, view_xyxy)
    area = box_area(clipped)
    hidden = area < MIN_VISIBLE * box_area(boxes_xyxy)
    thin = (clipped[:, 2:] - clipped[:, :2] < MIN_SIDE_PX).any(axis=1)
    ids = np.where(hidden | thin, IGNORE, person_ids)
    cut = clipped.astype(np.float32)
    kept = (cut[:, 2:] > cut[:, :2]).all(axis=1)
    return np.ascontiguousarray(cut[kept]), ids[kept]


def colour_matrix(strength: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """A random ``(3, 4)`` affine map of BGR 0..255; at strength 0 the identity.

    Channel gains and mixing (the camera's colour response), then hue and saturation, then contrast around
    mid-grey and brightness.
    """
    gains = np.exp(rng.normal(0.0, 0.2 * strength, 3))
    mixing = np.eye(3) + rng.normal(0.0, 0.1 * strength, (3, 3))
    # Rows that sum to 1 keep grey grey: the mixing changes colours, the gains the white point.
    mixing /= mixing.sum(axis=1, keepdims=True)
    angle = rng.uniform(-0.35, 0.35) * strength
    saturation = 1.0 + rng.uniform(-0.8, 0.6) * strength
    cos, sin = np.cos(angle) * saturation, np.sin(angle) * saturation
    turn = np.array([[1.0, 0.0, 0.0], [0.0, cos, -sin], [0.0, sin, cos]])
    matrix = np.linalg.inv(_BGR_TO_YIQ) @ turn @ _BGR_TO_YIQ @ mixing @ np.diag(gains)
    contrast = np.exp(rng.uniform(-0.5, 0.5) * strength)
    offset = 127.5 * (1.0 - contrast) + rng.uniform(-60.0, 60.0) * strength
    return np.concatenate([contrast * matrix, np.full((3, 1), offset)], axis=1)


def vary_colour(pixels_bgr: Frame, strength: float, rng: np.random.Generator) -> Frame:
    """One random colour response over the image; ``(H, W, 3)`` uint8, saturating. Strength 0: unchanged."""
    matrix = colour_matrix(strength, rng)
    gammas = np.exp(rng.uniform(-0.4, 0.4) * strength + rng.normal(0.0, 0.08 * strength, 3))
    if strength == 0 or pixels_bgr.size == 0:
        return pixels_bgr
    levels = np.linspace(0.0, 1.0, 256)[:, None] ** gammas  # (256, 3)
    table = np.rint(levels * 255.0).astype(np.uint8)[None]  # (1, 256, 3)
    mapped = cv2.transform(np.ascontiguousarray(pixels_bgr), matrix)
    return np.asarray(cv2.LUT(mapped, table), dtype=np.uint8)


def degrade(pixels_bgr: Frame, probability: float, rng: np.random.Generator) -> Frame:
    """Blur, sensor noise and JPEG blocks, each with ``probability``; ``(H, W, 3)`` uint8."""
    draws = rng.random(3) < probability
    pixels = np.ascontiguousarray(pixels_bgr)
    if pixels.size == 0:
        return pixels
    if draws[0]:
        sigma = rng.uniform(0.4, 1.6)
        along = rng.uniform(0.2, 1.0)
        pixels = np.asarray(cv2.GaussianBlur(pixels, (0, 0), sigmaX=sigma, sigmaY=sigma * along), dtype=np.uint8)
    if draws[1]:
        noise = rng.standard_normal(pixels.shape, dtype=np.float32) * np.float32(rng.uniform(2.0, 12.0))
        pixels = np.clip(pixels + noise, 0, 255).astype(np.uint8)
    if draws[2]:
        quality = int(rng.integers(25, 90))
        encoded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        pixels = np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR), dtype=np.uint8)
    return pixels


def erase_in_people(image_bgr: Frame, people_xyxy: FloatArray, probability: float, rng: np.random.Generator) -> None:
    """Puts noise over a rectangle inside each person's box, each with ``probability`` (Zhong et al., AAAI 2020).

    Args:
        image_bgr: ``(H, W, 3)`` uint8, written to.
        people_xyxy: ``(N, 4)`` boxes in it.
        probability: 0 draws nothing.
        rng: the only source of chance.
    """
    if probability == 0:
        return
    for box in people_xyxy[rng.random(len(people_xyxy)) < probability]:
        limit = np.array([np.ceil(box[0]), np.ceil(box[1]), np.floor(box[2]), np.floor(box[3])]).astype(int)
        if (limit[2:] > limit[:2]).all():
            _put_noise(image_bgr, _rectangle(limit, rng), rng)


def erase_background(image_bgr: Frame, people_xyxy: FloatArray, probability: float, rng: np.random.Generator) -> None:
    """Puts noise over one rectangle that touches nobody's box, with ``probability`` and where one is found.

    Arguments as `erase_in_people`.
    """
    if probability == 0 or rng.random() >= probability:
        return
    whole = np.array([0, 0, image_bgr.shape[1], image_bgr.shape[0]])
    for _ in range(ERASE_TRIES):
        place = _rectangle(whole, rng)
        apart = (people_xyxy[:, :2] >= place[2:]) | (people_xyxy[:, 2:] <= place[:2])
        if apart.any(axis=1).all():
            _put_noise(image_bgr, place, rng)
            return


def _rectangle(box: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """A rectangle of whole pixels inside a box, at least one pixel large."""
    size = box[2:] - box[:2]
    area = float(size.prod()) * rng.uniform(*ERASED_SHARE)
    ratio = float(np.exp(rng.uniform(*np.log(ERASED_RATIO))))
    sides = np.sqrt([area / ratio, area * ratio])
    wanted = np.clip(np.rint(sides).astype(int), 1, size)
    corner = box[:2] + np.floor(rng.random(2) * (size - wanted + 1)).astype(int)
    return np.concatenate([corner, corner + wanted])


def _put_noise(image_bgr: Frame, place: NDArray[np.int64], rng: np.random.Generator) -> None:
    x1, y1, x2, y2 = place.tolist()
    image_bgr[y1:y2, x1:x2] = rng.integers(0, 256, (y2 - y1, x2 - x1, 3), dtype=np.uint8)
