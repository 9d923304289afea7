"""PRW: three names for one variable, frames and cameras, the rounding of boxes, protocols, and broken files."""

from __future__ import annotations

import gzip
import json
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from mat_files import cells, write_mat

from personsearch.core.errors import InputError
from personsearch.data.checking import check_dataset
from personsearch.data.index import IndexedDataset
from personsearch.data.opening import format_of, open_dataset
from personsearch.data.prw import open_prw

Rows = list[tuple[float, ...]]
TRAIN: dict[str, tuple[str, Rows]] = {
    "c1s1_000151": ("box_new", [(932, 10.2, 20, 30, 60), (-2, 50, 20, 30, 60)]),
    "c6s1_000376": ("anno_file", [(3, 1, 2, 30, 60), (932, 50.9, 2.9, 30.2, 60.9)]),
}
TEST: dict[str, tuple[str, Rows]] = {
    "c1s3_000401": ("anno_previous", [(479, 12.5, 20.25, 30.75, 60.5), (3, 60, 10, 20, 50)]),
    "c2s1_000026": ("box_new", [(479, -4.5, 3, 20, 50), (600, 180.5, 100, 30, 60), (-2, 5, 5, 0, 9)]),
    "c2s3_000951": ("box_new", [(600, 20, 20, 30, 70), (600, 90, 20, 30, 70)]),
    "c3s1_001201": ("anno_file", [(-2, 5, 5, 20, 50)]),
}
QUERIES = (
    "479 12.5 20.25 30.75 60.5 c1s3_000401",
    "479 -4.5 3 20 50 c2s1_000026",
    "600 90.99 21 30 70 c2s3_000951",
)
WH = (200, 160)


def write_annotations(root: Path, frames: dict[str, tuple[str, Rows]]) -> None:
    for name, (key, rows) in frames.items():
        write_mat(root / f"annotations/{name}.jpg.mat", **{key: np.array(rows, np.float64).reshape(-1, 5)})


def write_set(root: Path, images: bool = True, line_end: str = "\r\n") -> Path:
    for split, frames in (("train", TRAIN), ("test", TEST)):
        write_mat(root / f"frame_{split}.mat", **{f"img_index_{split}": cells(list(frames))})
        write_annotations(root, frames)
        for name in frames if images else ():
            (root / "frames").mkdir(exist_ok=True)
            cv2.imwrite(str(root / f"frames/{name}.jpg"), np.zeros((WH[1], WH[0], 3), np.uint8))
    (root / "query_info.txt").write_bytes("".join(line + line_end for line in QUERIES).encode())
    return root


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_the_training_set(tmp_path: Path) -> None:
    data = open_prw(write_set(tmp_path / "prw"), "train")
    assert data.index.image_paths == ("frames/c1s1_000151.jpg", "frames/c6s1_000376.jpg")
    assert data.index.person_names == ("3", "932")  # numbered 0 and 1
    assert [data[i].person_ids.tolist() for i in range(2)] == [[1, -1], [0, 1]]
    assert [(data[i].camera_id, data[i].frame_index) for i in range(2)] == [(1, 151), (6, 376)]
    # Corners are cut to whole pixels after x and w are added: 50.9 + 30.2 = 81.1.
    assert data[1].boxes_xyxy[1].tolist() == [50, 2, 81, 63]
    assert (data.queries, data.index.problems) == ((), ())


