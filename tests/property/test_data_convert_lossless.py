"""COCO and back loses nothing, whatever the labels hold."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from personsearch.core.files import write_json
from personsearch.data.coco_writer import write_coco
from personsearch.data.folder import open_folder
from personsearch.data.index import LabelIndex, QueryTable
from personsearch.data.sample import Query

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
SIDE = st.integers(1, 4000)


@st.composite
def boxes_in(draw: st.DrawFn, image_wh: tuple[int, int]) -> list[float]:
    """A float32 box with area inside an image; any corner in an image of unknown size."""
    corners = []
    for side in image_wh:
        limit = float(side) if side else 1e6
        corner = st.floats(0, limit, width=32, allow_subnormal=False)
        corners.append(sorted(draw(st.lists(corner, min_size=2, max_size=2, unique=True))))
    (left, right), (top, bottom) = corners
    return [left, top, right, bottom]


@st.composite
def indices(draw: st.DrawFn) -> LabelIndex:
    people, images = draw(st.integers(0, 4)), draw(st.integers(1, 5))
    sizes = [draw(st.tuples(SIDE, SIDE) | st.just((0, 0))) for _ in range(images)]
    counts = [draw(st.integers(0, 4)) for _ in range(images)]
    of_image = [image for image, count in enumerate(counts) for _ in range(count)]
    protocols = {}
    if people:
        for name in draw(st.lists(TEXT, max_size=2, unique=True)):
            protocols[name] = QueryTable.of(draw(searches(people, sizes)))
    return LabelIndex(
        name=draw(TEXT),
        terms=draw(TEXT),
        image_paths=tuple(f"{draw(st.sampled_from(['a', 'b/c d', 'ü']))}/{number}.jpg" for number in range(images)),
        image_wh=np.array(sizes, np.int64).reshape(-1, 2),
        camera_ids=np.array([draw(st.integers(-3, 99)) for _ in sizes], np.int64),
        frame_indices=np.array([draw(st.integers(-3, 2**40)) for _ in sizes], np.int64),
        offsets=np.cumsum([0, *counts]).astype(np.int64),
        boxes_xyxy=np.array([draw(boxes_in(sizes[image])) for image in of_image], np.float32).reshape(-1, 4),
        person_ids=np.array([draw(st.integers(-2, people - 1)) for _ in of_image], np.int64),
        person_names=tuple(draw(TEXT) for _ in range(people)),
        protocols=protocols,
        problems=(),
    )


@st.composite
def searches(draw: st.DrawFn, people: int, sizes: list[tuple[int, int]]) -> list[Query]:
    image = st.integers(0, len(sizes) - 1)
    shared = np.array(draw(st.lists(image, max_size=6)), np.int64)
    answered = draw(st.booleans())
    found = []
    for _ in range(draw(st.integers(0, 4))):
        own = np.array(draw(st.lists(image, max_size=6)), np.int64)
        gallery = draw(st.sampled_from([shared, own] if answered else [shared, own, None]))
        answers = None
        if answered:
            count = draw(st.integers(0, len(gallery)))
            answers = np.array([draw(boxes_in((0, 0))) for _ in range(count)], np.float32).reshape(-1, 4)
        where = draw(image)
        box = np.array(draw(boxes_in(sizes[where])), np.float32)
        found.append(Query(where, box, draw(st.integers(0, people - 1)), gallery, answers))
    return found


@settings(max_examples=60)
@given(index=indices())
def test_a_split_survives(index: LabelIndex) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_coco(root / "annotations/test.json", index)
        description = {"format": "personsearch/1", "name": index.name, "terms": index.terms, "generator": None}
        write_json(root / "dataset.json", {**description, "splits": {"test": "annotations/test.json"}})
        back = open_folder(root, "test").index
    assert (back.name, back.terms) == (index.name, index.terms)
    assert (back.image_paths, back.person_names) == (index.image_paths, index.person_names)
    for field in ("image_wh", "camera_ids", "frame_indices", "offsets", "boxes_xyxy", "person_ids"):
        before, after = getattr(index, field), getattr(back, field)
        np.testing.assert_array_equal(after, before)
        assert after.dtype == before.dtype
    assert list(back.protocols) == list(index.protocols)
    for name, table in index.protocols.items():
        for before, after in zip(table.queries(), back.protocols[name].queries(), strict=True):
            assert (before.image_index, before.person_id) == (after.image_index, after.person_id)
            np.testing.assert_array_equal(after.box_xyxy, before.box_xyxy)
            np.testing.assert_equal(after.gallery, before.gallery)
            np.testing.assert_equal(after.answers_xyxy, before.answers_xyxy)
    # The images were never there, and nothing else was said.
    assert {problem.kind for problem in back.problems} == {"missing"}
