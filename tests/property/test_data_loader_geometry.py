"""A box drawn as a rectangle lands where the transformed box says, whatever the options; erasing keeps its promises."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from personsearch.core.preprocess import Preprocess
from personsearch.core.recipes import DataRecipe
from personsearch.data.sample import Frame
from personsearch.data.transforms import TrainingTransform

INPUTS = st.sampled_from([(96, 64), (64, 96), (160, 160), (160, 96)])


@st.composite
def drawn_frames(draw: Any) -> tuple[Frame, np.ndarray[Any, Any]]:
    """A frame of one colour with one rectangle of another, and its box."""
    width, height = draw(st.integers(100, 300)), draw(st.integers(100, 300))
    x1, y1 = draw(st.integers(0, width - 30)), draw(st.integers(0, height - 30))
    x2, y2 = draw(st.integers(x1 + 30, width)), draw(st.integers(y1 + 30, height))
    assume((x2 - x1) * (y2 - y1) < 0.7 * width * height)
    frame = np.full((height, width, 3), (60, 90, 200), dtype=np.uint8)
    frame[y1:y2, x1:x2] = (190, 160, 60)
    return frame, np.array([[x1, y1, x2, y2]], dtype=np.float32)


def rectangle(image: Frame, box: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The rectangle's edges, seen by colour: rows and columns that are mostly nearer to its middle than to the rest."""
    x, y = np.rint((box[:2] + box[2:]) / 2).astype(int)
    inside = np.median(image[y - 1 : y + 2, x - 1 : x + 2].reshape(-1, 3), axis=0)
    distance = np.abs(image.astype(float) - inside).sum(axis=2)
    others = np.ones(distance.shape, dtype=bool)
    x1, y1, x2, y2 = np.rint(box).astype(int)
    others[max(y1 - 4, 0) : y2 + 4, max(x1 - 4, 0) : x2 + 4] = False
    limit = np.percentile(distance[others], 2) / 2
    near = distance < limit
    left, right = _run(near[y1:y2].mean(axis=0) > 0.5, x)
    top, bottom = _run(near[:, x1:x2].mean(axis=1) > 0.5, y)
    return np.array([left, top, right, bottom])


def _run(near: np.ndarray[Any, Any], middle: int) -> tuple[int, int]:
    """Where the stretch around the middle begins and ends; padding elsewhere may have the rectangle's colour."""
    others = np.flatnonzero(~near)
    before, after = others[others < middle], others[others > middle]
    return int(before[-1]) + 1 if len(before) else 0, int(after[0]) if len(after) else len(near)


@settings(max_examples=120)
@given(
    drawn=drawn_frames(),
    target=INPUTS,
    low=st.floats(0.4, 1.0),
    high=st.floats(1.0, 2.0),
    flip=st.sampled_from([0.0, 0.5, 1.0]),
    photometric=st.sampled_from([0.0, 0.3]),
    padding=st.sampled_from([114, 0, "mean"]),
    seed=st.integers(0, 10_000),
)
def test_a_rectangle_lands_where_its_box_says(
    drawn: tuple[Frame, Any],
    target: tuple[int, int],
    low: float,
    high: float,
    flip: float,
    photometric: float,
    padding: Any,
    seed: int,
) -> None:
    frame, boxes = drawn
    recipe = DataRecipe(root="", zoom=(low, high), flip=flip, photometric=photometric)
    transform = TrainingTransform(recipe, Preprocess(input_wh=target, pad_value=padding))
    image, moved, _ = transform(frame, boxes, np.array([0]), np.random.default_rng(seed))
    assert len(moved) == 1
    sides = moved[0, 2:] - moved[0, :2]
    assume(sides.min() >= 8)
    assume(sides.prod() < 0.7 * target[0] * target[1])
    # Enlarged, an edge is a ramp of about a source pixel.
    magnification = high * min(target[0] / frame.shape[1], target[1] / frame.shape[0])
    np.testing.assert_allclose(rectangle(image, moved[0]), moved[0], atol=1.5 + 0.4 * max(0.0, magnification - 1))


@settings(max_examples=80)
@given(
    count=st.integers(0, 6),
    erase_in=st.sampled_from(["background", "people"]),
    target=INPUTS,
    seed=st.integers(0, 10_000),
)
def test_erasing_stays_on_its_side_of_the_boxes(count: int, erase_in: str, target: tuple[int, int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    frame = rng.integers(0, 256, (120, 160, 3), dtype=np.uint8)
    corners = rng.uniform((0, 0), (130, 80), (count, 2))
    boxes = np.concatenate([corners, corners + rng.uniform((8, 12), (30, 40), (count, 2))], axis=1).astype(np.float32)
    ids = rng.integers(-2, 4, count)
    kept, erased = (
        TrainingTransform(
            DataRecipe(root="", erase=erase, erase_in=erase_in, blur=0.5, flip=0.5), Preprocess(input_wh=target)
        )(frame, boxes, ids, np.random.default_rng(seed))
        for erase in (0.0, 1.0)
    )
    np.testing.assert_array_equal(kept[1], erased[1])
    np.testing.assert_array_equal(kept[2], erased[2])
    changed = (kept[0] != erased[0]).any(axis=2)
    people = np.zeros(changed.shape, dtype=bool)  # every pixel that a box touches
    for x1, y1, x2, y2 in kept[1][kept[2] != -2]:
        people[int(np.floor(y1)) : int(np.ceil(y2)), int(np.floor(x1)) : int(np.ceil(x2))] = True
    if erase_in == "background":
        assert not (changed & people).any()
        assert count or changed.any()  # an empty frame always has room
    else:
        assert not (changed & ~people).any()
        assert changed.any() == bool((kept[2] != -2).any())
