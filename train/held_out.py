"""What a run may take from another one, so that the images it holds out stay unseen."""

from __future__ import annotations

from personsearch.core.errors import InputError
from personsearch.core.manifest import HeldOutPart, TrainingData
from personsearch.core.recipes import TrainRecipe
from personsearch.models.checkpoint import Checkpoint


def check_held_out(given: Checkpoint, own: TrainingData, recipe: TrainRecipe, *, where: str, same: bool) -> None:
    """Refuses a checkpoint that was trained on images that this run holds out.

    Data sets are the same where name and split are. A checkpoint of other data may have held out what it likes.

    Args:
        given: a teacher, or weights to start from.
        own: what this run trains on.
        recipe: of this run.
        where: the file at fault, for the message.
        same: a checkpoint that held out more than this run is refused too, as a teacher of identities has to be.

    Raises:
        InputError: what the two hold out differs.
    """
    if given.recipe.data.split != recipe.data.split:
        return
    there = next((entry for entry in given.data if entry.name == own.name), None)
    if there is None or there.held_out == own.held_out or (own.held_out is None and not same):
        return
    share, seed = recipe.data.hold_out, recipe.data.hold_out_seed
    raise InputError(
        f"{_said(there.held_out)} of {own.name}, split `{recipe.data.split}`",
        where=where,
        expected=f"as this run, which {_said(own.held_out)}",
        remedy=f"train it with data.hold_out={share:g} data.hold_out_seed={seed} on the same labels",
    )


def _said(part: HeldOutPart | None) -> str:
    if part is None:
        return "held nothing out"
    return f"held out {part.images} images (share {part.share:g}, seed {part.seed}, labels {part.sha256[:8]})"
