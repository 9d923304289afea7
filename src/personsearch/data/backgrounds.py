"""Images that people are pasted on, and what they tell of where people can stand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from personsearch.core.errors import InputError
from personsearch.core.seeding import rng_for
from personsearch.data.composite_spec import CompositeSpec
from personsearch.data.images import read_image_bgr
from personsearch.data.perspective import (
    PERSON_M,
    Perspective,
    bottom_of_things,
    fit_perspective,
    horizon_of_ground,
)
from personsearch.data.sample import IGNORE, FloatArray, Frame, IntArray, SearchDataset

LABEL_SUFFIX = "_labels.png"
_MIN_REGION_PX = 6
# A label map hugs a person; a little more keeps hair and shoes out of the negatives too.
_REGION_MARGIN = 0.15
# People may stand this far, as a share of the width, beyond where people were seen to stand.
_STANDING_MARGIN = 0.04


@dataclass(frozen=True, eq=False)
class Background:
    """One image in memory, with the people already in it.

    Attributes:
        name: of the file; neighbours by name are of one recording.
        image_bgr: ``(H, W, 3)`` uint8.
        boxes_xyxy: ``(N, 4)`` pixels.
        person_ids: ``(N,)``: -1 a real person, -2 a region to ignore.
        perspective: how tall people are where.
        ground: ``(H, W)`` uint8, 1 where feet may stand.
        things: ``(H, W)`` int16, see `bottom_of_things`; none where nothing is known to hide people.
    """

    name: str
    image_bgr: Frame
    boxes_xyxy: FloatArray
    person_ids: IntArray
    perspective: Perspective
    ground: Frame
    things: NDArray[np.int16] | None = None


@dataclass(frozen=True, eq=False)
class _Mapped:
    """An image and what its label map says, none where it has none."""

    path: Path
    image_bgr: Frame
    labels: Frame | None


def load_backgrounds(spec: CompositeSpec) -> list[Background]:
    """Every image below the specification's folders, decoded.

    People whom a label map marks become regions to ignore. The map's ground gives the horizon and where people can
    stand; an image without map takes both from the others of its folder, and where no map tells, the horizon is the
    specification's and the ground is all below it.

    Raises:
        InputError: a folder is missing or holds no image, or a label map does not fit its image.
    """
    found = []
    for folder in map(Path, spec.backgrounds):
        paths = sorted(
            (
                path
                for path in folder.rglob("*")
                if path.suffix.lower() in (".jpg", ".jpeg", ".png") and not path.name.endswith(LABEL_SUFFIX)
            ),
            key=lambda path: (path.name, str(path)),
        )
        if not paths:
            raise InputError(
                "holds no background image", where=str(folder), expected="a folder with .jpg or .png files"
            )
        found += _of_folder([_read_mapped(path) for path in paths], spec)
    return found


def real_backgrounds(dataset: SearchDataset, max_width: int, spec: CompositeSpec) -> list[Background]:
    """Frames of a labelled data set with their people, shrunk to at most ``max_width`` pixels across.

    The people of all frames of a camera tell its perspective, and where people can stand: between them.
    """
    cameras: dict[int, list[Background]] = {}
    for index in range(len(dataset)):
        sample, image = dataset[index], dataset.frame_bgr(index)
        scale = min(1.0, max_width / image.shape[1])
        if scale < 1:
            image = np.asarray(
                cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), dtype=np.uint8
            )
        ids = np.where(sample.person_ids >= 0, -1, sample.person_ids)
        boxes = (sample.boxes_xyxy * np.float32(scale)).astype(np.float32)
        name = f"{sample.camera_id:06d}_{sample.frame_index:06d}"
        perspective = _assumed(name, image.shape[0], spec, None)
        ground = _below(perspective, image.shape[0], image.shape[1])
        cameras.setdefault(sample.camera_id, []).append(Background(name, image, boxes, ids, perspective, ground))
    return [background for group in cameras.values() for background in _of_camera(group)]


def _of_camera(group: list[Background]) -> list[Background]:
    height, width = group[0].image_bgr.shape[:2]
    people = np.concatenate([background.boxes_xyxy[background.person_ids != IGNORE] for background in group])
    # A person cut at the edge shows neither feet nor height.
    whole = people[(people[:, 3] < height - 2) & (people[:, 1] > 1)]
    perspective = fit_perspective(whole)
    if perspective is None:
        return group
    feet = np.stack([(whole[:, 0] + whole[:, 2]) / 2, whole[:, 3]], axis=1)
    ground = np.zeros((height, width), dtype=np.uint8)
    hull = cv2.convexHull(np.rint(feet).astype(np.int32))
    cv2.fillConvexPoly(ground, hull, 1)
    cv2.polylines(ground, [hull], True, 1, thickness=2 * round(_STANDING_MARGIN * width) + 1)
    return [replace(background, perspective=perspective, ground=ground) for background in group]


def _of_folder(images: list[_Mapped], spec: CompositeSpec) -> list[Background]:
    grounds = [None if one.labels is None else np.isin(one.labels, spec.ground_labels) for one in images]
    horizons = [None if ground is None else horizon_of_ground(ground) for ground in grounds]
    shares = [
        horizon / len(ground)
        for horizon, ground in zip(horizons, grounds, strict=True)
        if horizon is not None and ground is not None
    ]
    usual_share = float(np.median(shares)) if shares else None
    usual_ground = _usual([ground for ground in grounds if ground is not None and ground.any()])
    found = []
    for one, ground, horizon in zip(images, grounds, horizons, strict=True):
        height, width = one.image_bgr.shape[:2]
        share = usual_share if horizon is None else horizon / height
        perspective = _assumed(one.path.name, height, spec, share)
        standing = _below(perspective, height, width)
        if horizon is not None and ground is not None:
            standing &= ground.astype(np.uint8)
        elif usual_ground is not None:
            standing &= np.asarray(cv2.resize(usual_ground, (width, height), interpolation=cv2.INTER_NEAREST), np.uint8)
        boxes, things = np.zeros((0, 4), dtype=np.float32), None
        if one.labels is not None:
            boxes = _labelled_regions(one.labels, spec.ignore_labels)
            things = bottom_of_things(np.isin(one.labels, spec.occluder_labels))
        ids = np.full(len(boxes), IGNORE, dtype=np.int64)
        found.append(Background(one.path.name, one.image_bgr, boxes, ids, perspective, standing, things))
    return found


def _assumed(name: str, height: int, spec: CompositeSpec, horizon_share: float | None) -> Perspective:
    share = spec.horizon if horizon_share is None else horizon_share
    low, high = spec.camera_height_m
    # An image's camera stands where it stands, so its height belongs to the image's name, not to a composite.
    camera_m = float(rng_for(spec.seed, "camera height", name).uniform(low, high))
    return Perspective(share * height, PERSON_M / camera_m)


def _below(perspective: Perspective, height: int, width: int) -> Frame:
    ground = np.zeros((height, width), dtype=np.uint8)
    ground[max(0, int(np.ceil(perspective.horizon_y))) :] = 1
    return ground


def _usual(grounds: Sequence[NDArray[np.bool_]]) -> Frame | None:
    """Where most maps have ground; ``(64, 64)`` uint8."""
    if not grounds:
        return None
    small = [cv2.resize(ground.astype(np.float32), (64, 64), interpolation=cv2.INTER_AREA) for ground in grounds]
    return np.asarray(np.mean(small, axis=0) > 0.5, dtype=np.uint8)


def _read_mapped(path: Path) -> _Mapped:
    image, map_path = read_image_bgr(path), path.with_name(path.stem + LABEL_SUFFIX)
    if not map_path.is_file():
        return _Mapped(path, image, None)
    labels = cv2.imread(str(map_path), cv2.IMREAD_UNCHANGED)
    if labels is None or labels.shape != image.shape[:2]:
        raise InputError(
            "is no label map of its image",
            where=str(map_path),
            expected=f"one channel of {image.shape[1]}x{image.shape[0]} class numbers",
        )
    return _Mapped(path, image, np.asarray(labels, dtype=np.uint8))


def _labelled_regions(labels: Frame, classes: Sequence[int]) -> FloatArray:
    joined = cv2.dilate(np.isin(labels, list(classes)).astype(np.uint8), np.ones((3, 3), np.uint8))
    count, _, stats, _ = cv2.connectedComponentsWithStats(joined)
    boxes = []
    for x, y, width, height, _ in stats[1:count]:
        if max(width, height) >= _MIN_REGION_PX:
            margin_x, margin_y = width * _REGION_MARGIN, height * _REGION_MARGIN
            boxes.append([x - margin_x, y - margin_y, x + width + margin_x, y + height + margin_y])
    regions = np.array(boxes, dtype=np.float32).reshape(-1, 4)
    return np.clip(regions, 0, np.array([labels.shape[1], labels.shape[0]] * 2, dtype=np.float32))