@pytest.mark.parametrize("line_end", ["\r\n", "\n"])
def test_the_test_set(tmp_path: Path, line_end: str) -> None:
    data = open_prw(write_set(tmp_path / "prw", line_end=line_end), "test")
    assert data.protocol == "all"
    assert data.index.person_names == ("3", "479", "600")
    assert [data[i].person_ids.tolist() for i in range(4)] == [[1, 0], [1, 2], [2, 2], [-1]]
    assert data[0].boxes_xyxy[0].tolist() == [12, 20, 43, 80]
    # x + w = 15.5 whatever of it lies left of the frame; the other box is cut at the right edge.
    assert data[1].boxes_xyxy.tolist() == [[0, 3, 15, 53], [180, 100, 200, 160]]
    assert [query.image_index for query in data.queries] == [0, 1, 2]
    assert [query.person_id for query in data.queries] == [1, 1, 2]
    assert [query.box_xyxy.tolist() for query in data.queries] == [[12, 20, 43, 80], [0, 3, 15, 53], [90, 21, 120, 91]]
    assert all(query.gallery is None for query in data.queries)
    told = {(problem.kind, problem.file, problem.count) for problem in data.index.problems}
    # A box of width 0; two boxes over an edge; a query one pixel beside its annotation.
    assert told == {("dropped", "annotations", 1), ("noted", "annotations", 2), ("noted", "query_info.txt", 1)}


def test_other_cameras(tmp_path: Path) -> None:
    queries = open_prw(write_set(tmp_path / "prw"), "test", "cross-camera").queries
    galleries = [query.gallery.tolist() for query in queries if query.gallery is not None]
    assert galleries == [[1, 2, 3], [0, 3], [0, 3]]


def test_prw_mini_is_a_protocol_where_its_file_is(tmp_path: Path) -> None:
    root = write_set(tmp_path / "prw")
    assert tuple(open_prw(root, "test").index.protocols) == ("all", "cross-camera")
    (root / "prwmini_query_info.txt").write_text(QUERIES[1] + "\n")
    (query,) = open_prw(root, "test", "mini").queries
    assert (query.image_index, query.person_id, query.gallery) == (1, 1, None)


@pytest.mark.parametrize(
    ("line", "kind", "said"),
    [
        ("600 90 22 30 71 c2s3_000951", "wrong", "by more than a pixel: line 1 in c2s3_000951"),
        ("600 90 20 31 70 c2s3_000951.jpg", "noted", "by a pixel: line 1 in c2s3_000951"),
        ("479 90 20 30 70 c2s3_000951", "wrong", "without an annotation in their frame: line 1"),
    ],
)
def test_queries_beside_their_annotation_are_told(tmp_path: Path, line: str, kind: str, said: str) -> None:
    root = write_set(tmp_path / "prw")
    (root / "query_info.txt").write_text(line)
    (problem,) = [one for one in open_prw(root, "test").index.problems if one.file == "query_info.txt"]
    assert (problem.kind, problem.count) == (kind, 1)
    assert said in problem.what


def test_of_three_variables_the_newest_counts(tmp_path: Path) -> None:
    root = write_set(tmp_path / "prw")
    old, new = np.array([[3.0, 1, 1, 9, 9]]), np.array([[932.0, 2, 2, 9, 9]])
    write_mat(root / "annotations/c1s1_000151.jpg.mat", anno_previous=old, anno_file=old, box_new=new)
    assert open_prw(root, "train")[0].boxes_xyxy.tolist() == [[2, 2, 11, 11]]


def test_a_frame_without_people(tmp_path: Path) -> None:
    root = write_set(tmp_path / "prw")
    write_mat(root / "annotations/c1s1_000151.jpg.mat", box_new=np.zeros((0, 0)))
    assert open_prw(root, "train")[0].boxes_xyxy.shape == (0, 4)


def test_the_format_and_its_check(tmp_path: Path) -> None:
    root = write_set(tmp_path / "prw")
    assert format_of(root).name.startswith("PRW")
    assert open_dataset(root, "test", "cross-camera").name == "PRW"
    report = check_dataset(root)
    said = [(split, problem.kind, problem.what) for split, problem in report.findings]
    # Raw id 3 is in both splits, as 94 ids of the true set are; nobody searches it.
    assert [one[:2] for one in said if "also in split `train`: 3" in one[2]] == [("test", "noted")]
    assert any("18,048 published" in what for _, _, what in said)
    assert any(problem.file == "annotations/*.jpg.mat" for _, problem in report.problems)


