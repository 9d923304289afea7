"""Frames that carry their number in a corner pixel, and graphs that know by heart what each shows."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np

from personsearch.core.detections import FloatArray
from personsearch.core.preprocess import Frame, Preprocess
from personsearch.export.gate_frames import GateFrame
from personsearch.export.rows import Rows

PREPROCESS = Preprocess(input_wh=(64, 48))
PEOPLE = 3
IMAGES = 6
QUERY_BOXES = 2
SCORES = (0.9, 0.8, 0.7)


def boxes_of(number: int) -> FloatArray:
    """``(3, 4)``: three people side by side, a little elsewhere in each image."""
    left = np.array([4, 24, 44], dtype=np.float32) + number % 3
    return np.stack([left, np.full(3, 6), left + 12, np.full(3, 40)], axis=1).astype(np.float32)


def embeddings_of(number: int) -> FloatArray:
    """``(3, 4)`` unit rows: a direction a person, turned a little by the image."""
    rows = np.eye(4, dtype=np.float32)[:PEOPLE] + 0.05 * (number + 1) * np.array([[0, 0, 0, 1]], np.float32)
    rows[:, 3] *= np.array([1, 2, 3], np.float32)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def frame(number: int) -> Frame:
    """48 x 64 grey with its number in the corner."""
    image = np.full((48, 64, 3), 128, dtype=np.uint8)
    image[0, 0] = number
    return image


def gate_frames() -> list[GateFrame]:
    """All images, as the gate takes them."""
    return [GateFrame(frame(number), "usual", (64, 48)) for number in range(IMAGES)]


class KnownGraphs:
    """Answers from `boxes_of` and `embeddings_of`, with one thing changed.

    Args:
        forgets: image and row of a person who is not found.
        shifts_px: moves every box to the right.
        mixes: exchanges the embeddings of two people in every image.
        bare: has no embeddings.
    """

    def __init__(
        self, *, forgets: tuple[int, int] | None = None, shifts_px: float = 0, mixes: bool = False, bare: bool = False
    ) -> None:
        self._forgets, self._shift, self._mixes, self._bare = forgets, shifts_px, mixes, bare

    def search(self, frame: Frame) -> Rows:
        number = int(frame[0, 0, 0])
        order = [1, 0, 2] if self._mixes else [0, 1, 2]
        embeddings = embeddings_of(number)[order, : 0 if self._bare else 4]
        moved = boxes_of(number) + np.array([self._shift, 0, self._shift, 0], dtype=np.float32)
        rows = Rows(moved, np.array(SCORES, dtype=np.float32), embeddings)
        if self._forgets is not None and self._forgets[0] == number:
            kept = np.arange(PEOPLE) != self._forgets[1]
            return Rows(rows.boxes[kept], rows.scores[kept], rows.embeddings[kept])
        return rows

    def query(self, frame: Frame, boxes: FloatArray) -> FloatArray:
        number = int(frame[0, 0, 0])
        row = np.abs(boxes[:, None] - boxes_of(number)[None]).sum(axis=2).argmin(axis=1)
        return embeddings_of(number)[row, : 0 if self._bare else 4]


def write_labelled(root: Path, *, splits: tuple[str, ...] = ("train",), people: bool = True) -> Path:
    """A data set folder whose every split shows the images above with true labels."""
    (root / "frames").mkdir(parents=True)
    (root / "annotations").mkdir()
    for number in range(IMAGES):
        cv2.imwrite(str(root / "frames" / f"{number}.png"), frame(number))
    for split in splits:
        images = [
            {"id": n, "file_name": f"frames/{n}.png", "width": 64, "height": 48, "camera_id": n, "frame_index": n}
            for n in range(IMAGES)
        ]
        annotations = [
            {
                "id": PEOPLE * n + person, "image_id": n, "category_id": 1, "iscrowd": 0, "person_id": person,
                "bbox": [float(box[0]), float(box[1]), float(box[2] - box[0]), float(box[3] - box[1])],
            }
            for n in range(IMAGES) for person, box in enumerate(boxes_of(n))
        ]  # fmt: skip
        content = {
            "person_count": PEOPLE, "images": images, "annotations": annotations if people else [],
            "categories": [{"id": 1, "name": "person"}], "queries": [],
        }  # fmt: skip
        (root / "annotations" / f"{split}.json").write_text(json.dumps(content))
    head = {"format": "personsearch/1", "name": "known", "terms": "made by a test", "generator": None, "videos": {}}
    (root / "dataset.json").write_text(
        json.dumps({**head, "splits": {split: f"annotations/{split}.json" for split in splits}})
    )
    return root
