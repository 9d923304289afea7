"""`data label`: what is proposed can be opened, corrected and trained on, and bad input leaves nothing behind."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import runtime_stub as stub
from typer.testing import CliRunner

from personsearch.cli.app import app
from personsearch.core.errors import InputError
from personsearch.data import open_dataset
from personsearch.data.sample import SearchDataset
from personsearch.runtime import open_engine
from personsearch.runtime.labelling import LabelSettings, LabelSummary, propose_labels
from personsearch.runtime.sources import open_source

# The stub's boxes in frames of 128x96: the middles of quadrants 0 and 3.
RED_BOX, BLUE_BOX = [16, 12, 48, 36], [80, 60, 112, 84]
SHIPPED = Path(__file__).parents[2] / "artifacts/street-student-fp32"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artifact, and 30 frames at 25 a second: blue in all, red in frames 10 to 19, which is 0.36 s."""
    folder = tmp_path_factory.mktemp("label")
    stub.write_artifact(folder / "art")
    (folder / "walk").mkdir()
    for number, frame in enumerate(stub.walk(30)):
        cv2.imwrite(str(folder / "walk" / f"{number:06d}.png"), frame)
    return folder


def propose(root: Path, out: Path, settings: LabelSettings, source: str = "walk") -> LabelSummary:
    engine = open_engine(root / "art")
    return propose_labels(engine, open_source(str(root / source)), out, settings)


def rows(dataset: SearchDataset) -> list[dict[int, list[float]]]:
    """Of each frame the box of each person."""
    return [
        dict(zip(sample.person_ids.tolist(), sample.boxes_xyxy.round(1).tolist(), strict=True))
        for sample in (dataset[number] for number in range(len(dataset)))
    ]


BOTH = [{0: BLUE_BOX, 1: RED_BOX} if 10 <= index < 20 else {0: BLUE_BOX} for index in range(30)]


@pytest.mark.parametrize(("layout", "split"), [("mot", "all"), ("coco", "train")])
def test_a_proposal_is_a_data_set(root: Path, tmp_path: Path, layout: str, split: str) -> None:
    summary = propose(root, tmp_path / "out", LabelSettings(format=layout, min_track_s=0.3))
    assert (summary.frames, summary.images, summary.people, summary.boxes) == (30, 30, 2, 40)
    assert (summary.short_tracks, summary.short_boxes) == (0, 0)
    dataset = open_dataset(tmp_path / "out", split)
    assert rows(dataset) == BOTH
    assert dataset[12].image_wh == (128, 96)


def test_short_tracks_are_left_out_and_counted(root: Path, tmp_path: Path) -> None:
    """Blue comes second here, and is the first person all the same once the short track is gone."""
    folder = tmp_path / "frames"
    folder.mkdir()
    for number in range(20):
        people = [(0, stub.RED)] if number < 4 else [(3, stub.BLUE)]
        cv2.imwrite(str(folder / f"{number}.png"), stub.scene(*people))
    engine = open_engine(root / "art")
    settings = LabelSettings(format="coco", min_track_s=0.5)
    summary = propose_labels(engine, open_source(str(folder)), tmp_path / "out", settings)
    assert (summary.people, summary.boxes, summary.short_tracks, summary.short_boxes) == (1, 16, 1, 4)
    assert rows(open_dataset(tmp_path / "out", "train")) == [{}] * 4 + [{0: BLUE_BOX}] * 16


def test_a_track_of_just_the_least_length_stays(root: Path, tmp_path: Path) -> None:
    assert propose(root, tmp_path / "a", LabelSettings(min_track_s=9 / 25)).short_tracks == 0
    assert propose(root, tmp_path / "b", LabelSettings(min_track_s=9.5 / 25)).short_tracks == 1


@pytest.mark.parametrize(("layout", "images", "split"), [("mot", "img1", "all"), ("coco", "frames", "train")])
def test_every_third_frame(root: Path, tmp_path: Path, layout: str, images: str, split: str) -> None:
    """Images count from 1 without gaps; people are followed through the frames between."""
    summary = propose(root, tmp_path / "out", LabelSettings(format=layout, every=3, min_track_s=0.3))
    assert (summary.frames, summary.images, summary.boxes) == (30, 10, 13)
    assert sorted(os.listdir(tmp_path / "out" / images)) == [f"{number:06d}.jpg" for number in range(1, 11)]
    dataset = open_dataset(tmp_path / "out", split)
    assert rows(dataset) == BOTH[::3]
    for number, index in enumerate(range(0, 30, 3), start=1):
        written = cv2.imread(str(tmp_path / "out" / images / f"{number:06d}.jpg"))
        assert np.abs(written.astype(int) - stub.walk(30)[index]).mean() < 2
    if layout == "coco":
        assert [dataset[number].frame_index for number in range(10)] == list(range(0, 30, 3))


