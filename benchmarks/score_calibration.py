"""The detection score from which on a detection counts: chosen on images held out from training, never on test.

Held out can mean three things, and the result says which. (1) A split declared to be for validation, of which the
model has seen nothing. (2) The part of its training split that the model's recipe held out (`data.hold_out`), known
again by its labels. (3) A part of a split that the model was trained on as a whole (``seen_in_training``). It has seen
these images: people are found there with higher scores than elsewhere, so that a threshold chosen there is rather too
high for new images.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field

from personsearch.benchmarks.accuracy import EvaluationOptions, prepare_search
from personsearch.benchmarks.collecting import Collected, collect
from personsearch.benchmarks.systems import SearchSystem, checkpoint_file
from personsearch.core.errors import InputError
from personsearch.core.manifest import HeldOutUnit, TrainingData, read_manifest
from personsearch.core.recipe import StrictModel
from personsearch.data import SearchDataset
from personsearch.data.hold_out import HeldOutImages, HoldOut, find_held_out, hold_out
from personsearch.data.readable import skipped_images_of
from personsearch.evaluation import detection_scores

Criterion = Literal["search", "detection"]
CRITERIA: tuple[Criterion, ...] = ("search", "detection")
THRESHOLDS = tuple(round(0.05 * step, 2) for step in range(1, 20))
TRAINING_SHARE = 0.2
"""Of a training split that the model was trained on as a whole."""
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
    seen_in_training: bool = Field(description="the model was trained on these images, see the module")
    unit: HeldOutUnit = Field(description="what was held out whole")
    groups: int = Field(description="number of these")
    images: int = Field(description="held out")
    skipped_images: int = Field(description="further ones that could not be read; nothing here is of them")
    split_images: int
    queries: int
    identities: int = Field(description="that stand in the images held out")
    trained_identities: int | None = Field(
        description="of these, whom the model was trained on, in these images or others; none for another split"
    )
    protocol: str
    options: EvaluationOptions
    seed: int
    figures: tuple[ThresholdFigures, ...]


@dataclass(frozen=True)
class TrainingFacts:
    """What a model says that it was trained on.

    Attributes:
        data: the data sets; of the first one people are learnt.
        split: of that one.
        skip_bad: images that could not be read were passed over.
    """

    data: tuple[TrainingData, ...]
    split: str
    skip_bad: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """Of the data sets."""
        return tuple(one.name for one in self.data)


def training_facts(model: Path) -> TrainingFacts:
    """Data sets, split and what was held out of it, from a checkpoint or an artifact.

    Raises:
        InputError: it is neither.
    """
    checkpoint = checkpoint_file(model)
    if checkpoint is None:
        manifest = read_manifest(model)
        data = manifest.recipe.get("data", {})
        split, skip_bad = str(data.get("split", "train")), bool(data.get("skip_bad", False))
        return TrainingFacts(manifest.training_data, split, skip_bad)
    if checkpoint.suffix == ".npz":
        raise InputError(
            "holds detections, and nothing below their threshold",
            where=str(model),
            expected="a checkpoint, a run folder or an artifact folder",
        )
    from personsearch.models.checkpoint import read_checkpoint

    content = read_checkpoint(checkpoint)
    return TrainingFacts(content.data, content.recipe.data.split, content.recipe.data.skip_bad)


@dataclass(frozen=True)
class Chosen:
    """Images to choose a threshold on.

    Attributes:
        held_out: which they are.
        seen: the model was trained on them.
        trained_people: identities in the split, by their numbers there, whom it was trained on; none where this is
            not the split that it was trained on.
    """

    held_out: HoldOut
    seen: bool
    trained_people: frozenset[int] | None = None


def choose_images(
    facts: TrainingFacts,
    dataset: SearchDataset,
    split: str,
    *,
    share: float | None = None,
    seed: int | None = None,
    declared: bool = False,
) -> Chosen:
    """The images of a split on which a threshold may be chosen.

    Where the model's recipe held out a part of this split, it is that part; else ``share`` of the split, which is 0.2
    of one that the model was trained on, and all of another.

    Args:
        facts: of the model.
        dataset: the split.
        split: its name.
        share: of its images; none for the above.
        seed: of the choice; none for the recipe's, or 0.
        declared: see `check_split`.

    Raises:
        InputError: see `check_split` and `hold_out`; ``share`` or ``seed`` is not the recipe's, or the data set is not
            the one that the model was trained on.
    """
    if not check_split(facts, dataset, split, declared=declared):
        return Chosen(hold_out(dataset, 1.0 if share is None else share, seed or 0), seen=False)
    entry = next(one for one in facts.data if one.name == dataset.name)
    if entry.held_out is None:
        held_out = hold_out(dataset, TRAINING_SHARE if share is None else share, seed or 0)
        return Chosen(held_out, seen=True, trained_people=frozenset(range(dataset.person_count)))
    wanted = entry.held_out.share, entry.held_out.seed
    asked = wanted[0] if share is None else share, wanted[1] if seed is None else seed
    if asked != wanted:
        raise InputError(
            f"--hold-out {asked[0]:g} --seed {asked[1]} is not what training held out",
            where=f"{dataset.name}, split {split}",
            expected=f"--hold-out {wanted[0]:g} --seed {wanted[1]}, as its recipe: other images it has seen",
            remedy="leave both options out",
        )
    held_out, rest = find_held_out(dataset, entry, skip_bad=facts.skip_bad)
    return Chosen(held_out, seen=False, trained_people=frozenset(rest.person_ids.tolist()))


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
    chosen: Chosen,
    *,
    name: str,
    split: str,
    criterion: Criterion = "search",
    options: EvaluationOptions | None = None,
    thresholds: Sequence[float] = THRESHOLDS,
    readable: Callable[[SearchDataset], SearchDataset] | None = None,
) -> ScoreCalibration:
    """Measures each threshold on the images held out and takes the one with the best figure.

    Args:
        system: reports detections from the lowest of the thresholds on.
        dataset: the split.
        chosen: its images, see `choose_images`.
        name: of the system.
        split: the split's name.
        criterion: ``search``: mAP; ``detection``: F1.
        options: how queries are searched; none for the defaults.
        thresholds: candidates; the highest is taken of those within 0.001 of the best.
        readable: leaves out images that cannot be read; none: the first of them is an error.

    Raises:
        InputError: nobody is labelled there, or the criterion is ``search`` and nobody can be searched.
        ValueError: the system leaves out detections that a threshold would keep.
    """
    if system.score_threshold > min(thresholds):
        raise ValueError(f"the system reports nothing below {system.score_threshold:g}, asked for {min(thresholds):g}")
    options = options or EvaluationOptions()
    held_out = chosen.held_out
    images: SearchDataset = HeldOutImages(dataset, held_out)
    if readable is not None:
        images = readable(images)
    people = _people(images)
    searched = _can_be_searched(images, people)
    where = f"{dataset.name}, split {split}, {len(images)} images held out"
    if criterion == "search" and not searched:
        raise InputError(
            "nobody stands in two of the images", where=where, remedy="hold out more, or choose --criterion detection"
        )
    collected = collect(system, images, name=name, detector=system, all_boxes=False)
    try:
        figures = tuple(_figures(collected, images, options, threshold, searched) for threshold in sorted(thresholds))
    except ValueError as error:
        raise InputError(str(error), where=where) from None
    values = [one.f1 if criterion == "detection" else one.mean_ap or 0.0 for one in figures]
    best = max(row for row, value in enumerate(values) if value >= max(values) - TOLERANCE)
    return ScoreCalibration(
        threshold=figures[best].threshold,
        criterion=criterion,
        dataset=dataset.name,
        split=split,
        seen_in_training=chosen.seen,
        unit=held_out.unit,
        groups=held_out.groups,
        images=len(images),
        skipped_images=len(skipped_images_of(images)),
        split_images=len(dataset),
        queries=len(images.queries),
        identities=len(people),
        trained_identities=None if chosen.trained_people is None else len(people.keys() & chosen.trained_people),
        protocol=getattr(images, "protocol", "default"),
        options=options,
        seed=held_out.seed,
        figures=figures,
    )


def _people(images: SearchDataset) -> dict[int, set[int]]:
    """The images that show each identity."""
    shown: dict[int, set[int]] = {}
    for index in range(len(images)):
        ids = images[index].person_ids
        for person in ids[ids >= 0].tolist():
            shown.setdefault(person, set()).add(index)
    return shown


def _can_be_searched(images: SearchDataset, people: Mapping[int, set[int]]) -> bool:
    """Whether somebody who is searched stands in another image of their gallery."""
    for query in images.queries:
        others = people.get(query.person_id, set()) - {query.image_index}
        if others and (query.gallery is None or not others.isdisjoint(query.gallery.tolist())):
            return True
    return False


def _figures(
    collected: Collected, images: SearchDataset, options: EvaluationOptions, threshold: float, searched: bool
) -> ThresholdFigures:
    assert collected.found is not None  # collected with a detector
    found = detection_scores(collected.found, collected.samples, score_threshold=threshold, mode=options.mode)
    both = found.precision + found.recall
    search = None
    if searched:
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
