"""The recipes of Munjal et al.'s tables: one student, told one thing more or less, and their controls."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import torch

from personsearch.core.recipe import load_recipe
from personsearch.core.recipes import DistillRecipe, FasterRCNNRecipe, TrainRecipe
from personsearch.models import SearchModel, build_model

RECIPES = Path(str(files("personsearch.recipes")))
STUDENTS = RECIPES / "student"
KNOWLEDGE = set(DistillRecipe.model_fields) - set(TrainRecipe.model_fields)


def row(depth: int, kind: str, *overrides: str) -> Any:
    path = STUDENTS / f"kd_oim{depth}_{kind}_cuhk.yaml"
    return load_recipe(path, TrainRecipe if kind == "control" else DistillRecipe, overrides)


def on_meta(model: Any, recipe: TrainRecipe) -> SearchModel:
    with torch.device("meta"):
        trunk = model.trunk.model_copy(update={"pretrained": False})
        return build_model(model.model_copy(update={"trunk": trunk}), recipe.preprocess, 5532)


@pytest.mark.parametrize("depth", [50, 18])
def test_rows_differ_in_their_knowledge_alone(depth: int) -> None:
    rows = {kind: row(depth, kind) for kind in ("det", "reid", "both", "control")}
    control = rows["control"].model_dump(exclude={"name", "loss_weights"})
    for recipe in rows.values():
        assert recipe.model_dump(exclude={"name", "loss_weights", *KNOWLEDGE}) == control
    baseline = load_recipe(RECIPES / "teacher" / f"oim_r{depth}_cuhk.yaml", TrainRecipe)
    assert baseline.model_dump(exclude={"name", "loss_weights"}) == control
    assert [rows[kind].detection is not None for kind in ("det", "reid", "both")] == [True, False, True]
    assert [rows[kind].lookup_table is not None for kind in ("det", "reid", "both")] == [False, True, True]
    assert all(rows[kind].hierarchical is None for kind in ("det", "reid", "both"))
    assert rows["both"].teacher == rows["reid"].teacher
    assert rows["both"].detection.teacher == rows["det"].teacher
    assert rows["reid"].lookup_table.lambda_oim == rows["control"].loss_weights["identity"] == 0.1
    assert row(depth, "det", "loss_weights.identity=0.3").loss_weights == {"identity": 0.3}


@pytest.mark.parametrize(("depth", "channels"), [(50, 1024), (18, 256)])
def test_students_have_the_papers_shape_and_the_detectors_anchors(depth: int, channels: int) -> None:
    recipe = row(depth, "both")
    student = on_meta(recipe.model, recipe)
    detector = FasterRCNNRecipe(trunk=recipe.model.trunk.model_copy(update={"depth": 50}))
    assert on_meta(detector, recipe).person_input_shape == (1, 1024, 14, 14)
    assert recipe.model.anchors == detector.anchors
    assert student.person_input_shape == (1, channels, 14, 14)
    assert student.embedding_dim == 256
    assert recipe.model.queue_size == 5000
