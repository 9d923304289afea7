"""CUHK-SYSU: who is where, what is searched in which images, and what broken files get; small files in true layout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from cuhk_material import (
    BOXES,
    GALLERIES,
    POOL,
    QUERIES,
    SIZES,
    TRAIN,
    WH,
    Row,
    write_images,
    write_searches,
    write_set,
    write_train,
)
from mat_files import cells, records, write_mat
from scipy.io import loadmat

from personsearch.core.errors import InputError
from personsearch.data.checking import check_dataset
from personsearch.data.cuhk_searches import open_searches_alone
from personsearch.data.cuhk_sysu import open_cuhk_sysu
from personsearch.data.opening import format_of, open_dataset


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
