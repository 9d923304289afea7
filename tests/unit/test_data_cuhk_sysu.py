"""CUHK-SYSU: who is where, what is searched in which images, and what broken files get; small files in true layout."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from mat_files import NO_BOX, cells, records, write_mat
from scipy.io import loadmat

from personsearch.core.errors import InputError
from personsearch.data.checking import check_dataset
from personsearch.data.cuhk_searches import Searches, image_finder, open_searches_alone, read_searches
from personsearch.data.cuhk_sysu import open_cuhk_sysu
from personsearch.data.opening import format_of, open_dataset

Box = tuple[int, int, int, int]
Row = tuple[str, Box | None]
SIZES = (50, 100, 500, 1000, 2000, 4000)
WH = (640, 480)

BOXES: dict[str, list[Box]] = {
    "s1.jpg": [(10, 20, 30, 60), (50, 20, 0, 60), (100, 20, 30, 70)],
    "s2.jpg": [(5, 5, 30, 60), (5, 5, 30, 60), (620, 5, 30, 60)],
    "s11.jpg": [(7, 7, 30, -1), (0, 0, 20, 50)],
    "s4.jpg": [(200, 100, 90, 200), (60, 5, 30, 60)],
    "s5.jpg": [(210, 100, 90, 200)],
    "s6.jpg": [(220, 100, 90, 200), (400, 100, 80, 190), (300, 90, 80, 190)],
    "s7.jpg": [(1, 1, 20, 40)],
    "s8.jpg": [(1, 1, 20, 40)],
}
POOL = ("s6.jpg", "s4.jpg", "s5.jpg", "s8.jpg", "s7.jpg")
TRAIN: dict[str, list[tuple[str, Box]]] = {
    "p20": [("s1.jpg", (10, 20, 30, 60)), ("s2.jpg", (5, 5, 30, 60))],
    "p3": [("s2.jpg", (620, 5, 30, 60)), ("s11.jpg", (0, 0, 20, 50))],
}
QUERIES: list[tuple[str, str, Box]] = [
    ("p8", "s4.jpg", (200, 100, 90, 200)),
    ("p1", "s6.jpg", (400, 100, 80, 190)),
]
# The first query's gallery repeats an image, the second's has the query's own, where the person stands twice.
GALLERIES: list[list[Row]] = [
    [("s5.jpg", (210, 100, 90, 200)), ("s5.jpg", (210, 100, 90, 200)), ("s7.jpg", None)],
    [("s6.jpg", (300, 90, 80, 190)), ("s8.jpg", None)],
]


def stored(box: Box | None, kind: type) -> Any:
    return NO_BOX if box is None else np.array([box], kind)


def searches_of(queries: Sequence[tuple[str, str, Box]], galleries: Sequence[Sequence[Row]], kind: type) -> Any:
    return records(
        [
            {
                "Query": records(
                    [{"imname": image, "idlocate": stored(box, kind), "ishard": 0, "idname": name}],
                    ("imname", "idlocate", "ishard", "idname"),
                ),
                "Gallery": records(
                    [{"imname": image, "idlocate": stored(at, kind), "ishard": NO_BOX} for image, at in rows],
                    ("imname", "idlocate", "ishard"),
                ),
            }
            for (name, image, box), rows in zip(queries, galleries, strict=True)
        ],
        ("Query", "Gallery"),
    )


def write_images(path: Path, boxes: Mapping[str, Sequence[Any]], kind: type = np.float64) -> None:
    rows = [
        {
            "imname": name,
            "nAppear": len(placed),
            "box": records([{"idlocate": np.array([b], kind), "ishard": 0} for b in placed], ("idlocate", "ishard")),
        }
        for name, placed in boxes.items()
    ]
    write_mat(path, Img=records(rows, ("imname", "nAppear", "box")))


def write_train(path: Path, people: Mapping[str, Sequence[tuple[str, Box]]]) -> None:
    rows = []
    for name, seen in people.items():
        scenes = [{"imname": image, "idlocate": np.array([box], np.float64), "ishard": 0} for image, box in seen]
        scene = records(scenes, ("imname", "idlocate", "ishard"))
        rows.append(records([{"idname": name, "nAppear": len(seen), "scene": scene}], ("idname", "nAppear", "scene")))
    write_mat(path, Train=cells(rows))


def write_searches(
    path: Path,
    queries: Sequence[tuple[str, str, Box]] = QUERIES,
    galleries: Sequence[Sequence[Row]] = GALLERIES,
    kind: type = np.float64,
    compressed: bool = True,
) -> None:
    write_mat(path, compressed, **{path.stem: searches_of(queries, galleries, kind)})


def write_set(root: Path, folder: str | None = "Image/SSM", kind: type = np.float64) -> Path:
    """The set; larger galleries have the smaller ones' rows and all other images."""
    annotation, searches = root / "annotation", root / "annotation/test/train_test"
    write_images(annotation / "Images.mat", BOXES)
    write_mat(annotation / "pool.mat", pool=cells(POOL))
    write_train(searches / "Train.mat", TRAIN)
    for size in SIZES:
        more: list[Row] = [("s8.jpg", None)] if size > 50 else []
        galleries = [[*rows, *more] for rows in GALLERIES]
        write_searches(searches / f"TestG{size}.mat", galleries=galleries, kind=kind, compressed=size != 500)
    if folder:
        (root / folder).mkdir(parents=True)
        for name in BOXES:
            cv2.imwrite(str(root / folder / name), np.zeros((WH[1], WH[0], 3), np.uint8))
    return root


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.parametrize("folder", ["Image/SSM", "Image", "SSM"])
def test_the_training_set(tmp_path: Path, folder: str) -> None:
    data = open_cuhk_sysu(write_set(tmp_path / "set", folder), "train")
    assert data.index.image_paths == tuple(f"{folder}/{name}" for name in ("s1.jpg", "s11.jpg", "s2.jpg"))
    assert data.index.person_names == ("p20", "p3")
    assert data[0].boxes_xyxy.tolist() == [[10, 20, 40, 80], [100, 20, 130, 90]]
    assert data[0].person_ids.tolist() == [0, -1]
    assert (data[1].boxes_xyxy.tolist(), data[1].person_ids.tolist()) == ([[0, 0, 20, 50]], [1])
    # Of two equal boxes the first is the person; the last box reaches 10 pixels over the edge.
    assert data[2].person_ids.tolist() == [0, -1, 1]
    assert data[2].boxes_xyxy[2].tolist() == [620, 5, 640, 65]
    assert (data[1].frame_index, data[1].image_wh, data.queries) == (11, WH, ())
    told = {(problem.kind, problem.count) for problem in data.index.problems}
    assert told == {("dropped", 2), ("noted", 1)}


