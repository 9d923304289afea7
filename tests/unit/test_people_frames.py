"""Frames for timing: as many people in view as was asked, repeatable, and refused where there is no room."""

from __future__ import annotations

import numpy as np
import pytest

from personsearch.benchmarks.people_frames import people_frames
from personsearch.core.errors import InputError

WH = (192, 144)


def test_frames_are_distinct_repeatable_and_differ_by_their_people() -> None:
    two, again, none = people_frames(2, WH, 2), people_frames(2, WH, 2), people_frames(1, WH, 0)
    assert all(np.array_equal(one, other) for one, other in zip(two, again, strict=True))
    assert two[0].shape == (144, 192, 3)
    assert two[0].dtype == np.uint8
    assert not np.array_equal(two[0], two[1])
    # The same scene without the people differs where they stand, and over most of the frame by noise at most.
    change = np.abs(two[0].astype(int) - none[0].astype(int)).max(axis=2) > 40
    assert 0.002 < change.mean() < 0.5


def test_more_people_than_a_frame_has_room_for() -> None:
    with pytest.raises(InputError, match="80 people do not find room in a generated frame of 64x48"):
        people_frames(1, (64, 48), 80)
