"""The training transform: where boxes go, what becomes of people at the edge, and that colour is bounded."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from personsearch.core.preprocess import Preprocess
from personsearch.core.recipes import DataRecipe
from personsearch.data.transforms import TrainingTransform, colour_matrix, degrade, vary_colour

PREPROCESS = Preprocess(input_wh=(96, 64))
MARK = np.array([200, 60, 30], dtype=np.uint8)


def recipe(**changes: Any) -> DataRecipe:
    still: dict[str, Any] = {"root": "", "flip": 0.0, "photometric": 0.0, "zoom": (1.0, 1.0), "blur": 0.0}
    return DataRecipe(**{**still, **changes})


def marked_frame(box: tuple[int, int, int, int], wh: tuple[int, int] = (192, 128)) -> np.ndarray[Any, Any]:
    frame = np.full((wh[1], wh[0], 3), 90, dtype=np.uint8)
    frame[box[1] : box[3], box[0] : box[2]] = MARK
    return frame


def marked_box(image: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The box of the pixels that look like the mark."""
    near = np.abs(image.astype(int) - MARK).sum(axis=2) < 60
    rows, columns = np.flatnonzero(near.any(axis=1)), np.flatnonzero(near.any(axis=0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])


def test_without_variation_it_is_the_letterbox() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (100, 192, 3), dtype=np.uint8)
    boxes = np.array([[10, 20, 40, 90]], dtype=np.float32)
    image, moved, ids = TrainingTransform(recipe(), PREPROCESS)(frame, boxes, np.array([4]), np.random.default_rng(1))
    expected, letterbox = PREPROCESS.letterbox(frame)
    np.testing.assert_array_equal(image, expected)
    np.testing.assert_allclose(moved, letterbox.to_input(boxes))
    assert ids.tolist() == [4]


def test_no_people() -> None:
    image, boxes, ids = TrainingTransform(recipe(zoom=(1.5, 2.0), flip=1.0), PREPROCESS)(
        np.zeros((50, 40, 3), np.uint8), np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.random.default_rng(0)
    )
    assert image.shape == (64, 96, 3)
    assert boxes.shape == (0, 4)
    assert ids.shape == (0,)


@pytest.mark.parametrize("seed", range(12))
def test_boxes_follow_the_pixels(seed: int) -> None:
    box = (70, 30, 100, 90)
    transform = TrainingTransform(recipe(zoom=(0.7, 1.6), flip=0.5), PREPROCESS)
    image, boxes, ids = transform(
        marked_frame(box), np.array([box], dtype=np.float32), np.array([0]), np.random.default_rng(seed)
    )
    assert ids.tolist() == [0]
    np.testing.assert_allclose(boxes[0], marked_box(image), atol=1.5)


@pytest.mark.parametrize("seed", range(20))
def test_a_crop_keeps_someone_whole(seed: int) -> None:
    people = np.array([[5, 5, 25, 60], [160, 60, 185, 125]], dtype=np.float32)
    transform = TrainingTransform(recipe(zoom=(1.8, 1.8)), PREPROCESS)
    _, boxes, ids = transform(marked_frame((0, 0, 1, 1)), people, np.array([0, 1]), np.random.default_rng(seed))
    whole = (people[:, 2:] - people[:, :2]) * 0.5 * 1.8
    sides = boxes[:, 2:] - boxes[:, :2]
    assert any(np.allclose(sides[row], whole[ids[row]], rtol=0.06) for row in np.flatnonzero(ids >= 0))


def test_hardly_visible_people_are_ignored_and_ignored_regions_stay() -> None:
    # Zoom 2 around the only person whole in any window: the frame's left half is cut away for most of the others.
    boxes = np.array([[150, 80, 185, 126], [60, 80, 100, 126], [90, 60, 120, 126], [0, 0, 20, 20]], dtype=np.float32)
    ids = np.array([0, 1, -2, 2])
    transform = TrainingTransform(recipe(zoom=(2.0, 2.0)), PREPROCESS)
    seen = set()
    for seed in range(40):
        _, moved, new = transform(marked_frame((0, 0, 1, 1)), boxes, ids, np.random.default_rng(seed))
        assert (moved[:, 2:] > moved[:, :2]).all()
        assert (moved >= 0).all()
        assert (moved <= [96, 64, 96, 64]).all()
        seen |= set(new.tolist())
        for box, person in zip(moved, new.tolist(), strict=True):
            if person >= 0:
                full = (boxes[person if person < 2 else 3, 2:] - boxes[person if person < 2 else 3, :2]) * 1.0
                assert (box[2:] - box[:2]).prod() >= 0.25 * full.prod() * 0.98
    assert {-2, 0, 1} <= seen


def test_flip_mirrors() -> None:
    box = (10, 20, 40, 90)
    frame = marked_frame(box)
    straight, boxes, _ = TrainingTransform(recipe(), PREPROCESS)(
        frame, np.array([box], np.float32), np.array([0]), np.random.default_rng(0)
    )
    mirrored, flipped, _ = TrainingTransform(recipe(flip=1.0), PREPROCESS)(
        frame, np.array([box], np.float32), np.array([0]), np.random.default_rng(0)
    )
    np.testing.assert_array_equal(mirrored, straight[:, ::-1])
    np.testing.assert_allclose(flipped[0], [96 - boxes[0, 2], boxes[0, 1], 96 - boxes[0, 0], boxes[0, 3]])