@pytest.mark.parametrize("kind", [np.float64, np.uint16])
def test_the_test_set_and_its_searches(tmp_path: Path, kind: type) -> None:
    root = write_set(tmp_path / "set", kind=kind)
    data = open_cuhk_sysu(root, "test")
    assert data.protocol == "g100"
    assert tuple(data.index.protocols) == ("g100", "g50", "g500", "g1000", "g2000", "g4000", "full")
    assert data.index.image_paths == tuple(f"Image/SSM/{name}" for name in POOL)  # in the pool's order
    assert data.index.person_names == ("p8", "p1")
    assert [data[i].person_ids.tolist() for i in range(5)] == [[-1, 1, 1], [0, -1], [0], [-1], [-1]]
    first, second = open_cuhk_sysu(root, "test", "g50").queries
    assert (first.image_index, first.box_xyxy.tolist(), first.person_id) == (1, [200, 100, 290, 300], 0)
    for query, images, answers in (
        (first, [2, 2, 4], [[210, 100, 300, 300]] * 2),
        (second, [0, 3], [[300, 90, 380, 280]]),
    ):
        assert query.gallery is not None
        assert query.answers_xyxy is not None
        assert query.gallery.tolist() == images
        assert query.answers_xyxy.tolist() == answers
    gallery = data.queries[0].gallery
    assert gallery is not None
    assert gallery.tolist() == [2, 2, 4, 3]


