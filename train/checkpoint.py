"""What a run saves after every epoch, and what a model takes from another run's weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from personsearch.core.errors import InputError
from personsearch.core.files import atomic_file
from personsearch.core.manifest import TrainingData
from personsearch.core.recipe import dump_recipe
from personsearch.core.recipes import DistillRecipe, TrainRecipe
from personsearch.models.checkpoint import CHECKPOINT_FORMAT, read_checkpoint

Kind = Literal["train", "distill"]


@dataclass(frozen=True)
class RunIdentity:
    """What a run is, apart from its weights.

    Attributes:
        recipe: resolved.
        person_count: identities of the training set.
        data: what is trained on, and the terms.
        person_names: what the training set's publisher calls its identities, empty where it does not say.
    """

    recipe: TrainRecipe | DistillRecipe
    person_count: int
    data: tuple[TrainingData, ...]
    person_names: tuple[str, ...] = ()

    @property
    def kind(self) -> Kind:
        """Which recipe class the run has; a checkpoint's recipe is read back with it."""
        return "distill" if isinstance(self.recipe, DistillRecipe) else "train"


def write_checkpoint(
    path: Path,
    identity: RunIdentity,
    *,
    model: dict[str, Tensor],
    task: dict[str, Any],
    optimiser: dict[str, Any],
    precision: dict[str, Any],
    epoch: int,
    step: int,
    live: dict[str, Tensor] | None = None,
) -> None:
    """Writes a checkpoint atomically: the old one stands until the new one is complete.

    Equal runs write equal bytes. No random state is stored: torch is seeded anew from (seed, step) before every
    step, and batches depend on (seed, epoch, position) alone.

    Args:
        path: the file to replace.
        identity: recipe and data.
        model: state dict of the network as it is evaluated, exported and taught from.
        task: state dict of what is trained beside it (`Task.auxiliary`), empty without one.
        optimiser: its state dict.
        precision: state of the gradient scaler, empty without one.
        epoch: epochs completed.
        step: optimiser steps taken.
        live: where ``model`` is an average of weights, the weights to go on training from.
    """
    content = {
        "format": CHECKPOINT_FORMAT,
        "kind": identity.kind,
        "recipe": dump_recipe(identity.recipe),
        "model": dict(model),
        "person_count": identity.person_count,
        "person_names": list(identity.person_names),
        "data": [entry.model_dump(mode="json", exclude_none=True) for entry in identity.data],
        "task": task,
        "optimiser": optimiser,
        "scheduler": {"step": step},
        "precision": precision,
        "progress": {"epoch": epoch, "step": step},
        **({} if live is None else {"live": dict(live)}),
        "random": {"seed": identity.recipe.seed, "scheme": "torch seeded from (seed, step) before every step"},
    }
    # Through a file object: given a path, torch writes the temporary name into the archive.
    with atomic_file(path) as part, part.open("wb") as file:
        torch.save(content, file)


@dataclass(frozen=True)
class WeightTransfer:
    """Which weights a model did not take from a checkpoint, by name.

    Attributes:
        other_shape: present in both, of different shapes (the identity layer of another data set).
        missing: the model's, not in the checkpoint.
        unused: the checkpoint's, not in the model.
    """

    other_shape: tuple[str, ...]
    missing: tuple[str, ...]
    unused: tuple[str, ...]

    def describe(self) -> str:
        """One line; empty where everything was taken."""
        groups = (("of another shape", self.other_shape), ("not in it", self.missing), ("not used", self.unused))
        return "; ".join(f"{title}: {', '.join(names)}" for title, names in groups if names)


def load_matching_weights(model: nn.Module, path: Path) -> WeightTransfer:
    """Copies weights of equal name and shape from a checkpoint into ``model``; the rest stays as it was.

    Raises:
        InputError: no checkpoint, or no weight of it fits.
    """
    given, own = read_checkpoint(path).model_state, model.state_dict()
    common = [name for name in own if name in given]
    fitting = {name: given[name] for name in common if given[name].shape == own[name].shape}
    if not fitting:
        raise InputError("no weight of it fits the model", where=f"init_from {path}", expected="a related model")
    model.load_state_dict(fitting, strict=False)
    return WeightTransfer(
        tuple(name for name in common if name not in fitting),
        tuple(name for name in own if name not in given),
        tuple(name for name in given if name not in own),
    )
