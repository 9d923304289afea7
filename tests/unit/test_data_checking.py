"""What a check finds: each fault planted in a small data set, and nothing in a sound one."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from composite_material import write_material, write_spec
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from personsearch.cli.data import app
from personsearch.cli.data_check import describe
from personsearch.core.errors import InputError
from personsearch.data.checking import CountCheck, DatasetReport, SplitCheck, check_dataset
from personsearch.data.checking_labels import label_problems, shared_problems, some
from personsearch.data.checking_pixels import check_pixels
from personsearch.data.index import IndexedDataset, LabelIndex, Problem, QueryTable
from personsearch.data.opening import open_dataset
from personsearch.data.sample import Frame, Query, Sample
from personsearch.data.survey import Survey, spread, survey

WH = (64, 48)
GALLERY = np.array([1, 2])
BOX = np.array([4, 4, 16, 40], np.float32)


def index(**changes: object) -> LabelIndex:
    """Three images by two cameras: person 0 in all, person 1 in the last two, and an unlabelled one."""
    fields = {
        "name": "tiny",
        "terms": "free",
        "image_paths": ("frames/0.png", "frames/1.png", "frames/2.png"),
        "image_wh": np.array([WH] * 3),
        "camera_ids": np.array([0, 1, 0]),
        "frame_indices": np.array([0, 1, 2]),
        "offsets": np.array([0, 1, 4, 6]),
        "boxes_xyxy": np.stack([BOX, BOX, BOX + 20, BOX + 5, BOX, BOX + 8]),
        "person_ids": np.array([0, 0, 1, -1, 0, 1]),
        "person_names": ("a", "b"),
        "protocols": {"default": QueryTable.of([Query(0, BOX, 0, GALLERY)])},
        "problems": (),
    }
    fields["boxes_xyxy"] = np.minimum(fields["boxes_xyxy"], np.array([*WH, *WH], np.float32))
    return LabelIndex(**{**fields, **changes})  # type: ignore[arg-type]  # the fields above, some replaced


def write_images(root: Path, names: tuple[str, ...] = index().image_paths) -> Path:
    rng = np.random.default_rng(len(str(root)))
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(root / name), rng.integers(0, 256, (WH[1], WH[0], 3), dtype=np.uint8))
    return root


def of(root: Path, **changes: object) -> Survey:
    return survey(IndexedDataset(root, index(**changes)), 100)


def queries(*several: Query) -> dict[str, object]:
    return {"protocols": {"default": QueryTable.of(several)}}


def test_a_sound_split_has_no_problem(tmp_path: Path) -> None:
    assert list(label_problems("test", of(write_images(tmp_path)))) == []


@pytest.mark.parametrize(
    ("changes", "kind", "said"),
    [
        ({"boxes_xyxy": np.stack([BOX + 30] * 6)}, "wrong", "6 boxes outside the frame: frames/0.png"),
        ({"boxes_xyxy": np.stack([BOX] * 5 + [[1, 1, 3, 40]])}, "noted", "hardly of a person's shape, such as 2x39"),
        ({"boxes_xyxy": np.stack([BOX] * 5 + [[1, 1, 60, 12]])}, "noted", "1 box hardly of a person's shape"),
        ({"person_ids": np.array([0, 0, 0, 1, 0, 1])}, "noted", "1 image with one identity twice, such as a in"),
        ({"person_ids": np.array([0, 0, -1, -1, 0, -1])}, "noted", "1 identity without a box: b"),
        ({"person_ids": np.array([0, 0, -1, -1, 0, 1])}, "noted", "1 of 2 identities seen by one camera only: b"),
        ({"person_ids": np.full(6, -1)} | queries(), "noted", "no box has an identity"),
        ({"person_ids": np.full(6, -2)} | queries(), "noted", "no image shows a person"),
        (queries(), "noted", "has no queries"),
        ({"image_paths": ("frames/0.png", "frames/1.png", "frames/1.png")}, "wrong", "listed more than once"),
        ({"image_paths": ("frames/0.png", "frames/1.png", "gone/2.png")}, "missing", "1 image of 3 not there: gone/2"),
        (queries(Query(5, BOX, 0)), "wrong", "1 entry naming images that the split does not have"),
        (queries(Query(0, BOX, 0, np.array([1, 3]))), "wrong", "1 entry naming images"),
        (queries(Query(1, BOX, 1)), "wrong", "1 query whose box no label of the person overlaps: b in frames/1.png"),
        (queries(Query(0, BOX, 1)), "wrong", "overlaps: b in frames/0.png"),
        (queries(Query(1, BOX + 20, 1, np.array([0]))), "wrong", "gallery does not show the person: b in frames/1"),
        (queries(Query(0, BOX, 0, np.array([0, 1]))), "noted", "1 query with the query's own image in the gallery"),
        (queries(Query(0, BOX, 0, np.array([1, 2, 1]))), "noted", "1 query with an image twice in the gallery"),
    ],
)
def test_a_fault_in_labels_is_told(tmp_path: Path, changes: dict[str, object], kind: str, said: str) -> None:
    told = list(label_problems("test", of(write_images(tmp_path), **changes)))
    assert [problem.kind for problem in told if said in problem.what] == [kind], told


def test_a_query_is_asked_of_its_own_gallery_or_of_every_other_image(tmp_path: Path) -> None:
    # Nobody but the query's image shows b: without a gallery that is no answer either.
    only = np.array([0, 0, 1, -1, 0, -1])
    for gallery in (None, np.array([0, 2])):
        told = label_problems("test", of(write_images(tmp_path), person_ids=only, **queries(_b(gallery))))
        assert any("does not show the person" in problem.what for problem in told)
    told = label_problems("test", of(tmp_path, **queries(_b(None), _b(np.array([2])))))
    assert not any("does not show" in problem.what for problem in told)


def _b(gallery: np.ndarray | None) -> Query:
    return Query(1, np.minimum(BOX + 20, [*WH, *WH]).astype(np.float32), 1, gallery)


def test_one_fault_of_a_query_is_told_once_for_all_protocols_that_share_it(tmp_path: Path) -> None:
    table = QueryTable.of([Query(0, BOX, 1, np.array([1]))])
    told = [p.what for p in label_problems("test", of(write_images(tmp_path), protocols={"g1": table, "g2": table}))]
    assert [what for what in told if "overlaps" in what] == [
        "protocol `g1`: 1 query whose box no label of the person overlaps: b in frames/0.png"
    ]


def test_what_a_reader_said_of_missing_images_is_not_said_again(tmp_path: Path) -> None:
    said = (Problem("missing", "frames", "3 of 3 images cannot be read", "put them there", 3),)
    assert not any(problem.kind == "missing" for problem in label_problems("train", of(tmp_path, problems=said)))


@pytest.mark.parametrize(("shared", "kinds"), [(0, ["wrong"]), (1, ["wrong"]), (2, ["noted"]), (None, [])])
def test_identities_in_two_splits(tmp_path: Path, shared: int | None, kinds: list[str]) -> None:
    other = of(tmp_path, image_paths=("test/0.png", "test/1.png", "test/2.png"))
    told = list(shared_problems({"train": of(tmp_path), "test": other}, shared))
    assert [(split, problem.kind) for split, problem in told] == [("test", kind) for kind in kinds]
    assert all(problem.what == "2 identities also in split `train`: a, b" for _, problem in told)


def test_an_identity_without_a_box_is_in_no_split(tmp_path: Path) -> None:
    other = of(tmp_path, image_paths=("x", "y", "z"), person_ids=np.full(6, -1))
    assert list(shared_problems({"train": of(tmp_path), "test": other}, 0)) == []


def test_an_image_in_two_splits_is_told(tmp_path: Path) -> None:
    ((split, problem),) = shared_problems({"train": of(tmp_path), "test": of(tmp_path)}, None)
    assert (split, problem.kind, problem.count) == ("test", "wrong", 3)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def _jpeg(path: Path, cut: bool) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (WH[1], WH[0], 3), dtype=np.uint8)
    content = cv2.imencode(".jpg", noise)[1].tobytes()
    path.write_bytes(content[:-400] if cut else content)


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda path: path.write_text("hello"), "is not an image that can be decoded"),
        (lambda path: path.write_bytes(b""), "is not an image that can be decoded"),
        (_cut, "is cut short"),
        (lambda path: _jpeg(path, cut=True), "is cut short"),
        (lambda path: cv2.imwrite(str(path), np.zeros((48, 60, 3), np.uint8)), "image is 60x48"),
    ],
)
def test_a_bad_image_is_told_by_name(tmp_path: Path, harm: Callable[[Path], object], said: str) -> None:
    harm(write_images(tmp_path) / "frames/1.png")
    found = check_pixels({"train": of(tmp_path)}, skip_bad=True)
    assert [(split, problem.kind, problem.file) for split, problem in found.problems] == [
        ("train", "wrong", "frames/1.png")
    ]
    assert said in found.problems[0][1].what
    assert (found.read, found.unreadable, found.stopped) == (3, 1, False)


def test_whole_images_have_no_problem(tmp_path: Path) -> None:
    _jpeg(write_images(tmp_path) / "frames/1.png", cut=False)
    steps: list[tuple[int, int]] = []
    found = check_pixels({"train": of(tmp_path)}, skip_bad=False, progress=lambda *step: steps.append(step))
    assert (found.problems, found.read) == ((), 3)
    assert steps == [(1, 3), (2, 3), (3, 3)]


def test_the_first_bad_image_ends_the_reading_unless_bad_ones_are_skipped(tmp_path: Path) -> None:
    for name in index().image_paths[:2]:
        (write_images(tmp_path, (name,)) / name).write_text("hello")
    write_images(tmp_path, index().image_paths[2:])
    first = check_pixels({"train": of(tmp_path)}, skip_bad=False)
    assert (first.read, first.unreadable, first.stopped, len(first.problems)) == (1, 1, True, 1)
    every = check_pixels({"train": of(tmp_path)}, skip_bad=True)
    assert (every.read, every.unreadable, every.stopped, len(every.problems)) == (3, 2, False, 2)


def test_a_box_outside_an_image_whose_size_no_label_states(tmp_path: Path) -> None:
    boxes = np.stack([BOX] * 5 + [np.array([50, 4, 70, 40], np.float32)])
    seen = of(write_images(tmp_path), boxes_xyxy=boxes, image_wh=np.zeros((3, 2), np.int64))
    ((_, problem),) = check_pixels({"train": seen}, skip_bad=True).problems
    assert (problem.file, problem.what) == ("frames/2.png", "1 box outside its 64x48 pixels")


def test_copies_of_an_image(tmp_path: Path) -> None:
    write_images(tmp_path, (*index().image_paths, "test/0.png", "test/1.png", "test/2.png"))
    (tmp_path / "test/1.png").write_bytes((tmp_path / "frames/1.png").read_bytes())
    (tmp_path / "frames/2.png").write_bytes((tmp_path / "frames/0.png").read_bytes())
    other = of(tmp_path, image_paths=("test/0.png", "test/1.png", "test/2.png"))
    told = check_pixels({"train": of(tmp_path), "test": other}, skip_bad=False).problems
    assert {(split, one.kind, one.what) for split, one in told} == {
        ("test", "wrong", "the same image as frames/1.png of split `train`"),
        ("train", "noted", "1 image with the bytes of another: frames/2.png = frames/0.png"),
    }


@given(st.integers(0, 500), st.integers(0, 60), st.integers(0, 3))
def test_numbers_are_spread_without_repeating(count: int, limit: int, seed: int) -> None:
    drawn = spread(count, limit, seed)
    assert len(drawn) == min(count, limit)
    assert (np.diff(drawn) > 0).all()
    assert ((drawn >= 0) & (drawn < count)).all()
    np.testing.assert_array_equal(drawn, spread(count, limit, seed))
    if 0 < limit < count:
        # One of each stretch: no gap is longer than two of them.
        assert np.diff([-1, *drawn, count]).max() <= 2 * (count // limit + 1)


class Rendered:
    """A data set that makes its frames: person 0 on grey, one in each."""

    name, terms, person_count = "rendered", "none", 1

    def __init__(self, frames: int, shown_wh: tuple[int, int] = WH) -> None:
        self._frames, self._shown_wh = frames, shown_wh
        self.queries: tuple[Query, ...] = ()

    def __len__(self) -> int:
        return self._frames

    def __getitem__(self, number: int) -> Sample:
        return Sample(None, BOX[None], np.array([0]), 0, number, WH)

    def frame_bgr(self, number: int) -> Frame:
        return np.full((self._shown_wh[1], self._shown_wh[0], 3), 90, np.uint8)


def test_of_a_data_set_without_files_some_frames_are_looked_at() -> None:
    few, many = survey(Rendered(5), 10), survey(Rendered(1000), 10)
    assert (few.whole, many.whole, len(many.rows)) == (True, False, 10)
    np.testing.assert_array_equal(many.index.frame_indices, many.rows)
    assert many.index.counts()["boxes"] == 10
    assert check_pixels({"train": many}, skip_bad=False).problems == ()
    told = check_pixels({"train": survey(Rendered(2, (60, 48)), 10)}, skip_bad=True).problems
    assert [problem.what for _, problem in told] == ["is 60x48, its labels say 64x48"] * 2


def test_a_composite_specification_is_rendered_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_material(tmp_path)
    monkeypatch.setenv("MATERIAL", str(tmp_path))
    told = check_dataset(write_spec(tmp_path, tmp_path), deep=True)
    assert told.ok, told.problems
    assert [(split.name, split.frames, split.looked_at) for split in told.splits] == [
        ("train", 50, 50),
        ("validation", 24, 24),
    ]
    assert told.images_read == 74
    counts = {count.name: count.found for count in told.splits[1].counts}
    assert counts["identities"] == 3
    assert counts["queries.default"] > 0


def report(counts: tuple[CountCheck, ...], *noticed: Problem) -> DatasetReport:
    split = SplitCheck("train", counts, 3, 3)
    return DatasetReport("set", "format", (), (split,), tuple(("train", one) for one in noticed), False, 0, 0, False)


def test_dropped_rows_are_a_problem_only_where_the_counts_are_not_the_published_ones() -> None:
    dropped = Problem("dropped", "labels.json", "boxes without area", "correct them", 2)
    assert not report((CountCheck("boxes", 9),), dropped).ok
    assert report((CountCheck("boxes", 9, 9),), dropped).ok
    off = report((CountCheck("boxes", 9, 11),), dropped)
    assert {problem.what for _, problem in off.problems} == {
        "boxes without area",
        "boxes: 9 in place of the 11 published",
    }
    assert report((), replace(dropped, kind="noted")).ok


def test_many_findings_alike_are_summed_up_in_the_table_only() -> None:
    long = report((), *(Problem("wrong", f"{i}.png", "is cut short", "copy it again") for i in range(50)))
    table = describe(long, 120)
    assert "19.png: is cut short" in table
    assert "20.png" not in table
    assert "and 30 more like these" in table
    assert len(long.as_dict()["findings"]) == 50


def test_names_are_printed_as_they_are() -> None:
    assert "[red]a[/red].png: :x: [b]" in describe(report((), Problem("wrong", "[red]a[/red].png", ":x: [b]", "")), 140)


def test_some_names() -> None:
    assert some([]) == ""
    assert some(["a", "b", "c"]) == "a, b, c"
    assert some(list(range(1004))) == "0, 1, 2 and 1,001 more"


def write_folder(root: Path) -> Path:
    """The project's own folder format, with one query."""
    write_images(root)
    images = [
        {"id": i, "file_name": name, "width": WH[0], "height": WH[1], "camera_id": i % 2, "frame_index": i}
        for i, name in enumerate(index().image_paths)
    ]
    annotations = [
        {"id": i, "image_id": i, "bbox": [4, 4, 12, 36], "category_id": 1, "person_id": 0, "iscrowd": 0}
        for i in range(3)
    ]
    labels = {
        "person_count": 1,
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "person"}],
        "queries": [{"image_id": 0, "bbox": [4, 4, 12, 36], "person_id": 0}],
    }
    description = {"format": "personsearch/1", "name": "tiny", "terms": "free", "splits": {"test": "test.json"}}
    (root / "test.json").write_text(json.dumps(labels))
    (root / "dataset.json").write_text(json.dumps({**description, "generator": None}))
    return root


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_the_command_on_a_sound_folder(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "set")
    shown = CliRunner().invoke(app, ["check", str(root), "--deep"])
    assert shown.exit_code == 0, shown.output
    assert "All is well." in shown.output
    assert "3 images read, 0 of them bad" in shown.output
    counts = json.loads(CliRunner().invoke(app, ["check", str(root), "--json"]).stdout)["splits"][0]["counts"]
    assert (counts["images"], counts["image files"], counts["boxes"], counts["queries.default"]) == (3, 3, 3, 1)


