"""The gate's frames: several scenes, sources of several shapes, chosen by labels where there are any."""

from __future__ import annotations

import numpy as np
import pytest

from personsearch.core.detections import FloatArray
from personsearch.core.preprocess import Frame, Preprocess
from personsearch.data import Sample
from personsearch.export.gate_frames import (
    LOOKED_AT,
    PLAN,
    GateFrame,
    dataset_gate_frames,
    drawn_gate_frames,
    filmed_gate_frames,
)

PREPROCESS = Preprocess(input_wh=(96, 64), pad_value=7)
WIDE = (320, 180)


def numbered(index: int) -> Frame:
    """A frame of one brightness, its index; black padding would differ from it."""
    return np.full((WIDE[1], WIDE[0], 3), 100 + index, dtype=np.uint8)


def boxes(count: int) -> FloatArray:
    left = np.arange(count, dtype=np.float32) * 10
    return np.stack([left, left * 0, left + 8, left * 0 + 30], axis=1)


def shown(frame: GateFrame) -> int:
    """Which numbered frame this is; `dark` ones cannot be told."""
    height, width = frame.image.shape[:2]
    return int(frame.image[height // 2, width // 2, 0]) - 100


def padded(frame: GateFrame) -> tuple[bool, bool]:
    """Whether there are bars of padding at the left, and at the top."""
    middle_row, middle_column = frame.image[32], frame.image[:, 48]
    return bool((middle_row[0] == 7).all()), bool((middle_column[0] == 7).all())


def test_drawn_frames_have_every_scene_and_pad_on_either_side() -> None:
    frames = drawn_gate_frames(PREPROCESS, len(PLAN))
    assert [frame.scene for frame in frames] == [scene for scene, _, _ in PLAN]
    assert {frame.scene for frame in frames} == {"usual", "crowded", "empty", "dark"}
    assert all(frame.image.shape == (64, 96, 3) for frame in frames)
    shapes = {frame.source_wh[0] / frame.source_wh[1] for frame in frames}
    assert min(shapes) < 0.6
    assert max(shapes) > 2.2
    sides = {padded(frame) for frame in frames}
    assert {(True, False), (False, True), (False, False)} <= sides
    dark = [frame.image.mean() for frame in frames if frame.scene == "dark"]
    assert max(dark) < 0.5 * min(frame.image.mean() for frame in frames if frame.scene != "dark")


def test_the_same_frames_every_time_and_different_ones_within() -> None:
    first, second = drawn_gate_frames(PREPROCESS, 9), drawn_gate_frames(PREPROCESS, 9)
    assert all(np.array_equal(one.image, other.image) for one, other in zip(first, second, strict=True))
    assert not np.array_equal(first[0].image, first[8].image)  # the plan's first entry again, another scene


def test_labels_choose_the_crowded_and_the_empty_frames() -> None:
    people: list[FloatArray | None] = [boxes(count) for count in (1, 0, 2, 9, 1, 0, 3, 1, 2, 1)]
    frames = filmed_gate_frames(numbered, people, PREPROCESS, 16)
    assert {shown(frame) for frame in frames if frame.scene == "crowded"} == {3}
    assert {shown(frame) for frame in frames if frame.scene == "empty"} == {1, 5}
    assert not {shown(frame) for frame in frames if frame.scene == "usual"} & {1, 5}


class Endless:
    """A rendered set: every label costs a picture; frame ``i`` has ``i % 7`` people."""

    def __init__(self, count: int) -> None:
        self.count, self.asked, self.read = count, list[int](), list[int]()

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        self.asked.append(index)
        people = index % 7
        return Sample(None, boxes(people), np.zeros(people, np.int64), 0, index, WIDE)

    def frame_bgr(self, index: int) -> Frame:
        self.read.append(index)
        return numbered(index % 7)


@pytest.mark.parametrize("count", [20, 200_000])
def test_of_a_large_set_some_frames_from_all_over_it_are_looked_at(count: int) -> None:
    dataset = Endless(count)
    frames = dataset_gate_frames(dataset, PREPROCESS, 16)  # type: ignore[arg-type]  # a stand-in, of the members used alone
    assert len(dataset.asked) == min(count, LOOKED_AT)
    assert max(dataset.asked) - min(dataset.asked) >= 0.99 * (count - 1)
    assert set(dataset.read) <= set(dataset.asked)
    # What was read is what the labels of the same index promise.
    assert {shown(frame) for frame in frames if frame.scene == "empty"} == {0}
    assert {shown(frame) for frame in frames if frame.scene == "crowded"} <= {5, 6}


def test_an_empty_scene_nobody_filmed_is_drawn_and_frames_without_labels_are_used() -> None:
    read: list[int] = []

    def noted(index: int) -> Frame:
        read.append(index)
        return numbered(index)

    frames = filmed_gate_frames(noted, [None, None, None], PREPROCESS, 8)
    assert len(frames) == 8
    assert set(read) == {0, 1, 2}
    assert len(read) == 7  # all but the empty one
    assert [frame.scene for frame in frames].count("empty") == 1


def test_a_cut_keeps_the_people_and_a_source_is_never_enlarged() -> None:
    def marked(index: int) -> Frame:
        frame = np.zeros((WIDE[1], WIDE[0], 3), dtype=np.uint8)
        frame[100:140, 290:310] = 255  # the one person, far to the right
        return frame

    people: list[FloatArray | None] = [np.array([[290, 100, 310, 140]], dtype=np.float32)]
    frames = filmed_gate_frames(marked, people, PREPROCESS, 8)
    portrait = next(frame for frame in frames if frame.source_wh[0] < frame.source_wh[1])
    assert portrait.image.max() > 200
    assert all(max(frame.source_wh) <= max(WIDE) for frame in frames if frame.scene != "empty")
    assert any(max(frame.source_wh) < 96 for frame in frames)  # and some are smaller than the input


@pytest.mark.parametrize("count", [1, 3])
def test_a_few_frames_are_the_plans_first(count: int) -> None:
    frames: list[GateFrame] = drawn_gate_frames(PREPROCESS, count)
    assert [frame.scene for frame in frames] == [scene for scene, _, _ in PLAN[:count]]
