"""All detections of a data set in one table, and which of them lie on whom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from personsearch.core.detections import Detections, FloatArray
from personsearch.core.geometry import Boxes, box_area
from personsearch.evaluation.truth import Indices, LabelledImage, check_embeddings

PAIR_BLOCK = 1 << 20
"""Pairs of a detection and a true box that are compared at once: about 150 MB of intermediate values."""


@dataclass(frozen=True, eq=False)
class DetectionTable:
    """The detections of all images at or above a threshold, image by image.

    Attributes:
        boxes_xyxy: ``(N, 4)`` float64.
        scores: ``(N,)``.
        embeddings: ``(N, D)``.
        offsets: ``(I + 1,)``: rows of image i are ``offsets[i]:offsets[i + 1]``.
        source_rows: ``(N,)`` row of each in the detections of its image as they were given.
    """

    boxes_xyxy: NDArray[np.float64]
    scores: FloatArray
    embeddings: FloatArray
    offsets: Indices
    source_rows: Indices

    @property
    def images(self) -> int:
        """Number of images."""
        return len(self.offsets) - 1

    def __len__(self) -> int:
        return len(self.scores)

    def rows_of(self, images: Indices) -> Indices:
        """Rows of the images named, one image after the other."""
        return ranges(self.offsets[images], self.offsets[images + 1] - self.offsets[images])

    def images_of(self, rows: Indices) -> Indices:
        """The image of each row."""
        found: Indices = np.searchsorted(self.offsets, rows, side="right") - 1
        return found


@dataclass(frozen=True, eq=False)
class AnswerTable:
    """For each person and image that shows the person, the detections that lie on the person.

    Attributes:
        person_ids: ``(G,)`` ascending.
        images: ``(G,)`` ascending within a person, each once.
        offsets: ``(G + 1,)`` into ``rows``.
        rows: rows of the detection table, ascending for one box.
    """

    person_ids: Indices
    images: Indices
    offsets: Indices
    rows: Indices

    def candidates(self, groups: Indices) -> tuple[Indices, Indices]:
        """How many detections each of these entries has, and the rows of all."""
        first = self.offsets[groups]
        counts = self.offsets[groups + 1] - first
        return counts, self.rows[ranges(first, counts)]

    def of_person(self, person_id: int) -> slice:
        """The entries of one person."""
        first, last = np.searchsorted(self.person_ids, [person_id, person_id + 1])
        return slice(int(first), int(last))


def detection_table(predictions: Sequence[Detections], score_threshold: float) -> DetectionTable:
    """Joins the detections of all images, those below the threshold left out.

    Raises:
        ValueError: an embedding, score or box is not finite, or embeddings differ in width.
    """
    check_embeddings(predictions)
    kept = [np.flatnonzero(one.scores >= score_threshold) for one in predictions]
    width = next((one.embeddings.shape[1] for one in predictions if len(one)), 0)
    counts = [len(rows) for rows in kept]
    pairs = [(one, rows) for one, rows in zip(predictions, kept, strict=True) if len(rows)]
    none = np.zeros(0, np.int64)
    return DetectionTable(
        np.concatenate([np.zeros((0, 4)), *(one.boxes_xyxy[rows] for one, rows in pairs)]).astype(np.float64),
        np.concatenate([np.zeros(0, np.float32), *(one.scores[rows] for one, rows in pairs)]),
        np.concatenate([np.zeros((0, width), np.float32), *(_rows(one.embeddings, rows) for one, rows in pairs)]),
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        np.concatenate([none, *(rows for _, rows in pairs)]),
    )


def answer_table(table: DetectionTable, truths: Sequence[LabelledImage], *, any_box: bool) -> AnswerTable:
    """Who is where, and which detections overlap them enough.

    Args:
        table: detections of the same images.
        truths: boxes and person ids of each image.
        any_box: a person who stands twice in an image may be met at either box; otherwise at the first.
    """
    sizes = [len(truth.person_ids) for truth in truths]
    image_of = np.repeat(np.arange(len(truths)), sizes)
    people = np.concatenate([np.zeros(0, np.int64), *(truth.person_ids for truth in truths)])
    boxes = np.concatenate([np.zeros((0, 4)), *(truth.boxes_xyxy for truth in truths)]).astype(np.float64)
    order = np.lexsort((image_of, people))  # stable: boxes of one person in one image keep their order
    order = order[people[order] >= 0]
    person_ids, images = people[order], image_of[order]
    new = np.ones(len(order), bool)
    new[1:] = (np.diff(person_ids) != 0) | (np.diff(images) != 0)
    if not any_box:
        order, person_ids, images, new = order[new], person_ids[new], images[new], new[new]
    rows, counts = _covering(table, images, boxes[order])
    starts = np.flatnonzero(new)
    per_group = np.add.reduceat(counts, starts) if len(starts) else counts
    return AnswerTable(
        person_ids[starts], images[starts], np.concatenate([[0], np.cumsum(per_group)]).astype(np.int64), rows
    )


def covering_rows(table: DetectionTable, image: int, box_xyxy: Boxes) -> Indices:
    """Rows of one image's detections that overlap one true box enough."""
    return _covering(table, np.array([image]), np.asarray(box_xyxy, np.float64)[None])[0]


