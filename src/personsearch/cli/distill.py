"""``personsearch distill``."""

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


def distill(
    recipe: Annotated[Path, typer.Argument(help="Recipe of a student with its teacher (YAML).")],
    overrides: Overrides = None,
    out: Out = None,
    resume: Resume = False,
    skip_bad: SkipBad = False,
    as_json: AsJson = False,
) -> None:
    """Train a student under teachers: their maps and predictions, their boxes, or their look-up table.

    A teacher is a checkpoint of any earlier run; of identities alone, also a table that `personsearch table` makes.

    Examples:

    \b
      personsearch distill recipes/student/hdl_cuhk.yaml teacher=runs/hdl-r50-cuhk/checkpoint.pt
      personsearch distill recipes/student/kd_oim18_reid_cuhk.yaml teacher=osnet.npz lookup_table.projection=orthogonal
    """
    settings = load_distill_recipe(recipe, changes_of(overrides, skip_bad=skip_bad))
    run_dir = out or Path("runs") / settings.name
    require("torch", "train", "distillation")
    from personsearch.distill import run_distillation

    run_and_show(lambda: run_distillation(settings, run_dir, resume=resume), as_json=as_json)


def load_distill_recipe(path: Path, overrides: Sequence[str]) -> DistillRecipe:
    """Reads a recipe for training under a teacher.

    Raises:
        InputError: it is not one; a recipe without a teacher is named as such.
    """
    try:
        return load_recipe(path, DistillRecipe, overrides)
    except InputError as error:
        try:
            load_recipe(path, TrainRecipe, overrides)
        except InputError:
            raise error from None
        raise InputError(
            "names no teacher",
            where=str(path),
            expected="`teacher`, a teacher's checkpoint",
            remedy="add teacher=CHECKPOINT or run it with `personsearch train`",
        ) from None
