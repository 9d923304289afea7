"""The training loop. It knows one thing: ``task(batch) -> {"loss": Tensor, **parts}``."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from inspect import signature
from itertools import islice
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from lightning.fabric import Fabric
from lightning.fabric.strategies.ddp import DDPStrategy
from torch.nn.parallel import DistributedDataParallel as DDP

from personsearch.core.errors import InputError
from personsearch.core.recipes import TrainRecipe
from personsearch.data.loader import Batch
from personsearch.train.checkpoint import RunIdentity, write_checkpoint
from personsearch.train.divergence import TrainingDiverged, non_finite_value
from personsearch.train.optimiser import check_schedule, learning_rate
from personsearch.train.report import RunReport
from personsearch.train.run_folder import CHECKPOINT_NAME
from personsearch.train.step import StepTaker
from personsearch.train.task import Task

# Fills every new tensor with NaN in deterministic mode, 5 % of a step, to show reads of memory never written. By
# name, as torch makes it a property of a module, which type checkers do not see.
_FILL = "fill_uninitialized_memory"
# The argument's name in this torch.
_SYNC_BUFFERS = "forward_sync_buffers" if "forward_sync_buffers" in signature(DDP).parameters else "broadcast_buffers"
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
    # Buffers are not sent around before every forward pass: memories are equal by themselves, and running statistics
    # of batch norms play no part in training; those of the first process are saved.
    settings: dict[str, Any] = {_SYNC_BUFFERS: False}
    strategy = DDPStrategy(**settings) if processes * nodes > 1 else "auto"
    fabric = Fabric(accelerator="auto", devices=processes, num_nodes=nodes, strategy=strategy, precision=precision)
    fabric.launch()
    return fabric


def steps_per_epoch(loader: Batches, recipe: TrainRecipe) -> int:
    """Optimiser steps in an epoch; the last one may add up fewer batches than ``recipe.accumulate``."""
    return -(-len(loader) // recipe.accumulate)


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
        InputError: the schedule does not fit the run, or it is resumed with another number of processes.
    """
    recipe = identity.recipe
    check_schedule(recipe.optimiser, steps_per_epoch=steps_per_epoch(loader, recipe), epochs=recipe.epochs)
    with deterministic(fabric.device):
        return _Run(task, loader, identity, run_dir, fabric, content, facts or {}).train()


@contextmanager
def deterministic(device: torch.device) -> Iterator[None]:
    """Inside, equal runs give equal bits; not on a GPU, where some backward passes have no kernel for it and raise."""
    before, filled = torch.are_deterministic_algorithms_enabled(), getattr(torch.utils.deterministic, _FILL)
    torch.use_deterministic_algorithms(before or device.type == "cpu")
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
        self.steps_per_epoch = steps_per_epoch(loader, self.recipe)
        self.epoch = self.step = 0  # completed
        if content is not None:
            self.epoch, self.step = content["progress"]["epoch"], content["progress"]["step"]
            self._check_progress()
        self.start = self.epoch, self.step
        self.taker = StepTaker(task, self.recipe, fabric, content=content)

    def _check_progress(self) -> None:
        if self.step != self.epoch * self.steps_per_epoch:
            raise InputError(
                f"took {self.step} steps in {self.epoch} epochs, an epoch is {self.steps_per_epoch} steps here",
                where=str(self.run_dir / CHECKPOINT_NAME),
                remedy="resume with the data set and the number of processes that it began with",
            )

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
            total = self.steps_per_epoch * self.recipe.epochs
            start_epoch, start_step = self.start
            report = RunReport(
                self.run_dir, self.identity, self.facts, epoch=start_epoch, step=start_step, total_steps=total
            )
            self.report = stack.enter_context(report)
        return self.report

    def _train_epoch(self, stack: ExitStack) -> None:
        self.taker.module.train()
        self.loader.set_epoch(self.epoch)
        before = time.perf_counter()
        names: list[str] = []
        for batches in _in_groups(self.loader, self.recipe.accumulate):
            lr = learning_rate(
                self.recipe.optimiser, self.step, steps_per_epoch=self.steps_per_epoch, epochs=self.recipe.epochs
            )
            parts = self.taker.take(batches, epoch=self.epoch, step=self.step, lr=lr)
            self.step += 1
            names, now = [name for batch in batches for name in batch.names], time.perf_counter()
            if self.fabric.is_global_zero:
                images_per_s = len(names) * self.fabric.world_size / (now - before)
                self._report(stack).step_done(self.step, self.epoch + 1, lr, parts, images_per_s)
            before = now
        # The last update of an epoch is not followed by a loss that would show it broken.
        broken = non_finite_value(self.task.trained.state_dict())
        if broken is not None:
            raise TrainingDiverged("weights", broken, epoch=self.epoch + 1, step=self.step, names=names)
        self.epoch += 1

    def _save(self) -> None:
        write_checkpoint(
            self.run_dir / CHECKPOINT_NAME, self.identity, **self.taker.state(), epoch=self.epoch, step=self.step
        )


def _in_groups(loader: Batches, count: int) -> Iterator[list[Batch]]:
    """``count`` batches at a time; the last group of an epoch may have fewer."""
    batches = iter(loader)
    while group := list(islice(batches, count)):
        yield group
