"""Weights of boxes: stated by label files as scores, kept by conversions, and drawn when a frame is trained on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from personsearch.core.errors import InputError
from personsearch.core.preprocess import Preprocess
from personsearch.core.recipes import DataRecipe
from personsearch.data import Sample, TrainingLoader, open_dataset
from personsearch.data.coco import read_coco
from personsearch.data.coco_writer import write_coco
from personsearch.data.conversion import convert
from personsearch.data.index import IndexedDataset, LabelIndex, cached_index
from personsearch.data.mixed import MixedDataset
from personsearch.data.video_frames import ImageEncoding, extract_frames

WH = (64, 48)
BOXES = np.array([[2, 2, 20, 40], [24, 4, 40, 44], [44, 6, 60, 30]], np.float32)


def index_of(weights: list[float] | None, ids: tuple[int, ...] = (0, -1, -2), images: int = 1) -> LabelIndex:
    """Every image has the same three boxes."""
    count = len(ids)
    return LabelIndex(
        name="weighted",
        terms="free",
        image_paths=tuple(f"frames/{number}.png" for number in range(images)),
        image_wh=np.tile(WH, (images, 1)).astype(np.int64),
        camera_ids=np.zeros(images, np.int64),
        frame_indices=np.arange(images),
        offsets=np.arange(images + 1) * count,
        boxes_xyxy=np.tile(BOXES[:count], (images, 1)),
        person_ids=np.tile(np.array(ids, np.int64), images),
        person_names=("anna",),
        protocols={},
        problems=(),
        weights=None if weights is None else np.tile(np.array(weights, np.float32), images),
    )


def on_disk(root: Path, index: LabelIndex) -> Path:
    (root / "frames").mkdir(parents=True)
    for number, path in enumerate(index.image_paths):
        cv2.imwrite(str(root / path), np.full((WH[1], WH[0], 3), 10 * number, np.uint8))
    write_coco(root / "annotations/train.json", index)
    description = {"format": "personsearch/1", "name": index.name, "terms": index.terms}
    (root / "dataset.json").write_text(json.dumps({**description, "splits": {"train": "annotations/train.json"}}))
    return root


@pytest.mark.parametrize("weights", [[0.5], [0.5, 1.1, 0], [0.5, -0.1, 0], [0.5, float("nan"), 0]])
def test_a_weight_a_box_from_0_to_1(weights: list[float]) -> None:
    with pytest.raises(ValueError, match="weights"):
        index_of(weights)
    with pytest.raises(ValueError, match="weights"):
        Sample(None, BOXES, np.array([0, 0, 0]), 0, 0, WH, np.array(weights, np.float32))


@given(st.lists(st.floats(0, 1, width=32), min_size=3, max_size=3))
def test_written_and_read_back_bit_by_bit(tmp_path_factory: pytest.TempPathFactory, weights: list[float]) -> None:
    folder = tmp_path_factory.mktemp("bits")
    write_coco(folder / "a.json", index_of(weights))
    found = read_coco(folder / "a.json", folder)
    assert found.weights is not None
    assert found.weights.tobytes() == np.array(weights, np.float32).tobytes()


def test_no_score_is_no_weight(tmp_path: Path) -> None:
    write_coco(tmp_path / "a.json", index_of(None))
    assert "score" not in (tmp_path / "a.json").read_text()
    assert read_coco(tmp_path / "a.json", tmp_path).weights is None


def test_scores_follow_their_boxes(tmp_path: Path) -> None:
    """Annotations in another order, one without score, one without area that is dropped."""
    labels = {
        "person_count": 1,
        "images": [{"id": n, "file_name": f"{n}.png", "width": 64, "height": 48} for n in (7, 3)],
        "annotations": [
            {"id": 0, "image_id": 3, "bbox": [2, 2, 9, 9], "person_id": -1, "score": 0.25},
            {"id": 1, "image_id": 7, "bbox": [3, 3, 9, 9], "person_id": 0},
            {"id": 2, "image_id": 3, "bbox": [4, 4, 0, 9], "person_id": -1, "score": 0.9},
            {"id": 3, "image_id": 7, "bbox": [5, 5, 9, 9], "person_id": -1, "score": 1},
            {"id": 4, "image_id": 3, "bbox": [6, 6, 9, 9], "person_id": -1, "score": 0.75},
        ],
    }
    (tmp_path / "a.json").write_text(json.dumps(labels))
    found = read_coco(tmp_path / "a.json", tmp_path)
    assert found.weights is not None
    assert dict(zip(found.boxes_xyxy[:, 0].tolist(), found.weights.tolist(), strict=True)) == {
        3: 1,
        5: 1,
        2: 0.25,
        6: 0.75,
    }


@pytest.mark.parametrize("score", [1.5, -0.1, "high", True])
def test_a_score_that_is_no_weight(tmp_path: Path, score: object) -> None:
    write_coco(tmp_path / "a.json", index_of([0.5, 0.5, 0.5]))
    content = json.loads((tmp_path / "a.json").read_text())
    content["annotations"][1]["score"] = score
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"annotation 1: score is .*; expected 0 to 1, as it is the weight"):
        read_coco(tmp_path / "a.json", tmp_path)


def test_the_cache_keeps_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "labels").write_text("any")
    for weights in (None, [0.125, 0.5, 1.0]):
        made, version = index_of(weights), f"test {weights}"
        # The default argument binds the loop variable.
        cached_index([tmp_path / "labels"], version, lambda made=made: made)  # type: ignore[misc]

        def never() -> LabelIndex:
            raise AssertionError("read again")

        found = cached_index([tmp_path / "labels"], version, never).weights
        assert (None if found is None else found.tolist()) == weights


def test_conversions_keep_weights(tmp_path: Path) -> None:
    root = on_disk(tmp_path / "a", index_of([0.5, 0.25, 1], images=2))
    convert(root, tmp_path / "b", to="folder")
    for opened in (open_dataset(root, "train"), open_dataset(tmp_path / "b", "train")):
        weights = opened[1].weights
        assert weights is not None
        assert weights.tolist() == [0.5, 0.25, 1]


def test_a_box_outside_a_video_takes_its_weight_with_it(tmp_path: Path) -> None:
    index = replace(index_of([0.5, 0.25, 1]), image_wh=np.zeros((1, 2), np.int64))
    narrow = np.zeros((48, 40, 3), np.uint8)  # the third box begins at 44
    found = extract_frames(index, [narrow], tmp_path, video="v", first_frame=0, encoding=ImageEncoding(".png"))
    assert found.weights is not None
    assert found.weights.tolist() == [0.5, 0.25]


def drawn(index: LabelIndex, root: Path, epochs: int, workers: int = 0, seed: int = 3) -> np.ndarray:
    """``(epochs * images, boxes)`` person ids as training sees them."""
    recipe = DataRecipe(root="", workers=workers, flip=0, photometric=0, zoom=(1, 1))
    made = TrainingLoader(
        IndexedDataset(root, index), recipe, Preprocess(input_wh=WH), batch_images=2, epoch_images=None, seed=seed
    )
    rows = []
    for epoch in range(epochs):
        made.set_epoch(epoch)
        rows += [ids.numpy() for batch in made for ids in batch.person_ids]
    return np.stack(rows)


def test_a_box_is_a_person_in_the_share_of_its_weight(tmp_path: Path) -> None:
    index = index_of([1, 0.3, 0], ids=(0, -1, 0), images=10)
    ids = drawn(index, on_disk(tmp_path / "a", index), epochs=60)
    assert (ids[:, 0] == 0).all()
    assert (ids[:, 2] == -2).all()
    assert set(ids[:, 1].tolist()) == {-1, -2}
    # 600 draws at 0.3: four standard deviations are 0.075.
    assert abs((ids[:, 1] == -1).mean() - 0.3) < 0.075


def test_draws_depend_on_the_seed_alone(tmp_path: Path) -> None:
    index = index_of([0.5, 0.5, 0.5], ids=(0, -1, 0), images=6)
    root = on_disk(tmp_path / "a", index)
    first = drawn(index, root, epochs=2)
    np.testing.assert_array_equal(first, drawn(index, root, epochs=2, workers=1))
    assert (first != drawn(index, root, epochs=2, seed=4)).any()
    assert (first[:6] != first[6:]).any()  # another epoch, another draw


def test_a_mix_keeps_weights(tmp_path: Path) -> None:
    index = index_of([0.5, 0.25, 1], images=4)
    other = IndexedDataset(on_disk(tmp_path / "a", index), index)
    mix = MixedDataset(other, [other], [1.0], seed=0)
    weights = mix[0].weights
    assert weights is not None
    assert weights.tolist() == [0.5, 0.25, 1]
    assert mix[0].person_ids.tolist() == [-1, -1, -2]
