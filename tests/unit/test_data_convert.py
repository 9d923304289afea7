"""`personsearch data convert`: labels and images arrive whole, or nothing does; videos give the frames they should."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from composite_material import write_material, write_spec
from cuhk_material import write_set as write_cuhk_sysu
from test_data_prw import write_set as write_prw
from typer.testing import CliRunner

from personsearch.cli.app import app
from personsearch.core.errors import InputError
from personsearch.data import open_dataset
from personsearch.data.conversion import convert, convert_video, rendered_index
from personsearch.data.index import IndexedDataset, LabelIndex
from personsearch.data.sample import Frame, Query, Sample
from personsearch.data.video_frames import ImageEncoding

FRAME_WH = (96, 64)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def frame(number: int) -> Frame:
    """A frame that says by its grey which it is, whatever a codec does to it."""
    return np.full((FRAME_WH[1], FRAME_WH[0], 3), 20 * number + 10, np.uint8)


def number_of(image: Frame) -> int:
    return int(image.mean()) // 20


def write_set(root: Path) -> Path:
    """Two splits, two cameras, all kinds of people, a protocol with a gallery."""
    for split, first in (("train", 0), ("test", 3)):
        images = [
            {
                "id": 40 + i,
                "file_name": f"frames/{first + i}.png",
                "width": FRAME_WH[0],
                "height": FRAME_WH[1],
                "camera_id": (5, 5, 8)[i],
                "frame_index": (0, 7, 7)[i],
            }
            for i in range(3)
        ]
        people = [(40, -1), (40, 100 + first), (41, 100 + first), (42, 100 + first), (42, 101 + first)]
        annotations = [
            {"id": i, "image_id": image, "bbox": [2.25 + 9 * i, 3, 8.5, 20], "category_id": 1, "person_id": person}
            for i, (image, person) in enumerate(people)
        ]
        annotations.append(
            {"id": 9, "image_id": 41, "bbox": [1, 1, 5, 5], "category_id": 1, "person_id": -1, "iscrowd": 1}
        )
        query = {"image_id": 40, "bbox": [11.25, 3, 8.5, 20], "person_id": 100 + first, "gallery": [42, 41]}
        content = {
            "info": {"description": "corner shop"},
            "licenses": [{"id": 1, "name": "ours"}],
            "images": images,
            "annotations": annotations,
            "queries": [query] if split == "test" else [],
        }
        (root / "annotations").mkdir(parents=True, exist_ok=True)
        (root / f"annotations/{split}.json").write_text(json.dumps(content))
        (root / "frames").mkdir(exist_ok=True)
        for i in range(3):
            cv2.imwrite(str(root / f"frames/{first + i}.png"), frame(first + i))
    return root


def index_of(root: Path, split: str) -> LabelIndex:
    dataset = open_dataset(root, split)
    assert isinstance(dataset, IndexedDataset)
    return dataset.index


def assert_same_labels(after: LabelIndex, before: LabelIndex) -> None:
    assert (after.name, after.terms, after.person_names) == (before.name, before.terms, before.person_names)
    assert after.image_paths == before.image_paths
    for field in ("image_wh", "camera_ids", "frame_indices", "offsets", "boxes_xyxy", "person_ids"):
        np.testing.assert_array_equal(getattr(after, field), getattr(before, field))
    assert list(after.protocols) == list(before.protocols)
    for name in before.protocols:
        for one, other in zip(after.protocols[name].queries(), before.protocols[name].queries(), strict=True):
            np.testing.assert_equal(
                (one.image_index, one.box_xyxy, one.person_id, one.gallery, one.answers_xyxy),
                (other.image_index, other.box_xyxy, other.person_id, other.gallery, other.answers_xyxy),
            )


@pytest.mark.parametrize("to", ["coco", "folder"])
@pytest.mark.parametrize("images", ["link", "copy"])
def test_all_splits_arrive_with_their_images(tmp_path: Path, to: str, images: str) -> None:
    source = write_set(tmp_path / "set")
    # Parametrised values are plain text.
    written = convert(source, tmp_path / "out", to=to, images=images)  # type: ignore[arg-type]
    assert sorted(written) == ["test", "train"]
    assert (tmp_path / "out/dataset.json").is_file() == (to == "folder")
    for split, first in (("train", 0), ("test", 3)):
        after = open_dataset(tmp_path / "out", split)
        assert isinstance(after, IndexedDataset)
        assert_same_labels(after.index, index_of(source, split))
        assert [number_of(after.frame_bgr(i)) for i in range(3)] == [first, first + 1, first + 2]
    assert (source / "frames/0.png").samefile(tmp_path / "out/frames/0.png") == (images == "link")


@pytest.mark.parametrize(("write", "format_name"), [(write_cuhk_sysu, "cuhk"), (write_prw, "prw")])
def test_published_sets_survive(tmp_path: Path, write: Callable[[Path], Path], format_name: str) -> None:
    source = write(tmp_path / format_name)
    written = convert(source, tmp_path / "out", to="folder")
    assert sorted(written) == ["test", "train"]
    for split in written:
        assert_same_labels(index_of(tmp_path / "out", split), index_of(source, split))
    assert len(index_of(source, "test").protocols) > 1


def test_labels_alone(tmp_path: Path) -> None:
    source = write_set(tmp_path / "set")
    convert(source, tmp_path / "out", splits=["test"], images="none")
    assert sorted(path.name for path in (tmp_path / "out").rglob("*")) == ["annotations", "test.json"]
    after = index_of(tmp_path / "out", "test")
    assert_same_labels(after, index_of(source, "test"))
    assert [(problem.kind, problem.count) for problem in after.problems] == [("missing", 3)]


def test_mot_and_back(tmp_path: Path) -> None:
    source = write_set(tmp_path / "set")
    convert(source, tmp_path / "mot", splits=["test"], to="mot", images="copy")
    before, after = index_of(source, "test"), index_of(tmp_path / "mot", "all")
    # Cameras are sequences; their frames count from 1 where they did from 0.
    assert after.image_paths == (
        "camera-5/img1/000001.png",
        "camera-5/img1/000008.png",
        "camera-8/img1/000007.png",
    )
    np.testing.assert_array_equal(after.boxes_xyxy, before.boxes_xyxy)
    assert after.person_ids.tolist() == before.person_ids.tolist()
    # Person 103 is in both cameras, which the person map says.
    assert after.person_names == before.person_names == ("103", "104")
    dataset = open_dataset(tmp_path / "mot", "all")
    assert [number_of(dataset.frame_bgr(i)) for i in range(3)] == [3, 4, 5]
    assert list(after.protocols) == ["re-entry"]


def test_mot_needs_one_size_a_camera(tmp_path: Path) -> None:
    source = write_set(tmp_path / "set")
    content = json.loads((source / "annotations/test.json").read_text())
    content["images"][0]["width"] = 80
    (source / "annotations/test.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"images of camera-5 are 80x64, 96x64 and \.png; expected one known size"):
        convert(source, tmp_path / "mot", splits=["test"], to="mot")
    with pytest.raises(InputError, match="2 splits; expected one"):
        convert(source, tmp_path / "mot", to="mot")
    assert not (tmp_path / "mot").exists()


class Rendered:
    """A data set without files, as generators are."""

    name, terms, person_count = "drawn", "free", 2
    queries = (Query(0, np.array([1, 1, 9, 20], np.float32), 1),)

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> Sample:
        return Sample(None, np.array([[1, 1, 9, 20]], np.float32), np.array([1 - 2 * index]), 4, index, FRAME_WH)

    def frame_bgr(self, index: int) -> Frame:
        return frame(index)


def test_rendered_labels() -> None:
    index = rendered_index(Rendered(), ImageEncoding(".png"))
    assert index.image_paths == ("frames/000000.png", "frames/000001.png")
    assert (index.person_ids.tolist(), index.offsets.tolist(), index.counts()["queries.default"]) == (
        [1, -1],
        [0, 1, 2],
        1,
    )


def test_composites_are_rendered_and_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_material(tmp_path / "material")
    monkeypatch.setenv("MATERIAL", str(tmp_path / "material"))
    specification = write_spec(tmp_path / "material", tmp_path)
    convert(specification, tmp_path / "out", splits=["validation"], encoding=ImageEncoding(".png"))
    before, after = open_dataset(specification, "validation"), open_dataset(tmp_path / "out", "validation")
    assert len(after) == len(before) > 0
    assert (after.name, after.terms, after.person_count) == (before.name, before.terms, before.person_count)
    for number in (0, len(before) - 1):
        np.testing.assert_array_equal(after.frame_bgr(number), before.frame_bgr(number))
        np.testing.assert_array_equal(after[number].boxes_xyxy, before[number].boxes_xyxy)
        np.testing.assert_array_equal(after[number].person_ids, before[number].person_ids)
    with pytest.raises(InputError, match="renders its frames"):
        convert(specification, tmp_path / "labels", splits=["validation"], images="none")


def test_nothing_is_half_written(tmp_path: Path) -> None:
    source = write_set(tmp_path / "set")
    (source / "frames/4.png").unlink()
    with pytest.raises(InputError, match=r"1 of 3 images of split `test` are missing, such as frames/4\.png"):
        convert(source, tmp_path / "out")
    with pytest.raises(InputError, match="split `val` is unknown"):
        convert(source, tmp_path / "out", splits=["val"])
    assert sorted(path.name for path in tmp_path.iterdir()) in (["set"], ["cache", "set"])
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine.txt").touch()
    with pytest.raises(InputError, match="full: exists; expected a new folder"):
        convert(source, tmp_path / "full", splits=["train"])
    (tmp_path / "full/mine.txt").unlink()
    convert(source, tmp_path / "full", splits=["train"])


def write_video(path: Path, frames: int = 8) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 10, FRAME_WH)
    for number in range(frames):
        writer.write(frame(number))
    writer.release()
    return path


def write_cvat(root: Path, frames: tuple[int, ...] = (2, 5, 8)) -> Path:
    """CVAT's MOT export without images: numbers from 1 on, no size anywhere."""
    (root / "gt").mkdir(parents=True)
    rows = [f"{number},{track},{10 * track},5,8,90,1,1,1" for number in frames for track in (1, 3)]
    (root / "gt/gt.txt").write_text("\n".join([*rows, f"{frames[-1]},4,200,5,8,20,1,1,1"]))
    (root / "gt/labels.txt").write_text("person\n")
    return root


