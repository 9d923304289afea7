"""The labels of a split as one `LabelIndex`, whatever it is made of: what checks and contact sheets look at."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from personsearch.core.seeding import rng_for
from personsearch.data.index import DEFAULT_PROTOCOL, IndexedDataset, LabelIndex, QueryTable
from personsearch.data.sample import IntArray, SearchDataset


@dataclass(frozen=True, eq=False)
class Survey:
    """Labels of a split, or of some of its frames where there are too many to render.

    Attributes:
        dataset: the split.
        index: its labels; an empty image path is a rendered frame. Queries count images as the data set does.
        rows: ``(I,)`` which frame of the data set each image of ``index`` is.
        root: that the image paths count from.
    """

    dataset: SearchDataset
    index: LabelIndex
    rows: IntArray
    root: Path

    @property
    def whole(self) -> bool:
        """Whether every frame was looked at."""
        return len(self.rows) == len(self.dataset)

    def file(self, image: int) -> Path | None:
        """The file of an image of ``index``; none for a rendered frame."""
        path = self.index.image_paths[image]
        return self.root / path if path else None


def spread(count: int, limit: int, seed: int = 0) -> IntArray:
    """Up to ``limit`` numbers below ``count`` in order: one drawn from each of as many equal stretches."""
    if count <= limit:
        return np.arange(count, dtype=np.int64)
    edges = np.arange(limit + 1) * count // max(limit, 1)
    return rng_for(seed, "spread", count, limit).integers(edges[:-1], edges[1:])


def survey(dataset: SearchDataset, limit: int, seed: int = 0) -> Survey:
    """Gathers a data set's labels; of one that renders its frames those of at most ``limit``, spread evenly.

    Raises:
        InputError: a frame's labels cannot be read or rendered.
    """
    if isinstance(dataset, IndexedDataset):
        return Survey(dataset, dataset.index, np.arange(len(dataset), dtype=np.int64), dataset.root)
    rows = spread(len(dataset), limit, seed)
    samples = [dataset[row] for row in rows.tolist()]
    queries = dataset.queries
    index = LabelIndex(
        name=dataset.name,
        terms=dataset.terms,
        image_paths=tuple("" if sample.image_path is None else str(sample.image_path) for sample in samples),
        image_wh=np.array([sample.image_wh for sample in samples], np.int64).reshape(-1, 2),
        camera_ids=np.array([sample.camera_id for sample in samples], np.int64),
        frame_indices=np.array([sample.frame_index for sample in samples], np.int64),
        offsets=np.cumsum([0, *(len(sample.person_ids) for sample in samples)], dtype=np.int64),
        boxes_xyxy=np.concatenate([np.zeros((0, 4), np.float32), *(sample.boxes_xyxy for sample in samples)]),
        person_ids=np.concatenate([np.zeros(0, np.int64), *(sample.person_ids for sample in samples)]),
        person_names=tuple(str(number) for number in range(dataset.person_count)),
        protocols={DEFAULT_PROTOCOL: QueryTable.of(queries)} if queries else {},
        problems=(),
    )
    return Survey(dataset, index, rows, Path())
