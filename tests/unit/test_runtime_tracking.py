"""Tracks: who keeps a number, who gets a new one, and what a track knows."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from personsearch.core.detections import Detections
from personsearch.core.similarity import l2_normalise
from personsearch.runtime.assignment import most_gaining_pairs
from personsearch.runtime.tracking import Track, Tracker

ANNA, BERT = [1.0, 0.0], [0.0, 1.0]


def seen(*people: tuple[float, list[float]], top: float = 100, height: float = 100) -> Detections:
    """People by the x of their middle and their embedding; 40 wide."""
    boxes = [[x - 20, top, x + 20, top + height] for x, _ in people]
    embeddings = np.array([embedding for _, embedding in people], np.float32).reshape(-1, 2)
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4), np.ones(len(people), np.float32), l2_normalise(embeddings)
    )


def ids(tracks: list[Track]) -> list[int]:
    return [track.id for track in tracks]


def follow(tracker: Tracker, frames: list[Detections], rate_hz: float) -> list[list[int]]:
    return [ids(tracker.update(frame, index / rate_hz)) for index, frame in enumerate(frames)]


# --- the pairing -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gains", "expected"),
    [
        (np.zeros((0, 0)), []),
        (np.zeros((3, 0)), []),
        (np.zeros((0, 2)), []),
        (np.zeros((2, 2)), []),
        (np.array([[-1.0]]), []),
        (np.array([[0.5]]), [(0, 0)]),
        # The greatest gain alone, 0.9, is less than the two others together.
        (np.array([[0.9, 0.8], [0.8, 0.0]]), [(0, 1), (1, 0)]),
        (np.array([[0.9, 0.3], [0.5, 0.0]]), [(0, 0)]),
        (np.array([[0.2, 0.0, 0.7], [0.0, 0.0, 0.6]]), [(0, 0), (1, 2)]),
        (np.array([[0.2, 0.0, 0.7], [0.0, 0.0, 0.6]]).T, [(0, 0), (2, 1)]),
    ],
)
def test_pairs_by_hand(gains: NDArray[np.float64], expected: list[tuple[int, int]]) -> None:
    assert most_gaining_pairs(gains.astype(np.float32)) == expected


def test_gains_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        most_gaining_pairs(np.array([[0.5, np.nan]], np.float32))


SHAPES = st.tuples(st.integers(0, 9), st.integers(0, 9))


# Few values, so that ties are frequent; many of them without gain, so that there are several parts.
@settings(max_examples=150)
@given(
    arrays.arrays(
        np.float32,
        SHAPES,
        elements=st.sampled_from([-1.0, 0.0, 0.0, 0.0, 0.25, 0.5, 0.75, 1.0]) | st.floats(-1, 1, width=16),
    )
)
def test_pairs_gain_as_much_as_scipy_s(gains: NDArray[np.float32]) -> None:
    pairs = most_gaining_pairs(gains)
    assert pairs == sorted(pairs)
    assert len({row for row, _ in pairs}) == len({column for _, column in pairs}) == len(pairs)
    assert all(gains[pair] > 0 for pair in pairs)
    worth = np.maximum(gains, 0).astype(np.float64)
    best = worth[linear_sum_assignment(worth, maximize=True)].sum()
    assert sum(worth[pair] for pair in pairs) == pytest.approx(best, abs=1e-9)


@pytest.mark.parametrize("shape", [(64, 64), (64, 40), (20, 64)])
@pytest.mark.parametrize("share", [0.05, 1.0])
def test_pairs_of_a_crowd_gain_as_much_as_scipy_s(shape: tuple[int, int], share: float) -> None:
    random = np.random.default_rng(3)
    gains = np.where(random.random(shape) < share, random.random(shape), 0).astype(np.float32)
    best = gains[linear_sum_assignment(gains, maximize=True)].astype(np.float64).sum()
    assert sum(float(gains[pair]) for pair in most_gaining_pairs(gains)) == pytest.approx(best, abs=1e-6)


# --- who is who ------------------------------------------------------------------------------------------------------


def test_nobody_at_first_then_somebody_then_nobody() -> None:
    tracker = Tracker()
    assert tracker.update(seen(), 0.0) == []
    assert ids(tracker.update(seen((100, ANNA)), 0.1)) == [1]
    assert tracker.update(seen(), 0.2) == []
    assert ids(tracker.update(seen((100, ANNA)), 0.3)) == [1]


def test_a_walker_keeps_the_number_whatever_the_order_of_the_detections() -> None:
    frames = [seen((100 + 8 * i, ANNA), (500 - 8 * i, BERT)) for i in range(10)]
    frames[4] = frames[4][np.array([1, 0])]
    found = follow(Tracker(), frames, rate_hz=10)
    assert found[4] == [2, 1]
    assert found[:4] + found[5:] == [[1, 2]] * 9


def test_constant_velocity_bridges_a_gap_that_overlap_does_not() -> None:
    """After 0.5 s behind a pillar the walker is 60 px on, out of the last box, without a look at the clothes."""
    tracker = Tracker(appearance=0, min_cosine=1.0)
    for i in range(10):
        tracker.update(seen((100 + 12 * i, [1.0, i])), i / 10)
    assert ids(tracker.update(seen((100 + 12 * 14, [0.0, -1.0])), 1.4)) == [1]
    assert ids(tracker.update(seen((100 + 12 * 9, [0.0, -1.0])), 1.45)) == [2]


def test_times_count_and_not_frames() -> None:
    """The same walk with frames left out, at uneven times, gives the same number."""
    times = [0, 0.1, 0.2, 0.3, 0.5, 0.6, 1.0, 1.1, 1.6, 2.0]
    tracker = Tracker()
    assert [ids(tracker.update(seen((100 + 90 * time, ANNA)), time)) for time in times] == [[1]] * len(times)


def test_two_who_turn_round_where_they_meet_are_told_apart_by_their_looks() -> None:
    """A constant velocity alone lets them walk through each other."""
    ways = [(300 - abs(60 - 8 * i), 300 + abs(60 - 8 * i)) for i in range(16)]
    frames = [seen((left, ANNA), (right, BERT)) for left, right in ways]
    assert follow(Tracker(), frames, rate_hz=10) == [[1, 2]] * 16
    blind = follow(Tracker(appearance=0, min_cosine=-1), frames, rate_hz=10)
    assert (blind[0], blind[-1]) == ([1, 2], [2, 1])


def test_at_one_frame_a_second_looks_decide_whether_it_is_the_same_person() -> None:
    """55 px on in a second, the boxes apart: the same clothes go on, other clothes are somebody new."""
    tracker = Tracker()
    tracker.update(seen((100, ANNA)), 0.0)
    assert ids(tracker.update(seen((155, ANNA)), 1.0)) == [1]
    other = Tracker()
    other.update(seen((100, ANNA)), 0.0)
    assert ids(other.update(seen((155, BERT)), 1.0)) == [2]


def test_nobody_jumps_across_the_picture() -> None:
    tracker = Tracker()
    tracker.update(seen((100, ANNA)), 0.0)
    assert ids(tracker.update(seen((600, ANNA)), 0.1)) == [2]


def test_a_track_ends_after_its_age_and_not_at_it() -> None:
    tracker = Tracker(max_age_s=1.0)
    tracker.update(seen((100, ANNA)), 0.0)
    assert ids(tracker.update(seen((100, ANNA)), 1.0)) == [1]
    assert ids(tracker.update(seen((100, ANNA)), 2.0625)) == [2]


def test_two_detections_of_one_place_are_two_tracks() -> None:
    tracker = Tracker()
    assert ids(tracker.update(seen((100, ANNA), (100, ANNA)), 0.0)) == [1, 2]
    assert sorted(ids(tracker.update(seen((100, ANNA), (100, ANNA), (100, ANNA)), 0.1))) == [1, 2, 3]


# --- what a track knows ----------------------------------------------------------------------------------------------


def test_a_track_s_figures() -> None:
    tracker = Tracker()
    tracker.update(seen((100, ANNA)), 1.0)
    tracker.update(seen(), 1.5)
    (track,) = tracker.update(seen((104, ANNA)), 2.0)
    assert (track.id, track.hits, track.start_s, track.last_s) == (1, 2, 1.0, 2.0)
    np.testing.assert_array_equal(track.box_xyxy, [84, 100, 124, 200])


def test_the_mean_embedding_fades_by_the_time_constant() -> None:
    """After one memory the older embedding weighs 1/e: (1/e, 1), made as long as 1."""
    tracker = Tracker(memory_s=0.5)
    tracker.update(seen((100, ANNA)), 0.0)
    (track,) = tracker.update(seen((100, BERT)), 0.5)
    expected = np.array([math.exp(-1), 1.0]) / math.hypot(math.exp(-1), 1.0)
    np.testing.assert_allclose(track.mean_embedding, expected, atol=1e-6)


def test_an_earlier_answer_does_not_change() -> None:
    tracker = Tracker()
    detections = seen((100, ANNA))
    (first,) = tracker.update(detections, 0.0)
    box, mean = first.box_xyxy.copy(), first.mean_embedding.copy()
    tracker.update(seen((110, BERT)), 0.1)
    np.testing.assert_array_equal(first.box_xyxy, box)
    np.testing.assert_array_equal(first.mean_embedding, mean)
    np.testing.assert_array_equal(detections.boxes_xyxy, [[80, 100, 120, 200]])
    np.testing.assert_array_equal(detections.embeddings, [ANNA])


# --- properties ------------------------------------------------------------------------------------------------------

PERSON = st.tuples(st.integers(0, 40).map(lambda x: 10.0 * x), st.sampled_from([ANNA, BERT, [1.0, 1.0], [1.0, -1.0]]))
SCENES = st.lists(st.tuples(st.sampled_from([0.0, 0.04, 0.1, 0.5, 3.0]), st.lists(PERSON, max_size=6)), max_size=12)


@settings(max_examples=100)
@given(SCENES)
def test_rows_numbers_ages_and_lengths(scenes: list[tuple[float, list[tuple[float, list[float]]]]]) -> None:
    tracker, twin = Tracker(max_age_s=1.0), Tracker(max_age_s=1.0)
    time_s, hits, last = 0.0, dict[int, int](), dict[int, float]()
    for step, people in scenes:
        time_s += step
        detections = seen(*people)
        tracks = tracker.update(detections, time_s)
        assert len(set(ids(tracks))) == len(tracks) == len(people)
        for track, box in zip(tracks, detections.boxes_xyxy, strict=True):
            np.testing.assert_array_equal(track.box_xyxy, box)
            hits[track.id] = hits.get(track.id, 0) + 1
            assert track.hits == hits[track.id]
            assert time_s - last.get(track.id, track.start_s) <= 1.0
            assert np.linalg.norm(track.mean_embedding) == pytest.approx(1, abs=1e-5)
            last[track.id] = track.last_s
        assert ids(twin.update(detections, time_s)) == ids(tracks)
    assert set(hits) == set(range(1, len(hits) + 1))


@settings(max_examples=50)
@given(SCENES, st.sampled_from([0.25, 2.0, 8.0]), st.integers(-3, 3))
def test_neither_the_picture_s_size_nor_where_it_lies_nor_the_clock_matters(
    scenes: list[tuple[float, list[tuple[float, list[float]]]]], scale: float, shift: int
) -> None:
    plain, other = Tracker(), Tracker()
    time_s = 0.0
    for step, people in scenes:
        time_s += step
        detections = seen(*people)
        moved = Detections(detections.boxes_xyxy * scale + 1024 * shift, detections.scores, detections.embeddings)
        assert ids(plain.update(detections, time_s)) == ids(other.update(moved, time_s + 4 * shift))


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "setting",
    [
        {"max_age_s": 0.0},
        {"max_age_s": math.inf},
        {"memory_s": -1.0},
        {"min_iou": 0.0},
        {"min_iou": 1.5},
        {"min_cosine": -2.0},
        {"appearance": 1.5},
        {"appearance": math.nan},
    ],
)
def test_settings_out_of_range_are_refused(setting: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(setting))):
        Tracker(**setting)


@pytest.mark.parametrize("time_s", [0.9, math.nan, math.inf])
def test_time_that_falls_is_refused_and_nothing_is_lost(time_s: float) -> None:
    tracker = Tracker()
    tracker.update(seen((100, ANNA)), 1.0)
    with pytest.raises(ValueError, match="seconds that do not fall"):
        tracker.update(seen((100, ANNA)), time_s)
    assert ids(tracker.update(seen((100, ANNA)), 1.0)) == [1]


def test_another_width_of_embeddings_is_refused() -> None:
    tracker = Tracker()
    tracker.update(seen((100, ANNA)), 0.0)
    with pytest.raises(ValueError, match="width 3, earlier 2"):
        tracker.update(Detections.empty(3), 0.1)
    assert ids(tracker.update(seen((100, ANNA)), 0.2)) == [1]


def test_numbers_are_never_used_twice() -> None:
    tracker = Tracker(max_age_s=0.5)
    found = [ids(tracker.update(seen((100, ANNA)), float(time))) for time in range(4)]
    assert list(itertools.chain(*found)) == [1, 2, 3, 4]
