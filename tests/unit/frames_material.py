"""A data set of grey frames, made of rows of cameras and person ids."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from personsearch.data import Query, Sample

A, B, C = (0, 0, 40, 100), (60, 0, 100, 100), (120, 0, 160, 100)


class Frames:
    """For each image its camera and the ids of those who stand at A, B and C; the frame's grey level is its number."""

    name, terms, person_count, protocol = "frames", "test", 50, "own"

    def __init__(self, rows: Sequence[tuple[int, Sequence[int]]], queries: tuple[Query, ...] = ()) -> None:
        self._rows, self.queries = rows, queries

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Sample:
        camera, ids = self._rows[index]
        boxes = np.array([A, B, C][: len(ids)], np.float32).reshape(-1, 4)
        return Sample(None, boxes, np.array(ids, np.int64), camera, index, (200, 100))

    def frame_bgr(self, index: int) -> np.ndarray:
        return np.full((100, 200, 3), index, np.uint8)


def pairs(people: int) -> Frames:
    """Each person in two images, seen by two cameras."""
    return Frames([(index % 2, [index // 2]) for index in range(2 * people)])