@pytest.mark.parametrize("png", [False, True])
def test_a_video_and_its_mot_labels(tmp_path: Path, png: bool) -> None:
    video, labels = write_video(tmp_path / "street.mp4"), write_cvat(tmp_path / "task")
    arguments = ["data", "convert", str(labels), str(tmp_path / "out"), "--video", str(video), "--to", "folder"]
    result = CliRunner().invoke(app, [*arguments, "--json", *(["--png"] if png else [])], catch_exceptions=False)
    assert result.exit_code == 0
    counts = json.loads(result.stdout)["splits"]["all"]
    assert (counts["counts"]["images"], counts["counts"]["boxes"]) == (3, 6)
    # The box outside the frame shows once the video says how large that is.
    assert [(one["kind"], one["count"]) for one in counts["problems"]] == [("dropped", 1)]
    dataset = open_dataset(tmp_path / "out", "all")
    suffix = "png" if png else "jpg"
    assert [dataset[i].image_path for i in range(3)] == [
        tmp_path / f"out/img1/{number:06d}.{suffix}" for number in (2, 5, 8)
    ]
    # MOT's frame 2 is the second that is decoded.
    assert [number_of(dataset.frame_bgr(i)) for i in range(3)] == [1, 4, 7]
    assert dataset[0].image_wh == FRAME_WH
    np.testing.assert_array_equal(dataset[0].boxes_xyxy, [[10, 5, 18, 64], [30, 5, 38, 64]])
    assert dataset[0].person_ids.tolist() == [0, 1]


