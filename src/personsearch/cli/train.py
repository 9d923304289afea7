"""``personsearch train``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from personsearch.cli import require
from personsearch.core.errors import InputError
from personsearch.core.recipe import load_recipe
from personsearch.core.recipes import DistillRecipe, TrainRecipe


def train(
    recipe: Annotated[Path, typer.Argument(help="Recipe of a teacher, or of a student alone (YAML).")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Recipe keys to change.")] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder; runs/<name of the recipe> where absent.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run that the folder holds.")] = False,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Pass over images that cannot be read, and name them (data.skip_bad).")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the run's record as JSON.")] = False,
) -> None:
    """Train a person-search network from labels.

    Example: personsearch train recipes/teacher/hdl_r50_cuhk.yaml data.root=data/cuhk-sysu epochs=10
    """
    settings = load_train_recipe(recipe, [*(overrides or ()), *(["data.skip_bad=true"] if skip_bad else [])])
    run_dir = out or Path("runs") / settings.name
    require("torch", "train", "training")
    from personsearch.train import TrainingDiverged, run_training

    try:
        checkpoint = run_training(settings, run_dir, resume=resume)
    except TrainingDiverged as error:
        typer.echo(f"personsearch: {error}", err=True)
        raise typer.Exit(1) from None
    show_run(checkpoint, as_json=as_json)


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


def show_run(checkpoint: Path, *, as_json: bool) -> None:
    """Prints where the checkpoint of a finished run lies, or the whole record; of several processes the first does."""
    import json

    if os.environ.get("RANK", "0") != "0":
        return
    record: dict[str, Any] = json.loads((checkpoint.parent / "run.json").read_text(encoding="utf-8"))
    if as_json:
        typer.echo(json.dumps({"checkpoint": str(checkpoint), **record}, indent=2))
    else:
        typer.echo(
            f"{checkpoint}: {record['epochs_done']} epochs, {record['steps_done']} steps, {record['wall_s']:.0f} s"
        )
