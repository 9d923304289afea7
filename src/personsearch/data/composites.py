"""People with identities pasted on street images, rendered when asked for.

A detector would learn the seam of a paste instead of the person unless seams are everywhere: patches of other
backgrounds are pasted in the shape of people and of things, with the same feathering, toning and shadows, and
carry no label. After Dwibedi et al., "Cut, paste and learn", ICCV 2017, and Ghiasi et al., "Simple copy-paste",
CVPR 2021.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from personsearch.core.errors import InputError
from personsearch.core.geometry import clip_boxes
from personsearch.core.seeding import rng_for
from personsearch.data.backgrounds import Background, load_backgrounds, real_backgrounds
from personsearch.data.composite_spec import CompositeSpec
from personsearch.data.crops import CropLibrary
from personsearch.data.motchallenge import MotDataset
from personsearch.data.painting import NOBODY, Canvas, Finish, Patch, scaled_patch, shape_mask
from personsearch.data.sample import IGNORE, UNLABELLED, FloatArray, Frame, IntArray, Query, Sample
from personsearch.data.transforms import vary_colour

SPLITS = ("train", "validation")
# A person of whom less shows is ignored; of whom less than the second shows has no identity to learn.
_VISIBLE_PERSON, _VISIBLE_IDENTITY = 0.25, 0.45
_REAL_WIDTH_PX = 1280
_PASSER_BY_SHARE = 0.15
_QUERY_SHARE = 0.25


@dataclass(frozen=True, eq=False)
class _Material:
    crops: CropLibrary
    plain: list[Background]
    real: list[Background]


@dataclass(frozen=True)
class _Figure:
    """A person to be pasted: label, cut-out and where."""

    person_id: int
    crop: int
    height_px: float
    feet_xy: tuple[float, float]


@dataclass(frozen=True, eq=False)
class _Pasted:
    person_id: int
    box_xyxy: tuple[int, int, int, int]
    pixels: int


class CompositeDataset:
    """One split of a composite specification; a `SearchDataset` whose frames are a function of (seed, index).

    Identities of ``train`` and ``validation`` differ. In ``validation`` the first quarter of the frames shows each
    person as their first camera saw them, the others as the other cameras did; the queries are in the first.

    Args:
        spec: with resolved paths, see `read_composite_spec`.
        split: ``train`` or ``validation``.

    Raises:
        InputError: unknown split, or material is missing or wrong.
    """

    def __init__(self, spec: CompositeSpec, split: str) -> None:
        if split not in SPLITS:
            raise InputError(f"split `{split}` is unknown", where=spec.name, expected=f"one of {', '.join(SPLITS)}")
        self.name, self.terms = spec.name, spec.terms
        self._spec, self._split = spec, split
        self._loaded: _Material | None = None
        self._last: tuple[int, Sample, Frame] | None = None
        crops = self._material.crops
        people = np.unique(crops.person_numbers[crops.usable])
        order = rng_for(spec.seed, "identities").permutation(people)
        held_out = spec.validation_identities
        if split == "validation":
            chosen, passers_by = order[:held_out], order[:0]
        else:
            chosen = order[held_out + spec.unlabelled_identities :]
            passers_by = order[held_out : held_out + spec.unlabelled_identities]
        if len(chosen) == 0:
            raise InputError(
                f"split `{split}` has no identities: the crops show {len(people)} people",
                where=spec.name,
                expected="more than validation_identities and unlabelled_identities take",
            )
        self.person_count = len(chosen)
        self._groups = [self._crops_of(number) for number in np.sort(chosen)]
        self._passers_by = [self._crops_of(number) for number in np.sort(passers_by)]

    def __len__(self) -> int:
        return self._spec.images if self._split == "train" else self._spec.validation_images

    def __getitem__(self, index: int) -> Sample:
        return self._rendered(index)[0]

    def frame_bgr(self, index: int) -> Frame:
        """Pixels of composite ``index``, ``(H, W, 3)`` uint8 BGR."""
        return self._rendered(index)[1]

    def __getstate__(self) -> dict[str, Any]:
        # Pixels stay behind: a spawned worker opens them itself, a forked one shares them.
        return {**self.__dict__, "_loaded": None, "_last": None}

    @cached_property
    def queries(self) -> tuple[Query, ...]:
        """One search for each person whom the query frames show; empty for ``train``."""
        if self._split == "train":
            return ()
        first_gallery = self._query_frames
        gallery = np.arange(first_gallery, len(self), dtype=np.int64)
        found: dict[int, Query] = {}
        for index in range(first_gallery):
            sample = self[index]
            for box, person_id in zip(sample.boxes_xyxy, sample.person_ids.tolist(), strict=True):
                if person_id >= 0:
                    found.setdefault(person_id, Query(index, box, person_id, gallery))
        shown = {person for index in gallery.tolist() for person in self[index].person_ids.tolist()}
        return tuple(found[person] for person in sorted(found) if person in shown)

    @property
    def _query_frames(self) -> int:
        return int(len(self) * _QUERY_SHARE)

    @property
    def _material(self) -> _Material:
        if self._loaded is None:
            spec = self._spec
            assert spec.cache is not None
            real: list[Background] = []
            if spec.mot is not None and spec.mot_background_share > 0:
                real = real_backgrounds(MotDataset(Path(spec.mot)), _REAL_WIDTH_PX)
            self._loaded = _Material(
                CropLibrary.open(Path(spec.crops), Path(spec.cache), spec.crops_per_identity),
                load_backgrounds([Path(folder) for folder in spec.backgrounds], spec.ignore_labels),
                real,
            )
        return self._loaded

    def _crops_of(self, number: int) -> tuple[IntArray, IntArray]:
        """Crops of a person that this split may use: by the first camera, and by the others."""
        crops = self._material.crops
        rows = np.flatnonzero((crops.person_numbers == number) & crops.usable)
        cameras = crops.camera_numbers[rows]
        return rows[cameras == cameras.min()], rows[cameras != cameras.min()]

    def _rendered(self, index: int) -> tuple[Sample, Frame]:
        if not 0 <= index < len(self):
            raise IndexError(f"composite {index} of {len(self)}")
        if self._last is None or self._last[0] != index:
            self._last = (index, *self._render(index))
        return self._last[1], self._last[2]

    def _render(self, index: int) -> tuple[Sample, Frame]:
        rng = rng_for(self._spec.seed, "composite", self._split, index)
        image, boxes, ids, softness = self._scene(rng)
        canvas = Canvas(image)
        figures = self._figures(index, rng)
        things = int(rng.integers(0, 6))
        steps: list[tuple[float, _Figure | None]] = [(figure.feet_xy[1], figure) for figure in figures]
        heights = [figure.height_px for figure in figures] or [float(np.mean(self._spec.height_px))]
        steps += [(float(rng.uniform(0.35, 1.1)) * image.shape[0], None) for _ in range(things)]
        pasted: list[_Pasted] = []
        for feet_y, figure in sorted(steps, key=lambda step: step[0]):
            if figure is None:
                self._paste_thing(canvas, feet_y, float(rng.choice(heights)), softness, rng)
                continue
            done = self._paste_person(canvas, figure, softness, len(pasted), rng)
            if done is not None:
                pasted.append(done)
                if rng.random() < 0.25:
                    self._occlude(canvas, done.box_xyxy, softness, rng)
        labels = _labels(canvas, pasted, boxes, ids)
        size = (image.shape[1], image.shape[0])
        return Sample(None, *labels, camera_id=0, frame_index=index, image_wh=size), canvas.image_bgr

    def _scene(self, rng: np.random.Generator) -> tuple[Frame, FloatArray, IntArray, float]:
        """A varied view of a background: image, its own people's boxes and ids, and its lack of detail (>= 1)."""
        material = self._material
        use_real = bool(material.real) and rng.random() < self._spec.mot_background_share
        pool = material.real if use_real else material.plain
        background = pool[rng.integers(len(pool))]
        image_w, image_h = self._spec.image_wh
        source_h, source_w = background.image_bgr.shape[:2]
        fit = min(source_w / image_w, source_h / image_h) * rng.uniform(0.7, 1.0)
        width, height = max(1, int(image_w * fit)), max(1, int(image_h * fit))
        left, top = int(rng.integers(source_w - width + 1)), int(rng.integers(source_h - height + 1))
        view = background.image_bgr[top : top + height, left : left + width]
        shrinking = fit > 1
        image: Any = cv2.resize(
            view, (image_w, image_h), interpolation=cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR
        )
        offset = np.array([left, top, left, top], dtype=np.float32)
        scale = np.array([image_w / width, image_h / height] * 2, dtype=np.float32)
        boxes = (background.boxes_xyxy - offset) * scale
        if rng.random() < 0.5:
            image = image[:, ::-1]
            boxes = boxes[:, [2, 1, 0, 3]]
            boxes[:, [0, 2]] = image_w - boxes[:, [0, 2]]
        varied = vary_colour(np.ascontiguousarray(image), 0.3, rng)
        return varied.copy(), boxes, background.person_ids, max(1.0, 1.0 / fit)

    def _figures(self, index: int, rng: np.random.Generator) -> list[_Figure]:
        """People with heights that follow one perspective: feet lower in the image, taller person."""
        spec = self._spec
        count = int(rng.integers(spec.people[0], spec.people[1] + 1))
        low, high = spec.height_px
        nearest = min(high, 1.7 * low)
        # The power favours distant views, as surveillance cameras have them.
        near = nearest * (high / nearest) ** float(rng.uniform() ** 1.5)
        far = max(low, near * float(rng.uniform(0.4, 0.85)))
        image_w, image_h = spec.image_wh
        horizon = 0.4 * image_h
        people = rng.permutation(len(self._groups))[:count]
        figures: list[_Figure] = []
        for person in people.tolist():
            person_id, crop = self._pick(index, person, rng)
            feet_y = float(rng.uniform(horizon, 1.03 * image_h))
            feet_x = float(rng.uniform(0.0, image_w))
            if figures and rng.random() < 0.3:
                # Beside or partly behind someone: people walk in company.
                friend = figures[int(rng.integers(len(figures)))]
                feet_x = friend.feet_xy[0] + float(rng.choice([-1, 1]) * rng.uniform(0.15, 0.5)) * friend.height_px
                feet_y = friend.feet_xy[1] + float(rng.uniform(-0.08, 0.08)) * friend.height_px
            depth = np.clip((feet_y - horizon) / (image_h - horizon), 0, 1)
            height = float(np.clip((far + (near - far) * depth) * np.exp(rng.normal(0, 0.08)), low, high))
            figures.append(_Figure(person_id, crop, height, (feet_x, feet_y)))
        return figures

    def _pick(self, index: int, person: int, rng: np.random.Generator) -> tuple[int, int]:
        """Label and crop: training shows any crop, validation one camera as query and the others as gallery."""
        if self._passers_by and rng.random() < _PASSER_BY_SHARE:
            group = self._passers_by[int(rng.integers(len(self._passers_by)))]
            return UNLABELLED, int(rng.choice(np.concatenate(group)))
        first, others = self._groups[person]
        if self._split == "train" or len(others) == 0:
            rows = np.concatenate([first, others])
        else:
            rows = first if index < self._query_frames else others
        return person, int(rng.choice(rows))

    def _paste_person(
        self, canvas: Canvas, figure: _Figure, softness: float, number: int, rng: np.random.Generator
    ) -> _Pasted | None:
        cutout = self._material.crops.bgra[figure.crop]
        if rng.random() < 0.5:
            cutout = cutout[:, ::-1]
        bgr, alpha = np.ascontiguousarray(cutout[..., :3]), np.ascontiguousarray(cutout[..., 3])
        rows = np.flatnonzero((alpha > 127).any(axis=1))
        scale = figure.height_px / (rows[-1] + 1 - rows[0])
        width = alpha.shape[1] * scale * float(rng.uniform(0.85, 1.15))
        finish = Finish.draw(softness, rng)
        patch = scaled_patch(bgr, alpha, (max(2, round(width)), max(4, round(alpha.shape[0] * scale))), finish)
        extent = patch.extent()
        if extent is None:
            return None
        x1, y1, x2, y2 = extent
        left, top = round(figure.feet_xy[0] - (x1 + x2) / 2), round(figure.feet_xy[1] - y2)
        self._place(canvas, patch, extent, (left, top), finish, number, rng)
        return _Pasted(figure.person_id, (left + x1, top + y1, left + x2, top + y2), int((patch.alpha > 0.5).sum()))

    def _place(
        self,
        canvas: Canvas,
        patch: Patch,
        extent: tuple[int, int, int, int],
        corner: tuple[int, int],
        finish: Finish,
        owner: int,
        rng: np.random.Generator,
    ) -> None:
        x1, _, x2, y2 = extent
        width = x2 - x1
        centre = (corner[0] + (x1 + x2) / 2 + float(rng.normal(0, 0.15)) * width, float(corner[1] + y2))
        radius = (width * float(rng.uniform(0.5, 1.1)), width * float(rng.uniform(0.1, 0.22)))
        canvas.shade(centre, radius, finish.shadow)
        canvas.paste(patch, *corner, finish, owner)

    def _texture(self, target_wh: tuple[int, int], rng: np.random.Generator) -> Frame:
        """A piece of a background without people, or of what lay behind a crop's person."""
        material = self._material
        if rng.random() < 0.2:
            cutout = material.crops.bgra[rng.integers(len(material.crops.bgra))]
            person = cv2.dilate(np.ascontiguousarray(cutout[..., 3]), np.ones((5, 5), np.uint8))
            mask = (person > 8).astype(np.uint8)
            return np.asarray(
                cv2.inpaint(np.ascontiguousarray(cutout[..., :3]), mask, 2, cv2.INPAINT_TELEA), dtype=np.uint8
            )
        for _ in range(8):
            background = material.plain[rng.integers(len(material.plain))]
            height, width = background.image_bgr.shape[:2]
            zoom = rng.uniform(0.5, 1.5)
            side_w, side_h = min(width, max(4, int(target_wh[0] * zoom))), min(height, max(8, int(target_wh[1] * zoom)))
            x, y = int(rng.integers(width - side_w + 1)), int(rng.integers(height - side_h + 1))
            people = background.boxes_xyxy
            clear = (
                (people[:, 0] >= x + side_w) | (people[:, 2] <= x) | (people[:, 1] >= y + side_h) | (people[:, 3] <= y)
            )
            if clear.all():
                return np.ascontiguousarray(background.image_bgr[y : y + side_h, x : x + side_w])
        grey = int(rng.integers(30, 220))
        return np.full((8, 8, 3), grey, dtype=np.uint8)

    def _paste_thing(
        self, canvas: Canvas, feet_y: float, height_px: float, softness: float, rng: np.random.Generator
    ) -> None:
        """Something that is no person, cut in the shape of one or of a thing, finished as people are."""
        height = max(8, round(height_px * float(rng.uniform(0.5, 1.3))))
        width = max(4, round(height * float(rng.uniform(0.35, 0.7))))
        shape_like = rng.random()
        if shape_like < 0.7:
            crops = self._material.crops
            alpha = np.ascontiguousarray(crops.bgra[rng.integers(len(crops.bgra)), :, :, 3])
            if shape_like < 0.1:
                alpha = np.ascontiguousarray(alpha[::-1])
        else:
            width = round(width * float(rng.uniform(0.6, 3.0)))
            alpha = shape_mask(str(rng.choice(["block", "bush"])), (64, 128), rng)
        feet_x = float(rng.uniform(0, canvas.image_bgr.shape[1]))
        self._paste_shape(canvas, alpha, (width, height), (feet_x, feet_y), softness, rng)

    def _occlude(
        self, canvas: Canvas, box_xyxy: tuple[int, int, int, int], softness: float, rng: np.random.Generator
    ) -> None:
        """Hides a part of someone just pasted behind a block, a pole or a bush."""
        x1, y1, x2, y2 = box_xyxy
        width, height = x2 - x1, y2 - y1
        kind = str(rng.choice(["block", "pole", "bush"]))
        if kind == "pole":
            size = (max(5, round(width * rng.uniform(0.12, 0.35))), round(height * rng.uniform(1.2, 2.5)))
            feet = (x1 + width * rng.uniform(0, 1), y2 + height * rng.uniform(0, 0.3))
        else:
            size = (round(width * rng.uniform(0.5, 2.0)) + 4, round(height * rng.uniform(0.2, 0.55)) + 8)
            feet = (x1 + width * rng.uniform(-0.3, 1.3), y2 + height * rng.uniform(-0.02, 0.1))
        self._paste_shape(canvas, shape_mask(kind, size, rng), size, feet, softness, rng)

    def _paste_shape(
        self,
        canvas: Canvas,
        alpha: Frame,
        size_wh: tuple[int, int],
        feet_xy: tuple[float, float],
        softness: float,
        rng: np.random.Generator,
    ) -> None:
        texture = self._texture(size_wh, rng)
        finish = Finish.draw(softness, rng)
        fitted = np.asarray(cv2.resize(texture, (alpha.shape[1], alpha.shape[0])), dtype=np.uint8)
        patch = scaled_patch(fitted, alpha, size_wh, finish)
        extent = patch.extent()
        if extent is None:
            return
        corner = (round(feet_xy[0] - (extent[0] + extent[2]) / 2), round(feet_xy[1] - extent[3]))
        self._place(canvas, patch, extent, corner, finish, IGNORE, rng)


