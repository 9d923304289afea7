"""Boxes and the letterbox. All boxes are xyxy in pixels; a box covers [x1, x2) x [y1, y2), no +1 anywhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Boxes = NDArray[np.floating[Any]]


def box_area(boxes_xyxy: Boxes) -> NDArray[np.floating[Any]]:
    """``(N,)`` areas in square pixels; a box turned inside out has area 0."""
    sides = np.clip(boxes_xyxy[:, 2:] - boxes_xyxy[:, :2], 0, None)
    area: NDArray[np.floating[Any]] = sides[:, 0] * sides[:, 1]
    return area


def box_iou(first_xyxy: Boxes, second_xyxy: Boxes) -> NDArray[np.floating[Any]]:
    """``(N, M)`` intersection over union; 0 where both boxes are empty."""
    top_left = np.maximum(first_xyxy[:, None, :2], second_xyxy[None, :, :2])
    bottom_right = np.minimum(first_xyxy[:, None, 2:], second_xyxy[None, :, 2:])
    sides = np.clip(bottom_right - top_left, 0, None)
    overlap = sides[..., 0] * sides[..., 1]
    union = box_area(first_xyxy)[:, None] + box_area(second_xyxy)[None, :] - overlap
    iou: NDArray[np.floating[Any]] = np.divide(overlap, union, out=np.zeros_like(overlap), where=union > 0)
    return iou


def clip_boxes(boxes_xyxy: Boxes, frame_wh: tuple[int, int]) -> Boxes:
    """Boxes cut at the frame's edges, ``(N, 4)``; one that lies outside becomes empty."""
    limit = np.array([frame_wh[0], frame_wh[1]] * 2, dtype=boxes_xyxy.dtype)
    clipped: Boxes = np.clip(boxes_xyxy, 0, limit)
    return clipped


def xywh_to_xyxy(boxes_xywh: Boxes) -> Boxes:
    """``(N, 4)`` left, top, width, height to corners."""
    return np.concatenate([boxes_xywh[:, :2], boxes_xywh[:, :2] + boxes_xywh[:, 2:]], axis=1)


def xyxy_to_xywh(boxes_xyxy: Boxes) -> Boxes:
    """Inverse of `xywh_to_xyxy`."""
    return np.concatenate([boxes_xyxy[:, :2], boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]], axis=1)


@dataclass(frozen=True)
class Letterbox:
    """A frame fitted into a network input: one scale, centred, the rest padded.

    A source pixel corner ``(x, y)`` maps to ``(x * scale_x + pad_x, y * scale_y + pad_y)``. The two scales
    differ only by the rounding of the resized size to whole pixels; keeping both makes the way back exact.
    """

    source_wh: tuple[int, int]
    input_wh: tuple[int, int]
    resized_wh: tuple[int, int]
    pad_xy: tuple[int, int]

    @classmethod
    def fit(cls, source_wh: tuple[int, int], input_wh: tuple[int, int]) -> Letterbox:
        """The largest aspect-keeping fit of ``source_wh`` in ``input_wh``; both positive, in pixels."""
        if min(*source_wh, *input_wh) <= 0:
            raise ValueError(f"sizes must be positive, got source {source_wh} and input {input_wh}")
        scale = min(input_wh[0] / source_wh[0], input_wh[1] / source_wh[1])
        width = min(input_wh[0], max(1, round(source_wh[0] * scale)))
        height = min(input_wh[1], max(1, round(source_wh[1] * scale)))
        return cls(source_wh, input_wh, (width, height), ((input_wh[0] - width) // 2, (input_wh[1] - height) // 2))

    @property
    def scale_xy(self) -> tuple[float, float]:
        """Input pixels for one source pixel, along x and y."""
        return self.resized_wh[0] / self.source_wh[0], self.resized_wh[1] / self.source_wh[1]

    def to_input(self, boxes_xyxy: Boxes) -> Boxes:
        """Boxes of the source frame, ``(N, 4)``, in input pixels."""
        boxes: Boxes = boxes_xyxy * np.tile(self.scale_xy, 2) + np.tile(self.pad_xy, 2)
        return boxes

    def to_source(self, boxes_xyxy: Boxes) -> Boxes:
        """Boxes of the network input, ``(N, 4)``, in source pixels, cut at the source's edges."""
        boxes = (boxes_xyxy - np.tile(self.pad_xy, 2)) / np.tile(self.scale_xy, 2)
        return clip_boxes(boxes, self.source_wh)
