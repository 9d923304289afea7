"""Images that people are pasted on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from personsearch.core.errors import InputError
from personsearch.data.images import read_image_bgr
from personsearch.data.sample import IGNORE, FloatArray, Frame, IntArray, SearchDataset

LABEL_SUFFIX = "_labels.png"
_MIN_REGION_PX = 6
# A label map hugs a person; a little more keeps hair and shoes out of the negatives too.
_REGION_MARGIN = 0.15


@dataclass(frozen=True, eq=False)
class Background:
    """One image in memory, with the people already in it.

    Attributes:
        image_bgr: ``(H, W, 3)`` uint8.
        boxes_xyxy: ``(N, 4)`` pixels.
        person_ids: ``(N,)``: -1 a real person, -2 a region to ignore.
    """

    image_bgr: Frame
    boxes_xyxy: FloatArray
    person_ids: IntArray


def load_backgrounds(folders: Sequence[Path], ignore_labels: Sequence[int]) -> list[Background]:
    """Every image below ``folders``, decoded; people that its label map marks become regions to ignore.

    Raises:
        InputError: a folder is missing or holds no image, or a label map does not fit its image.
    """
    found = []
    for folder in folders:
        paths = sorted(
            path
            for path in folder.rglob("*")
            if path.suffix.lower() in (".jpg", ".jpeg", ".png") and not path.name.endswith(LABEL_SUFFIX)
        )
        if not paths:
            raise InputError(
                "holds no background image", where=str(folder), expected="a folder with .jpg or .png files"
            )
        for path in paths:
            image = read_image_bgr(path)
            labels = path.with_name(path.stem + LABEL_SUFFIX)
            boxes = (
                _labelled_regions(labels, image, ignore_labels) if labels.is_file() else np.zeros((0, 4), np.float32)
            )
            found.append(Background(image, boxes, np.full(len(boxes), IGNORE, dtype=np.int64)))
    return found


def real_backgrounds(dataset: SearchDataset, max_width: int) -> list[Background]:
    """Frames of a labelled data set with their people, shrunk to at most ``max_width`` pixels across."""
    found = []
    for index in range(len(dataset)):
        sample, image = dataset[index], dataset.frame_bgr(index)
        scale = min(1.0, max_width / image.shape[1])
        if scale < 1:
            image = np.asarray(
                cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), dtype=np.uint8
            )
        ids = np.where(sample.person_ids >= 0, -1, sample.person_ids)
        found.append(Background(image, (sample.boxes_xyxy * scale).astype(np.float32), ids))
    return found


def _labelled_regions(path: Path, image: Frame, classes: Sequence[int]) -> FloatArray:
    labels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if labels is None or labels.shape != image.shape[:2]:
        raise InputError(
            "is no label map of its image",
            where=str(path),
            expected=f"one channel of {image.shape[1]}x{image.shape[0]} class numbers",
        )
    mask = np.isin(labels, list(classes)).astype(np.uint8)
    joined = cv2.dilate(mask, np.ones((3, 3), np.uint8))
    count, _, stats, _ = cv2.connectedComponentsWithStats(joined)
    boxes = []
    for x, y, width, height, _ in stats[1:count]:
        if max(width, height) >= _MIN_REGION_PX:
            margin_x, margin_y = width * _REGION_MARGIN, height * _REGION_MARGIN
            boxes.append([x - margin_x, y - margin_y, x + width + margin_x, y + height + margin_y])
    regions = np.array(boxes, dtype=np.float32).reshape(-1, 4)
    limit = np.array([image.shape[1], image.shape[0]] * 2, dtype=np.float32)
    return np.clip(regions, 0, limit)
