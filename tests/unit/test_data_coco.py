"""COCO files with identities: whose conventions are understood, what is said of wrong ones, what real files hold."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from personsearch.core.errors import InputError
from personsearch.data import open_dataset
from personsearch.data.coco import read_coco
from personsearch.data.coco_layout import annotation_files
from personsearch.data.index import IndexedDataset, LabelIndex


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def labels(**changes: Any) -> dict[str, Any]:
    """Three images of 100x80 by two cameras; people 7 and 30, one unlabelled."""
    rows = [(10, [1, 2, 10, 30], 30), (10, [40, 2, 10, 30], 7), (12, [5, 5, 10, 30], 30), (11, [9, 9, 10, 30], -1)]
    content: dict[str, Any] = {
        "images": [
            {"id": number, "file_name": f"c{camera}s1_{number:06d}.jpg", "width": 100, "height": 80}
            for number, camera in ((10, 1), (11, 1), (12, 4))
        ],
        "annotations": [
            {"id": i, "image_id": image, "bbox": box, "category_id": 1, "person_id": person, "iscrowd": 0}
            for i, (image, box, person) in enumerate(rows)
        ],
        "categories": [{"id": 1, "name": "person"}],
    }
    return {**content, **changes}


def write(path: Path, content: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(content).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


def read(tmp_path: Path, content: dict[str, Any], **options: Any) -> LabelIndex:
    return read_coco(write(tmp_path / "set/test.json", content), tmp_path / "set", **options)


def with_people(*people: Any, key: str = "person_id", **changes: Any) -> dict[str, Any]:
    content = labels(**changes)
    for row, person in zip(content["annotations"], people, strict=True):
        del row["person_id"]
        if person != "absent":
            row[key] = person
    return content


def test_publishers_numbers_become_contiguous_and_keep_their_names(tmp_path: Path) -> None:
    index = read(tmp_path, labels())
    assert index.person_names == ("7", "30")
    # Rows are in the order of their images, and of the file within an image.
    assert index.person_ids.tolist() == [1, 0, -1, 1]
    assert index.offsets.tolist() == [0, 2, 3, 4]
    np.testing.assert_array_equal(index.boxes_xyxy[1], [40, 2, 50, 32])
    assert (index.camera_ids.tolist(), index.frame_indices.tolist()) == ([1, 1, 4], [10, 11, 12])
    assert (index.name, index.terms) == ("set", "unknown")


@pytest.mark.parametrize("key", ["pid", "track_id", "instance_id", "identity_id"])
def test_other_names_of_the_identity(tmp_path: Path, key: str) -> None:
    index = read(tmp_path, with_people(30, 7, 30, None, key=key))
    assert index.person_ids.tolist() == [1, 0, -1, 1]


def test_an_identity_among_attributes_as_cvat_has_it(tmp_path: Path) -> None:
    content = with_people(*["absent"] * 4)
    for row, track in zip(content["annotations"], (3, 5, 3, 4), strict=True):
        row["attributes"] = {"occluded": False, "track_id": track}
    assert read(tmp_path, content).person_names == ("3", "4", "5")


def test_identities_as_text(tmp_path: Path) -> None:
    index = read(tmp_path, with_people("p30", "p7", "p30", "-1"))
    assert index.person_names == ("p30", "p7")
    assert index.person_ids.tolist() == [0, 1, -1, 0]


def test_nobody_has_an_identity(tmp_path: Path) -> None:
    index = read(tmp_path, with_people(*["absent"] * 4), derive_queries=True)
    assert (index.person_names, index.person_ids.tolist(), dict(index.protocols)) == ((), [-1] * 4, {})


@pytest.mark.parametrize(
    ("people", "changes", "expected"),
    [
        # PRW's own: -2 alone is unlabelled. Beside -1, and where a person_count is stated, it is a region to ignore.
        ((30, -2, 30, -2), {}, [0, -1, -1, 0]),
        ((30, -2, 30, -1), {}, [0, -2, -1, 0]),
        ((0, -2, 0, -2), {"person_count": 1}, [0, -2, -2, 0]),
        # SeqNet's 5555, unless people are numbered that far.
        ((30, 5555, 30, 5555), {}, [0, -1, -1, 0]),
        ((5554, 5555, 5554, 5555), {}, [0, 1, 1, 0]),
        ((5556, 5555, 5556, 5555), {}, [1, 0, 0, 1]),
        # The file's own word.
        ((30, 99, 30, 7), {"unlabelled_ids": [99], "ignore_ids": [7]}, [0, -1, -2, 0]),
    ],
)
def test_numbers_for_nobody_in_particular(
    tmp_path: Path, people: tuple[int, ...], changes: dict[str, Any], expected: list[int]
) -> None:
    assert read(tmp_path, with_people(*people, **changes)).person_ids.tolist() == expected


def test_gfn_says_who_is_known(tmp_path: Path) -> None:
    content = with_people(0, 1, 0, 2)
    for row, known in zip(content["annotations"], (True, False, True, False), strict=True):
        row["is_known"] = known
    for image, camera in zip(content["images"], (3, 3, 9), strict=True):
        image["cam_id"] = camera
    index = read(tmp_path, content)
    assert index.person_ids.tolist() == [0, -1, -1, 0]
    assert index.camera_ids.tolist() == [3, 3, 9]


def test_other_categories_are_no_people(tmp_path: Path) -> None:
    content = labels(categories=[{"id": 1, "name": "car"}, {"id": 3, "name": "Pedestrian"}])
    content["annotations"][1]["category_id"] = content["annotations"][3]["category_id"] = 3
    index = read(tmp_path, content)
    assert (len(index.person_ids), index.person_names, index.problems[0].kind) == (2, ("7",), "missing")


@pytest.mark.parametrize(
    ("names", "cameras", "frames"),
    [
        (("c1_f0046182.jpg", "c8_f0046182.jpg", "c8_f0046190.jpg"), [1, 8, 8], [46182, 46182, 46190]),
        (("frame_000004.PNG", "frame_000002.PNG", "frame_000001.PNG"), [0, 0, 0], [4, 2, 1]),
        (("a.jpg", "b.jpg", "c.jpg"), [0, 0, 0], [0, 1, 2]),
    ],
)
def test_cameras_and_frames_from_names(
    tmp_path: Path, names: tuple[str, ...], cameras: list[int], frames: list[int]
) -> None:
    content = labels()
    for image, name in zip(content["images"], names, strict=True):
        image["file_name"] = name
    index = read(tmp_path, content)
    assert (index.camera_ids.tolist(), index.frame_indices.tolist()) == (cameras, frames)


def test_a_withdrawn_set_is_named(tmp_path: Path) -> None:
    content = labels()
    for number, image in enumerate(content["images"]):
        image["file_name"] = f"c{number + 1}_f{46182 + number:07d}.jpg"
    write(tmp_path / "set/test.json", content)
    index = open_dataset(tmp_path / "set", "test").index  # type: ignore[attr-defined]  # of an IndexedDataset
    assert index.problems[-1].kind == "noted"
    assert "DukeMTMC" in index.problems[-1].what


def test_cameras_by_name(tmp_path: Path) -> None:
    content = labels()
    for image, camera in zip(content["images"], ("yard", "door", "yard"), strict=True):
        image["camera"] = camera
    assert read(tmp_path, content).camera_ids.tolist() == [1, 0, 1]


def test_boxes_that_cannot_be_used_are_told(tmp_path: Path) -> None:
    content = labels()
    boxes = ([1, 2, 0, 30], [40, 2, -3, 30], [200, 5, 10, 30], [-4, 60, 10, 30])
    for row, box in zip(content["annotations"], boxes, strict=True):
        row["bbox"] = box
    index = read(tmp_path, content)
    np.testing.assert_array_equal(index.boxes_xyxy, [[0, 60, 6, 80]])
    told = {(problem.kind, problem.count): problem for problem in index.problems}
    assert "without area: annotation 0 has bbox [1, 2, 0, 30], and 1 more" in told["dropped", 2].what
    assert "outside their image: annotation 2 has bbox [200, 5, 10, 30]" in told["dropped", 1].what
    assert "over an edge of their image, cut there: annotation 3" in told["noted", 1].what
    assert told["dropped", 2].file == "test.json"
    assert IndexedDataset(tmp_path, index).dropped_boxes == 3


def _set(*path: str | int, value: object) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        node: Any = content
        for key in path[:-1]:
            node = node[key]
        node[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_set("images", value=None), "`images` is None; expected a list"),
        (_set("annotations", value={"a": 1}), "`annotations` is {'a': 1}"),
        (_set("annotations", 1, value=3), "annotation number 1 is 3; expected an object"),
        (_set("annotations", 1, "pid", value=3), "annotations have both `person_id` and `pid`"),
        (_set("images", 1, "camid", value=3), "image 10: `camid` is None"),
        (_set("annotations", 1, "person_id", value=-3), "annotation 1: person_id is -3"),
        (_set("annotations", 1, "person_id", value=1.5), "annotation 1: person_id is 1.5"),
        (_set("annotations", 1, "person_id", value=[1]), "annotation 1: person_id is [1]"),
        (_set("annotations", 1, "id", value=0), "annotation 0: id is that of an earlier annotation"),
        (_set("annotations", 1, "image_id", value=9), "annotation 1: image id 9 is unknown"),
        (_set("annotations", 1, "bbox", value=[1, 2, 3, "4"]), "annotation 1: bbox is [1, 2, 3, '4']"),
        (_set("annotations", 1, "bbox", value=[1, 2, 3, float("nan")]), "annotation 1: bbox is [1, 2, 3, nan]"),
        (_set("annotations", 1, "bbox", value=None), "annotation 1: `bbox` is None"),
        (_set("images", 1, "file_name", value="c1s1_000010.jpg"), "image 11: file_name `c1s1_000010.jpg` is that of"),
        (_set("images", 1, "file_name", value="/data/c1.jpg"), "image 11: file_name `/data/c1.jpg`"),
        (_set("images", 1, "id", value=10), "two images share an id: 10"),
        (_set("images", 1, "height", value=-5), "image 11: is 100x-5"),
        (_set("images", 1, "width", value=10**30), "image 11: `width` is 1000"),
        (_set("person_count", value=5), "annotation 0: person_id is 30; expected -2 to 4"),
        (_set("unlabelled_ids", value=3), "`unlabelled_ids` and `ignore_ids`"),
        (_set("categories", value=[{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]), "none of the categories a, b"),
        (_set("queries", value=3), "`queries` is 3"),
        (_set("protocols", value={"x": {"queries": [{"image_id": 10}]}}), "`x` query number 0: `bbox` is None"),
        (
            _set("queries", value=[{"image_id": 10, "bbox": [1, 2, 10, 30], "person_id": 31}]),
            "query in image 10: bbox [1, 2, 10, 30], person_id 31; expected a box with area inside the image and a",
        ),
        (
            _set("queries", value=[{"image_id": 10, "bbox": [1, 2, 10, 30], "person_id": 30, "gallery": 0}]),
            "query in image 10: gallery is 0",
        ),
        (
            _set("queries", value=[{"image_id": 10, "bbox": [1, 2, 10, 30], "person_id": 30, "gallery": [12, 2]}]),
            "query in image 10: image id 2 is unknown",
        ),
    ],
)
def test_wrong_content_is_named(tmp_path: Path, change: Callable[[dict[str, Any]], None], said: str) -> None:
    content = labels()
    change(content)
    with pytest.raises(InputError) as caught:
        read(tmp_path, content)
    assert said in str(caught.value)
    assert "test.json" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_protocol_per_camera_where_none_is_stated(tmp_path: Path) -> None:
    content = labels()
    # 30 is in cameras 1 (twice) and 4; 7 is in one image only.
    content["annotations"].append({"id": 9, "image_id": 11, "bbox": [60, 9, 10, 30], "category_id": 1, "person_id": 30})
    index = read(tmp_path, content, derive_queries=True)
    queries = index.protocols["per-camera"].queries()
    assert [(query.image_index, query.person_id, query.gallery) for query in queries] == [(0, 1, None), (2, 1, None)]
    np.testing.assert_array_equal(queries[0].box_xyxy, [1, 2, 11, 32])
    assert dict(read(tmp_path, {**content, "queries": []}, derive_queries=True).protocols).keys() == {"default"}


def test_named_protocols_and_shared_galleries(tmp_path: Path) -> None:
    query = {"image_id": 10, "bbox": [1, 2, 10, 30], "person_id": 30}
    protocols = {
        "g2": {
            "galleries": [{"image_ids": [12, 11, 12]}],
            "queries": [
                {**query, "gallery": 0, "answers": [[5, 5, 10, 30]]},
                {**query, "gallery": 0, "answers": []},
            ],
        },
        "full": {"queries": [query]},
    }
    write(tmp_path / "set/test.json", labels(protocols=protocols))
    first, second = open_dataset(tmp_path / "set", "test").queries
    assert first.gallery is second.gallery
    np.testing.assert_array_equal(np.asarray(first.gallery), [2, 1, 2])
    np.testing.assert_array_equal(first.answers_xyxy, [[5, 5, 15, 35]])
    assert open_dataset(tmp_path / "set", "test", "full").queries[0].gallery is None
    with pytest.raises(InputError, match="`g9` is unknown; expected one of g2, full"):
        open_dataset(tmp_path / "set", "test", "g9")


def test_text_files_of_queries(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    write(folder / "test.json", labels())
    (folder / "prwmini_query_info.txt").write_bytes(b"30 5 5 10 30 c4s1_000012\r\n")
    (folder / "query_info.txt").write_bytes(b"7 40 2 10 30 c1s1_000010\r\n30 5 5 10 30 c4s1_000012\r\n")
    dataset = open_dataset(folder, "test")
    assert isinstance(dataset, IndexedDataset)
    assert list(dataset.index.protocols) == ["default", "mini", "per-camera"]
    assert [(query.image_index, query.person_id) for query in dataset.queries] == [(0, 0), (2, 1)]
    (folder / "query_info.txt").write_text("7 40 2 10 30 c1s1_000010\n7 40 2 10 30 nowhere\n")
    with pytest.raises(InputError, match=r"query_info\.txt: line 2, `7 40 2 10 30 nowhere`: image is unknown"):
        open_dataset(folder, "test")
    (folder / "query_info.txt").write_text("7 40 2 10 c1s1_000010\n")
    with pytest.raises(InputError, match=r"line 1, .* is no query; expected id x y w h image"):
        open_dataset(folder, "test")
    # Lines of another split's images are not this split's.
    (folder / "query_info.txt").write_text("7 40 2 10 30 c9s1_000010\n")
    # Of an IndexedDataset.
    assert list(open_dataset(folder, "test").index.protocols) == ["mini", "per-camera"]  # type: ignore[attr-defined]


def test_splits_by_the_names_of_files(tmp_path: Path) -> None:
    for name in ("prw_test_pid.json.gz", "extra.json"):
        write(tmp_path / "set/annotations" / name, labels())
    write(tmp_path / "set/annotations/instances_train2017.json", with_people(1, 2, 3, 4))
    write(tmp_path / "set/ignored.json", labels())
    assert sorted(annotation_files(tmp_path / "set")) == ["extra", "test", "train"]
    assert len(open_dataset(tmp_path / "set", "test")) == 3
    assert len(open_dataset(tmp_path / "set/annotations/extra.json", "extra")) == 3
    write(tmp_path / "set/annotations/another_train.json", labels())
    assert sorted(annotation_files(tmp_path / "set")) == ["another_train", "extra", "instances_train2017", "test"]
    with pytest.raises(InputError, match="split `train` is unknown; expected one of another_train"):
        open_dataset(tmp_path / "set", "train")


def test_other_json_is_no_data_set(tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text('{"loss": 1}')
    with pytest.raises(InputError, match="is not a data set"):
        open_dataset(tmp_path, "metrics")


@pytest.mark.parametrize("folder", ["", "frames", "test"])
def test_images_are_found_in_the_usual_folders(tmp_path: Path, folder: str) -> None:
    content = labels()
    for image in content["images"]:
        del image["width"], image["height"]
    write(tmp_path / "set/annotations/test.json", content)
    place = tmp_path / "set" / folder
    place.mkdir(exist_ok=True)
    for number, image in enumerate(content["images"]):
        cv2.imwrite(str(place / image["file_name"]), np.zeros((50 + number, 70, 3), np.uint8))
    dataset = open_dataset(tmp_path / "set", "test")
    assert isinstance(dataset, IndexedDataset)
    # Sizes that the file does not state come from the images.
    assert dataset.index.image_wh.tolist() == [[70, 50], [70, 51], [70, 52]]
    assert dataset.frame_bgr(2).shape == (52, 70, 3)
    assert not dataset.index.problems


def test_missing_images_are_one_problem(tmp_path: Path) -> None:
    write(tmp_path / "set/annotations/test.json", labels())
    dataset = open_dataset(tmp_path / "set", "test")
    # Of an IndexedDataset.
    assert [(one.kind, one.count) for one in dataset.index.problems] == [("missing", 3)]  # type: ignore[attr-defined]
    assert dataset[0].image_wh == (100, 80)
    with pytest.raises(InputError, match="image file cannot be read"):
        dataset.frame_bgr(0)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    path = write(tmp_path / "set/test.json.gz", labels())
    whole = path.read_bytes()
    for content in (whole[:60], b"PK"):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"test\.json\.gz: is not a whole gzip file"):
            read_coco(path, tmp_path)
    path.write_bytes(gzip.compress(b"[1, 2]"))
    with pytest.raises(InputError, match="holds a list; expected a JSON object"):
        read_coco(path, tmp_path)
    path.write_bytes(gzip.compress(b"[" * 100_000))
    with pytest.raises(InputError, match="is not valid JSON"):
        read_coco(path, tmp_path)


def people_in_splits(root: Path, train: tuple[int, ...], test: tuple[int, ...]) -> LabelIndex:
    for split, people in (("train", train), ("test", test)):
        write(root / f"annotations/{split}.json", with_people(*people))
    dataset = open_dataset(root, "test")
    assert isinstance(dataset, IndexedDataset)
    return dataset.index


def test_nobody_is_both_trained_on_and_searched(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        people_in_splits(tmp_path / "set", (30, 7, 30, -1), (30, 8, 30, -1))
    assert "test.json: `person_id` 30: searched here and trained on in train.json" in str(caught.value)
    # 7 is in both, but is never searched: a distractor, as 94 of PRW's people are.
    index = people_in_splits(tmp_path / "set", (30, 7, 30, -1), (31, 7, 31, -1))
    assert {problem.kind for problem in index.problems} == {"missing"}
    # A split that counts its people from 0 says nothing about who they are; AlignPS's PRW is such a pair.
    index = people_in_splits(tmp_path / "set", (0, 1, 0, -1), (1, 7, 1, -1))
    assert "1 searched `person_id` also occur in train.json (1); the same people?" in index.problems[-1].what


def _published() -> Path:
    place = os.environ.get("PERSON_SEARCH_DATA")
    folder = Path(place) / "prw-annotations" if place else None
    if folder is None or not folder.is_dir():
        pytest.skip("PERSON_SEARCH_DATA names no folder with prw-annotations")
    return folder


def test_prw_as_alignps_converted_it() -> None:
    dataset = open_dataset(_published(), "test")
    assert isinstance(dataset, IndexedDataset)
    counts = dataset.index.counts()
    assert (counts["images"], counts["boxes"], counts["labelled"], counts["unlabelled"]) == (6112, 25062, 19127, 5935)
    assert (counts["identities"], counts["cameras"], counts["ignore"]) == (544, 6, 0)
    names = np.array(dataset.index.person_names)
    # Raw id 3 alone has 678 boxes; the 450 people of test only are 479, 484..931 and 933.
    assert int((names[dataset.index.person_ids[dataset.index.person_ids >= 0]] == "3").sum()) == 678
    assert len({479, *range(484, 932), 933} & {int(name) for name in names}) == 450
    train = open_dataset(_published(), "train")
    assert train.person_count == 483
    assert len(train.queries) == 0


def test_prw_mini() -> None:
    dataset = open_dataset(_published(), "test", "mini")
    assert isinstance(dataset, IndexedDataset)
    assert len(dataset.queries) == 30
    for query in dataset.queries:
        assert query.gallery is None
        sample = dataset[query.image_index]
        own = sample.boxes_xyxy[sample.person_ids == query.person_id]
        # The JSON has whole numbers where the query file has fractions.
        assert np.abs(own - query.box_xyxy).max(axis=1).min() <= 2
