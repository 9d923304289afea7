"""The detection score from which on a detection counts: chosen on images held out from training, never on test.

Held out can mean three things, and the result says which. (1) A split declared to be for validation, of which the
model has seen nothing: the honest case. (2) A part of the split that the model was trained on, from a model that was
trained on the rest of it; this project's training has no option for that, so make a data set of the rest. (3) A part
of a split that the model was trained on as a whole (``seen_in_training``). It has seen these images: people are found
there with higher scores than elsewhere, so that a threshold chosen there is rather too high for new images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field

from personsearch.benchmarks.accuracy import EvaluationOptions, prepare_search
from personsearch.benchmarks.collecting import Collected, collect
from personsearch.benchmarks.hold_out import HeldOutImages, HoldOut, Unit
from personsearch.benchmarks.systems import SearchSystem, checkpoint_file
from personsearch.core.errors import InputError
from personsearch.core.manifest import read_manifest
from personsearch.core.recipe import StrictModel
from personsearch.data import SearchDataset
from personsearch.evaluation import detection_scores

Criterion = Literal["search", "detection"]
CRITERIA: tuple[Criterion, ...] = ("search", "detection")
THRESHOLDS = tuple(round(0.05 * step, 2) for step in range(1, 20))
TOLERANCE = 0.001
"""Of two thresholds whose figures differ by less than this, the higher one: fewer detections, and nothing lost."""
_VALIDATION = ("val", "dev", "holdout", "hold-out", "hold_out", "heldout", "held-out", "held_out")


class ThresholdFigures(StrictModel):
    """What a threshold reaches on the images held out, all shares in [0, 1]."""

    threshold: float
    mean_ap: float | None = Field(description="of search; none where nobody can be searched")
    top_1: float | None
    f1: float = Field(description="harmonic mean of precision and recall of detection at IoU 0.5")
    precision: float
    recall: float
    detections: float = Field(description="for one image, mean")


class ScoreCalibration(StrictModel):
    """A score threshold, and what it was chosen on."""

    threshold: float
    criterion: Criterion = Field(description="search: highest mAP; detection: highest F1")
    dataset: str
    split: str
    seen_in_training: bool = Field(description="the model was trained on this split, see the module")
    unit: Unit = Field(description="what was held out whole")
    groups: int = Field(description="number of these")
    images: int = Field(description="held out")
    split_images: int
    queries: int
    protocol: str
    options: EvaluationOptions
    seed: int
    figures: tuple[ThresholdFigures, ...]


@dataclass(frozen=True)
class TrainingFacts:
    """What a model says that it was trained on."""

    names: tuple[str, ...]
    split: str


def training_facts(model: Path) -> TrainingFacts:
    """Names of data sets and the split from a checkpoint or an artifact.

    Raises:
        InputError: it is neither.
    """
    checkpoint = checkpoint_file(model)
    if checkpoint is None:
        manifest = read_manifest(model)
        data = manifest.recipe.get("data", {})
        return TrainingFacts(tuple(one.name for one in manifest.training_data), str(data.get("split", "train")))
    if checkpoint.suffix == ".npz":
        raise InputError(
            "holds detections, and nothing below their threshold",
            where=str(model),
            expected="a checkpoint, a run folder or an artifact folder",
        )
    from personsearch.models.checkpoint import read_checkpoint

    content = read_checkpoint(checkpoint)
    return TrainingFacts(tuple(one.name for one in content.data), content.recipe.data.split)


def check_split(facts: TrainingFacts, dataset: SearchDataset, split: str, *, declared: bool) -> bool:
    """Whether the model was trained on a split, of which a threshold may be chosen.

    Args:
        facts: of the model.
        dataset: the split.
        split: its name.
        declared: its owner says that it is for validation; so says a name such as ``val`` or ``validation``.

    Raises:
        InputError: the split is for testing, or is neither of training nor of validation.
    """
    name = split.lower()
    if "test" in name:
        raise InputError(
            f"split `{split}` is for testing: no setting may be chosen on it",
            where=dataset.name,
            remedy="name the training split or one for validation",
        )
    if dataset.name in facts.names and split == facts.split:
        return True
    if declared or name.startswith(_VALIDATION):
        return False
    raise InputError(
        f"split `{split}` is neither for validation nor what the model was trained on "
        f"({', '.join(facts.names)}, split `{facts.split}`)",
        where=dataset.name,
        remedy="name another split, or say --validation if no figure is ever reported on this one",
    )


def calibrate_score(
    system: SearchSystem,
    dataset: SearchDataset,
    held_out: HoldOut,
    *,
    name: str,
    split: str,
    seen_in_training: bool,
    criterion: Criterion = "search",
    options: EvaluationOptions | None = None,
    thresholds: Sequence[float] = THRESHOLDS,
    seed: int = 0,
) -> ScoreCalibration:
    """Measures each threshold on the images held out and takes the one with the best figure.

    Args:
        system: reports detections from the lowest of the thresholds on.
        dataset: the split.
        held_out: see `personsearch.benchmarks.hold_out.hold_out`.
        name: of the system.
        split: its name, which `check_split` has let pass.
        seen_in_training: what that returned.
        criterion: ``search``: mAP; ``detection``: F1.
        options: how queries are searched; none for the defaults.
        thresholds: candidates; the highest is taken of those within 0.001 of the best.
        seed: of the choice of images, for the record.

    Raises:
        InputError: nobody is labelled there, or the criterion is ``search`` and nobody can be searched.
        ValueError: the system leaves out detections that a threshold would keep.
    """
    if system.score_threshold > min(thresholds):
        raise ValueError(f"the system reports nothing below {system.score_threshold:g}, asked for {min(thresholds):g}")
    options = options or EvaluationOptions()
    images = HeldOutImages(dataset, held_out)
    where = f"{dataset.name}, split {split}, {len(images)} images held out"
    if criterion == "search" and not images.queries:
        raise InputError(
            "nobody stands in two of the images", where=where, remedy="hold out more, or choose --criterion detection"
        )
    collected = collect(system, images, name=name, detector=system, all_boxes=False)
    try:
        figures = tuple(_figures(collected, images, options, threshold) for threshold in sorted(thresholds))
    except ValueError as error:
        raise InputError(str(error), where=where) from None
    values = [one.f1 if criterion == "detection" else one.mean_ap or 0.0 for one in figures]
    chosen = max(row for row, value in enumerate(values) if value >= max(values) - TOLERANCE)
    return ScoreCalibration(
        threshold=figures[chosen].threshold,
        criterion=criterion,
        dataset=dataset.name,
        split=split,
        seen_in_training=seen_in_training,
        unit=held_out.unit,
        groups=held_out.groups,
        images=len(images),
        split_images=len(dataset),
        queries=len(images.queries),
        protocol=images.protocol,
        options=options,
        seed=seed,
        figures=figures,
    )


def _figures(
    collected: Collected, images: HeldOutImages, options: EvaluationOptions, threshold: float
) -> ThresholdFigures:
    assert collected.found is not None  # collected with a detector
    found = detection_scores(collected.found, collected.samples, score_threshold=threshold, mode=options.mode)
    both = found.precision + found.recall
    search = None
    if images.queries:
        search = prepare_search(collected, images, options, score_threshold=threshold).scores(top_k=(1,))
    return ThresholdFigures(
        threshold=threshold,
        mean_ap=None if search is None else search.mean_ap,
        top_1=None if search is None else search.top[1],
        f1=2 * found.precision * found.recall / both if both else 0.0,
        precision=found.precision,
        recall=found.recall,
        detections=found.detections / len(images),
    )
