"""QEEPS through the stages: training from OIM, resume, KD_reid both ways, evaluation by pairs, export."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from test_oim_runs import OIM, Interrupted
from tiny_runs import teacher_recipe, write_folder
from typer.testing import CliRunner

from personsearch.benchmarks.accuracy import EvaluationOptions, measure_accuracy
from personsearch.benchmarks.pairwise import PairSystem, measure_pairwise, open_pairs
from personsearch.benchmarks.systems import open_system
from personsearch.cli.app import app
from personsearch.core.errors import InputError
from personsearch.core.manifest import load_artifact
from personsearch.core.recipe import validate
from personsearch.core.recipes import DistillRecipe, TrainRecipe
from personsearch.data import open_dataset
from personsearch.distill import run_distillation
from personsearch.models.checkpoint import load_model, read_checkpoint
from personsearch.models.detectors.qeeps import QEEPS
from personsearch.train import run_training
from personsearch.train.checkpoint import RunIdentity
from personsearch.train.loop import fit, open_fabric
from personsearch.train.run import open_training_set, start_model, training_batches, training_data

MODEL = {**OIM, "kind": "qeeps", "proposals": 8, "pre_nms": 16}
PAIRS: dict[str, Any] = {"workers": 0, "images_per_identity": 2}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_folder(tmp_path_factory.mktemp("data") / "tiny", images=6, person_count=2)
    labels = json.loads((folder / "annotations" / "train.json").read_text())
    row = next(row for row in labels["annotations"] if row["person_id"] == 1)
    labels["queries"] = [{"image_id": row["image_id"], "bbox": row["bbox"], "person_id": 1}]
    (folder / "annotations" / "train.json").write_text(json.dumps(labels))
    return folder


def recipe(root: Path, **changes: Any) -> TrainRecipe:
    data = {"root": str(root), **PAIRS}
    return teacher_recipe(root, **{"name": "tiny-qeeps", "model": MODEL, "data": data, "epochs": 2, **changes})


@pytest.fixture(scope="module")
def oim_run(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_training(teacher_recipe(root, model=OIM, epochs=1), tmp_path_factory.mktemp("oim"))


@pytest.fixture(scope="module")
def run(root: Path, oim_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_training(recipe(root, init_from=str(oim_run)), tmp_path_factory.mktemp("qeeps"))


def test_starts_from_oim_and_round_trips(run: Path, oim_run: Path) -> None:
    record = json.loads((run.parent / "run.json").read_text())
    missing = record["init_from"].removeprefix("not in it: ").split(", ")
    assert {name.split(".")[0] for name in missing} == {"trunk", "query_proposals", "similarity"}
    assert all(name.startswith("trunk.qsse") for name in missing if name.startswith("trunk"))
    model, checkpoint = load_model(run)
    assert isinstance(model, QEEPS)
    assert checkpoint.model_state["memory.table.rows"].shape == (2, 16)
    for name, value in model.state_dict().items():
        assert torch.equal(value, checkpoint.model_state[name]), name


def test_interrupted_and_resumed_ends_with_the_same_weights(root: Path, tmp_path: Path) -> None:
    settings = recipe(root)
    whole = run_training(settings, tmp_path / "whole")
    dataset, run_dir = open_training_set(settings), tmp_path / "resumed"
    model, _ = start_model(settings, dataset, run_dir, None)
    identity = RunIdentity(settings, 2, training_data(dataset))
    batches = training_batches(settings, dataset, 0, 1)
    with pytest.raises(KeyboardInterrupt):
        fit(Interrupted(model, after=len(batches) + 1), batches, identity, run_dir, open_fabric("32-true"))
    resumed = run_training(settings, run_dir, resume=True)
    expected, found = read_checkpoint(whole).model_state, read_checkpoint(resumed).model_state
    for name, value in expected.items():
        assert torch.equal(value, found[name]), name


def test_evaluated_by_pairs_or_without_a_query(root: Path, run: Path, tmp_path: Path) -> None:
    outcomes, saved = tmp_path / "queries.json", tmp_path / "records"
    common = ["evaluate", str(run), str(root), "--split", "train"]
    done = CliRunner().invoke(app, [*common, "--per-query", str(outcomes), "--save", str(saved), "--json"])
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)[0]
    assert (result["detection"], result["true_boxes"]) == (None, None)
    cost = result["pairs"]
    assert cost["pairs"] == 5, "one query, all images but its own"
    assert cost["query_macs"] == 5 * cost["pair_macs"] > 0
    assert cost["query_seconds"] > 0
    assert [one["person_id"] for one in json.loads(outcomes.read_text())] == [1]
    figures = json.loads(next(saved.glob("*.json")).read_text())["figures"]
    assert {"search_mean_ap", "pair", "query", "query_seconds"} <= set(figures)
    plain = CliRunner().invoke(app, [*common, "--query-independent"])
    assert "detection" in plain.stdout
    assert "cost a query" not in plain.stdout
    shown = CliRunner().invoke(app, common)
    assert "cost a query" in shown.stdout
    for option in (["--detections", str(tmp_path / "x.npz")], ["--query-features", "detection"], ["--cbgm", "1,1"]):
        refused = CliRunner().invoke(app, [*common, *option])
        assert isinstance(refused.exception, InputError), option
        assert "--query-independent" in str(refused.exception)


def test_by_pairs_equals_a_plain_search_where_the_query_has_no_say(root: Path, run: Path) -> None:
    """QSimNet as the negative squared distance, which ranks as the cosine does."""
    model, _ = load_model(run)
    assert isinstance(model, QEEPS)
    model.score_threshold = 0.0
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "channel_out" in name or name.startswith("query_proposals.class_logits"):
                parameter.zero_()
        model.similarity.norm.reset_parameters()
        model.similarity.norm.reset_running_stats()
        model.similarity.logits.bias.zero_()
        model.similarity.logits.weight[0], model.similarity.logits.weight[1] = 1.0, -1.0
    dataset = open_dataset(root, "train")
    options = EvaluationOptions(score_threshold=0.0)
    guided, _ = measure_pairwise(PairSystem(model), dataset, name="pairs", options=options)
    system = open_system(run, score_threshold=0.0)
    system._model = model  # type: ignore[attr-defined]  # the same weights
    plain = measure_accuracy(system, dataset, name="plain", options=options)
    assert guided.search is not None
    assert plain.search is not None
    assert guided.search.mean_ap == pytest.approx(plain.search.mean_ap)
    assert guided.search.top == plain.search.top
    assert guided.search.gallery_boxes == plain.search.gallery_boxes > 0


def test_a_network_without_guidance_has_no_pairs(root: Path, oim_run: Path) -> None:
    assert open_pairs(oim_run) is None
    with pytest.raises(ValueError, match="OIMSearch is not guided by a query"):
        PairSystem(load_model(oim_run)[0])


def test_teaches_by_its_table_and_learns_from_one(root: Path, run: Path, tmp_path: Path) -> None:
    data = {"root": str(root), **PAIRS}
    content = teacher_recipe(root, name="student", model=MODEL, data=data, epochs=1).model_dump()
    content |= {"teacher": str(run), "lookup_table": {"lambda_oim": 0.1}}
    student = run_distillation(validate(DistillRecipe, content, where="test"), tmp_path / "qeeps")
    taught = read_checkpoint(run).model_state["memory.table.rows"]
    torch.testing.assert_close(read_checkpoint(student).model_state["memory.table.rows"], taught)


def test_the_branch_without_a_query_is_exported(run: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["export", str(run), "--out", str(tmp_path / "artifact"), "query_boxes=2"])
    assert done.exit_code == 0, done.output
    assert "branch without one" in done.stdout
    assert "branch without one" in (tmp_path / "artifact" / "MODEL_CARD.md").read_text()
    manifest = load_artifact(tmp_path / "artifact")
    assert manifest.embedding_dim == 16
    assert open_pairs(tmp_path / "artifact") is None