def test_the_full_set_adds_every_other_image_once(tmp_path: Path) -> None:
    queries = open_cuhk_sysu(write_set(tmp_path / "set"), "test", "full").queries
    # The published rows first, the repeated and the own one among them; then the rest of the pool without s4 / s6.
    assert [query.gallery.tolist() for query in queries if query.gallery is not None] == [
        [2, 2, 4, 0, 3],
        [0, 3, 1, 2, 4],
    ]
    assert [len(query.answers_xyxy) for query in queries if query.answers_xyxy is not None] == [2, 1]


def test_coordinates_in_bytes_do_not_overflow(tmp_path: Path) -> None:
    path = tmp_path / "TestG50.mat"
    write_searches(path, [("p1", "a.jpg", (200, 100, 90, 250))], [[("b.jpg", (250, 9, 250, 250))]], kind=np.uint8)
    assert loadmat(path)["TestG50"]["Query"][0, 0]["idlocate"][0, 0].dtype == np.uint8
    query = open_searches_alone(tmp_path, "test").queries[0]
    assert query.box_xyxy.tolist() == [200, 100, 290, 350]
    assert query.answers_xyxy is not None
    assert query.answers_xyxy.tolist() == [[250, 9, 500, 259]]


def test_an_answer_is_not_cut_at_the_frame(tmp_path: Path) -> None:
    """Public evaluators compare with the box as published, and let its sides set the overlap asked for."""
    root = write_set(tmp_path / "set")
    boxes = {**BOXES, "s5.jpg": [(600, 100, 90, 200)]}
    write_images(root / "annotation/Images.mat", boxes)
    for size in SIZES:
        rows: list[Row] = [("s5.jpg", (600, 100, 90, 200))]
        write_searches(root / f"annotation/test/train_test/TestG{size}.mat", galleries=[rows, GALLERIES[1]])
    data = open_cuhk_sysu(root, "test")
    assert data[2].boxes_xyxy.tolist() == [[600, 100, 640, 300]]
    assert data.queries[0].answers_xyxy is not None
    assert data.queries[0].answers_xyxy.tolist() == [[600, 100, 690, 300]]


def test_the_format_and_its_check(tmp_path: Path) -> None:
    root = write_set(tmp_path / "set")
    assert format_of(root).name.startswith("CUHK-SYSU")
    assert open_dataset(root, "test", "g500").name == "CUHK-SYSU"
    report = check_dataset(root)
    assert {split.name for split in report.splits} == {"train", "test"}
    said = " ".join(problem.what for _, problem in report.findings)
    assert "55,272 published" in said
    assert "image twice in the gallery" in said
    assert "own image in the gallery" in said
    published = format_of(root).published["test"]
    assert (published["boxes"], published["queries.full"]) == (40_871, 2_900)


def test_a_missing_file_is_named_by_the_check(tmp_path: Path) -> None:
    root = write_set(tmp_path / "set")
    (root / "annotation/Images.mat").unlink()
    told = [problem for _, problem in check_dataset(root).problems]
    assert ("missing", "annotation/Images.mat") in {(problem.kind, problem.file) for problem in told}


def test_people_without_a_box_and_boxes_of_two_people(tmp_path: Path) -> None:
    root = write_set(tmp_path / "set")
    people = {**TRAIN, "p5": [("s1.jpg", (10, 20, 30, 61)), ("s1.jpg", (10, 20, 30, 60)), ("s4.jpg", (60, 5, 30, 60))]}
    write_train(root / "annotation/test/train_test/Train.mat", people)
    data = open_cuhk_sysu(root, "train")
    wrong = {problem.what: problem.count for problem in data.index.problems if problem.kind == "wrong"}
    # s4.jpg is an image of the test set.
    assert [count for what, count in wrong.items() if "at no box" in what] == [2]
    assert [count for what, count in wrong.items() if "two identities" in what] == [1]
    assert data[0].person_ids.tolist() == [2, -1]


def swap(file: str, write: Callable[[Path], None]) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        write(root / "annotation" / file)

    return change


