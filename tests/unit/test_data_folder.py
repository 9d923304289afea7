"""The project's own data set folder: what is read, and the line that a wrong one gets."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from personsearch.core.errors import InputError
from personsearch.data import Sample, open_dataset


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def write_folder(root: Path, change: Callable[[dict[str, Any], dict[str, Any]], None] | None = None) -> Path:
    """Two images of 64x48, four people; ``change`` may alter dataset.json and the annotations."""
    (root / "frames").mkdir(parents=True)
    (root / "annotations").mkdir()
    rng = np.random.default_rng(0)
    for number in (7, 9):
        cv2.imwrite(str(root / f"frames/{number}.png"), rng.integers(0, 256, (48, 64, 3), dtype=np.uint8))
    description = {
        "format": "personsearch/1",
        "name": "tiny",
        "terms": "free",
        "splits": {"train": "annotations/train.json"},
        "generator": None,
    }
    images = [
        {"id": number, "file_name": f"frames/{number}.png", "width": 64, "height": 48, "camera_id": 3, "frame_index": i}
        for i, number in enumerate((7, 9))
    ]
    rows = [(7, [4, 5, 10, 20], 0), (7, [20, 5, 10, 20], -1), (9, [30, 8, 60, 20], 1), (9, [1, 1, 4, 4], -2)]
    annotations = [
        {"id": i, "image_id": image, "bbox": box, "category_id": 1, "person_id": person, "iscrowd": 0}
        for i, (image, box, person) in enumerate(rows)
    ]
    content = {
        "person_count": 2,
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "person"}],
        "queries": [
            {"image_id": 7, "bbox": [4, 5, 10, 20], "person_id": 0, "gallery": [9]},
            {"image_id": 9, "bbox": [30, 8, 60, 20], "person_id": 1},
        ],
    }
    if change is not None:
        change(description, content)
    (root / "dataset.json").write_text(json.dumps(description))
    (root / "annotations/train.json").write_text(json.dumps(content))
    return root


def test_reads_labels_and_pixels(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "set")
    dataset = open_dataset(root, "train")
    assert (dataset.name, dataset.terms, dataset.person_count, len(dataset)) == ("tiny", "free", 2, 2)
    first, second = dataset[0], dataset[1]
    np.testing.assert_array_equal(first.boxes_xyxy, [[4, 5, 14, 25], [20, 5, 30, 25]])
    np.testing.assert_array_equal(first.person_ids, [0, -1])
    # The box that leaves the image is cut at its edge.
    np.testing.assert_array_equal(second.boxes_xyxy, [[30, 8, 64, 28], [1, 1, 5, 5]])
    assert (first.camera_id, first.frame_index, first.image_wh) == (3, 0, (64, 48))
    np.testing.assert_array_equal(dataset.frame_bgr(1), cv2.imread(str(root / "frames/9.png")))


def test_queries_name_images_by_index(tmp_path: Path) -> None:
    first, second = open_dataset(write_folder(tmp_path / "set"), "train").queries
    assert (first.image_index, first.person_id, first.gallery) == (0, 0, (1,))
    assert (second.image_index, second.gallery) == (1, None)
    np.testing.assert_array_equal(second.box_xyxy, [30, 8, 64, 28])


def test_boxes_without_area_are_dropped_and_counted(tmp_path: Path) -> None:
    def change(_: dict[str, Any], content: dict[str, Any]) -> None:
        content["annotations"][0]["bbox"] = [4, 5, 0, 20]
        content["annotations"][1]["bbox"] = [80, 5, 10, 20]
        content["annotations"][2]["bbox"] = [4, 5, 10, -3]

    dataset = open_dataset(write_folder(tmp_path / "set", change), "train")
    assert dataset.dropped_boxes == 3  # type: ignore[attr-defined]  # of an IndexedDataset
    assert [len(dataset[i].boxes_xyxy) for i in range(2)] == [0, 1]
    assert dataset[0].boxes_xyxy.shape == (0, 4)


def test_crowd_is_ignored(tmp_path: Path) -> None:
    def change(_: dict[str, Any], content: dict[str, Any]) -> None:
        content["annotations"][0]["iscrowd"] = 1

    assert open_dataset(write_folder(tmp_path / "set", change), "train")[0].person_ids[0] == -2


def _set(where: int, *path: str | int, value: object) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    def change(*documents: dict[str, Any]) -> None:
        node: Any = documents[where]
        for key in path[:-1]:
            node = node[key]
        node[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_set(0, "format", value="coco"), "`format` is 'coco'; expected `personsearch/1`"),
        (_set(0, "splits", value=None), "`splits` is None"),
        (_set(0, "name", value=3), "`name` is 3"),
        (_set(1, "person_count", value="two"), "`person_count` is 'two'; expected a whole number"),
        (_set(1, "annotations", 0, "person_id", value=2), "annotation 0: person_id is 2; expected -2 to 1"),
        (_set(1, "annotations", 0, "person_id", value=-3), "annotation 0: person_id is -3"),
        (_set(1, "annotations", 1, "image_id", value=5), "annotation 1: image id 5 is unknown"),
        (_set(1, "annotations", 1, "bbox", value=[1, 2, 3]), "annotation 1: bbox is [1, 2, 3]"),
        (_set(1, "annotations", 1, "bbox", value=[1, 2, 3, "a"]), "annotation 1: bbox is"),
        (_set(1, "images", 0, "width", value=0), "image 7: is 0x48"),
        (_set(1, "images", 0, "file_name", value="../7.png"), "image 7: file_name `../7.png`"),
        (_set(1, "images", 1, "id", value=7), "two images share an id: 7"),
        (_set(1, "queries", 0, "gallery", value=[8]), "query in image 7: image id 8 is unknown"),
        (_set(1, "queries", 0, "person_id", value=-1), "query in image 7: bbox [4, 5, 10, 20], person_id -1"),
        (_set(1, "queries", 0, "bbox", value=[90, 5, 10, 20]), "query in image 7: bbox [90, 5, 10, 20]"),
    ],
)
def test_wrong_content_is_named(
    tmp_path: Path, change: Callable[[dict[str, Any], dict[str, Any]], None], said: str
) -> None:
    root = write_folder(tmp_path / "set", change)
    with pytest.raises(InputError) as caught:
        open_dataset(root, "train")
    assert said in str(caught.value)
    assert str(root) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        open_dataset(tmp_path / "nowhere", "train")
    with pytest.raises(InputError, match="is not a data set; expected one of"):
        open_dataset(tmp_path, "train")
    root = write_folder(tmp_path / "set")
    with pytest.raises(InputError, match="split `test` is unknown; expected one of train"):
        open_dataset(root, "test")
    (root / "annotations/train.json").write_text('{"images": [')
    with pytest.raises(InputError, match=r"train\.json: is not valid JSON"):
        open_dataset(root, "train")
    (root / "annotations/train.json").write_text("[]")
    with pytest.raises(InputError, match="holds a list; expected a JSON object"):
        open_dataset(root, "train")
    (root / "annotations/train.json").unlink()
    with pytest.raises(InputError, match=r"train\.json: cannot be read"):
        open_dataset(root, "train")


def test_images_are_checked_when_read(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "set")
    dataset = open_dataset(root, "train")
    (root / "frames/7.png").unlink()
    with pytest.raises(InputError, match=r"7\.png: image file cannot be read"):
        dataset.frame_bgr(0)
    (root / "frames/7.png").write_bytes(b"not an image")
    with pytest.raises(InputError, match=r"7\.png: is not an image"):
        dataset.frame_bgr(0)
    (root / "frames/7.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"7\.png: is not an image"):
        dataset.frame_bgr(0)
    cv2.imwrite(str(root / "frames/7.png"), np.zeros((10, 20, 3), np.uint8))
    with pytest.raises(InputError, match="image is 20x10; expected 64x48"):
        dataset.frame_bgr(0)


@pytest.mark.parametrize(
    ("boxes", "ids", "image_wh"),
    [
        (np.zeros((1, 4)), [0], (10, 10)),
        (np.array([[0, 0, np.nan, 3]]), [0], (10, 10)),
        (np.array([[0, 0, 2, 3]]), [-3], (10, 10)),
        (np.array([[0, 0, 2, 3]]), [0, 1], (10, 10)),
        (np.array([0, 0, 2, 3]), [0], (10, 10)),
        (np.zeros((0, 4)), [], (0, 10)),
    ],
)
def test_a_sample_refuses_what_no_data_set_may_yield(boxes: Any, ids: list[int], image_wh: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"boxes_xyxy|person_ids|image_wh"):
        Sample(None, boxes, np.array(ids, dtype=np.int64), 0, 0, image_wh)


def test_named_protocols(tmp_path: Path) -> None:
    def change(_: dict[str, Any], content: dict[str, Any]) -> None:
        content["protocols"] = {"near": {"queries": content["queries"][:1]}}
        content["person_names"] = ["Ann", "Ben"]

    root = write_folder(tmp_path / "set", change)
    assert len(open_dataset(root, "train").queries) == 2
    assert len(open_dataset(root, "train", "near").queries) == 1
    with pytest.raises(InputError, match="`far` is unknown; expected one of default, near"):
        open_dataset(root, "train", "far")


def test_somebody_in_two_splits(tmp_path: Path) -> None:
    def names(*names: str) -> Callable[[dict[str, Any], dict[str, Any]], None]:
        def change(description: dict[str, Any], content: dict[str, Any]) -> None:
            description["splits"] = {"train": "annotations/train.json", "test": "annotations/test.json"}
            content["person_names"] = list(names)

        return change

    root = write_folder(tmp_path / "set", names("Ann", "Ben"))
    (root / "annotations/train.json").rename(root / "annotations/test.json")
    write_folder(tmp_path / "other", names("Cem", "Ben"))
    (tmp_path / "other/annotations/train.json").rename(root / "annotations/train.json")
    with pytest.raises(InputError, match=r"test\.json: `person_id` Ben: searched here and trained on in train\.json"):
        open_dataset(root, "test")
    # Numbers alone say nothing: splits of a folder count their people by themselves.
    for split in ("train", "test"):
        content = json.loads((root / f"annotations/{split}.json").read_text())
        del content["person_names"]
        (root / f"annotations/{split}.json").write_text(json.dumps(content))
    assert open_dataset(root, "test").person_count == 2
