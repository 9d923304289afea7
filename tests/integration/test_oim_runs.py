"""OIM and the plain detector through the stages: training, resume, evaluation, export."""

from __future__ import annotations

import csv
import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_runs import PERSON_COUNT, teacher_recipe, write_folder
from typer.testing import CliRunner

from personsearch.benchmarks.accuracy import measure_accuracy
from personsearch.benchmarks.systems import open_system
from personsearch.cli.app import app
from personsearch.core.errors import InputError
from personsearch.core.manifest import load_artifact
from personsearch.core.recipes import TrainRecipe
from personsearch.data import open_dataset
from personsearch.export.tensorrt_rtx import builds_with_tensorrt_rtx
from personsearch.models import SearchModel
from personsearch.models.checkpoint import load_model, read_checkpoint
from personsearch.train import run_training
from personsearch.train.checkpoint import RunIdentity
from personsearch.train.loop import fit, open_fabric
from personsearch.train.run import open_training_set, start_model, training_batches, training_data
from personsearch.train.task import SearchTask, TaskBatch

MODEL: dict[str, Any] = {
    "trunk": {"kind": "resnet_c4", "depth": 10, "width": 8},
    "anchors": {"kind": "person", "heights": [32, 56]}, "rpn_channels": 8, "pool_size": 4, "rois_per_image": 16,
    "train_proposals": 16, "train_pre_nms": 64, "graph_pre_nms": 8, "graph_proposals": 4,
}  # fmt: skip
OIM = {**MODEL, "kind": "oim", "embedding_dim": 16, "queue_size": 5}
DETECTOR = {**MODEL, "kind": "faster_rcnn"}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_folder(tmp_path_factory.mktemp("data") / "tiny")
    labels = json.loads((folder / "annotations" / "train.json").read_text())
    labels["queries"] = [
        {"image_id": row["image_id"], "bbox": row["bbox"], "person_id": row["person_id"]}
        for row in labels["annotations"]
        if row["person_id"] == 2
    ]
    (folder / "annotations" / "train.json").write_text(json.dumps(labels))
    return folder


def recipe(root: Path, model: dict[str, Any], **changes: Any) -> TrainRecipe:
    return teacher_recipe(root, model=model, **changes)


