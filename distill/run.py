"""The distillation stage: from a student recipe and its teachers' files to the student's checkpoint."""

from __future__ import annotations

from pathlib import Path

from personsearch.core.errors import InputError
from personsearch.core.recipes import DetectionTransferRecipe, DistillRecipe, HierarchicalRecipe
from personsearch.data import person_names_of
from personsearch.distill.crop_teacher import crop_knowledge
from personsearch.distill.hierarchical import hierarchical_knowledge
from personsearch.distill.kd_det import detection_knowledge
from personsearch.distill.kd_reid import lookup_table_knowledge
from personsearch.distill.task import DistillationTask, Knowledge
from personsearch.distill.teacher_cache import CachedTrunk, cache_folder, count_variants
from personsearch.distill.teacher_files import TeacherFiles, open_teachers
from personsearch.distill.teachers import NetworkTeacher
from personsearch.models import SearchModel
from personsearch.models.detectors.regions import RegionSearch
from personsearch.train.checkpoint import RunIdentity
from personsearch.train.loop import fit, open_fabric
from personsearch.train.memory import check_run_memory
from personsearch.train.run import check_batch, open_training_set, start_model, training_batches, training_data
from personsearch.train.run_folder import open_run_folder
from personsearch.train.step import seed_torch


def run_distillation(recipe: DistillRecipe, run_dir: Path, *, resume: bool = False) -> Path:
    """Trains the student of ``recipe`` under its teachers.

    Args:
        recipe: the run.
        run_dir: the run folder (docs/conventions.md).
        resume: continue the run that the folder holds, if any.

    Returns:
        The student's checkpoint.

    Raises:
        InputError: the folder holds another run, a teacher is missing or knows other people, or nothing is
            distilled.
        TrainingDiverged: a loss, the gradient or the weights are no longer finite.
    """
    saved = open_run_folder(run_dir, recipe, resume=resume)
    if recipe.teacher_cache is not None:
        count_variants(recipe.data)
    if recipe.hierarchical is not None:
        check_settings(recipe.hierarchical)
    if recipe.detection is not None:
        check_detection(recipe.detection)
    dataset = open_training_set(recipe)
    teachers = open_teachers(recipe, dataset)
    fabric = open_fabric(recipe.precision)
    check_batch(recipe, len(dataset), fabric.world_size)
    networks = {part for part in (teachers.hierarchical, teachers.detection) if part is not None}  # often one
    check_run_memory(recipe, dataset.person_count, fabric, networks)
    student, facts = start_model(recipe, dataset, run_dir, saved)
    facts |= teachers.facts
    task = DistillationTask(student, knowledge_of(recipe, student, teachers), loss_weights=recipe.loss_weights)
    if recipe.teacher_cache is not None:
        facts["teacher_cache"] = keep_maps(recipe, task, len(dataset))  # grows with the run
    loader = training_batches(recipe, dataset, fabric.global_rank, fabric.world_size)
    facts["loader"] = loader.record
    identity = RunIdentity(recipe, dataset.person_count, training_data(dataset), person_names_of(dataset))
    return fit(task, loader, identity, run_dir, fabric, content=saved.content if saved else None, facts=facts)


def knowledge_of(recipe: DistillRecipe, student: SearchModel, teachers: TeacherFiles) -> list[Knowledge]:
    """What every block of ``recipe`` takes from its teacher; the student gets a frozen table where it has one.

    Raises:
        InputError: a teacher does not fit the student.
    """
    found = []
    seed_torch(recipe.seed, "adaptation")  # layers between student and teacher start the same way in every run
    if recipe.hierarchical is not None and teachers.hierarchical is not None:
        found.append(hierarchical_knowledge(teachers.hierarchical, **recipe.hierarchical.model_dump()))
    if recipe.detection is not None and teachers.detection is not None:
        settings = recipe.detection.model_dump(exclude={"teacher"})
        found.append(detection_knowledge(student, teachers.detection, **settings))
    if recipe.lookup_table is not None and teachers.table is not None:
        table, path = teachers.table
        block = recipe.lookup_table
        found.append(
            lookup_table_knowledge(
                student,
                table,
                lambda_oim=block.lambda_oim,
                scale=block.scale,
                projection=None if block.projection == "none" else block.projection,
                where=str(path),
            )
        )
    if recipe.crops is not None and teachers.crops is not None:
        weights = recipe.crops.model_dump(include={"lambda_embedding", "lambda_relation"})
        found.append(crop_knowledge(student, teachers.crops, **weights))
    return found


def keep_maps(recipe: DistillRecipe, task: DistillationTask, images: int) -> dict[str, dict[str, int]]:
    """Puts a cache before the trunk of every teacher that runs; counts of frames found and computed, by teacher.

    Raises:
        InputError: the recipe varies frames without end.
    """
    entries, records = images * count_variants(recipe.data), {}
    for teacher in task.teachers:
        if isinstance(teacher, NetworkTeacher) and isinstance(teacher.model, RegionSearch):
            wanted, precision = task.wanted(teacher), f"{recipe.precision} {recipe.teacher_precision}"
            folder = cache_folder(Path(recipe.teacher_cache or ""), teacher.sha256, wanted, precision)
            cached = CachedTrunk(teacher.model.trunk, folder, wanted=wanted, entries=entries)
            teacher.model.trunk = cached.eval()
            records[folder.name] = cached.record
    return records


def check_settings(settings: HierarchicalRecipe) -> None:
    """Refuses HDL's block where it distils nothing.

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


def check_detection(settings: DetectionTransferRecipe) -> None:
    """Refuses KD_det's block where it distils nothing.

    Raises:
        InputError: every part of it is off.
    """
    if not (settings.hint or settings.proposals or settings.refinement):
        raise InputError(
            "hint, proposals and refinement are all off",
            where="detection",
            expected="at least one of them",
            remedy="leave the block out",
        )
