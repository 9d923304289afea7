"""A distillation recipe's teachers: their files opened, and checked against the data before anything trains."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from personsearch.core.errors import InputError
from personsearch.core.files import expand_path, sha256_file
from personsearch.core.knowledge_recipes import CropNetworkRecipe
from personsearch.core.lookup_table_file import LookupTableFile, check_identities, read_lookup_table
from personsearch.core.manifest import TrainingData
from personsearch.core.recipe import validate
from personsearch.core.recipes import DistillRecipe
from personsearch.data import SearchDataset, person_names_of
from personsearch.distill.crop_teacher import CropTeacher, centres_of
from personsearch.distill.sources.crop_embedder import REID_PRESETS, CropEmbedder
from personsearch.distill.sources.network import open_network
from personsearch.distill.sources.pixels import PixelInput
from personsearch.distill.teachers import NetworkTeacher
from personsearch.models.checkpoint import Checkpoint, load_model, read_checkpoint
from personsearch.train.held_out import check_held_out
from personsearch.train.run import training_data

TABLE_SUFFIX = ".npz"
_ROWS = "memory.table.rows"


@dataclass(frozen=True)
class TeacherFiles:
    """What the blocks of a recipe learn from.

    Attributes:
        hierarchical: HDL's teacher, none without the block.
        detection: KD_det's.
        table: KD_reid's, and the file it is from.
        crops: re-ID networks on crops.
        facts: for the run's record.
    """

    hierarchical: NetworkTeacher | None
    detection: NetworkTeacher | None
    table: tuple[LookupTableFile, Path] | None
    crops: CropTeacher | None = None
    facts: dict[str, Any] = field(default_factory=dict)


def open_teachers(recipe: DistillRecipe, dataset: SearchDataset) -> TeacherFiles:
    """Opens every teacher of ``recipe``, each file once.

    A detector needs no identities; all others have to know those of ``dataset``, in its order. None may have been
    trained on images that ``recipe`` holds out.

    Raises:
        InputError: a file is missing or of another kind, a teacher's identities are not the data set's, or it has
            seen what is held out.
    """
    opened: dict[Path, tuple[NetworkTeacher, Checkpoint]] = {}
    facts: dict[str, Any] = {}
    main, data = expand_path(recipe.teacher, where="teacher"), training_data(dataset)

    def network(path: Path, name: str) -> tuple[NetworkTeacher, Checkpoint]:
        if path not in opened:
            model, checkpoint = load_model(path)
            opened[path] = NetworkTeacher(model, recipe.teacher_precision, sha256=sha256_file(path)), checkpoint
        teacher, checkpoint = opened[path]
        facts[name] = {"name": checkpoint.recipe.name, "checkpoint_sha256": teacher.sha256}
        return teacher, checkpoint

    hierarchical = detection = table = None
    if recipe.hierarchical is not None:
        hierarchical, checkpoint = network(main, "teacher")
        check_teacher(checkpoint, main, recipe, dataset.person_count, data)
        _check_names(checkpoint, main, dataset)
    if recipe.detection is not None:
        path = expand_path(recipe.detection.teacher or str(main), where="detection.teacher")
        detection, checkpoint = network(path, "detection_teacher")
        check_held_out(checkpoint, data[0], recipe, where=f"teacher {path}", same=False)
    if recipe.lookup_table is not None:
        path = expand_path(recipe.lookup_table.teacher or str(main), where="lookup_table.teacher")
        found = (
            _table_file(path, recipe, dataset)
            if path.suffix == TABLE_SUFFIX
            else _table_of_checkpoint(path, recipe, dataset)
        )
        table = found, path
        facts["lookup_table"] = {
            "source": found.source,
            "sha256": sha256_file(path),
            "width": found.table.shape[1],
            "identities_without_row": len(found.unseen),
        }
    crops = None
    if recipe.crops is not None:
        networks = [_crop_network(one, main) for one in recipe.crops.networks]
        crops = CropTeacher(networks, centres_of(networks, dataset, recipe.crops.centre_images))
        facts["crop_teachers"] = [{"source": one.source, "sha256": one.sha256} for one in networks]
    return TeacherFiles(hierarchical, detection, table, crops, facts)


def _crop_network(settings: CropNetworkRecipe, main: Path) -> CropEmbedder:
    file = expand_path(settings.file or str(main), where="crops.networks")
    stated = settings.model_dump(exclude={"file", "preset", "output"}, exclude_none=True)
    if settings.preset is not None and settings.preset not in REID_PRESETS:
        raise InputError(
            f"preset is `{settings.preset}`", where="crops.networks", expected=f"one of {', '.join(REID_PRESETS)}"
        )
    preset = {} if settings.preset is None else REID_PRESETS[settings.preset].model_dump()
    pixels = validate(PixelInput, {**preset, **stated}, where=f"crops.networks, {file.name}")
    # As many threads as torch beside it: two pools of them would fight for the same cores.
    return CropEmbedder(open_network(file, torch.get_num_threads()), pixels, settings.output)


def check_teacher(
    teacher: Checkpoint, path: Path, recipe: DistillRecipe, person_count: int, data: tuple[TrainingData, ...]
) -> None:
    """Refuses a teacher whose identities are not those of the data set.

    Its identity logits would be compared column by column with the student's: a teacher of the same number of
    other people fits in shape and teaches nonsense.

    Raises:
        InputError: person count, data set, split or what is held out of it differ.
    """
    check_held_out(teacher, data[0], recipe, where=f"teacher {path}", same=True)
    split = teacher.recipe.data.split
    # Data that only lends boxes has no identities: a teacher may have seen more of them, or none.
    there, own = ([entry for entry in entries if entry.identities > 0] for entries in (teacher.data, data))
    names = ", ".join(f"{entry.name} ({split}, {entry.identities} identities)" for entry in there) or "no identities"
    here = ", ".join(f"{entry.name} ({recipe.data.split}, {entry.identities} identities)" for entry in own)
    known = [(entry.name, entry.identities) for entry in there], teacher.person_count, split
    wanted = [(entry.name, entry.identities) for entry in own], person_count, recipe.data.split
    if known != wanted:
        raise InputError(
            f"was trained on {names}",
            where=f"teacher {path}",
            expected=f"the student's data: {here}",
            remedy="train a teacher on this data",
        )


def _check_names(teacher: Checkpoint, path: Path, dataset: SearchDataset) -> None:
    # A checkpoint from before names were kept has none: its data set and its number of people are all there is.
    names = person_names_of(dataset)
    if teacher.person_names and names:
        check_identities(teacher.person_names, names, where=f"teacher {path}", whose="the teacher")


def _table_file(path: Path, recipe: DistillRecipe, dataset: SearchDataset) -> LookupTableFile:
    found, names = read_lookup_table(path), person_names_of(dataset)
    options = _hold_out_options(recipe)
    remedy = "make it from this data set and split" + (f" with{options}" if options else "")
    if names or found.names:
        check_identities(found.names, names, where=str(path), whose="the look-up table", remedy=remedy)
    if len(found.table) != dataset.person_count:
        raise InputError(
            f"has rows for {len(found.table)} identities",
            where=str(path),
            expected=f"{dataset.person_count}, as {dataset.name} has",
            remedy=remedy,
        )
    return found


def _hold_out_options(recipe: DistillRecipe) -> str:
    """What `personsearch table` has to be told so that its rows are for the images that ``recipe`` trains on."""
    if not recipe.data.hold_out:
        return ""
    return f" --hold-out {recipe.data.hold_out:g} --hold-out-seed {recipe.data.hold_out_seed}"


def _table_of_checkpoint(path: Path, recipe: DistillRecipe, dataset: SearchDataset) -> LookupTableFile:
    checkpoint = read_checkpoint(path)
    check_teacher(checkpoint, path, recipe, dataset.person_count, training_data(dataset))
    _check_names(checkpoint, path, dataset)
    state = checkpoint.model_state
    if _ROWS not in state:
        raise InputError(
            f"`{checkpoint.recipe.model.kind}` has no look-up table",
            where=f"teacher {path}",
            expected="a network trained with OIM, or a look-up table file (.npz)",
            remedy=f"make a table of its embeddings: `personsearch table {path} {recipe.data.root} --out table.npz"
            f"{_hold_out_options(recipe)}`",
        )
    rows = state[_ROWS].numpy().astype(np.float32)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    # Rows of the published code's arithmetic are not of length 1; a student's cosines are to directions.
    rows = np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)
    source = f"look-up table of {checkpoint.recipe.name}"
    return LookupTableFile(checkpoint.person_names, rows, np.zeros(len(rows), np.int64), source)
