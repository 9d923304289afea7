"""The person to look for: what can be typed, and what is refused."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import runtime_stub as stub

from personsearch.core.errors import InputError
from personsearch.runtime import Engine, open_engine
from personsearch.runtime.query import load_queries, parse_query, place_box


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return open_engine(stub.write_artifact(tmp_path_factory.mktemp("artifact")))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with an image ``two.png``: red at 16,12 to 48,36 and a taller blue one at 80,60."""
    monkeypatch.chdir(tmp_path)
    cv2.imwrite("two.png", stub.scene((0, stub.RED), (3, stub.BLUE)))
    return tmp_path


@pytest.mark.parametrize(
    ("text", "name", "image", "box", "named"),
    [
        ("two.png", "two", "two.png", None, False),
        ("two.png#1,2,3,4", "two", "two.png", (1, 2, 3, 4), False),
        ("anna=two.png#1.5,2,3e1,4", "anna", "two.png", (1.5, 2, 30, 4), True),
        ("Anna Blue=two.png", "Anna Blue", "two.png", None, True),
        ("odd#name=1.png", "odd#name=1", "odd#name=1.png", None, False),
        ("odd#name=1.png#1,2,3,4", "odd#name=1", "odd#name=1.png", (1, 2, 3, 4), False),
    ],
)
@pytest.mark.usefixtures("folder")
def test_parse(text: str, name: str, image: str, box: tuple[float, ...] | None, named: bool) -> None:
    cv2.imwrite("odd#name=1.png", stub.scene())
    crop = parse_query(text)
    assert (crop.name, crop.image, crop.box_xyxy, crop.named) == (name, Path(image), box, named)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gone.png", r"image `gone\.png` does not exist"),
        ("anna=gone.png", r"`gone\.png` does not exist"),
        ("", "does not exist"),
        ("two.png#", "empty"),
        ("two.png#1,2,3", "four|x1,y1,x2,y2"),
        ("two.png#1,2,3,4,5", "x1,y1,x2,y2"),
        ("two.png#a,b,c,d", "x1,y1,x2,y2"),
        ("two.png#1,2,nan,4", "finite"),
        ("two.png#0,0,inf,4", "finite"),
        ("two.png#5,2,5,9", "no area"),
        ("two.png#9,2,5,9", "no area"),
        ("two.png#1,9,5,2", "no area"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_parse_refuses(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_query(text)


@pytest.mark.parametrize(
    ("box", "placed"),
    [
        ((1, 2, 30, 40), (1, 2, 30, 40)),
        ((0, 0, 100, 50), (0, 0, 100, 50)),
        ((-10, 0, 30, 40), (0, 0, 30, 40)),
        ((80, 30, 110, 60), None),
        ((90, 0, 110, 50), (90, 0, 100, 50)),
        ((91, 0, 110, 50), None),
        ((200, 0, 300, 50), None),
        ((-5, -5, -1, -1), None),
    ],
)
def test_a_box_over_the_edge(box: tuple[float, ...], placed: tuple[float, ...] | None) -> None:
    if placed is None:
        with pytest.raises(InputError, match=r"(in|out)side the image"):
            place_box(box, (100, 50), "x.png")  # type: ignore[arg-type]  # a tuple of four, typed as any
    else:
        # A tuple of four, typed as any.
        found, note = place_box(box, (100, 50), "x.png")  # type: ignore[arg-type]
        assert found == placed
        assert bool(note) == (box != placed)


@pytest.mark.usefixtures("folder")
def test_embeddings_are_of_the_box(engine: Engine) -> None:
    red, blue = load_queries(engine, ["two.png#16,12,48,36", "blue=two.png#80,60,112,84"])
    assert (red.name, blue.name) == ("two", "blue")
    np.testing.assert_allclose(red.embeddings, [[0, 0, 1]], atol=0.02)
    np.testing.assert_allclose(blue.embeddings, [[1, 0, 0]], atol=0.02)
    assert red.thumbnail.shape == (24, 32, 3)
    np.testing.assert_array_equal(red.thumbnail[12, 16], stub.RED)
    assert not red.notes


@pytest.mark.usefixtures("folder")
def test_crops_of_one_name_are_one_person_and_unnamed_ones_are_not(engine: Engine) -> None:
    people = load_queries(
        engine,
        [
            "anna=two.png#16,12,48,36",
            "two.png#16,12,48,36",
            "anna=two.png#80,60,112,84",
            "two.png#80,60,112,84",
        ],
    )
    assert [(person.name, len(person.embeddings)) for person in people] == [("anna", 2), ("two", 1), ("two-2", 1)]


@pytest.mark.usefixtures("folder")
def test_without_a_box_the_person_found_is_meant(engine: Engine) -> None:
    cv2.imwrite("one.png", stub.scene((2, stub.GREEN)))
    cv2.imwrite("none.png", np.full((96, 128, 3), (8, 0, 0), np.uint8))
    one, two, none = load_queries(engine, ["one.png", "two.png", "none.png"])
    assert one.crops[0]["box_xyxy"] == [16, 60, 48, 84]
    assert "the person found: 16,60,48,84" in one.notes[0]
    assert "largest of 2" in two.notes[0]
    assert none.crops[0]["box_xyxy"] == [0, 0, 128, 96]
    assert "whole image" in none.notes[0]


@pytest.mark.usefixtures("folder")
def test_no_query(engine: Engine) -> None:
    with pytest.raises(InputError, match="no query"):
        load_queries(engine, [])
