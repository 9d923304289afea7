"""The shipped recipes, and the commands' answer to a recipe of the wrong kind."""

from __future__ import annotations

import hashlib
import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from personsearch.cli.distill import load_distill_recipe
from personsearch.cli.train import load_train_recipe
from personsearch.core.errors import InputError
from personsearch.core.recipe import load_recipe, recipe_hash
from personsearch.core.recipes import DistillRecipe, ExportRecipe, HierarchicalRecipe, TrainRecipe
from personsearch.data.composite_spec import CompositeSpec
from personsearch.data.synthetic.settings import SyntheticSettings

RECIPES = Path(str(files("personsearch.recipes")))
# A table of runs extends others and is read by `load_ablation`: tests/unit/test_ablation.py.
PATHS = sorted(path for path in RECIPES.rglob("*.yaml") if path.parent.name != "ablation")


def kind_of(path: Path) -> type[BaseModel]:
    """What a file under recipes/ must be: by its folder, a run by whether it names a teacher."""
    if path.parent.name == "data":
        return CompositeSpec
    if path.parent.name == "export":
        return ExportRecipe
    if path.name == "data.yaml":
        return SyntheticSettings
    return DistillRecipe if "teacher" in yaml.safe_load(path.read_text()) else TrainRecipe


def test_there_are_recipes_of_the_paper() -> None:
    names = {str(path.relative_to(RECIPES)) for path in PATHS}
    assert {f"student/hdl_{data}.yaml" for data in ("cuhk", "prw")} <= names
    assert {f"teacher/hdl_r50_{data}.yaml" for data in ("cuhk", "prw")} <= names


@pytest.mark.parametrize("path", PATHS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_recipe_loads_with_its_class_and_fits_a_screen(path: Path) -> None:
    load_recipe(path, kind_of(path))
    assert len(path.read_text().splitlines()) <= 55


def test_the_papers_student_under_its_teacher() -> None:
    teacher = load_train_recipe(RECIPES / "teacher" / "hdl_r50_prw.yaml", ())
    student = load_distill_recipe(RECIPES / "student" / "hdl_prw.yaml", ())
    assert (teacher.batch_images, teacher.epochs, teacher.optimiser.milestones) == (4, 60, (50,))
    assert (student.batch_images, student.epochs, student.optimiser.milestones) == (4, 150, (50, 100))
    assert student.preprocess == teacher.preprocess
    assert student.data == teacher.data
    levels = student.hierarchical
    assert (levels.lambda_prediction, levels.lambda_attention, levels.lambda_feature) == (0.9, 2e4, 2e3)


def test_default_weights_follow_the_reduction() -> None:
    def weights(**given: Any) -> tuple[str, float, float]:
        recipe = HierarchicalRecipe(**given)
        return recipe.reduction, recipe.lambda_attention, recipe.lambda_feature

    assert weights() == weights(reduction="norm") == ("norm", 0.5, 1.25)
    assert weights(reduction="mean") == ("mean", 2e4, 2e3)
    assert weights(reduction="mean", lambda_feature=7.0) == ("mean", 2e4, 7.0)


def test_a_run_from_before_a_field_came_is_still_known() -> None:
    """The hash is that of the recipe without the field, until somebody sets it."""
    path = RECIPES / "student" / "hdl_cuhk.yaml"
    recipe = load_recipe(path, DistillRecipe)
    content = recipe.model_dump(mode="json")
    assert (content.pop("ema_decay"), content["model"]["trunk"].pop("norm")) == (None, "batch")
    assert [content["data"].pop(name) for name in ("hold_out", "hold_out_seed")] == [0, 0]
    assert content.pop("crops") is None
    assert content["model"].pop("proposal_peaks") == 1
    before = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
    assert recipe_hash(recipe) == before
    for change in ("ema_decay=0.999", "model.trunk.norm=group"):
        assert recipe_hash(load_recipe(path, DistillRecipe, [change])) != before


def test_a_recipe_of_the_wrong_kind_is_sent_to_the_other_command() -> None:
    with pytest.raises(InputError, match=r"hdl_cuhk\.yaml: names a teacher; .*run it with `personsearch distill`$"):
        load_train_recipe(RECIPES / "student" / "hdl_cuhk.yaml", ["epochs=3"])
    with pytest.raises(InputError, match=r"hdl_r50_cuhk\.yaml: names no teacher; .*run it with `personsearch train`$"):
        load_distill_recipe(RECIPES / "teacher" / "hdl_r50_cuhk.yaml", ["epochs=3"])


def test_a_teacher_recipe_with_a_teacher_given_is_a_students() -> None:
    recipe = load_distill_recipe(RECIPES / "teacher" / "hdl_r50_cuhk.yaml", ["teacher=t.pt", "name=self"])
    assert recipe.teacher == "t.pt"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.pool_size=0", "`model.pool_size` is 0; expected input should be greater than 0"),
        ("model.pool_size=tall", "`model.pool_size` is 'tall'"),
        ("model.pool_size=[0, 3]", "`model.pool_size.0` is 0; expected input should be greater than 0"),
        ("model.pool_size=[7]", "key `model.pool_size.1` is missing"),
        ("model.identity_scale=big", "`model.identity_scale` is 'big'"),
    ],
)
def test_a_field_of_several_types_is_named_as_in_the_file(override: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        load_train_recipe(RECIPES / "teacher" / "hdl_r50_cuhk.yaml", [override])
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("override", "message"),
    [("optimizer.lr=1", "unknown key `optimizer`"), ("epochs=0", "`epochs` is 0"), ("epochs", "override `epochs`")],
)
def test_a_bad_override_keeps_its_own_message(override: str, message: str) -> None:
    for load, path in (
        (load_train_recipe, RECIPES / "teacher" / "hdl_r50_cuhk.yaml"),
        (load_distill_recipe, RECIPES / "student" / "hdl_cuhk.yaml"),
    ):
        with pytest.raises(InputError, match=message):
            load(path, [override])
