"""The training loop. It knows one thing: ``task(batch) -> {"loss": Tensor, **parts}``."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from lightning.fabric import Fabric

from personsearch.core.errors import InputError
from personsearch.core.recipes import TrainRecipe
from personsearch.core.seeding import rng_for
from personsearch.data.loader import Batch
from personsearch.train.checkpoint import RunIdentity, write_checkpoint
from personsearch.train.divergence import TrainingDiverged, first_non_finite, non_finite_value
from personsearch.train.optimiser import build_optimiser, check_schedule, learning_rate
from personsearch.train.report import RunReport
from personsearch.train.run_folder import CHECKPOINT_NAME
from personsearch.train.task import Task, TaskBatch

# Fills every new tensor with NaN in deterministic mode, 5 % of a step, to show reads of memory never written. By
# name, as torch makes it a property of a module, which type checkers do not see.
_FILL = "fill_uninitialized_memory"
Precision = Literal["32-true", "bf16-mixed", "16-mixed"]


class Batches(Protocol):
    """What the loop asks of a loader: the batches of an epoch, the same ones each time it is asked."""

    def set_epoch(self, epoch: int) -> None: ...

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Batch]: ...


def open_fabric(precision: Precision) -> Fabric:
    """One device, a GPU where there is one, or as many processes as ``torchrun`` has started.

    Raises:
        InputError: half precision without a GPU; Fabric would quietly train in bfloat16 instead.
    """
    if precision == "16-mixed" and not torch.cuda.is_available():
        remedy = "set precision=bf16-mixed or precision=32-true"
        raise InputError("`precision` is 16-mixed", expected="a GPU for it", remedy=remedy)
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    nodes = int(os.environ.get("GROUP_WORLD_SIZE", "1"))
    strategy = "ddp" if processes * nodes > 1 else "auto"
    fabric = Fabric(accelerator="auto", devices=processes, num_nodes=nodes, strategy=strategy, precision=precision)
    fabric.launch()
    return fabric


def seed_torch(seed: int, *keys: int | str) -> None:
    """Seeds torch from ``(seed, keys)``, on every device."""
    torch.manual_seed(int(rng_for(seed, "torch", *keys).integers(2**63)))


def fit(
    task: Task,
    loader: Batches,
    identity: RunIdentity,
    run_dir: Path,
    fabric: Fabric,
    *,
    content: dict[str, Any] | None = None,
    facts: dict[str, Any] | None = None,
) -> Path:
    """Trains ``task`` to the recipe's last epoch, saving after each one.

    Killed at any moment and called again with the saved ``content``, it ends with the same weights and the same
    rows in ``metrics.csv`` (but for the images a second) as if it had not been.

    Args:
        task: what to train.
        loader: its batches.
        identity: recipe, person count and data.
        run_dir: the run folder.
        fabric: device and precision.
        content: of the checkpoint to continue from, or none.
        facts: more for ``run.json``.

    Returns:
        The checkpoint's path.

    Raises:
        TrainingDiverged: a loss, the gradient or the weights are no longer finite.
        InputError: the schedule does not fit the run.
    """
    recipe = identity.recipe
    check_schedule(recipe.optimiser, steps_per_epoch=len(loader), epochs=recipe.epochs)
    with _deterministic(fabric):
        return _Run(task, loader, identity, run_dir, fabric, content, facts or {}).train()


@contextmanager
def _deterministic(fabric: Fabric) -> Iterator[None]:
    # On a GPU some backward passes have no deterministic kernel and would raise.
    before, filled = torch.are_deterministic_algorithms_enabled(), getattr(torch.utils.deterministic, _FILL)
    torch.use_deterministic_algorithms(before or fabric.device.type == "cpu")
    setattr(torch.utils.deterministic, _FILL, False)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        setattr(torch.utils.deterministic, _FILL, filled)


class _Run:
    """The state of one call of `fit`."""

    def __init__(
        self,
        task: Task,
        loader: Batches,
        identity: RunIdentity,
        run_dir: Path,
        fabric: Fabric,
        content: dict[str, Any] | None,
        facts: dict[str, Any],
    ) -> None:
        self.task, self.loader, self.identity, self.run_dir, self.fabric = task, loader, identity, run_dir, fabric
        self.recipe: TrainRecipe = identity.recipe
        self.facts = facts
        self.report: RunReport | None = None
        self.epoch = self.step = 0  # completed
        optimiser = build_optimiser(task.trained, self.recipe.optimiser)
        if content is not None:
            task.trained.load_state_dict(content["model"])
        self.module, self.optimiser = fabric.setup(task, optimiser)
        if content is not None:
            self.optimiser.load_state_dict(content["optimiser"])
            fabric.strategy.precision.load_state_dict(content["precision"])
            self.epoch, self.step = content["progress"]["epoch"], content["progress"]["step"]
        self.start = self.epoch, self.step

    def train(self) -> Path:
        with ExitStack() as stack:
            while self.epoch < self.recipe.epochs:
                self._train_epoch(stack)
                if self.fabric.is_global_zero:
                    self._save()
                    self._report(stack).epoch_done(self.epoch, self.step)
                self.fabric.barrier()
            if self.fabric.is_global_zero:
                self._report(stack)  # a run killed just before its last record gets it now
        return self.run_dir / CHECKPOINT_NAME

    def _report(self, stack: ExitStack) -> RunReport:
        # Opened after the first step: what only shows there (a loss weight of no loss, a tap that is not there)
        # leaves no run folder behind.
        if self.report is None:
            total = len(self.loader) * self.recipe.epochs
            start_epoch, start_step = self.start
            report = RunReport(
                self.run_dir, self.identity, self.facts, epoch=start_epoch, step=start_step, total_steps=total
            )
            self.report = stack.enter_context(report)
        return self.report

    def _train_epoch(self, stack: ExitStack) -> None:
        self.module.train()
        self.loader.set_epoch(self.epoch)
        before = time.perf_counter()
        names: list[str] = []
        for batch in self.loader:
            lr, parts = self._take_step(batch)
            names, now = batch.names, time.perf_counter()
            if self.fabric.is_global_zero:
                self._report(stack).step_done(self.step, self.epoch + 1, lr, parts, len(names) / (now - before))
            before = now
        # The last update of an epoch is not followed by a loss that would show it broken.
        broken = non_finite_value(self.task.trained.state_dict())
        if broken is not None:
            raise TrainingDiverged("weights", broken, epoch=self.epoch + 1, step=self.step, names=names)
        self.epoch += 1

    def _take_step(self, batch: Batch) -> tuple[float, dict[str, float]]:
        where = {"epoch": self.epoch + 1, "step": self.step + 1}
        lr = learning_rate(
            self.recipe.optimiser, self.step, steps_per_epoch=len(self.loader), epochs=self.recipe.epochs
        )
        for group in self.optimiser.param_groups:
            group["lr"] = lr
        # Seeded for each step, so that RoI sampling and dropout are the same after a resume.
        seed_torch(self.recipe.seed, "step", self.step, self.fabric.global_rank)
        self.optimiser.zero_grad()
        images = TaskBatch(batch.images, batch.boxes, batch.person_ids, batch.names).to(self.fabric.device)
        losses = self.module(images)
        parts = {name: float(loss.detach()) for name, loss in losses.items()}
        broken = first_non_finite(parts)
        if broken is not None:
            raise TrainingDiverged(broken, parts[broken], names=batch.names, **where)
        self.fabric.backward(losses["loss"])
        limit = math.inf if self.recipe.optimiser.clip_norm is None else self.recipe.optimiser.clip_norm
        norm = self.fabric.clip_gradients(self.task, self.optimiser, max_norm=limit, error_if_nonfinite=False)
        # In float16 an infinite gradient is how the loss scaler finds its scale; it skips the step by itself.
        if norm is not None and not torch.isfinite(norm) and self.recipe.precision != "16-mixed":
            raise TrainingDiverged("gradient", float(norm), names=batch.names, **where)
        self.optimiser.step()
        self.task.after_step()
        self.step += 1
        return lr, parts

    def _save(self) -> None:
        write_checkpoint(
            self.run_dir / CHECKPOINT_NAME,
            self.identity,
            model=self.task.trained.state_dict(),
            optimiser=self.optimiser.state_dict(),
            precision=self.fabric.strategy.precision.state_dict(),
            epoch=self.epoch,
            step=self.step,
        )
