"""The pictures of a ranking agree with the figures of the evaluation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from personsearch.benchmarks.demo.ranking import rank_people
from personsearch.core.detections import Detections
from personsearch.core.similarity import l2_normalise
from personsearch.data import Query, Sample

PEOPLE, IMAGES = 4, 9
SIZE = np.array([30, 60], np.float32)
LOWER = np.array([0, 15, 0, 15], np.float32)


class Scenes:
    """Blank frames that carry their number in their first pixel; some people are missing, some unknown."""

    name, terms, person_count = "scenes", "made up", PEOPLE

    def __init__(self, seed: int, gallery: tuple[int, ...] | None) -> None:
        rng = np.random.default_rng(seed)
        self.samples = []
        for index in range(IMAGES):
            ids = np.array([p for p in range(PEOPLE) if rng.random() < 0.7] + [-1], np.int64)
            corners = np.stack([10 + 40 * np.arange(len(ids)), np.full(len(ids), 20)], axis=1).astype(np.float32)
            self.samples.append(Sample(None, np.concatenate([corners, corners + SIZE], 1), ids, 0, index, (220, 100)))
        self.queries = tuple(
            Query(index, sample.boxes_xyxy[0], int(sample.person_ids[0]), gallery)
            for index, sample in enumerate(self.samples)
            if sample.person_ids[0] >= 0
        )

    def __len__(self) -> int:
        return IMAGES

    def __getitem__(self, index: int) -> Sample:
        return self.samples[index]

    def frame_bgr(self, index: int) -> np.ndarray:
        frame = np.zeros((100, 220, 3), np.uint8)
        frame[0, 0] = index
        return frame


class Guesser:
    """Finds most people, some twice, and a few that are not there; embeds at random."""

    score_threshold, sha256 = 0.5, ""

    def __init__(self, scenes: Scenes, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.found = []
        for sample in scenes.samples:
            boxes = np.concatenate([sample.boxes_xyxy, sample.boxes_xyxy + 2, sample.boxes_xyxy + LOWER])
            kept = boxes[rng.random(len(boxes)) < 0.6]
            self.found.append(self.detections(np.concatenate([kept, [[0, 0, 20, 90]]]).astype(np.float32), rng))

    def detections(self, boxes: np.ndarray, rng: np.random.Generator) -> Detections:
        scores = np.sort(rng.uniform(0.3, 1, len(boxes)))[::-1].astype(np.float32)
        return Detections(boxes, scores, l2_normalise(rng.standard_normal((len(boxes), 5)).astype(np.float32)))

    def infer(self, frames: Sequence[np.ndarray]) -> list[Detections]:
        return [self.found[int(frame[0, 0, 0])] for frame in frames]

    def embed(self, frame: np.ndarray, boxes_xyxy: np.ndarray) -> np.ndarray:
        rng = np.random.default_rng(int(frame[0, 0, 0]))
        return l2_normalise(rng.standard_normal((len(boxes_xyxy), 5)).astype(np.float32))


@pytest.mark.parametrize("gallery", [None, (0, 2, 2, 3, 5, 8)])
@pytest.mark.parametrize("seed", range(4))
def test_marks_of_a_whole_ranking_give_its_average_precision(seed: int, gallery: tuple[int, ...] | None) -> None:
    scenes = Scenes(seed, gallery)
    first = {query.person_id: query for query in reversed(scenes.queries)}
    rankings = rank_people(Guesser(scenes, seed), scenes, queries=PEOPLE, best=10_000)
    assert len(rankings) == len(first)
    for ranking, person_id in zip(rankings, dict.fromkeys(query.person_id for query in scenes.queries), strict=True):
        assert ranking.title.startswith(f"Person {person_id},")
        searched = set(range(IMAGES) if gallery is None else gallery) - {first[person_id].image_index}
        present = sum(person_id in scenes.samples[image].person_ids for image in searched)
        right = np.array([match.right for match in ranking.matches])
        precisions = [right[: rank + 1].mean() for rank in np.flatnonzero(right)]
        expected = sum(precisions) / present if present else 0.0
        assert ranking.average_precision == pytest.approx(expected)
        assert [m.similarity for m in ranking.matches] == sorted((m.similarity for m in ranking.matches), reverse=True)


def test_only_the_best_are_shown() -> None:
    scenes = Scenes(0, None)
    rankings = rank_people(Guesser(scenes, 0), scenes, queries=2, best=3)
    assert [len(ranking.matches) for ranking in rankings] == [3, 3]
