"""One run of a table: how far it is, training it to its end, measuring it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from pydantic import Field, ValidationError

from personsearch.benchmarks.ablation.plan import PlannedRun
from personsearch.benchmarks.accuracy import AccuracyResult, EvaluationOptions, measure_accuracy
from personsearch.benchmarks.flops import FlopsResult, count_model
from personsearch.benchmarks.pairwise import PairSystem, measure_pairwise
from personsearch.benchmarks.reentry import ReentryResult, SequenceFrame, measure_reentry
from personsearch.benchmarks.systems import TorchSystem
from personsearch.core.errors import InputError
from personsearch.core.files import expand_path, sha256_file, write_json
from personsearch.core.recipe import StrictModel, recipe_hash
from personsearch.core.recipes import DistillRecipe
from personsearch.data import SearchDataset
from personsearch.distill import run_distillation
from personsearch.models.checkpoint import load_model
from personsearch.models.query_guided import QueryGuided
from personsearch.models.search_model import SearchModel
from personsearch.train import run_training
from personsearch.train.record import previous_record
from personsearch.train.run_folder import open_run_folder


@dataclass(frozen=True)
class EvaluationData:
    """What finished runs are measured on.

    Attributes:
        dataset: a test split with queries.
        split: its name.
        sequence: name of the sequence whose people leave and come back; empty for none.
        frames: of that sequence.
    """

    dataset: SearchDataset
    split: str
    sequence: str = ""
    frames: Sequence[SequenceFrame] = ()


class RunFigures(StrictModel):
    """Everything measured on one finished run."""

    run: str
    recipe_hash: str
    accuracy: AccuracyResult
    flops: FlopsResult
    reentry: ReentryResult | None = Field(
        default=None, description="none for a network that searches nobody, or where the table has no sequence"
    )


def epochs_done(run: PlannedRun) -> int:
    """How far a run is, of ``run.recipe.epochs``.

    Raises:
        InputError: the folder holds a run of another recipe, or of another teacher of the same name.
    """
    if not run.checkpoint.exists():
        open_run_folder(run.folder, run.recipe, resume=True)  # refuses what is no folder
        return 0
    record = previous_record(run.folder)
    if record.get("recipe_hash") != recipe_hash(run.recipe):
        saved = open_run_folder(run.folder, run.recipe, resume=True)  # says what differs
        return int(saved.content["progress"]["epoch"]) if saved else 0
    _check_teachers(run, record)
    return int(record["epochs_done"])


def train_to_the_end(run: PlannedRun) -> None:
    """Starts a run, whose teachers are finished, or goes on with it; a finished one is left alone.

    Raises:
        InputError: see `epochs_done`, `run_training` and `run_distillation`.
        TrainingDiverged: a loss, the gradient or the weights are no longer finite.
    """
    if epochs_done(run) == run.recipe.epochs:
        return
    if isinstance(run.recipe, DistillRecipe):
        run_distillation(run.recipe, run.folder, resume=True)
    else:
        run_training(run.recipe, run.folder, resume=True)


def measure_run(run: PlannedRun, data: EvaluationData, *, file: Path) -> RunFigures:
    """Accuracy and operations of a finished run; what ``file`` holds already is not measured again.

    Raises:
        InputError: the split cannot be searched, nobody in the sequence comes back, or a frame cannot be read.
    """
    kept = kept_figures(run, data, file=file)
    if kept is not None and not _reentry_missing(kept, data):
        return kept
    model, _ = load_model(run.checkpoint)
    system = TorchSystem(model.to("cuda" if torch.cuda.is_available() else "cpu"), sha256_file(run.checkpoint))
    if kept is None:
        flops = count_model(model, subject=run.label)
        accuracy = _accuracy(model, system, data, run.label)
        kept = RunFigures(run=run.label, recipe_hash=recipe_hash(run.recipe), accuracy=accuracy, flops=flops)
        write_json(file, kept.model_dump(mode="json"))
    if _reentry_missing(kept, data):
        reentry = measure_reentry(system, data.frames, name=run.label, sequence=data.sequence, detector=system)
        kept = kept.model_copy(update={"reentry": reentry})
        write_json(file, kept.model_dump(mode="json"))
    return kept


def kept_figures(run: PlannedRun, data: EvaluationData, *, file: Path) -> RunFigures | None:
    """What ``file`` says about a run; none where there is no such file, or it is of another run or other data.

    Of another sequence than the table's, or where the table has none, re-entry is left out.
    """
    kept = read_figures(file)
    if kept is None or kept.recipe_hash != recipe_hash(run.recipe):
        return None
    if run.checkpoint.exists() and sha256_file(run.checkpoint) != kept.accuracy.sha256:
        return None
    dataset, there = data.dataset, kept.accuracy
    measured_on = there.dataset, there.split, there.protocol, there.images, there.options
    protocol = getattr(dataset, "protocol", "default")
    if measured_on != (dataset.name, data.split, protocol, len(dataset), EvaluationOptions()):
        return None
    walk = kept.reentry
    same = walk is not None and (walk.sequence, walk.frames) == (data.sequence, len(data.frames))
    return kept if same else kept.model_copy(update={"reentry": None})


def _reentry_missing(figures: RunFigures, data: EvaluationData) -> bool:
    return bool(data.frames) and figures.reentry is None and figures.accuracy.search is not None


def _accuracy(model: SearchModel, system: TorchSystem, data: EvaluationData, name: str) -> AccuracyResult:
    if isinstance(model, QueryGuided):
        return measure_pairwise(PairSystem(model, system.sha256), data.dataset, name=name, split=data.split)[0]
    return measure_accuracy(system, data.dataset, name=name, split=data.split)


def read_figures(file: Path) -> RunFigures | None:
    """The figures that a file holds; none where there is no such file, or it is of an older version."""
    if not file.is_file():
        return None
    try:
        return RunFigures.model_validate_json(file.read_text(encoding="utf-8"))
    except ValidationError:
        return None


def _check_teachers(run: PlannedRun, record: Mapping[str, Any]) -> None:
    """A teacher that was trained anew since then is another one: its student would not be of this table."""
    there = {path for teacher in run.teachers if (path := teacher.checkpoint).exists()}
    there |= {expand_path(str(path), where=run.label) for path in run.files}
    if not there:
        return
    found = {_sha256(path, path.stat().st_mtime_ns) for path in there}
    learned = {
        record[name][key]
        for name, key in (
            ("teacher", "checkpoint_sha256"), ("detection_teacher", "checkpoint_sha256"), ("lookup_table", "sha256"),
        )
        if name in record
    } | {record.get("init_from_sha256")}  # fmt: skip
    # Of an OpenVINO network, whose two files have a hash each, the first is the one that is named.
    learned |= {network["sha256"].partition("+")[0] for network in record.get("crop_teachers", ())}
    if not found <= learned:
        raise InputError(
            "learned from another teacher than the one that is there now",
            where=str(run.folder),
            expected=", ".join(sorted(map(str, there))),
            remedy="remove the folder to train it anew, or choose another --out",
        )


@cache
def _sha256(path: Path, changed_ns: int) -> str:
    return sha256_file(path)