def test_a_video_to_mot(tmp_path: Path) -> None:
    video, labels = write_video(tmp_path / "street.mp4"), write_cvat(tmp_path / "task")
    arguments = ["data", "convert", str(labels), str(tmp_path / "out"), "--video", str(video), "--to", "mot"]
    assert CliRunner().invoke(app, arguments, catch_exceptions=False).exit_code == 0
    dataset = open_dataset(tmp_path / "out", "all")
    assert [number_of(dataset.frame_bgr(i)) for i in range(3)] == [1, 4, 7]
    assert not (tmp_path / "out/img1").exists()


def test_the_first_frames_number(tmp_path: Path) -> None:
    labels = write_cvat(tmp_path / "task", (0, 3))
    frames = [frame(number) for number in range(5)]
    options = {"video": "v", "encoding": ImageEncoding(".png")}
    # Parametrised values are plain text.
    convert_video(labels, frames, tmp_path / "out", first_frame=0, **options)  # type: ignore[arg-type]
    dataset = open_dataset(tmp_path / "out", "all")
    assert [number_of(dataset.frame_bgr(i)) for i in range(2)] == [0, 3]
    with pytest.raises(InputError, match="the labels have a frame 0; expected 1 or more"):
        # Parametrised values are plain text.
        convert_video(labels, frames, tmp_path / "o", first_frame=1, **options)  # type: ignore[arg-type]


