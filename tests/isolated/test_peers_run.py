"""`bench peers` as a user types it: processes, frames with people, accuracy, targets and the record."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from tiny_networks import fixed_outputs, mean_colour
from typer.testing import CliRunner

from personsearch.benchmarks.pareto import pareto_points
from personsearch.benchmarks.results import read_results
from personsearch.cli.bench import app
from personsearch.core.errors import InputError

STUDENT = Path(__file__).parents[2] / "artifacts/street-student-fp32"
BOX = [48, 0, 48, 64]  # x, y, width, height of everybody in frames of 96 x 64


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """Two frames of the same grey person on black, a query in the first."""
    root = tmp_path / "set"
    (root / "frames").mkdir(parents=True)
    (root / "annotations").mkdir()
    images, rows = [], []
    for number in range(2):
        pixels = np.zeros((64, 96, 3), np.uint8)
        pixels[:, 48:] = 90
        cv2.imwrite(str(root / "frames" / f"{number}.png"), pixels)
        size = {"width": 96, "height": 64, "camera_id": 0, "frame_index": number}
        images.append({"id": number, "file_name": f"frames/{number}.png", **size})
        rows.append({"id": number, "image_id": number, "bbox": BOX, "category_id": 1, "person_id": 0, "iscrowd": 0})
    annotations = {
        "person_count": 1, "images": images, "annotations": rows, "categories": [{"id": 1, "name": "person"}],
        "queries": [{"image_id": 0, "bbox": BOX, "person_id": 0}],
    }  # fmt: skip
    (root / "annotations" / "test.json").write_text(json.dumps(annotations))
    about = {
        "format": "personsearch/1", "name": "two frames", "terms": "test", "generator": None,
        "splits": {"test": "annotations/test.json"},
    }  # fmt: skip
    (root / "dataset.json").write_text(json.dumps(about))
    return root


@pytest.fixture
def pair(tmp_path: Path) -> str:
    rows = np.array([[0, 1, 0.9, 0.5, 0, 1, 1], [-1, 0, 0, 0, 0, 0, 0]], np.float32)
    detector = fixed_outputs(tmp_path / "detector.onnx", {"detection_out": rows[None, None]})
    reid = mean_colour(tmp_path / "reid.onnx", wh=(128, 256))
    return f"two=retail-0013:{detector},retail-0288:{reid}"


def test_a_pair_beside_the_shipped_student(pair: str, labelled: Path, tmp_path: Path) -> None:
    arguments = [
        "peers", str(STUDENT), f"{STUDENT}@openvino", "--time-only", f"{STUDENT.name}@openvino", "--pair", pair,
        "--no-plain-detector", "--data", str(labelled), "--people", "2",
        "--size", "320x240", "--frames", "1", "--rounds", "1", "--restarts", "1", "--threads", "1", "--name", "tiny",
        "--save", str(tmp_path / "results"), "--json",
    ]  # fmt: skip
    shown = CliRunner().invoke(app, arguments, catch_exceptions=False)
    student, timed, two = json.loads(shown.stdout)["peers"]
    assert (student["role"], timed["role"], two["role"]) == ("student", "student", "pair")
    assert student["accuracy"] is not None
    assert timed["accuracy"] is None
    assert timed["runner"].endswith(", timed alone")
    assert two["times"]["2"]["people_per_frame"] == 2  # one found, one filled up
    assert two["accuracy"]["detection"]["average_precision"] == 1.0
    assert two["accuracy"]["search"]["mean_ap"] == 1.0
    assert all(peer["times"]["2"]["scopes"]["frame"]["p50"]["value"] > 0 for peer in (student, timed, two))
    (record,) = read_results(tmp_path / "results")
    assert (record.kind, record.subject) == ("peers", "tiny")
    (points,) = pareto_points([record]).values()
    assert {point.name for point in points} == {"street-student-fp32", "two"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["--people", "none"], "such as 1,5,15"),
        (["--size", "wide"], "WIDTHxHEIGHT"),
        (["--pair", "two=a,b"], "NAME=PRESET"),
        (["--own", "nowhere.pt"], "nowhere.pt"),
        (["--time-only", "nobody"], "one of street-student-fp32"),
    ],
)
def test_bad_input_is_one_line(changes: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        CliRunner().invoke(app, ["peers", str(STUDENT), "--no-plain-detector", *changes], catch_exceptions=False)