def test_the_zip_for_cvat(root: Path, tmp_path: Path) -> None:
    """No seqinfo.ini, over which some of CVAT's readers stumble."""
    propose(root, tmp_path / "out", LabelSettings(every=10))
    with zipfile.ZipFile(tmp_path / "out/cvat.zip") as archive:
        files = {name: archive.read(name).decode() for name in archive.namelist()}
    x1, y1, x2, y2 = BLUE_BOX
    line = f"1,{x1:.2f},{y1:.2f},{x2 - x1:.2f},{y2 - y1:.2f},1,1,1"
    assert files == {"gt/gt.txt": "".join(f"{number},{line}\n" for number in (1, 2, 3)), "gt/labels.txt": "person\n"}
    assert (tmp_path / "out/gt/gt.txt").read_text() == files["gt/gt.txt"]
    assert "frameRate=2.5\nseqLength=3\nimWidth=128\nimHeight=96" in (tmp_path / "out/seqinfo.ini").read_text()


def test_coco_says_score_camera_and_area(root: Path, tmp_path: Path) -> None:
    propose(root, tmp_path / "out", LabelSettings(format="coco", camera_id=7, max_frames=15))
    content = json.loads((tmp_path / "out/annotations/train.json").read_text())
    assert content["person_count"] == 1
    assert {image["camera_id"] for image in content["images"]} == {7}
    first = content["annotations"][0]
    assert (first["bbox"], first["area"], first["person_id"]) == ([80, 60, 32, 24], 768, 0)
    assert 0.3 <= first["score"] <= 1


def test_nothing_but_images_and_labels_is_written(root: Path, tmp_path: Path) -> None:
    propose(root, tmp_path / "mot", LabelSettings(max_frames=2))
    propose(root, tmp_path / "coco", LabelSettings(format="coco", max_frames=2))
    written = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert written == {
        *(f"mot/{name}" for name in ("cvat.zip", "gt/gt.txt", "gt/labels.txt", "seqinfo.ini")),
        *(f"coco/{name}" for name in ("dataset.json", "annotations/train.json")),
        *(f"{folder}/00000{number}.jpg" for folder in ("mot/img1", "coco/frames") for number in (1, 2)),
    }


def test_a_score_to_start_from(root: Path, tmp_path: Path) -> None:
    """The stub scores brightness: 0.75 for blue, 0.59 for a darker red."""
    folder = tmp_path / "dark"
    folder.mkdir()
    for number in range(20):
        cv2.imwrite(str(folder / f"{number}.png"), stub.scene((0, (0, 0, 200)), (3, stub.BLUE)))
    summaries = [
        propose(root, tmp_path / f"out{score}", LabelSettings(min_score=score), source=str(folder))
        for score in (None, 0.65)
    ]
    assert [(summary.people, summary.min_score) for summary in summaries] == [(2, 0.3), (1, 0.65)]


def test_nobody_in_a_video_is_an_answer(root: Path, tmp_path: Path) -> None:
    stub.write_video(tmp_path / "empty.mp4", [stub.scene()] * 5)
    summary = propose(root, tmp_path / "out", LabelSettings(), source=str(tmp_path / "empty.mp4"))
    assert (summary.images, summary.people, summary.boxes) == (5, 0, 0)
    assert (tmp_path / "out/gt/gt.txt").read_text() == ""


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (LabelSettings(min_score=0.2), r"min_score is 0.2; expected 0.3 to 1"),
        (LabelSettings(min_score=float("nan")), r"min_score is nan"),
        (LabelSettings(every=0), r"every is 0"),
        (LabelSettings(min_track_s=float("nan")), r"min_track_s nan"),
    ],
)
def test_settings_that_cannot_be(root: Path, tmp_path: Path, settings: LabelSettings, message: str) -> None:
    with pytest.raises(InputError, match=message):
        propose(root, tmp_path / "out", settings)
    assert list(tmp_path.iterdir()) == []