def test_missing_frames_are_told_and_labels_still_read(tmp_path: Path) -> None:
    data = open_prw(write_set(tmp_path / "prw", images=False), "test")
    assert [(one.file, one.count) for one in data.index.problems if one.kind == "missing"] == [("frames", 4)]
    assert data.index.boxes_xyxy[data.index.offsets[1]].tolist() == [0, 3, 15, 53]


def query_line(line: str) -> Callable[[Path], None]:
    return lambda root: (root / "query_info.txt").write_text(f"{QUERIES[0]}\n\n{line}\n") and None


def rows(*rows: tuple[float, ...]) -> Callable[[Path], None]:
    return lambda root: write_mat(root / "annotations/c1s3_000401.jpg.mat", box_new=np.array(rows, np.float64))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda root: (root / "frame_test.mat").unlink(), r"frame_test\.mat: cannot be read"),
        (lambda root: (root / "query_info.txt").unlink(), r"query_info\.txt: cannot be read"),
        (
            lambda root: (root / "annotations/c1s3_000401.jpg.mat").unlink(),
            r"c1s3_000401\.jpg\.mat: is missing; expected one \.mat file for each frame",
        ),
        (
            lambda root: [path.unlink() for path in (root / "annotations").iterdir()],
            r"c1s1_000151\.jpg\.mat: is missing, as are 5 more of 6 annotations",
        ),
        (
            lambda root: write_mat(root / "annotations/c1s3_000401.jpg.mat", boxes=np.zeros((1, 5))),
            r"c1s3_000401\.jpg\.mat: holds no `box_new` or `anno_file` or `anno_previous`, only `boxes`",
        ),
        (
            lambda root: (root / "annotations/c1s3_000401.jpg.mat").write_text("hello"),
            r"c1s3_000401\.jpg\.mat: is no \.mat file that can be read",
        ),
        (
            lambda root: write_mat(root / "frame_test.mat", img_index_train=cells(["c1s1_000151"])),
            r"frame_test\.mat: holds no `img_index_test`",
        ),
        (
            lambda root: write_mat(root / "frame_test.mat", img_index_test=cells([*TEST, "frame7"])),
            r"frame_test\.mat: img_index_test 5 is `frame7`; expected a name as c1s1_000151",
        ),
        (
            lambda root: write_mat(root / "frame_test.mat", img_index_test=cells([*TEST, "c1s3_000401"])),
            "`img_index_test` names a frame twice",
        ),
        (rows((479, 1, 2, 3)), r"c1s3_000401\.jpg\.mat: rows have shape \(1, 4\)"),
        (rows((479, 1, 2, np.nan, 3)), r"c1s3_000401\.jpg\.mat: rows have shape .*expected finite numbers"),
        (rows((-1, 1, 2, 5, 3)), r"c1s3_000401\.jpg\.mat: id is -1; expected a whole number, 0 or more, or -2"),
        (rows((4.5, 1, 2, 5, 3)), r"id is 4\.5"),
        (query_line("479 1 2 3 c1s3_000401"), r"query_info\.txt: line 3 is `479 1 2 3 c1s3_000401`"),
        (query_line("x 1 2 3 4 c1s3_000401"), "line 3 is `x"),
        (query_line("479 1 2 0 4 c1s3_000401"), "line 3 is `479 1 2 0 4"),
        (query_line("479 1 2 inf 4 c1s3_000401"), "line 3 is `479 1 2 inf"),
        (query_line("479 1 2 3 4 c1s1_000151"), "line 3: frame `c1s1_000151` is unknown"),
        (query_line("932 1 2 3 4 c1s3_000401"), "line 3: id 932 is unknown"),
        (query_line("479 300 2 3 4 c1s3_000401"), "line 3: box .* has no area in its frame"),
        (query_line("3 60 10 20 50 c1s3_000401"), r"query_info\.txt: id 3 is searched and trained on"),
    ],
)
def test_broken_files_are_named_in_one_line(tmp_path: Path, change: Callable[[Path], Any], said: str) -> None:
    root = write_set(tmp_path / "prw")
    change(root)
    with pytest.raises(InputError, match=said) as error:
        open_prw(root, "test")
    assert "\n" not in str(error.value)


