"""How many images a second a recipe trains: its loader and its training step, each by itself.

A run is as fast as the slower of the two. The loader reads generated JPEG frames with the recipe's own variation and
number of processes; the step takes its first batches, over and over, with everything the loop does but the file
system. Ways to run the step (layout, compilation, precision) are measured in turns, so that their ratios hold on a
machine that does other things; processor time is told beside the clock's for the same reason.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field

from personsearch.benchmarks.loader_speed import WARM_BATCHES, loading_rate
from personsearch.core.errors import InputError
from personsearch.core.progress import StageProgress
from personsearch.core.recipe import StrictModel
from personsearch.core.recipes import TrainRecipe
from personsearch.data.loader import Batch, TrainingLoader
from personsearch.data.sample import SearchDataset
from personsearch.models import build_model
from personsearch.models.build import without_start_weights
from personsearch.train.loop import deterministic, open_fabric
from personsearch.train.memory import check_run_memory
from personsearch.train.step import StepTaker, seed_torch
from personsearch.train.task import SearchTask

VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "recipe": {},
    "channels_last": {"channels_last": True},
    "compile": {"compile": True},
    "bf16-mixed": {"precision": "bf16-mixed"},
    "16-mixed": {"precision": "16-mixed"},
}
"""Ways to run a step, as changes to the recipe."""
LR = 1e-6  # random weights on noise must not diverge while they are timed


class StepSpeed(StrictModel):
    """One way to run a training step."""

    variant: str
    images_per_s: float = Field(description="by the clock, median over the steps")
    cpu_ms: float = Field(description="processor milliseconds an image, of all threads, median")
    first_s: float = Field(description="seconds of the first step, compilation included")


class TrainingSpeed(StrictModel):
    """A recipe's speed on this machine."""

    name: str
    input_wh: tuple[int, int]
    batch_images: int
    accumulate: int
    workers: int = Field(description="loader processes")
    loader_images_per_s: float = Field(description="by the clock, median over the rounds")
    loader_main_ms: float = Field(description="processor milliseconds of the training process an image, median")
    steps: list[StepSpeed]


def measure_training(
    recipe: TrainRecipe, dataset: SearchDataset, *, variants: Sequence[str], steps: int, loader_images: int, rounds: int
) -> TrainingSpeed:
    """Measures the loader, then the step.

    Args:
        recipe: how to train; what its weights start from is left out.
        dataset: in place of the recipe's; of its people, as many are identities.
        variants: of `VARIANTS`.
        steps: timed steps of each variant, after one that is not.
        loader_images: in a timed epoch.
        rounds: epochs of the loader.

    Raises:
        InputError: a variant is unknown or cannot run here, or the run does not fit the memory.
    """
    for variant in variants:
        if variant not in VARIANTS:
            raise InputError(f"variant is `{variant}`", expected=f"one of {', '.join(VARIANTS)}")
    recipe = recipe.model_copy(update={"model": without_start_weights(recipe.model)})
    takers = {variant: _taker(recipe, variant, dataset.person_count) for variant in variants}
    rates = []
    for epoch in range(rounds):
        loader = _loader(recipe, dataset, loader_images)
        loader.set_epoch(epoch)
        rates.append(loading_rate(loader))
        del loader  # ends its processes
    rate, main_ms = (statistics.median(column) for column in zip(*rates, strict=True))
    return TrainingSpeed(
        name=recipe.name,
        input_wh=recipe.preprocess.input_wh,
        batch_images=recipe.batch_images,
        accumulate=recipe.accumulate,
        workers=recipe.data.workers,
        loader_images_per_s=rate,
        loader_main_ms=main_ms,
        steps=_step_speeds(takers, _batches(recipe, dataset), steps),
    )


def _loader(recipe: TrainRecipe, dataset: SearchDataset, images: int) -> TrainingLoader:
    return TrainingLoader(
        dataset,
        recipe.data,
        recipe.preprocess,
        batch_images=recipe.batch_images,
        epoch_images=(WARM_BATCHES + max(1, images // recipe.batch_images)) * recipe.batch_images,
        seed=recipe.seed,
    )


def _batches(recipe: TrainRecipe, dataset: SearchDataset) -> list[Batch]:
    """The first step's batches."""
    data = recipe.data.model_copy(update={"workers": 0})
    batches = iter(_loader(recipe.model_copy(update={"data": data}), dataset, recipe.batch_images * recipe.accumulate))
    return [next(batches) for _ in range(recipe.accumulate)]


def _taker(recipe: TrainRecipe, variant: str, person_count: int) -> StepTaker:
    changed = recipe.model_copy(update=dict(VARIANTS[variant]))
    fabric = open_fabric(changed.precision)
    check_run_memory(changed, person_count, fabric)
    seed_torch(recipe.seed, "weights")
    model = build_model(changed.model, changed.preprocess, person_count)
    taker = StepTaker(SearchTask(model, changed.loss_weights), changed, fabric)
    taker.module.train()
    return taker


def _step_speeds(takers: Mapping[str, StepTaker], batches: Sequence[Batch], steps: int) -> list[StepSpeed]:
    images = sum(len(batch.images) for batch in batches)
    times: dict[str, list[tuple[float, float]]] = {variant: [] for variant in takers}
    with StageProgress("training step", len(takers) * (steps + 1)) as progress:
        for step in range(steps + 1):
            for variant, taker in takers.items():
                with deterministic(taker.device):
                    started, spent = time.perf_counter(), time.process_time()
                    taker.take(batches, epoch=0, step=step, lr=LR)
                    times[variant].append((time.perf_counter() - started, time.process_time() - spent))
                progress.advance()
    speeds = []
    for variant, found in times.items():
        clock_s, cpu_s = (statistics.median(column) for column in zip(*found[1:], strict=True))
        speed = {"variant": variant, "images_per_s": images / clock_s, "cpu_ms": 1e3 * cpu_s / images}
        speeds.append(StepSpeed.model_validate({**speed, "first_s": found[0][0]}))
    return speeds
