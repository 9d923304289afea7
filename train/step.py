"""One optimiser step: the gradients of one batch, or of several whose gradients add up, and what follows from them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from lightning.fabric import Fabric
from torch import Tensor, nn

from personsearch.core.recipes import TrainRecipe
from personsearch.core.seeding import rng_for
from personsearch.data.loader import Batch
from personsearch.train.acceleration import accelerate
from personsearch.train.averaging import WeightAverage
from personsearch.train.divergence import TrainingDiverged, first_non_finite
from personsearch.train.optimiser import build_optimiser
from personsearch.train.task import Task, TaskBatch


def seed_torch(seed: int, *keys: int | str) -> None:
    """Seeds torch from ``(seed, keys)``, on every device."""
    torch.manual_seed(int(rng_for(seed, "torch", *keys).integers(2**63)))


class StepTaker:
    """A task with its optimiser on a device.

    A step over k batches descends the mean of their losses, each weighted by its images, so that a loss which is a
    mean over images has the gradient it would have on all of them at once. Not the same are batch norm, which
    normalises each batch by itself and moves its running statistics k times, and losses which are means over
    something else: over people, a batch with few of them counts as much as its images.

    With several processes every loss is the mean over them, and all of them take the same step. Memories are written
    once a step, after the weights moved (`Task.after_step`), and so is the average of the weights, where there is one.

    Args:
        task: what to train.
        recipe: precision, optimiser, seed and acceleration.
        fabric: device and processes.
        content: of a checkpoint to continue from, or none.

    Raises:
        InputError: nothing is trainable, or the recipe asks for a compiler that is not there.
    """

    def __init__(
        self, task: Task, recipe: TrainRecipe, fabric: Fabric, *, content: dict[str, Any] | None = None
    ) -> None:
        self._task, self._recipe, self._fabric = task, recipe, fabric
        auxiliary = task.auxiliary
        optimised = task.trained if auxiliary is None else nn.ModuleList([task.trained, auxiliary])
        optimiser = build_optimiser(optimised, recipe.optimiser)
        accelerate(task.trained, channels_last=recipe.channels_last, compiled=recipe.compile, device=fabric.device)
        if content is not None:
            task.trained.load_state_dict(content.get("live", content["model"]))
            if auxiliary is not None:
                auxiliary.load_state_dict(content["task"])
        self.module, self._optimiser = fabric.setup(task, optimiser)
        if content is not None:
            self._optimiser.load_state_dict(content["optimiser"])
            fabric.strategy.precision.load_state_dict(content["precision"])
        self._average: WeightAverage | None = None
        if recipe.ema_decay is not None:
            saved = None if content is None else content["model"]
            self._average = WeightAverage(task.trained, recipe.ema_decay, saved)

    @property
    def device(self) -> torch.device:
        """What the steps run on."""
        return self._fabric.device

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds of it: ``model``, ``task``, ``optimiser`` and ``precision``.

        Where weights are averaged, the average is the ``model``, and ``live`` are the weights to go on from.
        """
        auxiliary, live = self._task.auxiliary, self._task.trained.state_dict()
        return {
            **({"model": live} if self._average is None else {"model": self._average.state(), "live": live}),
            "task": {} if auxiliary is None else auxiliary.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "precision": self._fabric.strategy.precision.state_dict(),
        }

    def take(self, batches: Sequence[Batch], *, epoch: int, step: int, lr: float) -> dict[str, float]:
        """Takes one step.

        Args:
            batches: at least one; their gradients add up.
            epoch: from 0, for messages.
            step: optimiser steps taken before, of the whole run.
            lr: the learning rate.

        Returns:
            ``loss`` and its parts, means over the batches by their images, and over the processes.

        Raises:
            TrainingDiverged: a loss or the gradient is no longer finite; the weights are as they were.
            ValueError: the names of the losses differ between the batches.
        """
        for group in self._optimiser.param_groups:
            group["lr"] = lr
        # Seeded for each step, so that RoI sampling and dropout are the same after a resume.
        seed_torch(self._recipe.seed, "step", step, self._fabric.global_rank)
        self._optimiser.zero_grad()
        names, rows = self._backward(batches)
        parts = self._mean(names, rows, batches)
        where = {"epoch": epoch + 1, "step": step + 1}
        broken = first_non_finite(parts)
        if broken is not None:
            raise TrainingDiverged(broken, parts[broken], names=_culprits(batches, rows), **where)
        limit = math.inf if self._recipe.optimiser.clip_norm is None else self._recipe.optimiser.clip_norm
        norm = self._fabric.clip_gradients(self._task, self._optimiser, max_norm=limit, error_if_nonfinite=False)
        # In float16 an infinite gradient is how the loss scaler finds its scale; it skips the step by itself.
        if norm is not None and not torch.isfinite(norm) and self._recipe.precision != "16-mixed":
            raise TrainingDiverged("gradient", float(norm), names=_names(batches), **where)
        self._optimiser.step()
        self._task.after_step()
        if self._average is not None:
            self._average.update(step)
        return parts

    def _backward(self, batches: Sequence[Batch]) -> tuple[list[str], list[Tensor]]:
        """Adds up the gradients; the names of the losses and for each batch their values."""
        names: list[str] = []
        rows = []
        for number, (batch, share) in enumerate(zip(batches, _shares(batches), strict=True)):
            moved = TaskBatch(batch.images, batch.boxes, batch.person_ids, batch.names).to(self._fabric.device)
            # Processes exchange gradients once a step, in the last backward pass.
            with self._fabric.no_backward_sync(self.module, enabled=number < len(batches) - 1):
                losses: dict[str, Tensor] = self.module(moved)
                if names and list(losses) != names:
                    raise ValueError(f"losses {', '.join(losses)} after {', '.join(names)} in one step")
                names = list(losses)
                rows.append(torch.stack([loss.detach().float() for loss in losses.values()]))
                self._fabric.backward(losses["loss"] * share)
        return names, rows

    def _mean(self, names: Sequence[str], rows: Sequence[Tensor], batches: Sequence[Batch]) -> dict[str, float]:
        shares = torch.tensor(_shares(batches), device=rows[0].device)
        own = (torch.stack(list(rows)) * shares[:, None]).sum(dim=0)
        mean = self._fabric.all_reduce(own, reduce_op="mean")
        assert isinstance(mean, Tensor)
        return dict(zip(names, mean.tolist(), strict=True))


def _shares(batches: Sequence[Batch]) -> list[float]:
    counts = [len(batch.images) for batch in batches]
    return [count / sum(counts) for count in counts]


def _names(batches: Sequence[Batch]) -> list[str]:
    return [name for batch in batches for name in batch.names]


def _culprits(batches: Sequence[Batch], rows: Sequence[Tensor]) -> list[str]:
    """The images of the first batch with a broken loss; all of this process where another process has it."""
    broken = next(
        (batch for batch, row in zip(batches, rows, strict=True) if not bool(torch.isfinite(row).all())), None
    )
    return _names(batches) if broken is None else broken.names
