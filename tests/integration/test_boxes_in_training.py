"""A detector's boxes in training: mixed in beside people with identities, or alone for a plain detector."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_networks as tiny
from tiny_runs import PERSON_COUNT, student_recipe, teacher_recipe, write_folder
from typer.testing import CliRunner

from personsearch.cli.app import app
from personsearch.core.errors import InputError
from personsearch.data import person_names_of
from personsearch.distill import run_distillation
from personsearch.models.checkpoint import read_checkpoint
from personsearch.train import run_training
from personsearch.train.run import open_training_set, training_batches, training_data

DETECTOR: dict[str, Any] = {
    "kind": "faster_rcnn", "trunk": {"kind": "resnet_c4", "depth": 10, "width": 8},
    "anchors": {"kind": "person", "heights": [32, 56]}, "rpn_channels": 8, "pool_size": 4, "rois_per_image": 16,
    "train_proposals": 16, "train_pre_nms": 64, "graph_pre_nms": 8, "graph_proposals": 4,
}  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("data") / "tiny")


@pytest.fixture(scope="module")
def boxes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight frames with one certain person and one of weight a half each, put there by the command."""
    folder = tmp_path_factory.mktemp("boxes")
    frames = write_folder(folder / "frames", images=8, name="elsewhere")
    rows = np.array([[0, 1, 1, 0.1, 0.1, 0.3, 0.8], [0, 1, 0.5, 0.6, 0.2, 0.8, 0.9]], np.float32)
    network = tiny.fixed_outputs(folder / "net.onnx", {"out": rows[None, None]})
    arguments = [str(network), str(frames), "--preset", "retail-0013", "--out", str(folder / "out")]
    result = CliRunner().invoke(app, ["boxes", *arguments])
    assert result.exit_code == 0, result.exception
    return folder / "out"


def with_boxes(root: Path, boxes: Path, share: float = 0.5) -> dict[str, Any]:
    return {"data": {"root": str(root), "workers": 0, "boxes": str(boxes), "boxes_share": share}}


def test_a_mix_has_the_identities_of_its_first_part(root: Path, boxes: Path) -> None:
    recipe = teacher_recipe(root, **with_boxes(root, boxes))
    dataset = open_training_set(recipe)
    assert (len(dataset), dataset.person_count) == (10, PERSON_COUNT)
    assert person_names_of(dataset) == tuple(str(person) for person in range(PERSON_COUNT))
    assert [(entry.name, entry.identities) for entry in training_data(dataset)] == [("tiny", PERSON_COUNT), ("out", 0)]
    assert training_data(dataset)[1].terms == "made by a test"


def test_frames_of_boxes_come_in_their_share(root: Path, boxes: Path) -> None:
    recipe = teacher_recipe(root, **with_boxes(root, boxes, share=1.0))
    loader = training_batches(recipe, open_training_set(recipe), 0, 1)
    counts = {-1: 0, -2: 0}
    for epoch in range(10):
        loader.set_epoch(epoch)
        for batch in loader:
            for ids in batch.person_ids:
                assert set(ids.tolist()) <= {-1, -2}
                for name in counts:
                    counts[name] += int((ids == name).sum())
    # Of 200 boxes half are certain, half of the others are drawn; the zoom hides a few.
    assert counts[-1] / sum(counts.values()) == pytest.approx(0.75, abs=0.12)


def test_a_student_may_see_boxes_that_its_teacher_did_not(root: Path, boxes: Path, tmp_path: Path) -> None:
    teacher = run_training(teacher_recipe(root, epochs=1), tmp_path / "teacher")
    recipe = student_recipe(root, teacher, epochs=1, **with_boxes(root, boxes))
    found = read_checkpoint(run_distillation(recipe, tmp_path / "student"))
    assert [(entry.name, entry.identities) for entry in found.data] == [("tiny", PERSON_COUNT), ("out", 0)]


def test_a_plain_detector_learns_from_boxes_alone(boxes: Path, tmp_path: Path) -> None:
    checkpoint = run_training(teacher_recipe(boxes, model=DETECTOR, epochs=2), tmp_path / "run")
    found = read_checkpoint(checkpoint)
    assert (found.person_count, [entry.identities for entry in found.data]) == (0, [0])
    header, *rows = (checkpoint.parent / "metrics.csv").read_text().splitlines()
    assert "rpn_class" in header
    assert all(math.isfinite(float(value)) for row in rows for value in row.split(",") if value)


def test_boxes_that_are_not_there(root: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        open_training_set(teacher_recipe(root, **with_boxes(root, tmp_path / "nowhere")))
