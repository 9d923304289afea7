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
from frames_material import A, C, Frames, pairs
from typer.testing import CliRunner

from personsearch.benchmarks.score_calibration import (
    Chosen,
    TrainingFacts,
    calibrate_score,
    check_split,
    choose_images,
    training_facts,
)
from personsearch.cli.calibrate import calibrate as command
from personsearch.core.detections import Detections, FloatArray
from personsearch.core.errors import InputError
from personsearch.core.manifest import TrainingData, read_manifest
from personsearch.data.hold_out import RemainingImages, held_out_part, hold_out
from personsearch.export.artifact import update_figures
from personsearch.runtime import StageTimes, open_engine

ARTIFACT = Path(__file__).parents[2] / "artifacts" / "street-student-fp32"


def trained_on(name: str, split: str = "train") -> TrainingFacts:
    return TrainingFacts((TrainingData(name=name, terms="test", identities=1),), split)


FACTS = trained_on("frames")


def test_a_threshold_is_never_chosen_on_test() -> None:
    data = pairs(1)
    for split in ("test", "Test", "val-test", "testing"):
        for declared in (False, True):
            with pytest.raises(InputError, match=f"frames: split `{split}` is for testing"):
                check_split(trained_on("frames", split), data, split, declared=declared)
    assert check_split(FACTS, data, "train", declared=False) is True
    assert check_split(FACTS, data, "val", declared=False) is False
    assert check_split(FACTS, data, "validation", declared=False) is False
    assert check_split(FACTS, data, "all", declared=True) is False
    for facts, split in ((FACTS, "all"), (trained_on("other"), "train")):
        with pytest.raises(InputError, match=f"split `{split}` is neither for validation nor"):
            check_split(facts, data, split, declared=False)


def held_out_facts(data: Frames, share: float, seed: int) -> TrainingFacts:
    """Of a model that was trained on ``data`` without a share of it."""
    part = hold_out(data, share, seed)
    identities = RemainingImages(data, part).person_count
    entry = TrainingData(name="frames", terms="test", identities=identities, held_out=held_out_part(data, part))
    return TrainingFacts((entry, TrainingData(name="boxes", terms="test", identities=0)), "train")


def test_what_training_held_out_is_taken_and_was_not_seen() -> None:
    data = pairs(20)
    facts = held_out_facts(data, 0.2, seed=4)
    chosen = choose_images(facts, data, "train")
    assert chosen.held_out == hold_out(data, 0.2, 4)
    assert not chosen.seen
    inside = {int(data[index].person_ids[0]) for index in chosen.held_out.images}
    assert chosen.trained_people == set(range(20)) - inside
    assert choose_images(facts, data, "train", share=0.2, seed=4) == chosen
    for asked in ({"share": 0.3}, {"seed": 0}, {"share": 1.0}):
        with pytest.raises(InputError, match=r"is not what training held out; expected --hold-out 0\.2 --seed 4"):
            choose_images(facts, data, "train", **asked)


def test_where_training_held_nothing_out_a_part_was_seen() -> None:
    data = pairs(20)
    chosen = choose_images(FACTS, data, "train")
    assert (chosen.seen, len(chosen.held_out.images)) == (True, 8)
    assert chosen.held_out == choose_images(FACTS, data, "train", share=0.2, seed=0).held_out
    other = choose_images(FACTS, data, "val")
    assert (other.seen, other.held_out.unit, other.trained_people) == (False, "split", None)
    # A second data set of the mix: what its name says was seen whole.
    facts = held_out_facts(data, 0.2, seed=4)
    lent = TrainingFacts((TrainingData(name="main", terms="test", identities=9, held_out=facts.data[0].held_out),
                          TrainingData(name="frames", terms="test", identities=0)), "train")  # fmt: skip
    assert choose_images(lent, data, "train").seen