def test_padding_keeps_its_grey_level() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (128, 64, 3), dtype=np.uint8)
    transform = TrainingTransform(recipe(photometric=1.0, blur=1.0), PREPROCESS)
    image, _, _ = transform(frame, np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.random.default_rng(3))
    assert (image[:, :32] == PREPROCESS.pad_value).all()
    assert (image[:, 64:] == PREPROCESS.pad_value).all()
    assert not (image[:, 32:64] == PREPROCESS.pad_value).all()


def test_a_cut_person_does_not_reach_into_the_padding() -> None:
    """A square frame shown in part in a wide input: grey bars of 16 pixels at both sides, whatever was cut away."""
    frame = np.random.default_rng(0).integers(120, 256, (60, 60, 3), dtype=np.uint8)
    boxes = np.array([[0, 0, 40, 30], [30, 20, 60, 60]], dtype=np.float32)
    transform = TrainingTransform(recipe(zoom=(1.2, 1.9), flip=0.5, photometric=1.0), PREPROCESS)
    touched = 0
    for seed in range(30):
        image, moved, _ = transform(frame, boxes, np.array([0, 1]), np.random.default_rng(seed))
        assert (moved[:, [0, 2]] >= 16).all()
        assert (moved[:, [0, 2]] <= 80).all()
        assert (image[:, :16] == PREPROCESS.pad_value).all()
        assert (image[:, 80:] == PREPROCESS.pad_value).all()
        touched += int((moved[:, 0] == 16).any())
    assert touched > 5


def test_source_frame_is_not_written_to() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    before = frame.copy()
    transform = TrainingTransform(recipe(photometric=1.0, blur=1.0, flip=1.0), PREPROCESS)
    transform(frame, np.array([[1, 1, 30, 40]], np.float32), np.array([0]), np.random.default_rng(0))
    np.testing.assert_array_equal(frame, before)


def test_colour_matrix() -> None:
    np.testing.assert_allclose(
        colour_matrix(0.0, np.random.default_rng(0)), np.hstack([np.eye(3), np.zeros((3, 1))]), atol=1e-9
    )
    # Mixing, hue and saturation leave grey grey; what is left are the gains, which differ by channel.
    casts = np.array([colour_matrix(1.0, np.random.default_rng(seed))[:, :3].sum(axis=1) for seed in range(200)])
    assert (casts > 0).mean() > 0.99
    assert casts.std(axis=0).min() > 0.05
    assert np.ptp(casts, axis=1).mean() > 0.05


def test_variation_changes_pixels_by_its_strength() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    np.testing.assert_array_equal(vary_colour(pixels, 0.0, np.random.default_rng(1)), pixels)
    np.testing.assert_array_equal(degrade(pixels, 0.0, np.random.default_rng(1)), pixels)

    def change(strength: float) -> float:
        moved = [vary_colour(pixels, strength, np.random.default_rng(seed)) for seed in range(20)]
        return float(np.mean([np.abs(each.astype(int) - pixels).mean() for each in moved]))

    assert 2 < change(0.2) < change(1.0) < 90
    assert not np.array_equal(degrade(pixels, 1.0, np.random.default_rng(1)), pixels)


def test_padding_by_the_mean_colour_is_nothing_after_normalisation() -> None:
    preprocess = Preprocess(input_wh=(96, 64), pad_value="mean", mean_bgr=(10.2, 120.0, 254.9))
    frame = np.random.default_rng(0).integers(0, 256, (128, 64, 3), dtype=np.uint8)
    image, _, _ = TrainingTransform(recipe(zoom=(0.5, 0.5)), preprocess)(
        frame, np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.random.default_rng(3)
    )
    assert (image[:, :32] == (10, 120, 255)).all()
    assert (image == (10, 120, 255)).all(axis=2).mean() > 0.8
    np.testing.assert_array_equal(preprocess.letterbox(frame)[0][:, :32], image[:, :32])


@pytest.mark.parametrize(
    ("source_wh", "zoom", "expected"),
    [
        ((1920, 1280), 1.0, 8),
        ((1920, 1280), 2.4, 8),
        ((1920, 1280), 2.6, 4),
        ((192, 128), 1.0, 2),
        ((192, 128), 1.01, 1),
        ((190, 127), 0.5, 1),
        ((90, 60), 1.0, 1),
    ],
)
def test_a_frame_is_never_decoded_smaller_than_it_is_shown(
    source_wh: tuple[int, int], zoom: float, expected: int
) -> None:
    assert TrainingTransform(recipe(), PREPROCESS).reduction(source_wh, zoom) == expected


def test_erased_rectangles_have_the_published_sizes() -> None:
    frame = np.full((64, 96, 3), 90, dtype=np.uint8)
    person = np.array([[20, 10, 60, 60]], np.float32)
    shares = []
    for seed in range(60):
        image, _, _ = TrainingTransform(recipe(erase=1.0, erase_in="people"), PREPROCESS)(
            frame, person, np.array([0]), np.random.default_rng(seed)
        )
        shares.append((image != 90).any(axis=2).sum() / 2000)
    assert min(shares) > 0.01
    assert 0.3 < max(shares) < 0.42
    assert 0.1 < np.mean(shares) < 0.3
