"""``personsearch distill``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from personsearch.cli import require
from personsearch.cli.train import show_run
from personsearch.core.errors import InputError
from personsearch.core.recipe import load_recipe
from personsearch.core.recipes import DistillRecipe, TrainRecipe


def distill(
    recipe: Annotated[Path, typer.Argument(help="Recipe of a student with its teacher (YAML).")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Recipe keys to change.")] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder; runs/<name of the recipe> where absent.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run that the folder holds.")] = False,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Pass over images that cannot be read, and name them (data.skip_bad).")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the run's record as JSON.")] = False,
) -> None:
    """Train a student under teachers: their maps and predictions, their boxes, or their look-up table.

    A teacher is a checkpoint of any earlier run; of identities alone, also a table that `personsearch table` makes.

    Examples:

    \b
      personsearch distill recipes/student/hdl_cuhk.yaml teacher=runs/hdl-r50-cuhk/checkpoint.pt
      personsearch distill recipes/student/kd_oim18_reid_cuhk.yaml teacher=osnet.npz lookup_table.projection=orthogonal
    """
    settings = load_distill_recipe(recipe, [*(overrides or ()), *(["data.skip_bad=true"] if skip_bad else [])])
    run_dir = out or Path("runs") / settings.name
    require("torch", "train", "distillation")
    from personsearch.distill import run_distillation
    from personsearch.train import TrainingDiverged

    try:
        checkpoint = run_distillation(settings, run_dir, resume=resume)
    except TrainingDiverged as error:
        typer.echo(f"personsearch: {error}", err=True)
        raise typer.Exit(1) from None
    show_run(checkpoint, as_json=as_json)


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