def test_frames_of_two_sizes_are_no_mot_sequence(root: Path, tmp_path: Path) -> None:
    folder = tmp_path / "sizes"
    folder.mkdir()
    cv2.imwrite(str(folder / "1.png"), stub.scene((0, stub.RED)))
    cv2.imwrite(str(folder / "2.png"), stub.scene((0, stub.RED), frame_wh=(64, 48)))
    with pytest.raises(InputError, match=r"2.png: is 64x48 where the first is 128x96.*--format coco"):
        propose(root, tmp_path / "out", LabelSettings(), source=str(folder))
    assert not (tmp_path / "out").exists()
    propose(root, tmp_path / "out", LabelSettings(format="coco", min_track_s=0), source=str(folder))
    assert [open_dataset(tmp_path / "out", "train")[number].image_wh for number in (0, 1)] == [(128, 96), (64, 48)]


def test_a_source_that_breaks_leaves_nothing(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "walk", tmp_path / "walk")
    broken = tmp_path / "walk/000020.png"
    broken.write_bytes(broken.read_bytes()[:40])
    with pytest.raises(InputError, match=r"000020.png: is cut short"):
        propose(root, tmp_path / "out", LabelSettings(), source=str(tmp_path / "walk"))
    assert sorted(os.listdir(tmp_path)) == ["walk"]


# --- the command -----------------------------------------------------------------------------------------------------


def test_the_command(root: Path, tmp_path: Path) -> None:
    arguments = ["data", "label", str(root / "walk"), "--detector", str(root / "art"), "--rate", "10"]
    shown = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "a")], catch_exceptions=False)
    assert "40 boxes of 2 tracks in 30 images (30 frames searched, score 0.3 or more)" in shown.stdout
    assert "left out: 0 tracks" in shown.stdout
    assert "MOT 1.1" in shown.stdout
    assert "frameRate=10\n" in (tmp_path / "a/seqinfo.ini").read_text()
    shown = CliRunner().invoke(
        app, [*arguments, "--out", str(tmp_path / "b"), "--format", "coco", "--json"], catch_exceptions=False
    )
    figures = json.loads(shown.stdout)
    assert (figures["images"], figures["people"], figures["format"]) == (30, 2, "coco")


def test_corrected_labels_are_never_overwritten(root: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").write_text("corrected")
    arguments = ["data", "label", str(root / "walk"), "--detector", str(root / "art"), "--out", str(tmp_path / "out")]
    with pytest.raises(InputError, match="exists and is not empty"):
        CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert (tmp_path / "out/mine.txt").read_text() == "corrected"


def test_the_correction_goes_back_into_the_sequence(root: Path, tmp_path: Path) -> None:
    """The way of docs/datasets.md: CVAT's export has the labels alone, and is unpacked over the proposal."""
    propose(root, tmp_path / "street", LabelSettings(every=5))
    with zipfile.ZipFile(tmp_path / "task.zip", "w") as export:
        export.writestr("gt/gt.txt", "1,3,80,60,32,24,1,1,1.0\n6,3,81,60,32,24,1,1,0.0\n")
        export.writestr("gt/labels.txt", "person")
    shutil.unpack_archive(tmp_path / "task.zip", tmp_path / "street")
    arguments = ["data", "convert", str(tmp_path / "street"), str(tmp_path / "data"), "--to", "folder"]
    CliRunner().invoke(app, arguments, catch_exceptions=False)
    found = rows(open_dataset(tmp_path / "data", "all"))
    assert found == [{0: [80, 60, 112, 84]}, {}, {}, {}, {}, {0: [81, 60, 113, 84]}]


def test_real_footage(tmp_path: Path) -> None:
    """People of PETS keep their number while they cross the picture."""
    footage = Path(os.environ.get("PERSON_SEARCH_DATA", "")) / "pets09-s2l1/img1"
    if not os.environ.get("PERSON_SEARCH_DATA") or not footage.is_dir():
        pytest.skip("PERSON_SEARCH_DATA names no folder with pets09-s2l1")
    engine = open_engine(SHIPPED, threads=1)
    source = open_source(f"{footage}/%06d.jpg", rate_hz=7)
    summary = propose_labels(engine, source, tmp_path / "out", LabelSettings(max_frames=40))
    assert summary.images == 40
    people = rows(open_dataset(tmp_path / "out", "all"))
    lasting = [person for person in range(summary.people) if sum(person in frame for frame in people) >= 30]
    assert 3 <= len(lasting) <= summary.people <= 12
