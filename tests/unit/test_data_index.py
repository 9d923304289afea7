"""Flat labels: packing, caching, and what is said of images that are not there."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from personsearch.core.errors import InputError
from personsearch.data.index import (
    IndexedDataset,
    LabelIndex,
    Problem,
    QueryTable,
    cached_index,
    image_sizes,
    missing_images,
)
from personsearch.data.sample import Query

SHARED = np.array([1, 1, 0], np.int64)


def queries(answers: bool) -> tuple[Query, ...]:
    box = np.array([1, 2, 11, 22], np.float32)
    stated = box[None] if answers else None
    return (
        Query(0, box, 1, SHARED, stated),
        Query(1, box + 1, 0, SHARED, None if stated is None else stated[:0]),
        Query(1, box, 1, np.array([0], np.int64), stated),
        *(() if answers else (Query(0, box, 0),)),
    )


def index(**changes: object) -> LabelIndex:
    fields = {
        "name": "set",
        "terms": "none",
        "image_paths": ("a/1.png", "a/2.png"),
        "image_wh": np.array([[40, 30], [40, 30]]),
        "camera_ids": np.array([0, 1]),
        "frame_indices": np.array([5, 6]),
        "offsets": np.array([0, 1, 3]),
        "boxes_xyxy": np.array([[0, 0, 5, 9], [1, 1, 5, 9], [2, 2, 9, 9]], np.float32),
        "person_ids": np.array([0, -1, 1]),
        "person_names": ("17", "23"),
        "protocols": {"default": QueryTable.of(queries(False)), "stated": QueryTable.of(queries(True))},
        "problems": (Problem("dropped", "labels.json", "box of width 0", "correct it", 2),),
    }
    return LabelIndex(**{**fields, **changes})  # type: ignore[arg-type]  # the fields above, some replaced


@pytest.mark.parametrize("answers", [False, True])
def test_queries_survive_packing(answers: bool) -> None:
    packed = QueryTable.of(queries(answers))
    assert len(packed.gallery_images) == 4  # the gallery that two queries hold is stored once
    back = packed.queries()
    for before, after in zip(queries(answers), back, strict=True):
        assert (before.image_index, before.person_id) == (after.image_index, after.person_id)
        np.testing.assert_array_equal(before.box_xyxy, after.box_xyxy)
        for name in ("gallery", "answers_xyxy"):
            np.testing.assert_equal(getattr(after, name), getattr(before, name))
    assert back[0].gallery is back[1].gallery


def test_some_queries_that_state_answers_are_refused() -> None:
    with pytest.raises(ValueError, match="3 of 4 queries state"):
        QueryTable.of((*queries(True), Query(0, np.zeros(4, np.float32), 0)))


def test_more_answers_than_gallery_images_are_refused() -> None:
    with pytest.raises(ValueError, match="2 answers do not fit"):
        Query(0, np.zeros(4, np.float32), 0, np.array([1]), np.zeros((2, 4), np.float32))


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("image_wh", np.zeros((1, 2)), "image_wh has shape"),
        ("offsets", np.array([0, 2, 1]), "divide"),
        ("person_ids", np.array([0, 1, 2]), "reach from 0 to 2"),
    ],
)
def test_labels_that_do_not_fit_are_refused(field: str, value: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        index(**{field: value})


def test_counts() -> None:
    counts = index().counts()
    assert counts["images"] == counts["labelled"] == counts["identities"] == counts["cameras"] == 2
    assert (counts["boxes"], counts["unlabelled"], counts["ignore"]) == (3, 1, 0)
    assert (counts["queries.default"], counts["queries.stated"]) == (4, 3)


def test_a_data_set_of_an_index(tmp_path: Path) -> None:
    dataset = IndexedDataset(tmp_path, index(), "stated")
    assert (len(dataset), dataset.person_count, dataset.dropped_boxes, len(dataset.queries)) == (2, 2, 2, 3)
    sample = dataset[1]
    assert (sample.image_path, sample.camera_id, sample.frame_index) == (tmp_path / "a/2.png", 1, 6)
    assert sample.person_ids.tolist() == [-1, 1]
    assert IndexedDataset(tmp_path, index()).protocol == "default"
    with pytest.raises(InputError, match="`g50` is unknown; expected one of default, stated"):
        IndexedDataset(tmp_path, index(), "g50")
    with pytest.raises(InputError, match="image is missing"):
        IndexedDataset(tmp_path, index(image_wh=np.zeros((2, 2), np.int64)))[0]


def test_label_files_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    label_file = tmp_path / "labels.json"
    label_file.write_text("{}")
    built: list[LabelIndex] = []

    def build() -> LabelIndex:
        built.append(index())
        return built[-1]

    first = cached_index([label_file], "1", build)
    again = cached_index([label_file], "1", build)
    assert len(built) == 1
    assert again.problems == first.problems
    assert again.image_paths == first.image_paths
    assert again.counts() == first.counts()
    np.testing.assert_array_equal(again.boxes_xyxy, first.boxes_xyxy)
    np.testing.assert_array_equal(again.protocols["stated"].answers_xyxy, first.protocols["stated"].answers_xyxy)

    cached_index([label_file], "2", build)
    label_file.write_text("{ }")
    cached_index([label_file], "1", build)
    assert len(built) == 3  # another reader, other bytes

    for place in (tmp_path / "cache").rglob("*.npz"):
        place.write_bytes(place.read_bytes()[:100])
    assert cached_index([label_file], "1", build).counts() == first.counts()
    assert len(built) == 4  # a broken entry is built again

    with pytest.raises(InputError, match=r"gone\.json: cannot be read"):
        cached_index([tmp_path / "gone.json"], "1", build)


def test_missing_images_are_looked_for_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    label_file = tmp_path / "labels.json"
    label_file.write_text("{}")
    paths = ("a/1.png", "a/2.png")

    def build() -> LabelIndex:
        sizes = image_sizes(tmp_path, paths)
        return index(image_wh=sizes, problems=missing_images(tmp_path, paths, sizes))

    (tmp_path / "a").mkdir()
    cv2.imwrite(str(tmp_path / "a/1.png"), np.zeros((30, 40, 3), np.uint8))
    before = cached_index([label_file], "1", build)
    assert [(one.kind, one.file, one.count) for one in before.problems] == [("missing", "a", 1)]
    assert "1 of 2 images" in before.problems[0].what
    cv2.imwrite(str(tmp_path / "a/2.png"), np.zeros((20, 50, 3), np.uint8))
    assert cached_index([label_file], "1", build).image_wh.tolist() == [[40, 30], [50, 20]]