G50, G500 = "test/train_test/TestG50.mat", "test/train_test/TestG500.mat"
HALF: list[Row] = [("s7.jpg", None), ("s5.jpg", (210, 100, 90, 200))]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        *(
            (swap(file, Path.unlink), rf"{Path(file).name}: cannot be read")
            for file in ("Images.mat", "pool.mat", "test/train_test/Train.mat", "test/train_test/TestG4000.mat")
        ),
        (swap("Images.mat", lambda p: p.write_text("hello" * 99)), r"Images\.mat: is no MATLAB 5 file"),
        (swap("pool.mat", lambda p: p.write_text("hello" * 99)), r"pool\.mat: is no \.mat file that can be read"),
        (swap(G50, lambda p: p.write_bytes(p.read_bytes()[:-60])), r"TestG50\.mat: is damaged: .*unpack the set"),
        (swap("Images.mat", lambda p: write_mat(p, Image=1)), r"Images\.mat: holds no `Img`, only `Image`"),
        (swap("pool.mat", lambda p: write_mat(p, pooled=1)), r"pool\.mat: holds no `pool`, only `pooled`"),
        (
            swap("pool.mat", lambda p: write_mat(p, pool=cells(["s4.jpg", "s77.jpg"]))),
            r"pool 2: image `s77\.jpg` is not",
        ),
        (swap("pool.mat", lambda p: write_mat(p, pool=cells([*POOL, "s4.jpg"]))), "names an image twice"),
        (
            swap(G500, lambda p: write_searches(p, galleries=[GALLERIES[0], [("s1.jpg", None)]])),
            r"TestG500\.mat: TestG500 2: `imname`: image `s1\.jpg` is not in pool\.mat",
        ),
        (swap(G500, lambda p: write_searches(p, galleries=[HALF, HALF])), "TestG500 1: `Gallery`: images with a box"),
        (
            swap(G500, lambda p: write_searches(p, [("p77", *QUERIES[0][1:]), QUERIES[1]])),
            r"TestG500 1: idname is `p77`",
        ),
        (
            swap(G50, lambda p: write_searches(p, [("p1", *QUERIES[0][1:]), QUERIES[1]])),
            "TestG50 2: `idname`: `p1` is searched twice",
        ),
        (
            swap(G500, lambda p: write_searches(p, [("p8", "s4.jpg", (700, 1, 9, 9)), QUERIES[1]])),
            r"TestG500 1: query box \(700, 1, 9, 9\).*inside s4\.jpg, 640x480",
        ),
        (
            swap(G500, lambda p: write_searches(p, [("p8", "s4.jpg", (7, 1, 0, 9)), QUERIES[1]])),
            "TestG500 1: .*has no area",
        ),
        (swap(G500, lambda p: write_mat(p, TestG500=records([], ("Query", "Gallery")))), "has no records"),
        (
            swap("Images.mat", lambda p: write_images(p, {**BOXES, "s9.jpg": [(1, 2, 3)]})),
            r"Images\.mat: Img 9: `box`: `idlocate`: box \[1\.0, 2\.0, 3\.0\] where x, y, w, h should be",
        ),
        (
            swap("test/train_test/Train.mat", lambda p: write_train(p, {**TRAIN, "p8": TRAIN["p3"]})),
            r"Train\.mat: idname `p8` is searched and trained on",
        ),
        (
            swap("test/train_test/Train.mat", lambda p: write_mat(p, Train=records([{"idname": "p1"}], ("idname",)))),
            r"Train 1: has no field `scene`, only idname",
        ),
    ],
)
def test_broken_files_are_named_in_one_line(tmp_path: Path, change: Callable[[Path], None], said: str) -> None:
    root = write_set(tmp_path / "set", folder="Image")
    change(root)
    with pytest.raises(InputError, match=said) as error:
        open_cuhk_sysu(root, "test")
    assert "\n" not in str(error.value)


def test_unknown_splits_and_protocols(tmp_path: Path) -> None:
    root = write_set(tmp_path / "set")
    with pytest.raises(InputError, match="split `val` is unknown; expected one of train, test"):
        open_cuhk_sysu(root, "val")
    with pytest.raises(InputError, match=r"`g51` is unknown; expected one of g100, g50, .*full"):
        open_cuhk_sysu(root, "test", "g51")
    write_searches(tmp_path / "TestG50.mat")
    with pytest.raises(InputError, match="split `train` is unknown"):
        open_searches_alone(tmp_path, "train")


