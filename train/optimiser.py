"""Optimiser and learning rate: the rate is a pure function of the step, so a resumed run needs no scheduler state."""

from __future__ import annotations

import math

from torch import nn, optim

from personsearch.core.errors import InputError
from personsearch.core.recipes import OptimiserRecipe


def build_optimiser(module: nn.Module, recipe: OptimiserRecipe) -> optim.Optimizer:
    """SGD or AdamW over ``module``'s trainable parameters.

    Weight decay is left off vectors and scalars (biases and the scale and shift of norms): pulling those to 0
    does not regularise, it changes what the layer before them means.

    Raises:
        InputError: nothing is trainable.
    """
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for parameter in module.parameters():
        if parameter.requires_grad:
            (decayed if parameter.ndim > 1 else free).append(parameter)
    groups = [
        {"params": parameters, "weight_decay": decay}
        for parameters, decay in ((decayed, recipe.weight_decay), (free, 0.0))
        if parameters
    ]
    if not groups:
        raise InputError("no parameter is trainable", where="model")
    if recipe.name == "sgd":
        return optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum)
    return optim.AdamW(groups, lr=recipe.lr)


def learning_rate(recipe: OptimiserRecipe, step: int, *, steps_per_epoch: int, epochs: int) -> float:
    """The rate of one optimiser step.

    Warm-up is linear and reaches the full rate at step ``warmup_steps``. ``step`` divides by ``decay`` at the
    start of each milestone epoch; ``cosine`` falls from the end of the warm-up to 0 after the last step.

    Args:
        recipe: the schedule.
        step: steps taken before this one, from 0.
        steps_per_epoch: at least 1.
        epochs: of the whole run.
    """
    if recipe.schedule == "cosine":
        total = steps_per_epoch * epochs
        progress = max(step - recipe.warmup_steps, 0) / max(total - recipe.warmup_steps, 1)
        factor = 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
    else:
        epoch = step // steps_per_epoch
        factor = recipe.decay ** -sum(epoch >= milestone for milestone in recipe.milestones)
    if step < recipe.warmup_steps:
        factor *= (step + 1) / (recipe.warmup_steps + 1)
    return recipe.lr * factor


def check_schedule(recipe: OptimiserRecipe, *, steps_per_epoch: int, epochs: int) -> None:
    """Refuses a schedule that the run is too short for.

    Raises:
        InputError: the warm-up would last to the end of the run.
    """
    total = steps_per_epoch * epochs
    if recipe.warmup_steps and recipe.warmup_steps >= total:
        raise InputError(
            f"`optimiser.warmup_steps` is {recipe.warmup_steps}",
            expected=f"fewer than the run's {total} steps",
            remedy="lower it or train for more epochs",
        )
