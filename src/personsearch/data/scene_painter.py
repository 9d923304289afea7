"""People and decoys in one scene: where they stand, in which order they are painted, and what shows of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from personsearch.core.geometry import clip_boxes
from personsearch.data.cameras import Scene
from personsearch.data.composite_spec import CompositeSpec
from personsearch.data.crops import CropLibrary
from personsearch.data.decoys import Decoys, Texture
from personsearch.data.painting import NOBODY, Canvas, Finish, Patch, scaled_patch
from personsearch.data.recolour import recoloured
from personsearch.data.sample import IGNORE, UNLABELLED, FloatArray, Frame, IntArray

# A person of whom less shows is ignored; of whom less than the second shows has no identity to learn.
_VISIBLE_PERSON, _VISIBLE_IDENTITY = 0.25, 0.45
_IN_COMPANY = 0.3
_FLOATING_DECOYS = 0.15
# People differ in height by so much around the mean (standard deviation of the logarithm).
_HEIGHT_SPREAD = 0.06
# Feet may be below the picture by this share of its height.
_BELOW_EDGE = 0.03
_TRIES = 8
_PERSON_SHAPED = 0.75

Kind = Literal["person", "decoy of street", "decoy of surroundings", "decoy of clothes", "thing", "occluder"]
"""A decoy has a person's shape; a thing is a decoy of another shape, an occluder one that hides somebody."""
_DECOYS: dict[Texture, Kind] = {
    "street": "decoy of street",
    "surroundings": "decoy of surroundings",
    "clothes": "decoy of clothes",
}


@dataclass(frozen=True)
class Place:
    """Where feet stand and how tall somebody is there, pixels."""

    feet_xy: tuple[float, float]
    height_px: float


@dataclass(frozen=True, eq=False)
class _Pasted:
    number: int
    person_id: int
    box_xyxy: tuple[int, int, int, int]
    pixels: int


