"""What is held out, on which splits a threshold may be chosen, and which one is."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from personsearch.benchmarks.hold_out import HeldOutImages, HoldOut, hold_out
from personsearch.benchmarks.score_calibration import TrainingFacts, calibrate_score, check_split, training_facts
from personsearch.cli.calibrate import calibrate as command
from personsearch.core.detections import Detections, FloatArray
from personsearch.core.errors import InputError
from personsearch.core.manifest import read_manifest
from personsearch.data import Query, Sample
from personsearch.export.artifact import update_figures
from personsearch.runtime import StageTimes, open_engine

ARTIFACT = Path(__file__).parents[2] / "artifacts" / "street-student-fp32"
A, B, C = (0, 0, 40, 100), (60, 0, 100, 100), (120, 0, 160, 100)


class Frames:
    """For each image its camera and the ids of those who stand at A, B and C; the frame's grey level is its number."""

    name, terms, person_count, protocol = "frames", "test", 50, "own"

    def __init__(self, rows: Sequence[tuple[int, Sequence[int]]], queries: tuple[Query, ...] = ()) -> None:
        self._rows, self.queries = rows, queries

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Sample:
        camera, ids = self._rows[index]
        boxes = np.array([A, B, C][: len(ids)], np.float32).reshape(-1, 4)
        return Sample(None, boxes, np.array(ids, np.int64), camera, index, (200, 100))

    def frame_bgr(self, index: int) -> np.ndarray:
        return np.full((100, 200, 3), index, np.uint8)


