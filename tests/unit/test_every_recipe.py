"""Every recipe becomes its network, on a device without storage; a table by way of `bench ablation --plan`."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from pathlib import Path

import pytest
import torch
import yaml

from personsearch.benchmarks.ablation.plan import plan_ablation
from personsearch.benchmarks.ablation.recipe import load_ablation
from personsearch.core.model_recipes import ModelRecipe
from personsearch.core.preprocess import Preprocess
from personsearch.core.recipe import load_recipe
from personsearch.core.recipes import DistillRecipe, TrainRecipe
from personsearch.models import build_model
from personsearch.models.build import without_start_weights
from personsearch.models.detectors.regions import RegionSearch

RECIPES = Path(str(files("personsearch.recipes")))
PERSON_COUNT = 11
NO_NETWORK = {"data", "export", "ablation"}
RUNS = sorted(path for path in RECIPES.rglob("*.yaml") if path.parent.name not in NO_NETWORK and path.stem != "data")
TABLES = sorted((RECIPES / "ablation").glob("*.yaml"))


@cache  # many recipes differ in what is taught alone
def check_network(recipe: ModelRecipe, preprocess: Preprocess) -> None:
    """The network takes its input: a frame through what runs once a frame, two people through the rest."""
    with torch.device("meta"):
        model = build_model(without_start_weights(recipe), preprocess, PERSON_COUNT).eval()
    assert isinstance(model, RegionSearch)
    width, height = preprocess.input_wh
    frame = torch.empty((1, height, width, 3), dtype=torch.uint8, device="meta")
    crops = torch.empty((2, *model.person_input_shape[1:]), device="meta")
    with torch.no_grad():
        feature, margins, deltas = model.scene_module()(frame)
        people = model.person_module()(crops)
    assert feature.shape[1:] == (model.person_input_shape[1], height // model.trunk.stride, width // model.trunk.stride)
    assert margins.shape == deltas.shape[:2]
    assert people[0].shape == (2,)
    if model.embedding_dim:
        assert people[-1].shape == (2, model.embedding_dim)


def test_there_are_runs_of_every_kind_of_network() -> None:
    kinds = {load(path).model.kind for path in RUNS}
    assert kinds >= {"hdl", "oim", "nae", "seqnet", "faster_rcnn"}
    assert len(RUNS) > 30
    assert len(TABLES) >= 8


def load(path: Path) -> TrainRecipe:
    kind = DistillRecipe if "teacher" in yaml.safe_load(path.read_text()) else TrainRecipe
    return load_recipe(path, kind)


@pytest.mark.parametrize("path", RUNS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_run_s_network_takes_its_input(path: Path) -> None:
    recipe = load(path)
    check_network(recipe.model, recipe.preprocess)


@pytest.mark.parametrize("path", TABLES, ids=lambda path: str(path.stem))
def test_a_table_s_networks_take_their_input(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERSON_SEARCH_DATA", str(tmp_path))  # named by recipes, opened when a run begins
    planned = plan_ablation(load_ablation(path, ()), Path("out"), where=str(path), teachers_there=False)
    runs = planned.in_order()
    assert runs
    for run in runs:
        check_network(run.recipe.model, run.recipe.preprocess)
