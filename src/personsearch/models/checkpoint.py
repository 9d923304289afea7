"""Reading a checkpoint: tensors and plain containers only, checked before anything is built from it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from personsearch.core.errors import InputError
from personsearch.core.manifest import TrainingData
from personsearch.core.recipe import validate
from personsearch.core.recipes import DistillRecipe, TrainRecipe
from personsearch.models.build import build_model, without_start_weights
from personsearch.models.search_model import SearchModel

CHECKPOINT_FORMAT = "personsearch-checkpoint/1"


@dataclass(frozen=True)
class Checkpoint:
    """What a training run left behind.

    Attributes:
        recipe: the resolved recipe.
        person_count: identities of the training set.
        data: what it was trained on, and the terms.
        model_state: the network's state dict.
        content: the whole file, for resuming.
        person_names: what its publisher calls them, by person id; empty where it names nobody, or the file is older.
    """

    recipe: TrainRecipe | DistillRecipe
    person_count: int
    data: tuple[TrainingData, ...]
    model_state: dict[str, Tensor]
    content: dict[str, Any]
    person_names: tuple[str, ...] = ()


def read_checkpoint(path: Path) -> Checkpoint:
    """Reads and checks a checkpoint file, on the CPU.

    Raises:
        InputError: missing, unreadable, not one of this project's, or its recipe is not valid.
    """
    if not path.is_file():
        raise InputError("no such checkpoint", where=str(path), expected="a checkpoint.pt of a run folder")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise InputError(
            "cannot be read as a checkpoint",
            where=str(path),
            expected="a file written by `personsearch train`",
            remedy=str(error).splitlines()[0][:120],
        ) from None
    if not isinstance(content, dict) or content.get("format") != CHECKPOINT_FORMAT:
        raise InputError("is not a checkpoint of this project", where=str(path), expected=CHECKPOINT_FORMAT)
    missing = [key for key in ("kind", "recipe", "data", "person_count", "model") if key not in content]
    if missing:
        raise InputError(f"holds no `{missing[0]}`", where=str(path), expected="a file written by `personsearch train`")
    kind = DistillRecipe if content["kind"] == "distill" else TrainRecipe
    recipe = validate(kind, yaml.safe_load(content["recipe"]), where=f"{path} (recipe)")
    data = tuple(validate(TrainingData, entry, where=f"{path} (data)") for entry in content["data"])
    count, names = int(content["person_count"]), tuple(content.get("person_names", ()))
    if names and len(names) != count:
        raise InputError(f"names {len(names)} of {count} identities", where=str(path), expected="all of them, or none")
    return Checkpoint(recipe, count, data, content["model"], content, names)


def load_model(path: Path, *, input_wh: tuple[int, int] | None = None) -> tuple[SearchModel, Checkpoint]:
    """The network of a checkpoint, in evaluation mode.

    Args:
        path: the checkpoint.
        input_wh: network input in pixels, none for the training's. The network is convolutional and its anchors
            keep their size in pixels, so one trained on small frames serves large ones.

    Raises:
        InputError: as `read_checkpoint`, or the weights do not fit the recipe.
    """
    checkpoint = read_checkpoint(path)
    preprocess = checkpoint.recipe.preprocess
    if input_wh is not None:
        preprocess = preprocess.model_copy(update={"input_wh": input_wh})
    model = build_model(without_start_weights(checkpoint.recipe.model), preprocess, checkpoint.person_count)
    try:
        model.load_state_dict(checkpoint.model_state)
    except RuntimeError as error:
        raise InputError(
            "the weights do not fit the recipe inside",
            where=str(path),
            expected="a checkpoint of this model",
            remedy=str(error).splitlines()[-1].strip()[:160],
        ) from None
    return model.eval(), checkpoint