def test_unknown_splits_and_protocols(tmp_path: Path) -> None:
    root = write_set(tmp_path / "prw")
    with pytest.raises(InputError, match="split `val` is unknown; expected one of train, test"):
        open_prw(root, "val")
    with pytest.raises(InputError, match="`mini` is unknown; expected one of all, cross-camera"):
        open_prw(root, "test", "mini")


def published(name: str) -> Any:
    place = os.environ.get("PERSON_SEARCH_DATA")
    path = Path(place or "", "prw-annotations", name)
    if not place or not path.is_file():
        pytest.skip(f"needs prw-annotations/{name} in the folder that PERSON_SEARCH_DATA names")
    return json.loads(gzip.decompress(path.read_bytes())) if path.suffix == ".gz" else path.read_text()


def as_rows(content: Any, raw_id: Callable[[int], int]) -> dict[str, tuple[str, Rows]]:
    names = {image["id"]: image["file_name"].removesuffix(".jpg") for image in content["images"]}
    found: dict[str, tuple[str, Rows]] = {name: ("box_new", []) for name in names.values()}
    for row in content["annotations"]:
        found[names[row["image_id"]]][1].append((raw_id(row["person_id"]), *row["bbox"]))
    return found


@pytest.fixture(scope="module")
def true_set(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[IndexedDataset, IndexedDataset]]:
    """PRW's labels as AlignPS published them, written back into PRW's own layout and read from there.

    The conversion lacks 88 training frames and has no queries: PRW-mini's stand for them. Its test ids are PRW's; its
    training ids count from 0, so that the true ones are put back: 1..478, 480..483 and 932.
    """
    trained = [*range(1, 479), *range(480, 484), 932]
    train = as_rows(published("prw_train_pid_minus88.json.gz"), lambda number: trained[number] if number >= 0 else -2)
    test = as_rows(published("prw_test_pid.json.gz"), lambda number: number)
    root = tmp_path_factory.mktemp("prw")
    for split, frames in (("train", train), ("test", test)):
        write_mat(root / f"frame_{split}.mat", **{f"img_index_{split}": cells(list(frames))})
        write_annotations(root, frames)
    for name in ("query_info.txt", "prwmini_query_info.txt"):
        (root / name).write_text(published("prwmini_query_info.txt"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(root / "cache"))
        yield open_prw(root, "train"), open_prw(root, "test", "mini")


class TestPublishedLabels:
    """What is known of the true labels; reference: sections 2.2, 2.3 and 7.1 of the project's notes on the field."""

    Sets = tuple[IndexedDataset, IndexedDataset]

    def test_counts(self, true_set: Sets) -> None:
        train, test = (data.index.counts() for data in true_set)
        wanted = format_of(true_set[1].root).published
        assert {name: test[name] for name in wanted["test"] if "queries" not in name} == {
            name: count for name, count in wanted["test"].items() if "queries" not in name
        }
        assert (train["identities"], train["cameras"], train["images"]) == (483, 6, 5_704 - 88)
        # The 88 frames left out have 198 boxes, of 192 labelled people.
        assert (18_048 - train["boxes"], 14_907 - train["labelled"]) == (198, 192)
        both = {name: wanted["train"][name] + wanted["test"][name] for name in ("images", "boxes", "labelled")}
        assert both == {"images": 11_816, "boxes": 43_110, "labelled": 34_034}

    def test_identities(self, true_set: Sets) -> None:
        train, test = ({int(name) for name in data.index.person_names} for data in true_set)
        assert test - train == {479, *range(484, 932), 933}
        assert (len(test - train), len(test & train), len(train | test)) == (450, 94, 933)
        index = true_set[1].index
        assert int((index.person_ids == index.person_names.index("3")).sum()) == 678

    def test_frames_without_identities_and_with_one_twice(self, true_set: Sets) -> None:
        for data, without, twice in zip(true_set, (40, 46), (9, 3), strict=True):
            samples = [
                data.index.person_ids[a:b] for a, b in zip(data.index.offsets, data.index.offsets[1:], strict=False)
            ]
            assert sum(not (ids >= 0).any() for ids in samples) == without
            labelled = [ids[ids >= 0] for ids in samples]
            names = [name for name, ids in zip(data.index.image_paths, labelled, strict=True) if len({*ids}) < len(ids)]
            assert len(names) == twice  # 10 in the whole training set
            assert ("frames/c1s2_024091.jpg" in names) == (data is true_set[0])

    def test_cameras_and_their_sizes(self, true_set: Sets) -> None:
        for name, data in zip(("prw_train_pid_minus88", "prw_test_pid"), true_set, strict=True):
            sizes = {
                image["file_name"]: (image["width"], image["height"])
                for image in published(f"{name}.json.gz")["images"]
            }
            for path, camera in zip(data.index.image_paths, data.index.camera_ids.tolist(), strict=True):
                assert sizes[path.removeprefix("frames/")] == ((720, 576) if camera == 6 else (1920, 1080))
        assert Counter(true_set[0].index.camera_ids.tolist())[6] == 1_246 - 72

    def test_a_query_for_each_person_and_camera(self, true_set: Sets) -> None:
        """2,057 queries are what the 450 people and their cameras make; each has an answer in another camera."""
        index = true_set[1].index
        camera_of = np.repeat(index.camera_ids, np.diff(index.offsets))
        cameras: dict[int, set[int]] = defaultdict(set)
        for person, camera in zip(index.person_ids.tolist(), camera_of.tolist(), strict=True):
            if person >= 0:
                cameras[int(index.person_names[person])].add(camera)
        searched = [
            seen for raw_id, seen in cameras.items() if raw_id == 479 or raw_id in range(484, 932) or raw_id == 933
        ]
        assert sum(map(len, searched)) == 2_057
        assert min(map(len, searched)) == 2

    def test_mini_queries_are_their_annotations(self, true_set: Sets) -> None:
        """The queries have fractions, AlignPS's labels whole pixels: equal, as corners are cut towards zero."""
        data = true_set[1]
        assert len(data.queries) == 30
        for query in data.queries:
            rows = slice(*data.index.offsets[query.image_index : query.image_index + 2].tolist())
            same = data.index.boxes_xyxy[rows][data.index.person_ids[rows] == query.person_id]
            assert query.box_xyxy.tolist() in same.tolist()
        assert [one for one in data.index.problems if one.file.endswith("query_info.txt")] == []

    def test_shapes_of_people(self, true_set: Sets) -> None:
        train, test = (data.index.boxes_xyxy[:, 2:] - data.index.boxes_xyxy[:, :2] for data in true_set)
        quantiles = np.quantile(train[:, 1], [0, 0.05, 0.25, 0.5, 0.75, 0.95, 1]).tolist()
        assert quantiles == [54, 93, 121, 157, 257, 490, 831]
        # Of the whole training set: without 88 of its frames some figures move a little.
        assert np.median(train[:, 1] / train[:, 0]) == pytest.approx(2.76, abs=0.01)
        assert len(train) / len(true_set[0]) == pytest.approx(3.16, abs=0.02)
        of_each = np.bincount(true_set[0].index.person_ids[true_set[0].index.person_ids >= 0])
        assert (of_each.min(), of_each.max()) == (1, 465)
        assert np.median(of_each) == pytest.approx(23, abs=1)
        sides = np.concatenate([train, test])
        # Nobody is so small that evaluators ask for less than half an overlap.
        assert (sides.prod(axis=1) / (sides + 10).prod(axis=1) > 0.5).all()

    def test_negative_coordinates_are_cut(self, true_set: Sets) -> None:
        for data, count in zip(true_set, (11, 14), strict=True):
            (told,) = [one for one in data.index.problems if one.kind == "noted" and one.file == "annotations"]
            assert told.count == count  # frames are not at hand: only the left and the upper edge count
            assert data.index.boxes_xyxy.min() == 0