def test_a_video_that_does_not_fit(tmp_path: Path) -> None:
    video, labels = write_video(tmp_path / "street.mp4", 5), write_cvat(tmp_path / "task")
    runner, out = CliRunner(), tmp_path / "out"
    arguments = ["data", "convert", str(labels), str(out), "--video", str(video)]
    error = runner.invoke(app, arguments).exception
    assert isinstance(error, InputError)
    assert "street.mp4: ends after 5 frames; expected 8 or more, as the labels name frame 8" in str(error)
    (labels / "seqinfo.ini").write_text("[Sequence]\nimDir=img1\nimWidth=640\nimHeight=360\nimExt=.jpg\n")
    error = runner.invoke(app, arguments).exception
    assert "street.mp4: frames are 96x64; expected 640x360 as the labels say" in str(error)
    error = runner.invoke(app, [*arguments[:4], "--first-frame", "0"]).exception
    assert "--first-frame: needs a video" in str(error)
    assert not out.exists()
    assert not list(tmp_path.glob(".out*"))


def test_a_video_is_one_camera_and_one_split(tmp_path: Path) -> None:
    source = write_set(tmp_path / "set")
    with pytest.raises(InputError, match="has splits test, train; expected one for a video"):
        convert_video(source, [], tmp_path / "out", video="v", first_frame=0)
    with pytest.raises(InputError, match="the labels have 2 cameras; expected one"):
        convert_video(source, [], tmp_path / "out", video="v", first_frame=0, split="test")


def test_pets_survives(tmp_path: Path) -> None:
    place = os.environ.get("PERSON_SEARCH_DATA")
    if not place or not (Path(place) / "pets09-s2l1").is_dir():
        pytest.skip("PERSON_SEARCH_DATA names no folder with pets09-s2l1")
    source = Path(place) / "pets09-s2l1"
    convert(source, tmp_path / "coco")
    assert_same_labels(index_of(tmp_path / "coco", "all"), index_of(source, "all"))
    assert len(open_dataset(tmp_path / "coco", "all", "re-entry").queries) == 954
    convert(tmp_path / "coco", tmp_path / "mot", to="mot", images="none")
    mot = index_of(tmp_path / "mot", "all")
    # Tracks that a person map has joined stay joined: nobody comes back any more.
    assert not mot.protocols
    assert mot.person_names == index_of(source, "all").person_names
