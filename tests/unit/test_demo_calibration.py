"""The match threshold against a slow count of pairs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from personsearch.benchmarks.calibration import calibrate_threshold
from personsearch.core.detections import FloatArray
from personsearch.core.errors import InputError
from personsearch.core.similarity import l2_normalise
from personsearch.data import Sample


class People:
    """A data set of blank frames; a box's left edge is the row of its embedding, a frame's grey level its camera."""

    name, terms, queries = "people", "made up", ()

    def __init__(self, rows: list[tuple[list[int], int]]) -> None:
        self.person_count = 100
        self.samples: list[Sample] = []
        self.boxes = 0
        for index, (ids, camera) in enumerate(rows):
            left = np.arange(self.boxes, self.boxes + len(ids), dtype=np.float32)
            boxes = np.stack([left, left * 0, left + 10, left * 0 + 20], axis=1)
            self.samples.append(Sample(None, boxes, np.array(ids, np.int64), camera, index, (1000, 100)))
            self.boxes += len(ids)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        return self.samples[index]

    def frame_bgr(self, index: int) -> np.ndarray:
        return np.zeros((100, 1000, 3), np.uint8)


class Rows:
    """Looks embeddings up by the left edge of the box."""

    def __init__(self, embeddings: FloatArray) -> None:
        self.embeddings = embeddings

    def embed(self, frame: np.ndarray, boxes_xyxy: np.ndarray) -> FloatArray:
        return self.embeddings[boxes_xyxy[:, 0].astype(int)]


def at_angles(*degrees: float) -> Rows:
    angles = np.deg2rad(degrees)
    return Rows(np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32))


def test_threshold_lies_just_above_the_refused_pair() -> None:
    people = People([([0, 1], 0), ([0], 1), ([2], 0)])
    # Different pairs: 0-1 at 60, 0'-1 at 50, 0-2 at 90, 0'-2 at 80, 1-2 at 30 degrees; same: 0-0' at 10.
    result = calibrate_threshold(at_angles(0, 60, 10, 90), people, false_match_rate=0.2)
    assert result.different_pairs == 5
    assert result.same_pairs == 1
    # One of five may pass: the pair at 30 degrees; the one at 50 may not.
    assert np.isclose(result.threshold, np.cos(np.deg2rad(50)), atol=1e-6)
    assert result.false_match_rate == pytest.approx(0.2)
    assert result.true_match_rate == 1.0


def test_one_camera_says_nothing_about_recognising_across_cameras() -> None:
    people = People([([0, 1], 3), ([0], 3)])
    with pytest.raises(InputError, match="one person in two cameras"):
        calibrate_threshold(at_angles(0, 60, 10), people)


def test_people_without_identity_are_strangers_to_identities_but_not_to_each_other() -> None:
    people = People([([0, -1], 0), ([0, -1], 1)])
    result = calibrate_threshold(at_angles(0, 90, 1, 90), people)
    assert result.different_pairs == 4
    assert result.threshold < 0.1  # the two strangers at the same angle do not count as a false match


def test_ignored_regions_are_not_embedded() -> None:
    people = People([([0, -2], 0), ([0, 1], 1)])
    result = calibrate_threshold(at_angles(0, 45, 1, 90), people)
    assert result.different_pairs == 2


def test_nobody_is_bad_input() -> None:
    with pytest.raises(InputError, match="shows nobody"):
        calibrate_threshold(at_angles(0), People([([-2], 0)]))


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1])
def test_impossible_rate(rate: float) -> None:
    with pytest.raises(ValueError, match="false_match_rate"):
        calibrate_threshold(at_angles(0), People([([0], 0)]), false_match_rate=rate)


def test_images_are_spread_over_the_whole_split() -> None:
    people = People([([index % 2], index % 3) for index in range(30)])
    result = calibrate_threshold(at_angles(*range(30)), people, images=4)
    assert result.different_pairs + result.same_pairs <= 6


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(-1, 3), st.integers(0, 2)), min_size=6, max_size=24), st.floats(0.02, 0.6))
def test_rates_equal_a_slow_count(rows: list[tuple[int, int]], rate: float) -> None:
    people = People([([person], camera) for person, camera in rows])
    embeddings = l2_normalise(np.random.default_rng(len(rows)).standard_normal((len(rows), 4)).astype(np.float32))
    pairs = [(a, b) for a in range(len(rows)) for b in range(a)]
    different = [p for p in pairs if rows[p[0]][0] != rows[p[1]][0]]
    same = [p for p in pairs if rows[p[0]][0] == rows[p[1]][0] >= 0 and rows[p[0]][1] != rows[p[1]][1]]
    if not different or not same:
        with pytest.raises(InputError):
            calibrate_threshold(Rows(embeddings), people, false_match_rate=rate)
        return
    result = calibrate_threshold(Rows(embeddings), people, false_match_rate=rate)

    def share(chosen: list[tuple[int, int]], threshold: float) -> float:
        return sum(float(embeddings[a] @ embeddings[b]) >= threshold for a, b in chosen) / len(chosen)

    assert share(different, result.threshold) == pytest.approx(result.false_match_rate, abs=1.01 / len(different))
    assert result.false_match_rate <= rate
    # A threshold a little lower would let one more pair of strangers pass than the rate allows.
    assert share(different, result.threshold - 2e-6) > rate - 1e-9
    assert result.true_match_rate == pytest.approx(share(same, result.threshold), abs=1.01 / len(same))