def test_the_command_names_what_is_missing_and_wrong(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "set")
    (root / "frames/0.png").write_text("hello")
    (root / "frames/1.png").write_text("hello")
    (root / "frames/2.png").unlink()
    shown = CliRunner().invoke(app, ["check", str(root), "--deep"])
    assert shown.exit_code == 1
    assert "frames: 1 of 3 images cannot be read" in shown.output
    assert "stopped at the first bad one, --skip-bad goes on" in shown.output
    assert "Not well: 1 missing, 1 wrong." in shown.output
    found = CliRunner().invoke(app, ["check", str(root), "--deep", "--skip-bad", "--json"])
    told = json.loads(found.stdout)
    assert (found.exit_code, told["ok"], told["unreadable"], told["problems"]) == (
        1,
        False,
        2,
        {"missing": 1, "wrong": 2},
    )


def test_labels_that_cannot_be_read_are_a_row_of_the_table(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "set")
    (root / "test.json").write_text("{")
    shown = CliRunner().invoke(app, ["check", str(root)])
    assert shown.exit_code == 1
    assert "test.json: is not valid JSON" in shown.output
    assert "cannot be opened" in shown.output
    (root / "test.json").unlink()
    told = check_dataset(root)
    assert [(one.kind, one.file) for _, one in told.problems] == [("missing", "test.json")]


