"""What is written: lines, arrays, pictures, the video, and the folder that holds them."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import runtime_stub as stub

from personsearch.core.detections import Detections
from personsearch.core.errors import InputError
from personsearch.runtime import Engine, open_engine
from personsearch.runtime.drawing import Annotator, Caption, clock
from personsearch.runtime.matching import Match
from personsearch.runtime.query import PersonQuery, load_queries
from personsearch.runtime.session import SearchSettings, check_output, search_source
from personsearch.runtime.sinks import AnnotatedVideo, FrameResult
from personsearch.runtime.sources import open_source
from personsearch.runtime.timings import StageTimings
from personsearch.runtime.video_writer import VideoFile, count_frames, video_wh


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return open_engine(stub.write_artifact(tmp_path_factory.mktemp("artifact")), threads=1)


@pytest.fixture
def video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    cv2.imwrite("red.png", stub.scene((0, stub.RED)))
    return stub.write_video(tmp_path / "walk.mp4", stub.walk(30), rate_hz=10)


def search(engine: Engine, source: Path | str, queries: list[str], **settings: Any) -> dict[str, Any]:
    return search_source(
        engine,
        open_source(str(source)),
        load_queries(engine, queries),
        Path("out"),
        SearchSettings(**settings),
        stop=threading.Event(),
    )


def lines(path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def test_the_person_is_found_where_and_when_it_was_painted(engine: Engine, video: Path) -> None:
    summary = search(engine, video, ["red.png#16,12,48,36"])
    matches = lines("out/matches.jsonl")
    assert [match["frame"] for match in matches] == list(range(10, 20))
    assert {match["query"] for match in matches} == {"red"}
    assert all(match["is_best"] for match in matches)
    np.testing.assert_allclose([match["time_s"] for match in matches], np.arange(10, 20) / 10, atol=1e-3)
    np.testing.assert_allclose([match["box_xyxy"] for match in matches], [[16, 12, 48, 36]] * 10)
    (query,) = summary["queries"]
    assert [(visit["start_s"], visit["end_s"], visit["frames"]) for visit in query["visits"]] == [(1.0, 1.9, 10)]
    assert query["most_similar"][0]["frame"] in range(10, 20)
    assert json.loads(Path("out/summary.json").read_text()) == summary
    assert summary["frames"] == {"captured": 30, "decoded": 30, "dropped": 0, "left": 0, "processed": 30, "undrawn": 0}
    assert set(summary["stages"]) == {
        "decode",
        "queue_wait",
        "preprocess",
        "infer",
        "postprocess",
        "match",
        "draw",
        "write",
        "age",
    }
    assert count_frames(Path("out/annotated.mp4")) == summary["video"]["frames"] == 30


def test_the_same_search_writes_the_same_lines(engine: Engine, video: Path) -> None:
    search(engine, video, ["red.png"], all_detections=True)
    first = Path("out/matches.jsonl").read_bytes(), Path("out/detections.jsonl").read_bytes()
    search(engine, video, ["red.png"], all_detections=True)
    assert (Path("out/matches.jsonl").read_bytes(), Path("out/detections.jsonl").read_bytes()) == first


def test_nothing_personal_is_written_unasked(engine: Engine, video: Path) -> None:
    summary = search(engine, video, ["red.png"], video=False)
    assert sorted(path.name for path in Path("out").iterdir()) == ["matches.jsonl", "summary.json"]
    assert summary["video"] is None


def test_embeddings_are_the_rows_of_the_detections(engine: Engine, video: Path) -> None:
    search(engine, video, ["red.png"], embeddings=True, crops=True)
    detections, embeddings = lines("out/detections.jsonl"), np.load("out/embeddings.npy")
    assert embeddings.shape == (len(detections), 3)
    assert len(detections) == 40  # blue in 30 frames, red in 10
    red = np.array([line["box_xyxy"][0] < 64 for line in detections])
    assert embeddings[red, 2].min() > 0.9 > embeddings[~red, 2].max()
    assert sorted(path.name for path in Path("out").iterdir()) == [
        "annotated.mp4",
        "crops",
        "detections.jsonl",
        "embeddings.npy",
        "matches.jsonl",
        "summary.json",
    ]
    crops = sorted(Path("out/crops/red").iterdir())
    assert [path.name for path in crops] == [f"{index:06d}.jpg" for index in range(10, 20)]
    assert cv2.imread(str(crops[0])).shape == (24, 32, 3)


def test_a_stream_without_people_still_gives_an_array(engine: Engine, video: Path) -> None:
    dark = stub.write_video(video.parent / "dark.mp4", [stub.scene()] * 5)
    summary = search(engine, dark, ["red.png"], embeddings=True)
    assert np.load("out/embeddings.npy").shape == (0, 3)
    assert summary["queries"][0]["most_similar"] == []


def test_names_that_are_no_file_names(engine: Engine, video: Path) -> None:
    Path("a").mkdir()
    cv2.imwrite("a/.. .png", stub.scene((0, stub.RED)))
    search(engine, video, ["a/.. .png", "x y=red.png", "x_y=red.png"], crops=True)
    assert sorted(path.name for path in Path("out/crops").iterdir()) == ["_", "x_y-2", "x_y-3"]
    assert sorted(path.name for path in Path().iterdir()) == ["a", "out", "red.png", "walk.mp4"]


def test_images_keep_their_names(engine: Engine, video: Path) -> None:
    Path("frames").mkdir()
    for number, frame in zip(range(5, 65, 2), stub.walk(30), strict=True):
        cv2.imwrite(f"frames/{number:04d}.png", frame)
    summary = search(engine, "frames/%04d.png", ["red.png"])
    assert lines("out/matches.jsonl")[0]["name"] == "0025.png"
    assert summary["queries"][0]["visits"][0]["best_name"] == "0025.png"
    assert summary["video"]["rate_hz"] == 12.5


def test_frames_of_different_sizes(engine: Engine, video: Path) -> None:
    Path("frames").mkdir()
    for index, frame_wh in enumerate([(128, 96), (257, 193), (64, 96), (1, 1)]):
        cv2.imwrite(f"frames/{index}.png", np.full((frame_wh[1], frame_wh[0], 3), 200, np.uint8))
    summary = search(engine, "frames", ["red.png"])
    assert summary["video"]["frames"] == 4


@pytest.mark.parametrize("before", [None, "earlier"])
def test_a_failed_search_leaves_what_was_there(engine: Engine, video: Path, before: str | None) -> None:
    if before:
        search(engine, video, ["red.png"])
        Path("out/matches.jsonl").write_text("earlier")
    Path("frames").mkdir()
    cv2.imwrite("frames/0.png", stub.scene())
    Path("frames/1.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"1\.png"):
        search(engine, "frames", ["red.png"])
    assert Path("out").exists() == bool(before)
    assert not before or Path("out/matches.jsonl").read_text() == "earlier"
    assert not [path for path in Path().iterdir() if path.name.startswith(".")]


def test_a_source_without_a_readable_frame(engine: Engine, video: Path) -> None:
    Path("frames").mkdir()
    Path("frames/1.png").write_bytes(b"")
    source = open_source("frames", keep_going=True)
    with pytest.raises(InputError, match="no frame"):
        search_source(
            engine, source, load_queries(engine, ["red.png"]), Path("out"), SearchSettings(), stop=threading.Event()
        )
    assert not Path("out").exists()


def test_output_folders_that_would_lose_something(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = tmp_path / "work"
    (work / "photos").mkdir(parents=True)
    monkeypatch.chdir(work)
    Path("photos/holiday.jpg").write_text("x")
    Path("file").write_text("x")
    Path("empty").mkdir()
    Path("other").mkdir()
    Path("other/summary.json").write_text('{"format": "something else"}')
    for out, message in [
        (".", "folder you are in"),
        ("..", "folder you are in"),
        ("photos", "other files"),
        ("file", "is a file"),
        ("other", "other files"),
    ]:
        with pytest.raises(InputError, match=message):
            check_output(Path(out))
    assert check_output(Path("empty")) == work / "empty"
    assert check_output(Path("new/deep")) == work / "new" / "deep"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0:00.0"),
        (9.96, "0:09.9"),
        (0.3, "0:00.3"),
        (59.99, "0:59.9"),
        (60, "1:00.0"),
        (3599.9, "59:59.9"),
        (3600, "1:00:00.0"),
    ],
)
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text


def draw(frame_wh: tuple[int, int], boxes: list[list[float]], matches: list[Match]) -> np.ndarray:
    query = PersonQuery("anna", np.zeros((1, 3), np.float32), np.full((40, 20, 3), 90, np.uint8))
    image = np.full((frame_wh[1], frame_wh[0], 3), 128, np.uint8)
    before = image.copy()
    found = Detections(np.array(boxes, np.float32).reshape(-1, 4), np.ones(len(boxes)), np.zeros((len(boxes), 3)))
    picture = Annotator(frame_wh, [query]).draw(image, found, matches, Caption(1.0, 25, 30.0))
    np.testing.assert_array_equal(image, before)
    assert picture.shape == image.shape
    return picture


@pytest.mark.parametrize("frame_wh", [(1, 1), (16, 9), (320, 240), (2000, 300)])
def test_drawing_fits_any_frame(frame_wh: tuple[int, int]) -> None:
    width, height = frame_wh
    boxes = [[0, 0, width, height], [width * 0.9, 0, width, 1]]
    draw(frame_wh, boxes, [Match(0, 1, 0.9, True), Match(0, 0, 0.8, False)])


def test_a_match_is_drawn_in_its_colour_around_its_box_and_a_person_is_not() -> None:
    picture = draw((640, 480), [[300, 200, 340, 300], [500, 200, 540, 300]], [Match(0, 0, 0.9, True)])
    colour = np.array(Annotator.colour(0))
    assert (picture[250, 296:304] == colour).all(axis=1).any()
    assert not (picture[:, 480:560] == colour).all(axis=2).any()
    assert (picture[250, 497:503] != 128).any()
    assert (picture[240:260, 310:330] == 128).all()  # the person itself stays visible


@pytest.mark.parametrize(
    ("frame_wh", "expected"),
    [
        ((640, 480), (640, 480)),
        ((641, 479), (640, 478)),
        ((3840, 2160), (1920, 1080)),
        ((1, 1), (2, 2)),
    ],
)
def test_video_size(frame_wh: tuple[int, int], expected: tuple[int, int]) -> None:
    assert video_wh(frame_wh) == expected


def test_a_video_without_frames_leaves_no_file(tmp_path: Path) -> None:
    file = VideoFile(tmp_path / "x.mp4", (64, 48), 25.0)
    file.close()
    assert not (tmp_path / "x.mp4").exists()


def test_a_live_video_plays_at_the_speed_of_life(tmp_path: Path) -> None:
    query = PersonQuery("anna", np.zeros((1, 3), np.float32), np.full((40, 20, 3), 90, np.uint8))
    sink = AnnotatedVideo(tmp_path, [query], rate_hz=10.0, real_time=True, timings=StageTimings())
    for index, time_s in enumerate([50.0, 50.02, 50.5, 51.0, 200.0, 200.1]):
        sink.write(
            FrameResult(
                index,
                time_s,
                "",
                np.full((48, 64, 3), 99, np.uint8),
                Detections.empty(3),
                np.zeros((1, 0), np.float32),
                (),
                1.0,
                0.0,
            )
        )
    sink.close()
    # 1 s at 10 a second, then a stall that is cut to 5 s, then one more.
    assert count_frames(tmp_path / "annotated.mp4") == 11 + 50 + 1