def test_missing_images_are_told_and_labels_still_read(tmp_path: Path) -> None:
    data = open_cuhk_sysu(write_set(tmp_path / "set", folder=None), "train")
    assert [(p.kind, p.file, p.count) for p in data.index.problems if p.kind == "missing"] == [
        ("missing", "Image/SSM", 3)
    ]
    assert data.index.counts()["boxes"] == 6


def test_images_that_come_or_go_are_seen_although_labels_are_kept(tmp_path: Path) -> None:
    root = write_set(tmp_path / "set")
    image, frames = root / "Image/SSM/s1.jpg", [open_cuhk_sysu(root, "train")]
    content = image.read_bytes()
    for change in (image.unlink, lambda: image.write_bytes(content[:5]), lambda: image.write_bytes(content)):
        change()
        frames.append(open_cuhk_sysu(root, "train"))
    assert [data.index.image_wh[0].tolist() for data in frames] == [[*WH], [0, 0], [0, 0], [*WH]]
    missing = [sum(told.count for told in data.index.problems if told.kind == "missing") for data in frames]
    assert missing == [0, 1, 1, 0]
    assert len(list((tmp_path / "cache").rglob("*.npz"))) == 3  # the first and the last state are one


def plain_searches(path: Path, names: Sequence[str]) -> Searches:
    """As everyone reads these files: SciPy and a loop."""
    index_of = {name: index for index, name in enumerate(names)}
    found = Searches(path, [], [], [], [], [])
    for record in loadmat(path)[path.stem].squeeze(axis=0):
        query, gallery = record["Query"][0, 0], record["Gallery"][0]
        found.names.append(str(query["idname"][0]))
        found.query_images.append(index_of[str(query["imname"][0])])
        found.query_boxes.append(tuple(query["idlocate"][0].astype(int).tolist()))
        found.galleries.append(np.array([index_of[str(row["imname"][0])] for row in gallery], np.int32))
        found.answers.append(
            [tuple(row["idlocate"][0].astype(int).tolist()) for row in gallery if row["idlocate"].size]
        )
    return found


