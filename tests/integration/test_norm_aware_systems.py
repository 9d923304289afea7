"""NAE and SeqNet from a data set to an exported artifact: they learn, go on after a cut, ship and are counted."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_runs import PERSON_COUNT, teacher_recipe, write_folder

from personsearch.benchmarks.flops import count_path
from personsearch.core.errors import InputError
from personsearch.core.gate_recipe import GateRecipe
from personsearch.core.manifest import load_artifact
from personsearch.core.recipes import ExportRecipe, TrainRecipe
from personsearch.export.checkpoint import export_checkpoint
from personsearch.export.tensorrt_rtx import builds_with_tensorrt_rtx
from personsearch.models.checkpoint import load_model, read_checkpoint
from personsearch.train import run_training

KINDS = ("nae", "seqnet")
BOX_LOSS = {"nae": "refine_box", "seqnet": "first_box"}


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("data") / "tiny")


@pytest.fixture(scope="module", params=KINDS)
def trained(request: pytest.FixtureRequest, root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    run_dir = tmp_path_factory.mktemp(request.param)
    return request.param, run_training(recipe(request.param, root, epochs=8), run_dir)


def recipe(kind: str, root: Path, **changes: Any) -> TrainRecipe:
    model = {
        "kind": kind, "trunk": {"kind": "resnet_c4", "depth": 18, "width": 8},
        "anchors": {"kind": "person", "heights": [32, 56]}, "rpn_channels": 16, "pool_size": 6, "embedding_dim": 16,
        "queue_size": 8, "rois_per_image": 12, "train_pre_nms": 64, "train_proposals": 24,
        "pre_nms": 24, "proposals": 8, "graph_pre_nms": 24, "graph_proposals": 8,
    }  # fmt: skip
    weights = {BOX_LOSS[kind]: 10.0}
    return teacher_recipe(root, **{"model": model, "loss_weights": weights, "name": f"tiny-{kind}", **changes})


def test_the_losses_fall(trained: tuple[str, Path]) -> None:
    _, checkpoint = trained
    with (checkpoint.parent / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for name in ("loss", "identity", "refine_class", "rpn_class"):
        values = [float(row[name]) for row in rows]
        assert np.mean(values[-10:]) < 0.9 * np.mean(values[:10]), name


def test_the_memories_are_in_the_checkpoint(trained: tuple[str, Path]) -> None:
    model, _ = load_model(trained[1])
    # A module knows its attributes as tensors or modules.
    lengths = model.memory.table.rows.norm(dim=1)  # type: ignore[union-attr]
    torch.testing.assert_close(lengths, torch.ones(PERSON_COUNT))
    # A module knows its attributes as tensors or modules.
    assert model.memory.queue.rows.any(dim=1).all()  # type: ignore[union-attr]


@pytest.fixture(scope="module")
def artifact(trained: tuple[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("artifacts") / trained[0]
    export_checkpoint(trained[1], out, ExportRecipe(gate=GateRecipe(frames=3), query_boxes=2, pooling="matrix"))
    return out


def test_the_artifact_passes_the_parity_gate_and_is_counted_alike(trained: tuple[str, Path], artifact: Path) -> None:
    manifest = load_artifact(artifact)
    assert manifest.parity["passed"] is True
    assert all(one["compared"] > 0 for one in manifest.parity["candidates"])
    assert (manifest.embedding_dim, manifest.max_detections) == (16, 8)
    network, graph = count_path(trained[1]), count_path(artifact)
    assert (graph.scene_macs, graph.persons) == (network.scene_macs, network.persons)
    assert graph.person_macs == network.person_macs


@pytest.mark.parametrize("graph", ["search", "query"])
def test_tensorrt_builds_an_engine(artifact: Path, graph: str) -> None:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed")
    report = builds_with_tensorrt_rtx(artifact / f"{graph}.onnx")
    assert report.built, report.errors


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_an_unreadable_image_ended_resumes_to_the_same_weights(
    kind: str, root: Path, tmp_path: Path
) -> None:
    shutil.copytree(root, tmp_path / "data")
    settings = recipe(kind, tmp_path / "data", epochs=3, epoch_images=4)
    image = tmp_path / "data" / "frames" / "8.png"
    whole = run_training(settings, tmp_path / "whole")
    kept = image.read_bytes()
    image.write_bytes(b"cut short")
    with pytest.raises(InputError, match=r"8\.png"):
        run_training(settings, tmp_path / "cut")
    assert 1 <= read_checkpoint(tmp_path / "cut" / "checkpoint.pt").content["progress"]["epoch"] <= 2
    image.write_bytes(kept)
    cut = run_training(settings, tmp_path / "cut", resume=True)
    first, second = (read_checkpoint(path).model_state for path in (whole, cut))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
