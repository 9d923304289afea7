"""Measuring a system on a data set: figures that can be told in advance, and the way through torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from personsearch.benchmarks.accuracy import measure_accuracy, measure_histogram
from personsearch.benchmarks.histogram import HistogramEmbedder
from personsearch.benchmarks.systems import TorchSystem, open_system
from personsearch.core.detections import Detections, FloatArray
from personsearch.core.errors import InputError
from personsearch.core.geometry import Boxes, Letterbox
from personsearch.core.preprocess import Frame, Preprocess
from personsearch.core.recipes import DepthwiseTrunk, HdlRecipe
from personsearch.data import Query, Sample
from personsearch.models.build import build_model
from personsearch.runtime import StageTimes

COLOURS = [(200, 30, 30), (30, 200, 30), (30, 30, 200)]
LEFT, RIGHT = [10, 10, 30, 60], [60, 10, 80, 60]


class Squares:
    """Six frames of two coloured boxes; person p wears colour p. Box places differ from frame to frame."""

    name, terms, person_count = "squares", "test", 3

    def __init__(self, queries: Sequence[Query] | None = None) -> None:
        asked = [Query(i, self._boxes(i)[0], self._people(i)[0]) for i in range(3)]
        self.queries = tuple(asked if queries is None else queries)

    def _people(self, index: int) -> list[int]:
        return [index % 3, (index + 1) % 3]

    def _boxes(self, index: int) -> FloatArray:
        return np.array([LEFT, RIGHT], np.float32) + index

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> Sample:
        people = np.array([*self._people(index), -2])
        boxes = np.concatenate([self._boxes(index), np.array([[0, 80, 100, 100]], np.float32)])
        return Sample(None, boxes, people, 0, index, (100, 100))

    def frame_bgr(self, index: int) -> Frame:
        frame = np.full((100, 100, 3), 128, np.uint8)
        for box, person in zip(self._boxes(index).astype(int), self._people(index), strict=True):
            frame[box[1] : box[3], box[0] : box[2]] = COLOURS[person]
        return frame


class ColourFinder:
    """Sees what is not grey, left and right, and embeds its mean colour; blind on the frames named."""

    score_threshold = 0.5
    sha256 = ""
    last_times = StageTimes()

    def __init__(self, blind: Sequence[int] = ()) -> None:
        self._blind, self._seen = set(blind), -1

    def infer(self, frames: Sequence[Frame]) -> list[Detections]:
        return [self._find(frame) for frame in frames]

    def _find(self, frame: Frame) -> Detections:
        self._seen += 1
        if self._seen in self._blind:
            return Detections.empty(3)
        boxes = []
        for start in (0, 48):
            ys, xs = np.nonzero((frame[:, start : start + 48] != 128).any(axis=2))
            boxes.append([xs.min() + start, ys.min(), xs.max() + start + 1, ys.max() + 1])
        rows = np.array(boxes, np.float32)
        return Detections(rows, np.array([0.9, 0.8]), self.embed(frame, rows))

    def embed(self, frame: Frame, boxes_xyxy: Boxes) -> FloatArray:
        rows = np.zeros((len(boxes_xyxy), 3), np.float32)
        for row, (x1, y1, x2, y2) in zip(rows, boxes_xyxy.astype(int), strict=True):
            row[:] = frame[y1:y2, x1:x2].mean(axis=(0, 1)) - 80
        return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)


def test_a_perfect_system_scores_everything() -> None:
    result = measure_accuracy(ColourFinder(), Squares(), name="colours")
    assert result.detection is not None
    assert result.search is not None
    assert result.true_boxes is not None
    assert (result.images, result.people, result.queries) == (6, 12, 3)
    assert (result.detection.recall, result.detection.precision) == (1.0, 1.0)
    assert result.search.mean_ap == result.true_boxes.mean_ap == 1.0
    assert result.search.top == {1: 1.0, 5: 1.0, 10: 1.0}
    assert 0.3 < result.search.chance_mean_ap < 0.7  # each person is in 3 of 5 other images, 2 boxes in each


def test_missed_frames_cost_search_but_not_the_true_box_figures() -> None:
    result = measure_accuracy(ColourFinder(blind=[4, 5]), Squares(), name="colours")
    assert result.detection is not None
    assert result.search is not None
    assert result.true_boxes is not None
    assert result.detection.recall == pytest.approx(8 / 12)
    assert result.true_boxes.mean_ap == 1.0
    # Of the three images that show persons 0, 1 and 2 besides the query's own, 1, 1 and 2 are missed.
    assert result.search.mean_ap == pytest.approx((2 / 3 + 2 / 3 + 1 / 3) / 3)


def test_without_queries_only_detection_is_measured() -> None:
    result = measure_accuracy(ColourFinder(), Squares(queries=[]), name="colours")
    assert result.search is None
    assert result.true_boxes is None
    assert result.detection is not None


def test_queries_nobody_answers_are_bad_input() -> None:
    lonely = Query(0, np.array(LEFT, np.float32), 0, gallery=(1,))  # image 1 shows persons 1 and 2
    with pytest.raises(InputError, match=r"squares, split test: none of 1 queries"):
        measure_accuracy(ColourFinder(), Squares(queries=[lonely]), name="colours")


def test_the_histogram_tells_clothing_colours_apart() -> None:
    result = measure_histogram(Squares())
    assert result.true_boxes is not None
    assert result.true_boxes.mean_ap == 1.0
    assert result.search is None


def test_histogram_descriptors_see_where_a_colour_is_worn() -> None:
    frame = np.full((60, 60, 3), 128, np.uint8)
    frame[0:30, 0:20], frame[30:60, 0:20] = COLOURS[0], COLOURS[1]
    frame[0:30, 20:40], frame[30:60, 20:40] = COLOURS[1], COLOURS[0]
    frame[0:30, 40:60], frame[30:60, 40:60] = COLOURS[0], COLOURS[1]
    boxes = np.array([[0, 0, 20, 60], [20, 0, 40, 60], [40, 0, 60, 60], [-5, 50, 8, 80]], np.float32)
    rows = HistogramEmbedder().embed(frame, boxes)
    assert np.linalg.norm(rows, axis=1) == pytest.approx(1.0, abs=1e-6)
    assert rows[0] @ rows[2] == pytest.approx(1.0, abs=1e-6)
    assert rows[0] @ rows[1] == pytest.approx(0.0, abs=1e-6)
    assert HistogramEmbedder().embed(frame, boxes[:0]).shape == (0, HistogramEmbedder.embedding_dim)
    with pytest.raises(ValueError, match="covers no pixel"):
        HistogramEmbedder().embed(frame, np.array([[70, 0, 80, 10]], np.float32))


def test_histogram_of_fewer_rows_than_stripes() -> None:
    row = HistogramEmbedder().embed(np.full((4, 4, 3), 9, np.uint8), np.array([[0, 0, 4, 2]], np.float32))
    assert np.linalg.norm(row) == pytest.approx(1.0, abs=1e-6)


def test_torch_system_maps_boxes_both_ways() -> None:
    torch.manual_seed(3)
    recipe = HdlRecipe(
        trunk=DepthwiseTrunk(stem_channels=8, channels=(8, 8, 8), modules=1, person_channels=8),
        attention="none",
        anchor_heights=(40.0,),
        rpn_channels=8,
        score_threshold=0.0,
    )
    model = build_model(recipe, Preprocess(input_wh=(96, 64)), 2).eval()
    system = TorchSystem(model)
    frame = np.random.default_rng(0).integers(0, 256, (100, 60, 3), dtype=np.uint8)
    letterbox = Letterbox.fit((60, 100), (96, 64))
    (found,) = system.infer([frame])
    assert len(found)
    assert (found.boxes_xyxy >= 0).all()
    assert (found.boxes_xyxy <= np.array([60, 100, 60, 100])).all()
    # Embedding a detection's own box through the system equals embedding it in input pixels by hand.
    image = torch.from_numpy(model.preprocess.letterbox(frame)[0][None])
    by_hand = model.embed(image, [torch.from_numpy(letterbox.to_input(found.boxes_xyxy).astype(np.float32))])[0]
    assert system.embed(frame, found.boxes_xyxy) == pytest.approx(by_hand.numpy(), abs=1e-5)
    assert system.embed(frame, found.boxes_xyxy[:0]).shape == (0, model.embedding_dim)


def test_opening_nothing_is_bad_input(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("empty")
    with pytest.raises(InputError, match="is not an artifact"):
        open_system(folder)
    with pytest.raises(InputError, match="does not exist"):
        open_system(folder / "checkpoint.pt")