def assert_equal_searches(first: Searches, second: Searches) -> None:
    assert (first.names, first.query_images) == (second.names, second.query_images)
    assert (first.query_boxes, first.answers) == (second.query_boxes, second.answers)
    for one, other in zip(first.galleries, second.galleries, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("compressed", [False, True])
def test_searches_equal_a_plain_reader(tmp_path: Path, compressed: bool) -> None:
    rng = np.random.default_rng(5)
    names = [f"s{number}.jpg" for number in (3, 27, 411, 5055, 18184)]
    queries, galleries = [], []
    for number in range(30):
        boxes = rng.integers(1, 900, (5, 4)).tolist()
        queries.append((f"p{number}", names[rng.integers(5)], tuple(boxes[0])))
        rows: list[Row] = [(names[rng.integers(5)], tuple(box)) for box in boxes[1 : rng.integers(1, 5)]]
        galleries.append([*rows, *((names[rng.integers(5)], None) for _ in range(rng.integers(8)))])
    path = tmp_path / "TestG50.mat"
    write_searches(path, queries, galleries, np.uint16, compressed)
    assert_equal_searches(read_searches(path, image_finder(names)), plain_searches(path, names))


@pytest.fixture(scope="module")
def true_searches() -> tuple[Searches, list[str]]:
    """The published TestG100.mat."""
    place = os.environ.get("PERSON_SEARCH_DATA")
    path = Path(place or "", "cuhk-sysu/TestG100.mat")
    if not place or not path.is_file():
        pytest.skip("needs cuhk-sysu/TestG100.mat in the folder that PERSON_SEARCH_DATA names")
    index_of: dict[str, int] = {}
    return read_searches(path, lambda name: index_of.setdefault(name, len(index_of))), list(index_of)


class TestPublishedG100:
    """What is known of the true file; reference: sections 2.1, 3.2 and 7.1 of the project's notes on the field."""

    def test_equals_a_plain_reader(self, true_searches: tuple[Searches, list[str]]) -> None:
        found, names = true_searches
        assert_equal_searches(found, plain_searches(found.path, names))

    def test_sizes(self, true_searches: tuple[Searches, list[str]]) -> None:
        found, names = true_searches
        assert len(found.names) == len(set(found.names)) == 2_900
        assert len(set(found.query_images)) == 2_725
        assert {len(gallery) for gallery in found.galleries} == {100}
        assert len(np.unique(np.concatenate(found.galleries))) == len(names) == 6_978

    def test_answers(self, true_searches: tuple[Searches, list[str]]) -> None:
        counts = [len(answers) for answers in true_searches[0].answers]
        assert (min(counts), max(counts), round(float(np.mean(counts)), 3)) == (1, 13, 1.878)
        by_count = Counter(counts)
        assert (by_count[1], by_count[2], by_count[3]) == (1_501, 804, 341)

    def test_query_boxes(self, true_searches: tuple[Searches, list[str]]) -> None:
        sides = np.array(true_searches[0].query_boxes)[:, 2:]
        assert np.median(sides, axis=0).tolist() == [76, 225]
        assert (sides.min(axis=0).tolist(), sides.max(axis=0).tolist()) == ([13, 36], [297, 793])

    def test_overlap_asked_for_small_people(self, true_searches: tuple[Searches, list[str]]) -> None:
        """min(0.5, wh / ((w + 10)(h + 10))) is below a half where somebody is small."""
        sides = np.array(true_searches[0].query_boxes)[:, 2:]
        asked = np.minimum(0.5, sides.prod(axis=1) / (sides + 10).prod(axis=1))
        assert int((asked < 0.5).sum()) == 11

    def test_repeated_images(self, true_searches: tuple[Searches, list[str]]) -> None:
        found, _ = true_searches
        repeats = [n for n, gallery in enumerate(found.galleries) if len(np.unique(gallery)) < len(gallery)]
        assert repeats == [1250, 1633, 1997, 2561]
        for number in repeats:
            rows = list(zip(found.galleries[number].tolist(), found.answers[number], strict=False))
            again = [box for image, box in rows if [i for i, _ in rows].count(image) == 2]
            # Only the first states one box twice; in the others the person stands in the image twice.
            assert (len(again), len(set(again))) == (2, 1 if number == 1250 else 2)

    def test_own_images(self, true_searches: tuple[Searches, list[str]]) -> None:
        found, names = true_searches
        own = {
            number: names[image]
            for number, (image, gallery) in enumerate(zip(found.query_images, found.galleries, strict=True))
            if image in gallery
        }
        assert own == {493: "s14430.jpg", 2132: "s888.jpg"}
        assert all(found.query_images[n] in found.galleries[n][: len(found.answers[n])] for n in own)

    def test_boxes_that_bytes_cannot_add(self, true_searches: tuple[Searches, list[str]]) -> None:
        found, _ = true_searches
        boxes = np.array([*found.query_boxes, *(box for answers in found.answers for box in answers)])
        in_bytes = boxes[boxes.max(axis=1) <= 255]
        overflow = (in_bytes[:, :2] + in_bytes[:, 2:] > 255).any(axis=1)
        assert (len(boxes), len(in_bytes), int(overflow.sum())) == (8_347, 1_301, 1_205)

    def test_opened_alone(self, true_searches: tuple[Searches, list[str]]) -> None:
        root = true_searches[0].path.parent
        data = open_dataset(root, "test")
        assert isinstance(data.queries[0].answers_xyxy, np.ndarray)
        assert (len(data), data.person_count, len(data.queries)) == (6_978, 2_900, 2_900)
        # 8,347 queries and answers; query 1250 states one answer twice, and query 2132 itself is one of its answers.
        report = check_dataset(root)
        counts = {count.name: count.found for count in report.splits[0].counts}
        assert (counts["labelled"], counts["unlabelled"]) == (8_345, 0)
        assert "annotation/Images.mat" in {problem.file for _, problem in report.problems}