def _labels(
    canvas: Canvas, pasted: list[_Pasted], real_boxes: FloatArray, real_ids: IntArray
) -> tuple[FloatArray, IntArray]:
    """Boxes cut at the edges, with ids lowered where little shows."""
    height, width = canvas.image_bgr.shape[:2]
    counts = np.bincount(canvas.owner[canvas.owner >= 0].ravel(), minlength=len(pasted))
    boxes = [np.array(person.box_xyxy, dtype=np.float32) for person in pasted]
    ids = []
    for person, shown in zip(pasted, counts.tolist(), strict=True):
        share = shown / max(person.pixels, 1)
        hidden = share < _VISIBLE_IDENTITY
        ids.append(IGNORE if share < _VISIBLE_PERSON else UNLABELLED if hidden else person.person_id)
    clipped_real = clip_boxes(real_boxes, (width, height))
    for whole, box, person_id in zip(real_boxes, clipped_real, real_ids.tolist(), strict=True):
        x1, y1, x2, y2 = np.rint(box).astype(int)
        if x2 - x1 < 2 or y2 - y1 < 2:
            continue
        free = (canvas.owner[y1:y2, x1:x2] == NOBODY).sum() / max((whole[2] - whole[0]) * (whole[3] - whole[1]), 1)
        boxes.append(box.astype(np.float32))
        ids.append(person_id if free > 0.5 else IGNORE)
    stacked = np.array(boxes, dtype=np.float32).reshape(-1, 4)
    clipped = clip_boxes(stacked, (width, height)).astype(np.float32)
    inside = (clipped[:, 2:] > clipped[:, :2]).all(axis=1)
    return clipped[inside], np.array(ids, dtype=np.int64)[inside]
