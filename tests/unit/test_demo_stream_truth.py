"""Matches of a video against its ground truth."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from personsearch.benchmarks.demo.stream_truth import VideoTruth, read_truth, score_stream

BOX = np.array([10, 10, 50, 110], np.float32)
ELSEWHERE = np.array([200, 10, 240, 110], np.float32)


def truth(*boxes: np.ndarray | None) -> VideoTruth:
    return VideoTruth(10.0, Path("query.jpg"), (0, 0, 10, 20), boxes)


def test_nothing_in_view_and_nothing_reported() -> None:
    scores = score_stream(truth(None, None), {}, 64, visit_gap_s=2.0)
    assert (scores.frames, scores.in_view, scores.matched, scores.visits) == (2, 0, 0, 0)
    assert scores.recall == scores.precision == 0.0


def test_frames_are_found_missed_and_invented() -> None:
    scores = score_stream(truth(BOX, BOX, BOX, None), {0: BOX, 1: ELSEWHERE, 3: BOX}, 64, visit_gap_s=2.0)
    assert (scores.found, scores.in_view) == (1, 3)
    assert (scores.right, scores.matched) == (1, 3)
    assert scores.recall == 1 / 3
    assert scores.precision == 1 / 3


def test_overlap_decides_at_one_half() -> None:
    half = BOX.copy()
    half[3] = 60  # the upper half: IoU is exactly 0.5
    less = BOX.copy()
    less[3] = 59
    assert score_stream(truth(BOX), {0: half}, 64, visit_gap_s=2.0).found == 1
    assert score_stream(truth(BOX), {0: less}, 64, visit_gap_s=2.0).found == 0


def test_a_small_query_need_not_be_found_but_may_be() -> None:
    scores = score_stream(truth(BOX), {0: BOX}, 101, visit_gap_s=2.0)
    assert (scores.in_view, scores.found) == (0, 0)
    assert (scores.matched, scores.right) == (1, 1)


def test_visits_count_when_half_of_their_frames_are_found() -> None:
    boxes = (BOX, BOX, None, BOX, BOX, BOX, None, BOX)
    scores = score_stream(truth(*boxes), {0: BOX, 3: BOX, 7: BOX}, 64, visit_gap_s=0.1)
    assert scores.visits == 3
    assert scores.visits_found == 2  # one of two frames, one of three, one of one


def test_a_pause_up_to_the_gap_does_not_end_a_visit() -> None:
    boxes = (BOX, None, None, BOX, None, None, None, BOX)  # 10 frames a second: pauses of 0.3 s and 0.4 s
    found = {0: BOX}
    for gap_s, visits, visits_found in ((0.25, 3, 1), (0.3, 2, 1), (0.4, 1, 0)):
        scores = score_stream(truth(*boxes), found, 64, visit_gap_s=gap_s)
        assert (scores.visits, scores.visits_found) == (visits, visits_found), gap_s


def test_truth_is_that_of_the_query_alone(tmp_path: Path) -> None:
    content = {
        "fps": 12.5,
        "frames": [
            {"index": 0, "boxes": [], "person_ids": []},
            {"index": 1, "boxes": [[1, 2, 3, 40], [5, 6, 7, 80]], "person_ids": [-1, 4]},
            {"index": 2, "boxes": [[5, 6, 7, 80]], "person_ids": [3]},
        ],
        "query": {"image": "frames/q.jpg", "box": [1, 2, 30, 40], "person_id": 4},
    }
    (tmp_path / "search.json").write_text(json.dumps(content))
    read = read_truth(tmp_path, "search.json")
    assert read.query_image == tmp_path / "frames/q.jpg"
    assert read.query_box_xyxy == (1, 2, 30, 40)
    assert read.fps == 12.5
    assert read.boxes[0] is None
    assert read.boxes[2] is None
    assert read.boxes[1] is not None
    assert read.boxes[1].tolist() == [5, 6, 7, 80]