class ScenePainter:
    """Puts people and decoys into one scene.

    Args:
        spec: how many and how tall.
        scene: what is painted on.
        crops: of people.
        decoys: of the scene's camera.
        rng: the only source of chance.

    Attributes:
        canvas: the picture so far.
        kinds: of each paste, in the order of the canvas's numbers.
    """

    def __init__(
        self, spec: CompositeSpec, scene: Scene, crops: CropLibrary, decoys: Decoys, rng: np.random.Generator
    ) -> None:
        self._spec, self._scene, self._crops, self._decoys, self._rng = spec, scene, crops, decoys, rng
        self.canvas = Canvas(scene.image_bgr)
        self.kinds: list[Kind] = []
        self._pasted: list[_Pasted] = []

    def place(self, others: list[Place]) -> Place | None:
        """Somewhere on the ground, at times beside someone; none where nobody of the right height fits."""
        if others and self._rng.random() < _IN_COMPANY:
            beside = self._beside(others[int(self._rng.integers(len(others)))])
            if beside is not None:
                return beside
        perspective, image_h = self._scene.perspective, self._spec.image_wh[1]
        low, high = self._spec.height_px
        high = min(high, perspective.height_at((1 + _BELOW_EDGE) * image_h))
        # Feet above the picture show nobody.
        low = max(low, perspective.height_at(0.02 * image_h))
        if high <= low:
            return None
        for _ in range(_TRIES):
            height = low * (high / low) ** float(self._rng.random())
            feet_y = perspective.feet_of(height)
            columns = np.flatnonzero(self._scene.ground[min(int(feet_y), image_h - 1)])
            if len(columns):
                feet_x = float(columns[int(self._rng.integers(len(columns)))]) + float(self._rng.random())
                if not self._hides_behind_real(feet_x, feet_y, height):
                    return Place((feet_x, feet_y), self._varied(height))
        return None

    def _beside(self, friend: Place) -> Place | None:
        side = float(self._rng.choice((-1.0, 1.0))) * float(self._rng.uniform(0.2, 0.5))
        feet_x = friend.feet_xy[0] + side * friend.height_px
        feet_y = friend.feet_xy[1] + float(self._rng.uniform(-0.06, 0.06)) * friend.height_px
        image_w, image_h = self._spec.image_wh
        if not 0 <= feet_x < image_w or not 0 <= feet_y <= (1 + _BELOW_EDGE) * image_h:
            return None
        height = self._scene.perspective.height_at(feet_y)
        low, high = self._spec.height_px
        on_ground = self._scene.ground[min(int(feet_y), image_h - 1), int(feet_x)] > 0
        if not on_ground or not low <= height <= high or self._hides_behind_real(feet_x, feet_y, height):
            return None
        return Place((feet_x, feet_y), self._varied(height))

    def _varied(self, height_px: float) -> float:
        low, high = self._spec.height_px
        return float(np.clip(height_px * np.exp(self._rng.normal(0, _HEIGHT_SPREAD)), low, high))

    def _hides_behind_real(self, feet_x: float, feet_y: float, height_px: float) -> bool:
        """Whether a real person stands before the place, who could not be painted over again."""
        boxes = self._scene.boxes_xyxy
        nearer = boxes[:, 3] > feet_y
        overlap_x = np.minimum(boxes[:, 2], feet_x + 0.2 * height_px) - np.maximum(
            boxes[:, 0], feet_x - 0.2 * height_px
        )
        overlap_y = np.minimum(boxes[:, 3], feet_y) - np.maximum(boxes[:, 1], feet_y - height_px)
        shared = np.maximum(overlap_x, 0) * np.maximum(overlap_y, 0)
        return bool((nearer & (shared > 0.15 * 0.4 * height_px**2)).any())

    def paint(self, people: list[tuple[Place, int, int]]) -> None:
        """Pastes people and decoys, the far ones first."""
        ratio = self._spec.decoy_share / (1 - self._spec.decoy_share)
        decoys = int(self._rng.poisson(ratio * sum(self._spec.people) / 2))
        steps: list[tuple[Place, tuple[int, int] | None]] = [(place, (crop, label)) for place, crop, label in people]
        for _ in range(decoys):
            decoy_place = self._decoy_place([place for place, _, _ in people])
            if decoy_place is not None:
                steps.append((decoy_place, None))
        for place, person in sorted(steps, key=lambda step: step[0].feet_xy[1]):
            if person is None:
                self._paste_decoy(place)
            else:
                self._paste_person(place, *person)

    def _decoy_place(self, near: list[Place]) -> Place | None:
        place = self.place(near)
        if self._rng.random() < _FLOATING_DECOYS:
            image_w, image_h = self._spec.image_wh
            feet_xy = (float(self._rng.uniform(0, image_w)), float(self._rng.uniform(0.3, 1.0)) * image_h)
            low, high = self._spec.height_px
            return Place(feet_xy, place.height_px if place else float(self._rng.uniform(low, (low + high) / 2)))
        return place

    def _paste_person(self, place: Place, crop: int, label: int) -> None:
        bgr, alpha = self._crops.pixels(crop), self._crops.alpha(crop)
        # Nothing is drawn where the share is 0: composites stay what they were.
        if self._spec.recolour_share and self._rng.random() < self._spec.recolour_share:
            bgr, label = recoloured(bgr, self._rng), UNLABELLED
        number, patch, corner = self._paste_cutout(place, bgr, alpha, "person")
        if patch is None:
            return
        x1, y1, x2, y2 = patch.extent_xyxy
        box = (corner[0] + x1, corner[1] + y1, corner[0] + x2, corner[1] + y2)
        self._pasted.append(_Pasted(number, label, box, int(np.count_nonzero(patch.alpha > 127))))
        if self._rng.random() < self._spec.occluded_share:
            self._occlude(box)

    def _paste_decoy(self, place: Place) -> None:
        if self._rng.random() < _PERSON_SHAPED:
            texture, bgr, alpha = self._decoys.person_shaped(self._rng)
            self._paste_cutout(place, bgr, alpha, _DECOYS[texture])
            return
        height = max(8, round(place.height_px * float(self._rng.uniform(0.4, 1.1))))
        width = max(6, round(height * float(self._rng.uniform(0.3, 1.2))))
        shape = str(self._rng.choice(("block", "bush")))
        self._paste_thing(shape, (width, height), place.feet_xy, "thing")

    def _paste_cutout(
        self, place: Place, bgr: Frame, alpha: Frame, kind: Kind
    ) -> tuple[int, Patch | None, tuple[int, int]]:
        if self._rng.random() < 0.5:
            bgr, alpha = np.asarray(cv2.flip(bgr, 1), np.uint8), np.asarray(cv2.flip(alpha, 1), np.uint8)
        _, _, _, rows = cv2.boundingRect(np.asarray(cv2.inRange(alpha, 128, 255)))
        scale = place.height_px / max(rows, 1)
        width = alpha.shape[1] * scale * float(self._rng.uniform(0.9, 1.1))
        size = (max(2, round(width)), max(4, round(alpha.shape[0] * scale)))
        return self._paste(bgr, alpha, size, place.feet_xy, kind)

    def _paste_thing(self, shape: str, size_wh: tuple[int, int], feet_xy: tuple[float, float], kind: Kind) -> None:
        bgr, alpha = self._decoys.thing(shape, size_wh, self._rng)
        self._paste(bgr, alpha, size_wh, feet_xy, kind)

    def _occlude(self, box_xyxy: tuple[int, int, int, int]) -> None:
        """Hides a part of someone just pasted behind a block, a pole or a bush."""
        x1, y1, x2, y2 = box_xyxy
        width, height, rng = x2 - x1, y2 - y1, self._rng
        shape = str(rng.choice(("block", "bush", "pole")))
        if shape == "pole":
            size = (max(5, round(width * rng.uniform(0.12, 0.35))), round(height * rng.uniform(1.2, 2.5)))
            feet = (x1 + width * rng.uniform(0, 1), y2 + height * rng.uniform(0, 0.3))
        else:
            size = (round(width * rng.uniform(0.5, 2.0)) + 4, round(height * rng.uniform(0.2, 0.55)) + 8)
            feet = (x1 + width * rng.uniform(-0.3, 1.3), y2 + height * rng.uniform(-0.02, 0.1))
        self._paste_thing(shape, size, feet, "occluder")

    def _paste(
        self, bgr: Frame, alpha: Frame, size_wh: tuple[int, int], feet_xy: tuple[float, float], kind: Kind
    ) -> tuple[int, Patch | None, tuple[int, int]]:
        """Number, patch and corner of what was pasted with the middle of its lower edge at ``feet_xy``."""
        finish = Finish.draw(self._scene.softness, self._rng)
        patch = scaled_patch(bgr, alpha, size_wh, finish)
        if patch is None:
            return 0, None, (0, 0)
        x1, _, x2, y2 = patch.extent_xyxy
        left, top = round(feet_xy[0] - (x1 + x2) / 2), round(feet_xy[1] - y2)
        jitter, reach, depth = self._rng.random(3).tolist()
        centre = (left + (x1 + x2) / 2 + (jitter - 0.5) * 0.5 * (x2 - x1), float(top + y2))
        self.canvas.shade(centre, ((x2 - x1) * (0.5 + 0.6 * reach), (x2 - x1) * (0.1 + 0.12 * depth)), finish.shadow)
        place = self.canvas.overlap(left, top, size_wh[0], size_wh[1])
        hidden = None if place is None else self._scene.hidden_at(place[0], place[1], feet_xy[1])
        self.kinds.append(kind)
        return self.canvas.paste(patch, left, top, finish, hidden), patch, (left, top)

    def labels(self) -> tuple[FloatArray, IntArray]:
        """Boxes cut at the edges, with ids lowered where little shows."""
        boxes = [np.array(person.box_xyxy, dtype=np.float32) for person in self._pasted]
        ids = []
        for person in self._pasted:
            share = self.canvas.visible[person.number] / max(person.pixels, 1)
            hidden = share < _VISIBLE_IDENTITY
            ids.append(IGNORE if share < _VISIBLE_PERSON else UNLABELLED if hidden else person.person_id)
        clipped_real = clip_boxes(self._scene.boxes_xyxy, self._spec.image_wh)
        for whole, box, person_id in zip(
            self._scene.boxes_xyxy, clipped_real, self._scene.person_ids.tolist(), strict=True
        ):
            x1, y1, x2, y2 = np.rint(box).astype(int).tolist()
            if x2 - x1 < 2 or y2 - y1 < 2:
                continue
            free = (self.canvas.owner[y1:y2, x1:x2] == NOBODY).sum()
            boxes.append(box.astype(np.float32))
            whole_area = max(float((whole[2] - whole[0]) * (whole[3] - whole[1])), 1.0)
            ids.append(person_id if free / whole_area > 0.5 else IGNORE)
        stacked = np.array(boxes, dtype=np.float32).reshape(-1, 4)
        clipped = clip_boxes(stacked, self._spec.image_wh).astype(np.float32)
        inside = (clipped[:, 2:] > clipped[:, :2]).all(axis=1)
        return clipped[inside], np.array(ids, dtype=np.int64)[inside]
