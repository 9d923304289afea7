"""The generated folder: reproducible, disjoint, in the documented format, true to what was drawn."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from personsearch.cli.data import app
from personsearch.core.errors import InputError
from personsearch.data import open_dataset
from personsearch.data.synthetic import SyntheticSettings, generate
from personsearch.data.synthetic.appearance import draw_appearances
from personsearch.data.synthetic.crowd import schedule
from personsearch.data.synthetic.generate import people_of
from personsearch.data.synthetic.labels import label
from personsearch.data.synthetic.scene import Seen

TINY = SyntheticSettings(
    seed=3,
    train_identities=6,
    test_identities=4,
    passers_by=3,
    train_cameras=2,
    test_cameras=2,
    days=1,
    cameras_per_identity=2,
    train_frames=6,
    test_frames=12,
    video_wh=(192, 112),
    video_frames=40,
    video_fps=8.0,
)


def digests(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("synthetic") / "data"
    generate(folder, TINY)
    return folder


def test_same_settings_give_the_same_bytes(root: Path, tmp_path: Path) -> None:
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1 if threads != 1 else 4)
    try:
        generate(tmp_path / "again", TINY)
    finally:
        cv2.setNumThreads(threads)
    assert digests(tmp_path / "again") == digests(root)


def test_processes_change_nothing_but_the_time(root: Path, tmp_path: Path) -> None:
    calls: list[int] = []
    generate(tmp_path / "again", TINY, lambda done, total: calls.append(total - done), processes=2)
    assert digests(tmp_path / "again") == digests(root)
    assert calls[-1] == 0


def test_another_seed_gives_other_people_and_frames(root: Path, tmp_path: Path) -> None:
    other = TINY.model_copy(update={"seed": 4, "train_frames": 2, "test_frames": 4, "video_frames": 8})
    generate(tmp_path / "other", other)
    assert people_of(other, "test") != people_of(TINY, "test")
    mine, theirs = digests(root), digests(tmp_path / "other")
    shared = [name for name in theirs if name in mine and name.endswith(".jpg")]
    assert shared
    assert all(mine[name] != theirs[name] for name in shared)


def test_identities_and_cameras_of_the_splits_are_disjoint(root: Path) -> None:
    cameras = {
        split: {image["camera_id"] for image in read(root / "annotations" / f"{split}.json")["images"]}
        for split in ("train", "test")
    }
    assert cameras == {"train": {0, 1}, "test": {2, 3}}
    full = SyntheticSettings()
    train, test = people_of(full, "train"), people_of(full, "test")
    assert len(set(train)) == full.train_identities
    assert len(set(test)) == full.test_identities
    assert not set(train) & set(test)


def test_annotations_follow_the_conventions(root: Path) -> None:
    description = read(root / "dataset.json")
    assert description["format"] == "personsearch/1"
    assert SyntheticSettings.model_validate(description["generator"]["settings"]) == TINY
    for split, people in (("train", 6), ("test", 4)):
        content = read(root / description["splits"][split])
        assert content["person_count"] == people
        assert [image["id"] for image in content["images"]] == list(range(len(content["images"])))
        assert len({entry["id"] for entry in content["annotations"]}) == len(content["annotations"])
        for image in content["images"]:
            frame = cv2.imread(str(root / image["file_name"]))
            assert frame is not None
            assert frame.shape == (image["height"], image["width"], 3) == (224, 384, 3)
        for entry in content["annotations"]:
            x, y, width, height = entry["bbox"]
            assert -2 <= entry["person_id"] < people
            assert x >= 0
            assert y >= 0
            assert width > 0
            assert height > 0
            assert x + width <= 384.01
            assert y + height <= 224.01


def test_the_folder_opens_as_a_dataset(root: Path) -> None:
    for split, frames in (("train", 6), ("test", 12)):
        dataset = open_dataset(root, split)
        assert len(dataset) == frames
        assert dataset.frame_bgr(0).shape == (224, 384, 3)


def test_every_query_is_annotated_and_seen_by_another_camera(root: Path) -> None:
    content = read(root / "annotations" / "test.json")
    cameras = [image["camera_id"] for image in content["images"]]
    assert len({query["person_id"] for query in content["queries"]}) == len(content["queries"]) >= 3
    for query in content["queries"]:
        same = [entry for entry in content["annotations"] if entry["person_id"] == query["person_id"]]
        assert any(entry["image_id"] == query["image_id"] and entry["bbox"] == query["bbox"] for entry in same)
        assert any(cameras[entry["image_id"]] != cameras[query["image_id"]] for entry in same)
        assert "gallery" not in query
    assert read(root / "annotations" / "train.json")["queries"] == []


def test_the_video_has_as_many_frames_as_its_ground_truth(root: Path) -> None:
    truth = read(root / "video" / "search.json")
    reader = cv2.VideoCapture(str(root / "video" / "search.mp4"))
    assert reader.get(cv2.CAP_PROP_FPS) == pytest.approx(truth["fps"]) == TINY.video_fps
    shapes = []
    while (found := reader.read())[0]:
        shapes.append(found[1].shape)
    reader.release()
    assert shapes == [(112, 192, 3)] * TINY.video_frames
    assert [frame["index"] for frame in truth["frames"]] == list(range(TINY.video_frames))
    for frame in truth["frames"]:
        assert len(frame["boxes"]) == len(frame["person_ids"])
        for x1, y1, x2, y2 in frame["boxes"]:
            assert 0 <= x1 < x2 <= 192
            assert 0 <= y1 < y2 <= 112


def test_the_query_of_the_video_enters_leaves_and_comes_back(root: Path) -> None:
    truth = read(root / "video" / "search.json")
    query = truth["query"]
    present = [query["person_id"] in frame["person_ids"] for frame in truth["frames"]]
    changes = "".join("x" if now else "." for last, now in zip([None, *present], present, strict=False) if now != last)
    assert changes.strip(".").count("x") >= 2
    assert not present[0]
    assert all(frame["person_ids"].count(query["person_id"]) <= 1 for frame in truth["frames"])
    images = {image["file_name"]: image for image in read(root / "annotations" / "test.json")["images"]}
    assert images[query["image"]]["camera_id"] == TINY.train_cameras
    assert (root / query["image"]).is_file()


def test_a_stop_halfway_leaves_what_was_there(tmp_path: Path) -> None:
    target = tmp_path / "data"
    target.mkdir()
    (target / "kept.txt").write_text("kept")

    def stop(done: int, total: int) -> None:
        if done >= 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(target, TINY, stop)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    assert (target / "kept.txt").read_text() == "kept"


def test_progress_counts_every_frame(tmp_path: Path) -> None:
    short = TINY.model_copy(update={"train_frames": 2, "test_frames": 4, "video_frames": 8})
    calls: list[tuple[int, int]] = []
    generate(tmp_path / "data", short, lambda done, total: calls.append((done, total)))
    done = [done for done, _ in calls]
    assert done == sorted(set(done))
    assert calls[-1] == (14, 14)
    assert {total for _, total in calls} == {14}


@pytest.mark.parametrize(
    ("visible", "box", "expected"),
    [
        (0.0, (0.0, 0.0, 20.0, 60.0), None),
        (0.9, (0.0, 0.0, 3.0, 60.0), None),
        (0.9, (5.0, 5.0, 5.0, 5.0), None),
        (0.29, (0.0, 0.0, 20.0, 60.0), -2),
        (0.3, (0.0, 0.0, 20.0, 60.0), 7),
    ],
)
def test_label(visible: float, box: tuple[float, float, float, float], expected: int | None) -> None:
    assert label(Seen(7, box, visible), 0.3) == expected


def test_schedule_shows_every_identity_in_its_cameras_several_times() -> None:
    settings = SyntheticSettings()
    for split, cameras, each in (("train", 6, 4), ("test", 3, 3)):
        seen: dict[int, list[int]] = {}
        for camera, day, people in schedule(settings, split):
            assert 0 <= camera < cameras
            assert 0 <= day < settings.days
            labelled = [person for person in people if person >= 0]
            assert len(set(labelled)) == len(labelled)
            for person in labelled:
                seen.setdefault(person, []).append(camera)
        assert len(seen) == (settings.train_identities if split == "train" else settings.test_identities)
        assert all(len(set(found)) == each and len(found) >= 6 for found in seen.values())


def test_people_share_colours_but_not_looks() -> None:
    people = draw_appearances(0, "train", 160)
    looks = {(p.upper.pattern, p.upper.primary, p.upper.secondary, p.lower, p.bag, p.hair) for p in people}
    assert len(looks) == 160
    assert draw_appearances(0, "train", 10) == people[:10]


@pytest.mark.parametrize(
    "change",
    [
        {"people": (4, 3)},
        {"people": (0, 3)},
        {"frame_wh": (385, 224)},
        {"video_wh": (32, 32)},
        {"cameras_per_identity": 7},
        {"test_cameras": 1},
        {"test_frames": 3},
        {"colour": 1},
    ],
)
def test_impossible_settings_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        SyntheticSettings(**change)


def test_scaled_settings_are_valid_and_keep_the_seed() -> None:
    small = SyntheticSettings(seed=9).scaled(0.02)
    assert SyntheticSettings.model_validate(small.model_dump()) == small
    assert (small.seed, small.train_frames, small.video_frames) == (9, 12, 40)
    with pytest.raises(ValueError, match="scale is 0"):
        SyntheticSettings().scaled(0.0)


def test_the_command_does_not_replace_a_folder_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    result = CliRunner().invoke(app, ["synthesize", str(tmp_path)])
    assert isinstance(result.exception, InputError)
    assert "not a generated data set" in str(result.exception)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


@pytest.mark.parametrize("scale", ["0", "51", "nan"])
def test_the_command_refuses_an_impossible_scale(tmp_path: Path, scale: str) -> None:
    result = CliRunner().invoke(app, ["synthesize", str(tmp_path / "out"), "--scale", scale])
    assert isinstance(result.exception, InputError)
    assert not (tmp_path / "out").exists()


def test_the_command_writes_a_dataset(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["synthesize", str(tmp_path / "out"), "--scale", "0.02", "--seed", "2"])
    assert result.exit_code == 0, result.output
    assert read(tmp_path / "out" / "dataset.json")["generator"]["settings"]["seed"] == 2
    assert np.isfinite(open_dataset(tmp_path / "out", "test")[0].boxes_xyxy).all()
