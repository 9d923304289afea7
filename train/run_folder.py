"""A run folder: what may be started in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from personsearch.core.errors import InputError
from personsearch.core.recipe import recipe_hash
from personsearch.core.recipes import TrainRecipe
from personsearch.models.checkpoint import Checkpoint, read_checkpoint

CHECKPOINT_NAME = "checkpoint.pt"


def open_run_folder(run_dir: Path, recipe: TrainRecipe, *, resume: bool) -> Checkpoint | None:
    """Makes sure that a run may write here.

    Returns:
        The checkpoint to continue from, or none for a start from the beginning; ``resume`` in a folder without
        a checkpoint starts there, as the run may have been killed in its first epoch.

    Raises:
        InputError: ``run_dir`` is no folder, holds a checkpoint of another recipe, or holds one and ``resume``
            is not set.
    """
    if run_dir.exists() and not run_dir.is_dir():
        raise InputError("is not a folder", where=str(run_dir), remedy="choose another --out")
    path = run_dir / CHECKPOINT_NAME
    if not path.exists():
        return None
    checkpoint = read_checkpoint(path)
    if type(checkpoint.recipe) is not type(recipe) or recipe_hash(checkpoint.recipe) != recipe_hash(recipe):
        raise InputError(
            f"holds a run of another recipe ({_difference(checkpoint.recipe, recipe)})",
            where=str(run_dir),
            expected=f"a run of `{recipe.name}` with recipe hash {recipe_hash(recipe)}",
            remedy="choose another --out",
        )
    if not resume:
        done = checkpoint.content["progress"]["epoch"]
        raise InputError(
            f"holds this run already, {done} of {recipe.epochs} epochs done",
            where=str(run_dir),
            remedy="continue it with --resume or choose another --out",
        )
    return checkpoint


def clear_leftovers(run_dir: Path) -> None:
    """Removes half-written files that a killed run left beside the whole ones."""
    for part in run_dir.glob(".*.part.*"):
        part.unlink()


def _difference(old: TrainRecipe, new: TrainRecipe) -> str:
    first, second = _flat(old.model_dump(mode="json")), _flat(new.model_dump(mode="json"))
    names = sorted(name for name in first.keys() | second.keys() if first.get(name) != second.get(name))
    shown = [f"{name}: {first.get(name, 'absent')} there, {second.get(name, 'absent')} here" for name in names[:3]]
    return ", ".join(shown) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {prefix: value}
    flat: dict[str, Any] = {}
    for name, part in value.items():
        flat |= _flat(part, f"{prefix}.{name}" if prefix else name)
    return flat
