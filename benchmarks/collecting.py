"""Everything a system says about one split, gathered in one pass: what every accuracy figure is computed from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from personsearch.benchmarks.systems import SearchSystem
from personsearch.core.detections import Detections, FloatArray
from personsearch.core.geometry import Boxes
from personsearch.core.preprocess import Frame
from personsearch.core.progress import StageProgress
from personsearch.data import Query, Sample, SearchDataset


class Embedder(Protocol):
    """Anything that describes given boxes."""

    def embed(self, frame: Frame, boxes_xyxy: Boxes) -> FloatArray:
        """``(N, D)`` L2-normalised descriptors."""


@dataclass(frozen=True, eq=False)
class Collected:
    """What one system found in one split, and its truth.

    Attributes:
        system: its name.
        sha256: of its weights; empty where there are none.
        score_threshold: the system reports no detection below it.
        samples: labels of each image.
        found: detections of each image; none from something that only embeds.
        true_boxes: true boxes of each image as detections of score 1, ignore regions left out; none where they were
            not embedded.
        query_embeddings: ``(Q, D)`` of the queries' true boxes; none where they were not embedded.
    """

    system: str
    sha256: str
    score_threshold: float
    samples: list[Sample]
    found: list[Detections] | None
    true_boxes: list[Detections] | None
    query_embeddings: FloatArray | None


class WithoutQueries:
    """A data set nobody is searched in, for a detector without embeddings."""

    queries: tuple[Query, ...] = ()

    def __init__(self, dataset: SearchDataset) -> None:
        self._dataset = dataset
        self.name, self.terms, self.person_count = dataset.name, dataset.terms, dataset.person_count

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> Sample:
        return self._dataset[index]

    def frame_bgr(self, index: int) -> Frame:
        """Pixels of frame ``index``, ``(H, W, 3)`` uint8 BGR."""
        return self._dataset.frame_bgr(index)


def collect(
    embedder: Embedder, dataset: SearchDataset, *, name: str, detector: SearchSystem | None, all_boxes: bool
) -> Collected:
    """Detects in every image and embeds every query's true box.

    Args:
        embedder: describes boxes.
        dataset: one split.
        name: of the system.
        detector: the same system where it detects; none for one that only embeds.
        all_boxes: also embed every true box (one more pass over the images).

    Raises:
        InputError: a frame cannot be read.
    """
    queries = dataset.queries
    asked: dict[int, list[int]] = {}
    for number, query in enumerate(queries):
        asked.setdefault(query.image_index, []).append(number)
    samples, found, true_boxes = [], [], []
    query_rows: dict[int, FloatArray] = {}
    with StageProgress("evaluate", len(dataset)) as progress:
        for index in range(len(dataset)):
            sample, frame = dataset[index], dataset.frame_bgr(index)
            samples.append(sample)
            if detector is not None:
                found += detector.infer([frame])
            people = sample.boxes_xyxy[sample.person_ids != -2] if all_boxes else np.zeros((0, 4), np.float32)
            numbers = asked.get(index, [])
            boxes = np.concatenate([people, *(queries[n].box_xyxy[None] for n in numbers)])
            embeddings = embedder.embed(frame, boxes)
            true_boxes.append(Detections(people, np.ones(len(people), np.float32), embeddings[: len(people)]))
            query_rows.update(zip(numbers, embeddings[len(people) :], strict=True))
            progress.advance()
    return Collected(
        system=name,
        sha256="" if detector is None else detector.sha256,
        score_threshold=0.0 if detector is None else detector.score_threshold,
        samples=samples,
        found=None if detector is None else found,
        true_boxes=true_boxes if all_boxes else None,
        query_embeddings=np.stack([query_rows[number] for number in range(len(queries))]) if queries else None,
    )
