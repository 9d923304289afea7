"""Whatever the frame, the people and the chance: boxes stay in the input and labels stay lawful."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from personsearch.core.preprocess import Preprocess
from personsearch.core.recipes import DataRecipe
from personsearch.data.transforms import TrainingTransform


@settings(max_examples=60)
@given(
    source=st.tuples(st.integers(1, 200), st.integers(1, 200)),
    target=st.sampled_from([(32, 48), (64, 64), (96, 32)]),
    low=st.floats(0.3, 1.0),
    high=st.floats(1.0, 3.0),
    count=st.integers(0, 5),
    seed=st.integers(0, 10_000),
)
def test_boxes_stay_inside_and_ids_only_fall_to_ignore(
    source: tuple[int, int], target: tuple[int, int], low: float, high: float, count: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    corners = np.sort(rng.uniform(0, 1, (count, 2, 2)), axis=1).reshape(count, 4) * np.tile(source, 2)
    corners = corners[(corners[:, 2:] - corners[:, :2] > 1e-3).all(axis=1)].astype(np.float32)
    ids = rng.integers(-2, 4, len(corners))
    recipe = DataRecipe(root="", zoom=(low, high), photometric=1.0, blur=0.5)
    transform = TrainingTransform(recipe, Preprocess(input_wh=target))
    frame = rng.integers(0, 256, (source[1], source[0], 3), dtype=np.uint8)
    image, boxes, new = transform(frame, corners, ids, np.random.default_rng(seed))
    assert image.shape == (target[1], target[0], 3)
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous
    assert boxes.shape == (len(new), 4)
    assert len(new) <= len(ids)
    assert (boxes >= 0).all()
    assert (boxes <= np.tile(target, 2)).all()
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    for person in set(new.tolist()) - {-2}:
        assert (new == person).sum() <= (ids == person).sum()
    again = transform(frame, corners, ids, np.random.default_rng(seed))
    np.testing.assert_array_equal(again[0], image)
    np.testing.assert_array_equal(again[1], boxes)
