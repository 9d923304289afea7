"""Contact sheets: what is chosen, what is drawn where, and what cannot be read."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from personsearch.cli.data import app
from personsearch.core.errors import InputError
from personsearch.data.contact_sheet import PAGE_WIDTH_PX, contact_sheet, joined
from personsearch.data.sample import Frame, Query, Sample
from personsearch.data.sheet_drawing import (
    GREY,
    PAPER,
    draw_labels,
    identity_colour,
    put_text,
    shortened,
    text_width,
    wrapped,
)

WH = (320, 240)
GROUND = (90, 90, 90)


def person_bgr(person: int) -> tuple[int, int, int]:
    """What the frames of `Scenes` are painted with where a person stands."""
    return (40 + 20 * person) % 256, (200 - 10 * person) % 256, 77


class Scenes:
    """Person p stands in every frame from p on, in a colour of their own; camera = frame % cameras."""

    name, terms = "scenes", "none"

    def __init__(self, frames: int, people: int, *, cameras: int = 2, bad: frozenset[int] = frozenset()) -> None:
        self.person_count, self.queries = people, ()
        self._frames, self._cameras, self._bad = frames, cameras, bad
        self.asked: list[int] = []

    queries: tuple[Query, ...]

    def __len__(self) -> int:
        return self._frames

    def __getitem__(self, number: int) -> Sample:
        ids = np.arange(min(self.person_count, number + 1))
        boxes = np.array([[5 + 30 * i, 20, 25 + 30 * i, 70] for i in ids], np.float32).reshape(-1, 4)
        return Sample(None, boxes, ids, number % self._cameras, number, WH)

    def frame_bgr(self, number: int) -> Frame:
        self.asked.append(number)
        if number in self._bad:
            raise InputError("is not an image", where=f"{number}.png")
        frame = np.full((WH[1], WH[0], 3), GROUND, np.uint8)
        for box, person in zip(self[number].boxes_xyxy.astype(int), self[number].person_ids, strict=True):
            frame[box[1] : box[3], box[0] : box[2]] = person_bgr(int(person))
        return frame


def shows(picture: Frame, colour: tuple[int, int, int], *, at_least: int) -> bool:
    return int((picture == np.array(colour)).all(axis=-1).sum()) >= at_least


def test_frames_and_every_identity_are_shown() -> None:
    sheet = contact_sheet(Scenes(9, 3), title="scenes", frames=9, identities=3)
    assert [page.name for page in sheet.pages] == ["frames-1", "identities-1"]
    assert all(page.picture.shape[1] == PAGE_WIDTH_PX for page in sheet.pages)
    for person in range(3):
        for page in sheet.pages:
            assert shows(page.picture, identity_colour(person), at_least=100)
        # Crops, enlarged to 72 x 180 pixels each, hold the person's pixels and nothing else.
        assert shows(sheet.pages[1].picture, person_bgr(person), at_least=5 * 70 * 170)
    assert not shows(sheet.pages[1].picture, GROUND, at_least=200)
    assert joined(sheet).shape[0] == sum(page.picture.shape[0] for page in sheet.pages)


def test_the_same_seed_shows_the_same() -> None:
    first, again, other = (joined(contact_sheet(Scenes(60, 30), title="scenes", seed=seed)) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert first.shape != other.shape or (first != other).any()


def test_identities_of_several_cameras_come_first() -> None:
    class Mostly(Scenes):
        """People above 3 are in frames of camera 0 only."""

        def __getitem__(self, number: int) -> Sample:
            sample = super().__getitem__(number)
            kept = (sample.person_ids <= 3) | (number % 2 == 0)
            return Sample(None, sample.boxes_xyxy[kept], sample.person_ids[kept], number % 2, number, WH)

    picture = contact_sheet(Mostly(40, 9), title="scenes", frames=0, identities=4).pages[0].picture
    assert [shows(picture, identity_colour(person), at_least=1000) for person in range(9)] == [True] * 4 + [False] * 5


def test_every_camera_has_its_share_of_a_row() -> None:
    data = Scenes(300, 1, cameras=3)
    contact_sheet(data, title="scenes", frames=0, identities=1)
    shown, counts = np.unique(np.array(data.asked) % 3, return_counts=True)
    assert shown.tolist() == [0, 1, 2]
    assert counts.max() - counts.min() <= 1
    assert len(set(data.asked)) == len(data.asked)  # no crop twice
    assert max(data.asked) > 200 > 100 > min(data.asked)  # over all of the recording


def test_of_many_frames_only_some_are_rendered() -> None:
    data = Scenes(100_000, 1)
    sheet = contact_sheet(data, title="scenes", frames=4, identities=1)
    assert len(data.asked) < 60
    assert not sheet.unreadable


def test_frames_that_cannot_be_read_are_named_and_leave_a_gap() -> None:
    sheet = contact_sheet(Scenes(6, 2, bad=frozenset({1, 4})), title="scenes", frames=6)
    assert sheet.unreadable == ("1.png: is not an image", "4.png: is not an image")
    assert [page.name for page in sheet.pages] == ["frames-1", "identities-1"]
    with pytest.raises(InputError, match=r"no image can be read, neither 0\.png"):
        contact_sheet(Scenes(3, 2, bad=frozenset(range(3))), title="scenes")


@pytest.mark.parametrize(
    ("data", "options", "said"),
    [
        (Scenes(0, 0), {}, "has no images"),
        (Scenes(3, 1), {"frames": 0, "identities": 0}, "nothing to show"),
        (Scenes(3, 0), {"frames": 0}, "nothing to show"),
    ],
)
def test_nothing_to_show_is_bad_input(data: Scenes, options: dict[str, int], said: str) -> None:
    with pytest.raises(InputError, match=said):
        contact_sheet(data, title="scenes", **options)


def test_frames_without_people_are_shown() -> None:
    sheet = contact_sheet(Scenes(3, 0), title="scenes")
    assert [page.name for page in sheet.pages] == ["frames-1"]
    assert shows(sheet.pages[0].picture, GROUND, at_least=3 * 600 * 400)


def test_more_frames_than_fit_a_page_make_pages() -> None:
    sheet = contact_sheet(Scenes(40, 30, cameras=1), title="scenes", frames=25, identities=20)
    assert [page.name for page in sheet.pages if page.name.startswith("frames")] == ["frames-1", "frames-2", "frames-3"]
    assert sum(page.name.startswith("identities") for page in sheet.pages) > 1


def canvas() -> Frame:
    return np.full((200, 300, 3), 128, np.uint8)


def test_boxes_are_drawn_by_what_they_hold() -> None:
    picture = canvas()
    boxes = np.array([[20, 30, 60, 150], [100, 30, 140, 150], [200, 30, 280, 150]], np.float32)
    assert draw_labels(picture, boxes, np.array([7, -1, -2])) == 0
    assert shows(picture[:, :80], identity_colour(7), at_least=300)
    assert (picture[35:145, 25:55] == 128).all()  # the person is not covered
    assert shows(picture[:, 90:150], GREY, at_least=300)
    assert (picture[:28, 90:150] == 128).all()  # no id above a person without one
    inside = picture[40:140, 210:270]
    covered = 1 - (inside == 128).all(axis=-1).mean()
    assert 0.05 < covered < 0.6  # hatched, and what is beneath can be seen


def test_ids_that_would_cover_one_another_are_left_out_and_counted() -> None:
    boxes = np.array([[50, 50, 80, 110]] * 30, np.float32)
    left_out = draw_labels(canvas(), boxes, np.arange(30))
    assert 20 <= left_out < 30


@pytest.mark.parametrize("box", [[0, 0, 300, 200], [299.5, 199.5, 300, 200], [-50, -50, 400, 400], [0, 0, 0.2, 0.2]])
@pytest.mark.parametrize("person", [-2, -1, 123456])
def test_boxes_at_and_over_the_edge_are_drawn(box: list[float], person: int) -> None:
    draw_labels(canvas(), np.array([box], np.float32), np.array([person]))


def test_thousands_of_people_in_one_frame() -> None:
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 180, (5000, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(1, 20, (5000, 2))], axis=1).astype(np.float32)
    assert draw_labels(canvas(), boxes, np.arange(5000)) >= 4900


def test_colours_of_neighbouring_identities_differ() -> None:
    colours = np.array([identity_colour(person) for person in range(500)], int)
    for step in (1, 2, 3, 4):
        assert np.abs(colours[step:] - colours[:-step]).max(axis=1).min() >= 50
    assert len({tuple(colour) for colour in colours.tolist()}) > 150


@pytest.mark.parametrize("width", [40, 90, 200])
def test_text_is_cut_to_its_place(width: int) -> None:
    text = "frames/train/camera-3/000000012345.jpg"
    cut = shortened(text, width, 0.45)
    assert text_width(cut, 0.45) <= width
    assert text.endswith(cut.removeprefix("..."))
    lines = wrapped("a long-sleeved pale-blue jacket " * 3, width, 0.45)
    assert all(text_width(line, 0.45) <= width for line in lines)
    assert "".join(lines).replace(" ", "") == ("along-sleevedpale-bluejacket" * 3)


def test_letters_that_the_font_lacks_are_no_error() -> None:
    picture = np.full((40, 200, 3), PAPER, np.uint8)
    put_text(picture, "行人\n7", 5, 25, 0.5)
    assert (picture != np.array(PAPER)).any()


@pytest.fixture
def folder_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six frames by two cameras as a folder, with two people."""
    root = tmp_path_factory.mktemp("folder")
    data = Scenes(6, 2)
    (root / "frames").mkdir()
    images, annotations = [], []
    for number in range(len(data)):
        sample = data[number]
        cv2.imwrite(str(root / f"frames/{number}.png"), data.frame_bgr(number))
        row = {"id": number, "file_name": f"frames/{number}.png", "width": WH[0], "height": WH[1]}
        images.append({**row, "camera_id": sample.camera_id, "frame_index": number})
        for box, person in zip(sample.boxes_xyxy.tolist(), sample.person_ids.tolist(), strict=True):
            sides = [box[0], box[1], box[2] - box[0], box[3] - box[1]]
            annotations.append({"id": len(annotations), "image_id": number, "bbox": sides, "person_id": person})
    labels = {"person_count": 2, "images": images, "annotations": annotations, "queries": []}
    description = {"format": "personsearch/1", "name": "scenes", "terms": "none", "splits": {"test": "test.json"}}
    (root / "test.json").write_text(json.dumps(labels))
    (root / "dataset.json").write_text(json.dumps(description))
    return root