def pairs(people: int) -> Frames:
    """Each person in two images, seen by two cameras."""
    return Frames([(index % 2, [index // 2]) for index in range(2 * people)])


def test_whole_people_are_held_out_where_that_is_possible() -> None:
    data = pairs(20)
    result = hold_out(data, 0.25, seed=0)
    assert (result.unit, result.groups, len(result.images)) == ("identities", 5, 10)
    inside = {int(data[index].person_ids[0]) for index in result.images}
    outside = {int(data[index].person_ids[0]) for index in range(len(data)) if index not in result.images}
    assert not inside & outside
    assert result == hold_out(data, 0.25, seed=0)
    assert result != hold_out(data, 0.25, seed=1)


def test_else_whole_cameras() -> None:
    # Person 0 is everywhere, so that all images hang together.
    data = Frames([(index % 5, [0, index]) for index in range(50)])
    result = hold_out(data, 0.2, seed=0)
    assert (result.unit, result.groups, len(result.images)) == ("cameras", 1, 10)
    assert len({data[index].camera_id for index in result.images}) == 1


def test_else_single_images() -> None:
    result = hold_out(Frames([(0, [0]) for _ in range(40)]), 0.2, seed=0)
    assert (result.unit, len(result.images)) == ("images", 8)


def test_all_of_a_split() -> None:
    result = hold_out(pairs(3), 1, seed=0)
    assert (result.unit, result.images) == ("split", tuple(range(6)))
    for share in (0, -1, 1.5, float("nan")):
        with pytest.raises(InputError, match="--hold-out: share is"):
            hold_out(pairs(3), share, seed=0)
    with pytest.raises(InputError, match=r"0\.1 of 6 images is less than one"):
        hold_out(pairs(3), 0.1, seed=0)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 5000), st.floats(0.1, 0.9))
def test_groups_are_never_divided(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    data = Frames([(int(rng.integers(0, 6)), rng.integers(-1, 25, 2).tolist()) for _ in range(30)])
    result = hold_out(data, share, seed)
    inside = [data[index] for index in result.images]
    outside = [data[index] for index in range(30) if index not in result.images]
    assert inside
    assert outside
    if result.unit == "cameras":
        assert not {one.camera_id for one in inside} & {one.camera_id for one in outside}
    if result.unit == "identities":
        known = [{int(i) for one in part for i in one.person_ids if i >= 0} for part in (inside, outside)]
        assert not known[0] & known[1]
    assert 0.5 * share * 30 <= len(inside) <= max(1.5 * share * 30, share * 30 + 1)


def test_images_held_out_are_a_data_set_with_searches() -> None:
    data = Frames([(0, [0, -1]), (0, [0]), (1, [0, 1]), (1, [2]), (0, [3])])
    images = HeldOutImages(data, HoldOut((0, 1, 2, 4), "images", 4))
    assert [images[index].frame_index for index in range(len(images))] == [0, 1, 2, 4]
    assert images.frame_bgr(3)[0, 0, 0] == 4
    # Person 0 once for each camera; 1 and 3 stand in one image only, 2 is not held out.
    assert [(query.image_index, query.person_id) for query in images.queries] == [(0, 0), (2, 0)]
    asked = (Query(1, np.array(A, np.float32), 0),)
    whole = HeldOutImages(Frames([(0, [0]), (0, [0])], asked), HoldOut((0, 1), "split", 1))
    assert (whole.queries, whole.protocol) == (asked, "own")


FACTS = TrainingFacts(("frames",), "train")


def test_a_threshold_is_never_chosen_on_test() -> None:
    data = pairs(1)
    for split in ("test", "Test", "val-test", "testing"):
        for declared in (False, True):
            with pytest.raises(InputError, match=f"frames: split `{split}` is for testing"):
                check_split(TrainingFacts(("frames",), split), data, split, declared=declared)
    assert check_split(FACTS, data, "train", declared=False) is True
    assert check_split(FACTS, data, "val", declared=False) is False
    assert check_split(FACTS, data, "validation", declared=False) is False
    assert check_split(FACTS, data, "all", declared=True) is False
    for facts, split in ((FACTS, "all"), (TrainingFacts(("other",), "train"), "train")):
        with pytest.raises(InputError, match=f"split `{split}` is neither for validation nor"):
            check_split(facts, data, split, declared=False)


class Scored:
    """Finds persons in every frame: the true ones at scores that fall with the frame's number, and ghosts."""

    sha256, last_times = "", StageTimes()

    def __init__(self, score_threshold: float, ghosts: float) -> None:
        self.score_threshold, self._ghosts = score_threshold, ghosts

    def infer(self, frames: Sequence[np.ndarray]) -> list[Detections]:
        found = []
        for frame in frames:
            number = int(frame[0, 0, 0])
            boxes = np.array([A, C], np.float32)
            scores = np.array([0.96 - 0.05 * number, self._ghosts], np.float32)
            # The ghost looks like whoever is searched, a little more than the person.
            order = np.argsort(-scores)
            embeddings = np.array([[0.8, 0.6], [0.9, np.sqrt(0.19)]], np.float32)
            found.append(Detections(boxes[order], scores[order], embeddings[order]))
        return found

    def embed(self, frame: np.ndarray, boxes_xyxy: FloatArray) -> FloatArray:
        return np.tile(np.array([[1, 0]], np.float32), (len(boxes_xyxy), 1))


def calibrate(system: Scored, criterion: str, data: Frames) -> tuple[float, list[float | None]]:
    result = calibrate_score(
        system,
        data,
        hold_out(data, 1, seed=0),
        name="scored",
        split="val",
        seen_in_training=False,
        criterion="search" if criterion == "search" else "detection",
        thresholds=(0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
    )
    values = [one.mean_ap if criterion == "search" else one.f1 for one in result.figures]
    return result.threshold, values


def test_the_best_figure_wins_and_the_higher_threshold_among_equals() -> None:
    data = Frames([(index % 2, [0]) for index in range(6)])  # scores .96, .91, ... .71
    threshold, f1 = calibrate(Scored(0.3, ghosts=0.55), "detection", data)
    # Up to .5 a ghost in each image: precision 1/2. From .6 on none; from .8 on people are missed: 4 of 6, then 2.
    assert f1 == pytest.approx([2 / 3, 2 / 3, 2 / 3, 1, 1, 0.8, 0.5], abs=0.01)
    assert threshold == 0.7
    threshold, mean_ap = calibrate(Scored(0.3, ghosts=0.55), "search", data)
    assert threshold == 0.7
    assert mean_ap[2:5] == [0.5, 1.0, 1.0]  # five ghosts before five answers, then none
    # Ghosts that nothing cuts off: to search, the lower thresholds are all the same.
    assert calibrate(Scored(0.3, ghosts=0.98), "search", data)[0] == 0.7


def test_what_cannot_be_calibrated() -> None:
    apart = Frames([(0, [0]), (0, [1])])
    with pytest.raises(InputError, match="2 images held out: nobody stands in two of the images"):
        calibrate(Scored(0.3, 0.5), "search", apart)
    threshold, values = calibrate(Scored(0.3, 0.35), "detection", apart)
    assert (threshold, values[-1]) == (0.9, 1.0)
    with pytest.raises(ValueError, match=r"reports nothing below 0\.5, asked for 0\.3"):
        calibrate(Scored(0.5, 0.5), "search", pairs(2))
    with pytest.raises(InputError, match="no person in the ground truth"):
        calibrate(Scored(0.3, 0.5), "detection", Frames([(0, [])]))


def write_folder(root: Path, split: str) -> Path:
    (root / "annotations").mkdir(parents=True)
    for index in range(2):
        cv2.imwrite(str(root / f"{index}.png"), np.full((90, 160, 3), 120, np.uint8))
    content = {
        "person_count": 1,
        "images": [
            {"id": i, "file_name": f"{i}.png", "width": 160, "height": 90, "camera_id": i, "frame_index": i}
            for i in range(2)
        ],
        "annotations": [
            {"id": i, "image_id": i, "bbox": [10, 10, 20, 60], "category_id": 1, "person_id": 0, "iscrowd": 0}
            for i in range(2)
        ],
        "categories": [{"id": 1, "name": "person"}],
        "queries": [],
    }
    (root / "annotations" / "labels.json").write_text(json.dumps(content))
    about = {"format": "personsearch/1", "name": "blank", "terms": "test", "generator": None,
             "splits": {split: "annotations/labels.json"}}  # fmt: skip
    (root / "dataset.json").write_text(json.dumps(about))
    return root


def run(*words: object) -> str:
    app = typer.Typer()
    app.command()(command)
    outcome = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert outcome.exit_code == 0, outcome.output
    return outcome.stdout


def test_the_command_leaves_an_artifact_alone_unless_told_to_write(tmp_path: Path) -> None:
    artifact = shutil.copytree(ARTIFACT, tmp_path / "artifact")
    data, curve = write_folder(tmp_path / "set", "validation"), tmp_path / "curve.svg"
    before = (artifact / "manifest.json").read_bytes()
    shown = run(artifact, data, "--split", "validation", "--threads", 1, "--out", curve)
    assert "<- chosen" in shown
    assert "2 of 2 images, the whole split, 2 queries" in shown
    assert "has seen them" not in shown
    assert "chosen: " in curve.read_text()
    assert (artifact / "manifest.json").read_bytes() == before
    printed = run(artifact, data, "--split", "validation", "--threads", 1, "--write", "--json")
    manifest = read_manifest(artifact)
    assert manifest.score_threshold == json.loads(printed)["threshold"] == 0.95  # blank frames: any will do
    assert manifest.figures["score_calibration"]["split"] == "validation"
    assert f"from score {manifest.score_threshold:g} on" in (artifact / "MODEL_CARD.md").read_text()
    assert open_engine(artifact).spec.score_threshold == 0.95
    assert open_engine(artifact, score_threshold=0.2).spec.score_threshold == 0.2


@pytest.mark.parametrize(
    ("split", "words", "message"),
    [
        ("test", ["--split", "test"], "blank: split `test` is for testing"),
        ("test", ["--split", "test", "--validation"], "blank: split `test` is for testing"),
        ("train", [], "split `train` is neither for validation nor what the model was trained on"),
        ("val", ["--split", "val", "--hold-out", "2"], "share is 2"),
        ("val", ["--split", "val", "--criterion", "speed"], "--criterion is `speed`"),
        ("val", ["--split", "val", "--out", "curve.png"], r"suffix is \.png"),
    ],
)
def test_bad_input_is_told_in_one_line(tmp_path: Path, split: str, words: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        run(ARTIFACT, write_folder(tmp_path / "set", split), *words)


def test_only_models_are_calibrated_and_only_artifacts_written(tmp_path: Path) -> None:
    data, file = write_folder(tmp_path / "set", "val"), tmp_path / "found.npz"
    file.write_bytes(b"")
    with pytest.raises(InputError, match=r"found\.npz: holds detections"):
        training_facts(file)
    with pytest.raises(InputError, match=r"found\.npz: is not an artifact"):
        run(file, data, "--split", "val", "--write")
    with pytest.raises(InputError, match="score_threshold"):
        update_figures(shutil.copytree(ARTIFACT, tmp_path / "artifact"), {}, score_threshold=1.5)
    assert read_manifest(tmp_path / "artifact") == read_manifest(ARTIFACT)
