"""CUHK-SYSU's files of searches: read as everyone reads them, and what is known of the published one."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from cuhk_material import Row, write_searches
from scipy.io import loadmat

from personsearch.data.checking import check_dataset
from personsearch.data.cuhk_searches import Searches, image_finder, read_searches
from personsearch.data.opening import open_dataset


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


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
