"""The distillation stage: from a student recipe and a teacher's checkpoint to the student's checkpoint."""

from __future__ import annotations

from pathlib import Path

from personsearch.core.errors import InputError
from personsearch.core.files import sha256_file
from personsearch.core.manifest import TrainingData
from personsearch.core.recipes import DistillRecipe, HierarchicalRecipe
from personsearch.data import person_names_of
from personsearch.distill.hierarchical import hierarchical_task
from personsearch.models.checkpoint import Checkpoint, load_model
from personsearch.train.checkpoint import RunIdentity
from personsearch.train.loop import fit, open_fabric
from personsearch.train.run import open_training_set, start_model, training_batches, training_data
from personsearch.train.run_folder import open_run_folder


def run_distillation(recipe: DistillRecipe, run_dir: Path, *, resume: bool = False) -> Path:
    """Trains the student of ``recipe`` under its teacher.

    Args:
        recipe: the run.
        run_dir: the run folder (docs/conventions.md).
        resume: continue the run that the folder holds, if any.

    Returns:
        The student's checkpoint.

    Raises:
        InputError: the folder holds another run, the teacher is missing or knows other people, or nothing is
            distilled.
        TrainingDiverged: a loss, the gradient or the weights are no longer finite.
    """
    saved = open_run_folder(run_dir, recipe, resume=resume)
    check_settings(recipe.hierarchical)
    dataset = open_training_set(recipe)
    data = training_data(dataset)
    teacher_path = Path(recipe.teacher)
    teacher, source = load_model(teacher_path)
    check_teacher(source, teacher_path, recipe, dataset.person_count, data)
    fabric = open_fabric(recipe.precision)
    student, facts = start_model(recipe, dataset.person_count, run_dir, saved)
    facts["teacher"] = {"name": source.recipe.name, "checkpoint_sha256": sha256_file(teacher_path)}
    settings = recipe.hierarchical.model_dump()
    task = hierarchical_task(student, teacher, loss_weights=recipe.loss_weights, **settings)
    loader = training_batches(recipe, dataset, fabric.global_rank, fabric.world_size)
    facts["loader"] = loader.record
    identity = RunIdentity(recipe, dataset.person_count, data, person_names_of(dataset))
    return fit(task, loader, identity, run_dir, fabric, content=saved.content if saved else None, facts=facts)


def check_settings(settings: HierarchicalRecipe) -> None:
    """Refuses a recipe that distils nothing.

    Raises:
        InputError: every kind of knowledge is off, or a spatial one has no level.
    """
    if not (settings.feature or settings.attention or settings.prediction or settings.relation):
        raise InputError(
            "feature, attention, prediction and relation are all off",
            where="hierarchical",
            expected="at least one of them",
            remedy="train without a teacher with `personsearch train`",
        )
    if (settings.feature or settings.attention) and not settings.levels:
        raise InputError("`levels` is empty", where="hierarchical", expected="one of 0, 1, 2, person at least")


def check_teacher(
    teacher: Checkpoint, path: Path, recipe: DistillRecipe, person_count: int, data: tuple[TrainingData, ...]
) -> None:
    """Refuses a teacher whose identities are not those of the data set.

    Its identity logits would be compared column by column with the student's: a teacher of the same number of
    other people fits in shape and teaches nonsense.

    Raises:
        InputError: person count, data set or split differ.
    """
    split = teacher.recipe.data.split
    names = ", ".join(f"{entry.name} ({split}, {entry.identities} identities)" for entry in teacher.data)
    here = ", ".join(f"{entry.name} ({recipe.data.split}, {entry.identities} identities)" for entry in data)
    known = [(entry.name, entry.identities) for entry in teacher.data], teacher.person_count, split
    wanted = [(entry.name, entry.identities) for entry in data], person_count, recipe.data.split
    if known != wanted:
        raise InputError(
            f"was trained on {names}",
            where=f"teacher {path}",
            expected=f"the student's data: {here}",
            remedy="train a teacher on this data",
        )