def test_the_command_writes_one_picture_or_one_a_page(folder_set: Path, tmp_path: Path) -> None:
    one = tmp_path / "new" / "sheet.png"
    shown = CliRunner().invoke(app, ["show", str(folder_set), "--split", "test", "--out", str(one), "--frames", "3"])
    assert shown.exit_code == 0, shown.output
    whole = cv2.imread(str(one))
    folder = tmp_path / "pages"
    shown = CliRunner().invoke(app, ["show", str(folder_set), "--split", "test", "--out", str(folder), "--frames", "3"])
    assert shown.exit_code == 0, shown.output
    assert sorted(path.name for path in folder.iterdir()) == ["frames-1.png", "identities-1.png"]
    parts = [cv2.imread(str(folder / f"{name}-1.png")) for name in ("frames", "identities")]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    jpeg = tmp_path / "sheet.JPG"
    assert CliRunner().invoke(app, ["show", str(folder_set), "--out", str(jpeg), "--frames", "3"]).exit_code == 0
    assert jpeg.read_bytes()[:3] == b"\xff\xd8\xff"


def test_the_command_says_what_it_could_not_show(folder_set: Path, tmp_path: Path) -> None:
    broken = folder_set / "frames/3.png"
    broken.write_text("hello")
    out = tmp_path / "sheet.png"
    shown = CliRunner().invoke(app, ["show", str(folder_set), "--out", str(out)])
    assert shown.exit_code == 1
    assert f"not shown: {broken}: is not an image" in shown.output
    assert out.is_file()


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--out", "sheet.gif"], r"suffix is \.gif"),
        (["--out", "sheet.png", "--split", "nope"], "split `nope` is unknown"),
        (["--out", "sheet.png", "--frames", "0", "--identities", "0"], "nothing to show"),
    ],
)
def test_a_wrong_request_is_refused_and_writes_nothing(
    folder_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=said):
        CliRunner().invoke(app, ["show", str(folder_set), *arguments], catch_exceptions=False)
    assert list(tmp_path.iterdir()) == []