def relaxed_iou_threshold(boxes_xyxy: Boxes) -> NDArray[np.float64]:
    """``(N,)`` smallest IoU that counts as found: 0.5, and less for boxes that a few pixels spoil.

    ``min(0.5, w h / ((w + 10) (h + 10)))``, as the OIM evaluator has it (Xiao et al., CVPR 2017).
    """
    sides = (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]).astype(np.float64)
    limit: NDArray[np.float64] = np.minimum(0.5, sides.prod(axis=1) / (sides + 10).prod(axis=1))
    return limit


def ranges(starts: Indices, counts: Indices) -> Indices:
    """``starts[0], starts[0] + 1, ...`` for ``counts[0]`` numbers, then those of the next start, and so on."""
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    numbers: Indices = np.repeat(starts - (ends - counts), counts) + np.arange(total)
    return numbers


def _rows(embeddings: FloatArray, rows: Indices) -> FloatArray:
    # Most images keep all of their detections; a copy less is 250 MB less at 250,000 detections.
    return embeddings if len(rows) == len(embeddings) else embeddings[rows]


def _covering(table: DetectionTable, images: Indices, boxes_xyxy: NDArray[np.float64]) -> tuple[Indices, Indices]:
    """The detections that cover each of ``(B, 4)`` boxes of the images named: their rows, and how many a box."""
    first = table.offsets[images]
    candidates = table.offsets[images + 1] - first
    enough = relaxed_iou_threshold(boxes_xyxy)
    rows, counts = [np.zeros(0, np.int64)], np.zeros(len(images), np.int64)
    ends = np.cumsum(candidates)
    start = 0
    while start < len(images):
        before = int(ends[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + PAIR_BLOCK, side="right")))
        part = slice(start, stop)
        pair_rows = ranges(first[part], candidates[part])
        box = np.repeat(np.arange(start, stop), candidates[part])
        hit = _paired_iou(table.boxes_xyxy[pair_rows], boxes_xyxy[box]) >= enough[box]
        rows.append(pair_rows[hit])
        counts[part] = np.bincount(box[hit] - start, minlength=stop - start)
        start = stop
    return np.concatenate(rows), counts


def _paired_iou(first_xyxy: NDArray[np.float64], second_xyxy: NDArray[np.float64]) -> NDArray[np.float64]:
    """``(P,)`` IoU of row p with row p; float64, as the public evaluators have it."""
    sides = np.minimum(first_xyxy[:, 2:], second_xyxy[:, 2:]) - np.maximum(first_xyxy[:, :2], second_xyxy[:, :2])
    overlap = np.clip(sides[:, 0], 0, None) * np.clip(sides[:, 1], 0, None)
    union = box_area(first_xyxy) + box_area(second_xyxy) - overlap
    iou: NDArray[np.float64] = np.divide(overlap, union, out=np.zeros_like(overlap), where=union > 0)
    return iou
