"""``personsearch train``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from personsearch.cli import require
from personsearch.cli.run_options import AsJson, Out, Overrides, Resume, SkipBad, changes_of, run_and_show
from personsearch.core.errors import InputError
from personsearch.core.recipe import load_recipe
from personsearch.core.recipes import DistillRecipe, TrainRecipe


def train(
    recipe: Annotated[Path, typer.Argument(help="Recipe of a teacher, or of a student alone (YAML).")],
    overrides: Overrides = None,
    out: Out = None,
    resume: Resume = False,
    skip_bad: SkipBad = False,
    as_json: AsJson = False,
) -> None:
    """Train a person-search network from labels.

    Example: personsearch train recipes/teacher/hdl_r50_cuhk.yaml data.root=data/cuhk-sysu epochs=10
    """
    settings = load_train_recipe(recipe, changes_of(overrides, skip_bad=skip_bad))
    run_dir = out or Path("runs") / settings.name
    require("torch", "train", "training")
    from personsearch.train import run_training

    run_and_show(lambda: run_training(settings, run_dir, resume=resume), as_json=as_json)


def load_train_recipe(path: Path, overrides: Sequence[str]) -> TrainRecipe:
    """Reads a recipe for training without a teacher.

    Raises:
        InputError: it is not one; a student's recipe is named as such.
    """
    try:
        return load_recipe(path, TrainRecipe, overrides)
    except InputError as error:
        try:
            load_recipe(path, DistillRecipe, overrides)
        except InputError:
            raise error from None
        raise InputError(
            "names a teacher",
            where=str(path),
            expected="a recipe for training from labels alone",
            remedy="run it with `personsearch distill`",
        ) from None