def test_another_data_set_of_the_same_name_is_not_taken_for_the_one_trained_on() -> None:
    facts = held_out_facts(pairs(20), 0.2, seed=4)
    rows = [(index % 2, [index // 2]) for index in range(40)]
    kept = next(index for index in range(40) if index not in hold_out(pairs(20), 0.2, 4).images)
    rows[kept] = (rows[kept][0], [40])  # somebody new, among the images that were trained on
    for data in (pairs(21), Frames(rows)):
        with pytest.raises(InputError, match=r"^frames: .* would be held out .* other images or labels than"):
            choose_images(facts, data, "train")


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
        Chosen(hold_out(data, 1, seed=0), seen=False),
        name="scored",
        split="val",
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


def write_folder(root: Path, split: str, people: int = 1) -> Path:
    """Two blank frames of two cameras, each showing everybody."""
    (root / "annotations").mkdir(parents=True)
    for index in range(2):
        cv2.imwrite(str(root / f"{index}.png"), np.full((90, 160, 3), 120, np.uint8))
    content = {
        "person_count": people,
        "images": [
            {"id": i, "file_name": f"{i}.png", "width": 160, "height": 90, "camera_id": i, "frame_index": i}
            for i in range(2)
        ],
        "annotations": [
            {
                "id": people * i + person, "image_id": i, "bbox": [10 + 40 * person, 10, 20, 60], "category_id": 1,
                "person_id": person, "iscrowd": 0,
            }
            for i in range(2)
            for person in range(people)
        ],
        "categories": [{"id": 1, "name": "person"}],
        "queries": [],
    }  # fmt: skip
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


def test_the_cosine_of_a_match_is_chosen_and_written(tmp_path: Path) -> None:
    artifact = shutil.copytree(ARTIFACT, tmp_path / "artifact")
    words = [artifact, write_folder(tmp_path / "set", "val", people=3), "--split", "val", "--criterion", "match"]
    before = read_manifest(artifact).match_threshold
    shown = run(*words, "--threads", 1)
    assert "blank, 2 images: 3 pairs of one person in two cameras, 12 of two people" in shown
    assert read_manifest(artifact).match_threshold == before
    printed = json.loads(run(*words, "--threads", 1, "--false-match-rate", 0.4, "--write", "--json"))
    assert 0 <= printed["false_match_rate"] <= 0.4
    manifest = read_manifest(artifact)
    assert manifest.match_threshold == printed["threshold"] != before
    assert manifest.figures["match_calibration"]["on"] == "blank, 2 images"


def test_an_image_that_cannot_be_read_is_left_out_and_counted(tmp_path: Path) -> None:
    data = write_folder(tmp_path / "set", "validation")
    (data / "1.png").write_bytes(b"no image")
    words = [ARTIFACT, data, "--split", "validation", "--criterion", "detection", "--threads", 1]
    with pytest.raises(InputError, match=r"1\.png"):
        run(*words)
    record = json.loads(run(*words, "--skip-bad", "--json"))
    assert (record["images"], record["skipped_images"], record["split_images"]) == (1, 1, 2)
    assert "without 1 images that cannot be read" in run(*words, "--skip-bad")


@pytest.mark.parametrize(
    ("split", "words", "message"),
    [
        ("test", ["--split", "test"], "blank: split `test` is for testing"),
        ("test", ["--split", "test", "--validation"], "blank: split `test` is for testing"),
        ("train", [], "split `train` is neither for validation nor what the model was trained on"),
        ("val", ["--split", "val", "--hold-out", "2"], "share is 2"),
        ("val", ["--split", "val", "--criterion", "speed"], "--criterion is `speed`"),
        ("val", ["--split", "val", "--out", "curve.png"], r"suffix is \.png"),
        ("val", ["--split", "val", "--criterion", "match", "--out", "curve.svg"], "match draws no curve"),
        ("val", ["--split", "val", "--criterion", "match", "--false-match-rate", "1"], "--false-match-rate is 1"),
        ("val", ["--split", "val", "--criterion", "match"], "no pair of two people"),
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