@pytest.mark.parametrize(("folder", "said"), [("", "is not a data set"), ("gone", "does not exist")])
def test_what_is_no_data_set_is_bad_input(tmp_path: Path, folder: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        CliRunner().invoke(app, ["check", str(tmp_path / folder)], catch_exceptions=False)


@pytest.mark.parametrize(
    ("part", "missing"),
    [
        ("query_info.txt", {"frame_train.mat", "frame_test.mat", "annotations/*.jpg.mat", "frames/*.jpg"}),
        ("annotation/pool.mat", {"annotation/Images.mat", "annotation/test/train_test/TestG50.mat"}),
    ],
)
def test_a_part_of_a_published_set_is_told_what_it_lacks(tmp_path: Path, part: str, missing: set[str]) -> None:
    (tmp_path / "set" / part).parent.mkdir(parents=True)
    (tmp_path / "set" / part).write_text("")
    told = check_dataset(tmp_path / "set")
    assert missing <= {problem.file for _, problem in told.problems if problem.kind == "missing"}
    assert part not in {problem.file for _, problem in told.problems}
    with pytest.raises(InputError, match=r"is only a part of .* `personsearch data check .*` says what is missing"):
        open_dataset(tmp_path / "set", "test")


@pytest.mark.skipif("PERSON_SEARCH_DATA" not in os.environ, reason="needs the footage that PERSON_SEARCH_DATA names")
@pytest.mark.parametrize(("folder", "images", "well"), [("mot17-mini", 39, True), ("pets09-s2l1", 398, True)])
def test_real_sequences_are_well(folder: str, images: int, well: bool) -> None:
    told = check_dataset(Path(os.environ["PERSON_SEARCH_DATA"]) / folder)
    assert told.ok == well, told.problems
    assert {count.name: count.found for count in told.splits[0].counts}["image files"] == images


@pytest.mark.skipif("PERSON_SEARCH_DATA" not in os.environ, reason="needs the labels that PERSON_SEARCH_DATA names")
def test_true_labels_without_images_are_told_to_lack_them() -> None:
    root = Path(os.environ["PERSON_SEARCH_DATA"])
    searches = check_dataset(root / "cuhk-sysu")
    lacking = {problem.file for _, problem in searches.problems if problem.kind == "missing"}
    assert {"annotation/Images.mat", "annotation/pool.mat", "Image/SSM/*.jpg"} <= lacking
    assert "TestG100.mat" not in lacking
    labels = check_dataset(root / "prw-annotations")
    assert {one.name: one.frames for one in labels.splits} == {"train": 5616, "test": 6112}
    assert sum(problem.count for _, problem in labels.problems if problem.kind == "missing") == 5616 + 6112
