"""``personsearch bench training``: how fast a recipe trains."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from personsearch.cli import require
from personsearch.core.errors import InputError
from personsearch.core.recipe import load_recipe
from personsearch.core.recipes import DistillRecipe, TrainRecipe

if TYPE_CHECKING:
    from personsearch.benchmarks.training_speed import TrainingSpeed

Save = Annotated[Path | None, typer.Option(help="Folder for the JSON record of the figures.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON in place of the table.")]


def training(
    recipe: Annotated[Path, typer.Argument(help="Recipe of a training or distillation run (YAML).")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Recipe keys to change.")] = None,
    variant: Annotated[
        list[str] | None,
        typer.Option(help="recipe, channels_last, compile, bf16-mixed or 16-mixed, timed in turns; recipe if absent."),
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Steps timed for each variant.")] = 10,
    images: Annotated[int, typer.Option(min=1, help="Images timed in each round of the loader.")] = 64,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of the loader; the median is told.")] = 3,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of a step; torch's choice if absent.")] = None,
    save: Save = None,
    as_json: Json = False,
) -> None:
    """Time a recipe's loader and its training step, each by itself, on generated frames of 900x1500.

    A student's recipe is timed as it learns from labels alone; its teacher's pass comes on top.

    Example: personsearch bench training recipes/demo/control.yaml --variant recipe --variant channels_last
    """
    settings = _labels_alone(recipe, overrides or [])
    require("torch", "train", "training")
    import torch

    from personsearch.benchmarks.loader_speed import FRAME_WH, generated_jpegs
    from personsearch.benchmarks.training_speed import measure_training

    if threads is not None:
        torch.set_num_threads(threads)
    load = f"{os.getloadavg()[0]:.2f} processes (average of one minute)" if hasattr(os, "getloadavg") else "unknown"
    with generated_jpegs(16) as frames:
        speed = measure_training(
            settings, frames, variants=variant or ["recipe"], steps=steps, loader_images=images, rounds=rounds
        )
    if save is not None:
        from personsearch.benchmarks.results import make_result, write_result

        figures = {
            "loader": (speed.loader_images_per_s, "images/s"),
            "loader_main": (speed.loader_main_ms, "ms/image"),
        }
        for step in speed.steps:
            figures[f"step_{step.variant}"] = (step.images_per_s, "images/s")
            figures[f"step_{step.variant}_cpu"] = (step.cpu_ms, "ms/image")
            figures[f"step_{step.variant}_first"] = (step.first_s, "s")
        conditions = {
            "input": f"{speed.input_wh[0]}x{speed.input_wh[1]}",
            "batch": f"{speed.batch_images} images, {speed.accumulate} accumulated",
            "frames": f"generated JPEGs of {FRAME_WH[0]}x{FRAME_WH[1]}",
            "workers": str(speed.workers),
            "threads": str(torch.get_num_threads()),
            "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
            "precision": settings.precision,
            "rounds": f"{steps} steps of each variant in turns, {rounds} rounds of the loader, medians",
            "load_before": load,
        }
        record = make_result("training", speed.name, figures, settings=conditions, arguments=sys.argv[1:])
        typer.echo(f"record: {write_result(record, save)}", err=True)
    typer.echo(json.dumps(speed.model_dump(mode="json"), indent=2) if as_json else _table(speed))


def _labels_alone(path: Path, overrides: list[str]) -> TrainRecipe:
    """The recipe without what its teacher teaches."""
    try:
        return load_recipe(path, TrainRecipe, overrides)
    except InputError as error:
        try:
            student = load_recipe(path, DistillRecipe, overrides)
        except InputError:
            raise error from None
        return TrainRecipe(**{name: getattr(student, name) for name in TrainRecipe.model_fields})


def _table(speed: TrainingSpeed) -> str:
    width, height = speed.input_wh
    lines = [
        f"{speed.name}, {width}x{height}, batches of {speed.batch_images}, {speed.accumulate} accumulated",
        f"  loader, {speed.workers} processes     {speed.loader_images_per_s:8.2f} images/s  "
        f"{speed.loader_main_ms:8.1f} ms of the training process an image",
    ]
    lines += [
        f"  step, {step.variant:<16} {step.images_per_s:8.2f} images/s  {step.cpu_ms:8.1f} ms of processors an image, "
        f"first step {step.first_s:.1f} s"
        for step in speed.steps
    ]
    return "\n".join(lines)