@pytest.fixture(scope="module")
def oim_run(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_training(recipe(root, OIM, epochs=10), tmp_path_factory.mktemp("oim"))


@pytest.fixture(scope="module")
def detector_run(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_training(recipe(root, DETECTOR, epochs=10), tmp_path_factory.mktemp("detector"))


def losses_by_epoch(checkpoint: Path) -> list[dict[str, float]]:
    """Means of the first and of the last epoch."""
    with (checkpoint.parent / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    parts = [[row for row in rows if row["epoch"] == epoch] for epoch in ("1", rows[-1]["epoch"])]
    names = [name for name in rows[0] if name not in ("step", "epoch", "lr", "images_per_s")]
    return [{name: sum(float(row[name]) for row in part) / len(part) for name in names} for part in parts]


def test_losses_fall_and_the_checkpoint_holds_filled_memories(oim_run: Path) -> None:
    first, last = losses_by_epoch(oim_run)
    assert last["loss"] < 0.7 * first["loss"]
    assert last["identity"] < first["identity"]
    checkpoint = read_checkpoint(oim_run)
    assert checkpoint.person_names == tuple(str(person) for person in range(PERSON_COUNT))
    rows = checkpoint.model_state["memory.table.rows"]
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(PERSON_COUNT))
    torch.testing.assert_close(checkpoint.model_state["memory.queue.rows"].norm(dim=1), torch.ones(5))
    model, _ = load_model(oim_run)
    for name, value in model.state_dict().items():
        assert torch.equal(value, checkpoint.model_state[name]), name


def test_a_checkpoint_without_names_is_an_older_one_and_some_names_are_refused(oim_run: Path, tmp_path: Path) -> None:
    content = torch.load(oim_run, weights_only=True)
    names = content.pop("person_names")
    torch.save(content, tmp_path / "older.pt")
    assert read_checkpoint(tmp_path / "older.pt").person_names == ()
    torch.save({**content, "person_names": names[:-1]}, tmp_path / "damaged.pt")
    with pytest.raises(InputError, match=r"damaged\.pt: names 3 of 4 identities; expected all of them, or none"):
        read_checkpoint(tmp_path / "damaged.pt")


def test_a_detector_learns_without_identities(detector_run: Path) -> None:
    first, last = losses_by_epoch(detector_run)
    assert "identity" not in first
    assert last["loss"] < 0.7 * first["loss"]


def test_half_precision_keeps_the_memories_in_full(root: Path, tmp_path: Path) -> None:
    settings = recipe(root, OIM, epochs=2, precision="bf16-mixed")
    state = read_checkpoint(run_training(settings, tmp_path)).model_state
    rows = torch.cat([state["memory.table.rows"], state["memory.queue.rows"]])
    assert rows.dtype == torch.float32
    lengths = rows.norm(dim=1)
    torch.testing.assert_close(lengths, (lengths > 0).float(), atol=1e-6, rtol=0)


class Interrupted(SearchTask):
    """Ends the run at a batch, as Ctrl-C does."""

    def __init__(self, model: SearchModel, after: int) -> None:
        super().__init__(model, {})
        self._left = after

    def forward(self, batch: TaskBatch) -> dict[str, torch.Tensor]:
        if self._left == 0:
            raise KeyboardInterrupt
        self._left -= 1
        return super().forward(batch)


def test_interrupted_and_resumed_ends_with_the_same_weights_and_memories(root: Path, tmp_path: Path) -> None:
    settings = recipe(root, OIM, epochs=3, batch_images=1, accumulate=2)
    whole = run_training(settings, tmp_path / "whole")
    dataset, run_dir = open_training_set(settings), tmp_path / "resumed"
    model, _ = start_model(settings, dataset, run_dir, None)
    identity = RunIdentity(settings, PERSON_COUNT, training_data(dataset))
    with pytest.raises(KeyboardInterrupt):
        fit(
            Interrupted(model, after=2 * 5 + 3),
            training_batches(settings, dataset, 0, 1),
            identity,
            run_dir,
            open_fabric("32-true"),
        )
    assert read_checkpoint(run_dir / "checkpoint.pt").content["progress"]["epoch"] == 1
    resumed = run_training(settings, run_dir, resume=True)
    expected, found = read_checkpoint(whole).model_state, read_checkpoint(resumed).model_state
    assert expected["memory.queue.rows"].any()
    for name, value in expected.items():
        assert torch.equal(value, found[name]), name


def test_a_detector_is_evaluated_as_a_detector(root: Path, detector_run: Path) -> None:
    system = open_system(detector_run, score_threshold=0.0)
    result = measure_accuracy(system, open_dataset(root, "train"), name="detector")
    assert result.detection is not None
    assert result.detection.recall > 0
    assert (result.queries, result.search) == (0, None)


def test_oim_becomes_an_artifact_and_so_does_a_detector(oim_run: Path, detector_run: Path, tmp_path: Path) -> None:
    arguments = ["--out", str(tmp_path / "artifact"), "gate.frames=2", "query_boxes=2"]
    done = CliRunner().invoke(app, ["export", str(detector_run), *arguments])
    assert done.exit_code == 0, done.output
    detector = load_artifact(tmp_path / "artifact")
    assert detector.embedding_dim == 0
    assert set(detector.graphs) == {"search"}
    done = CliRunner().invoke(
        app, ["export", str(oim_run), *arguments, "pooling=matrix"]
    )  # as TensorRT's target has it
    assert done.exit_code == 0, done.output
    manifest = load_artifact(tmp_path / "artifact")
    assert manifest.parity["passed"] is True
    assert (manifest.max_detections, manifest.embedding_dim) == (4, 16)
    if find_spec("tensorrt_rtx") is None:
        pytest.skip("TensorRT for RTX is not installed: pip install 'edge-person-search[rtx]'")
    for name in ("search.onnx", "query.onnx"):
        report = builds_with_tensorrt_rtx(tmp_path / "artifact" / name)
        assert report.errors == ()
        assert report.built
