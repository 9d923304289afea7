"""Distillation from a re-ID network's file as a user meets it: the command, its record, repeating, bad input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tiny_networks as tiny
import torch
import yaml
from tiny_runs import student_recipe, write_folder
from typer.testing import CliRunner

from personsearch.cli.app import app
from personsearch.core.files import sha256_file
from personsearch.core.recipe import validate
from personsearch.core.recipes import DistillRecipe
from personsearch.distill import run_distillation
from personsearch.models.checkpoint import read_checkpoint

RAW = {"order": "bgr", "scale": 1, "mean": [0, 0, 0], "std": [1, 1, 1]}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("data") / "tiny")


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.mean_colour(tmp_path_factory.mktemp("network") / "reid.onnx")


def content(root: Path, network: Path | str, **crops: Any) -> dict[str, Any]:
    settings = student_recipe(root, Path(network)).model_dump(mode="json", exclude_none=True)
    del settings["hierarchical"]
    settings["model"]["embedding_dim"] = 3
    return {**settings, "teacher": str(network), "crops": {"networks": [RAW], **crops}}


def run(root: Path, network: Path | str, out: Path, **changes: Any) -> dict[str, Any]:
    recipe = validate(DistillRecipe, {**content(root, network), **changes}, where="test")
    run_distillation(recipe, out)
    record: dict[str, Any] = json.loads((out / "run.json").read_text())
    return record


def test_run_names_its_teachers_and_learns_their_answers(root: Path, network: Path, tmp_path: Path) -> None:
    record = run(root, network, tmp_path / "run", epochs=8, loss_weights={"identity": 0})
    (source,) = record["crop_teachers"]
    assert source["source"].startswith("reid.onnx (sha256 ")
    assert source["sha256"] == sha256_file(network)
    rows = (tmp_path / "run" / "metrics.csv").read_text().splitlines()
    column = rows[0].split(",").index("crop_embedding")
    losses = [float(row.split(",")[column]) for row in rows[1:]]
    # The people's bars are of one colour each: their mean colour is easily read from any feature map.
    assert sum(losses[-5:]) / 5 < 0.7 * sum(losses[:5]) / 5


def test_run_repeats_to_the_last_bit(root: Path, network: Path, tmp_path: Path) -> None:
    run(root, network, tmp_path / "whole", epochs=2)
    run(root, network, tmp_path / "again", epochs=2)
    whole, again = (read_checkpoint(tmp_path / name / "checkpoint.pt") for name in ("whole", "again"))
    for name, value in whole.model_state.items():
        assert torch.equal(value, again.model_state[name]), name


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model.embedding_dim": 4}, "are 4 wide, those of its crop teachers 3 together"),
        ({"teacher": "${NOT_SET_ANYWHERE}/net.onnx"}, "environment variable `NOT_SET_ANYWHERE` is not set"),
        ({"teacher": "nowhere.onnx"}, "no such file"),
        ({"crops.networks": [{"preset": "resnet"}]}, "preset is `resnet`; expected one of osnet, retail-0288"),
        ({"crops.networks": [{"order": "bgr"}]}, "scale"),
    ],
)
def test_bad_input_is_one_line_before_anything_trains(
    root: Path, network: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    settings = content(root, network)
    for key, value in changes.items():
        group = settings
        *groups, last = key.split(".")
        for name in groups:
            group = group[name]
        group[last] = value
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(settings))
    result = CliRunner().invoke(app, ["distill", str(tmp_path / "recipe.yaml"), "--out", str(tmp_path / "run")])
    assert result.exit_code != 0
    assert message in str(result.exception)
    assert not (tmp_path / "run" / "checkpoint.pt").exists()
