"""What remains of the accuracy: detection AP, search mAP and top-1 of checkpoint and engines on the same images.

The images are a data set's validation split, or a part of its training split. Never test, which no decision may see,
and a gate that refuses artifacts is one. Figures on images that the network was trained on are too high, for the
checkpoint and the engines alike; what counts here is how far they fall from one to the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from personsearch.core.detections import Detections, FloatArray
from personsearch.core.errors import InputError
from personsearch.core.geometry import Letterbox
from personsearch.core.manifest import TrainingData
from personsearch.core.preprocess import Frame, Preprocess
from personsearch.data import IGNORE, Query, Sample, SearchDataset, open_dataset
from personsearch.data.hold_out import HeldOutImages, HoldOut, hold_out
from personsearch.data.opening import format_of
from personsearch.evaluation import SearchEvaluator, detection_scores
from personsearch.export.frames import spread
from personsearch.export.rows import Graphs, Rows

VALIDATION = ("validation", "val")
TRAIN = "train"


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Images to measure on.

    Attributes:
        dataset: they and their queries.
        preprocess: the model's letterbox.
        description: which they are, in words, for the record.
    """

    dataset: SearchDataset
    preprocess: Preprocess
    description: str

    def __len__(self) -> int:
        return len(self.dataset)


@dataclass(frozen=True)
class EndFigures:
    """Shares in [0, 1], as `personsearch evaluate` has them; search figures are none without queries.

    Attributes:
        images: measured on.
        queries: asked.
        detection_ap: of detections at IoU 0.5 from the score threshold on.
        detection_recall: likewise.
        search_map: of queries' true boxes among the detections of the other images.
        top_1: likewise.
    """

    images: int
    queries: int
    detection_ap: float
    detection_recall: float
    search_map: float | None
    top_1: float | None

    def rounded(self) -> dict[str, Any]:
        """Plain values, to a hundredth of a point."""
        return {name: round(value, 4) if isinstance(value, float) else value for name, value in asdict(self).items()}


def labelled_images(
    root: Path, preprocess: Preprocess, images: int, training: Sequence[TrainingData] = ()
) -> LabelledImages | None:
    """The images of a data set that the end figures may be measured on: never those of its test split.

    The validation split where there is one. Else the part of the training split that training left out, where the
    checkpoint says which; else any part of the training split, whole people where possible.

    Args:
        root: the data set.
        preprocess: the model's letterbox.
        images: at most so many.
        training: what the checkpoint says it was trained on.

    Returns:
        None where nobody is labelled in them.

    Raises:
        InputError: not a data set, or one with neither a validation nor a training split.
    """
    splits = format_of(root).splits(root)
    split = next((name for name in (*VALIDATION, TRAIN) if name in splits), None)
    if split is None:
        raise InputError(
            f"has the splits {', '.join(splits)} only", where=str(root), expected=f"`{VALIDATION[0]}` or `{TRAIN}`"
        )
    whole = open_dataset(root, split)
    part, words = whole, f"{whole.name}, split {split}"
    if split == TRAIN:
        held_out = next((data.held_out for data in training if data.name == whole.name and data.held_out), None)
        if held_out is not None:
            part = HeldOutImages(whole, hold_out(whole, held_out.share, held_out.seed))
            words += ", images that training left out"
        else:
            words += ", images that training may have seen"
    if not len(part):
        return None
    part = HeldOutImages(part, _some(part, images))
    people = sum(int((part[index].person_ids != IGNORE).sum()) for index in range(len(part)))
    return LabelledImages(part, preprocess, f"{words}: {len(part)} images, {people} people") if people else None


def measure_end_figures(
    sides: Sequence[Graphs],
    labelled: LabelledImages,
    *,
    score_threshold: float,
    query_boxes: int,
    advance: Callable[[], object] = lambda: None,
) -> list[EndFigures]:
    """The figures of each side; every image is read once and shown to all of them.

    Args:
        sides: what is measured.
        labelled: the images.
        score_threshold: detections below it do not count.
        query_boxes: Q that the sides' query graphs take at once.
        advance: called after each image.
    """
    dataset, queries = labelled.dataset, labelled.dataset.queries
    samples: list[Sample] = []
    found: list[list[Detections]] = [[] for _ in sides]
    asked: list[dict[int, FloatArray]] = [{} for _ in sides]
    for index in range(len(dataset)):
        samples.append(dataset[index])
        image, letterbox = labelled.preprocess.letterbox(dataset.frame_bgr(index))
        numbers = [number for number, query in enumerate(queries) if query.image_index == index]
        boxes = _boxes(queries, numbers, letterbox)
        for graphs, detections, embeddings in zip(sides, found, asked, strict=True):
            detections.append(_detections(graphs.search(image).above(score_threshold), letterbox))
            embeddings.update(zip(numbers, _embed(graphs, image, boxes, query_boxes), strict=True))
        advance()
    return [
        _figures(detections, embeddings, queries, samples, score_threshold)
        for detections, embeddings in zip(found, asked, strict=True)
    ]


def drops(expected: EndFigures, found: EndFigures) -> dict[str, float]:
    """By how many points each figure of ``found`` lies below ``expected``; negative where it lies above."""
    lost = {}
    for name in ("detection_ap", "search_map", "top_1"):
        before, after = getattr(expected, name), getattr(found, name)
        if before is not None and after is not None:
            lost[name] = round(100 * (before - after), 3)
    return lost


def _some(dataset: SearchDataset, images: int) -> HoldOut:
    """All images, or about so many: whole people where labels allow, else spread evenly."""
    try:
        return hold_out(dataset, min(1.0, images / len(dataset)), seed=0)
    except InputError:  # rendered frames have no people that could be told apart beforehand
        chosen = spread(len(dataset), images, offset=0.5)
        return HoldOut(tuple(chosen), "stretches", len(chosen))  # each of one image


def _boxes(queries: Sequence[Query], numbers: Sequence[int], letterbox: Letterbox) -> FloatArray:
    boxes = np.array([queries[number].box_xyxy for number in numbers], dtype=np.float32).reshape(-1, 4)
    return letterbox.to_input(boxes).astype(np.float32)


def _detections(rows: Rows, letterbox: Letterbox) -> Detections:
    boxes = letterbox.to_source(rows.boxes).astype(np.float32)
    kept = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)  # a box in the padding has no area left
    return Detections(boxes[kept], rows.scores[kept], rows.embeddings[kept])


def _embed(graphs: Graphs, image: Frame, boxes: FloatArray, query_boxes: int) -> list[FloatArray]:
    """An embedding for each of any number of boxes, Q at a time."""
    rows: list[FloatArray] = []
    for start in range(0, len(boxes), query_boxes):
        chunk = boxes[start : start + query_boxes]
        padded = np.concatenate([chunk, np.repeat(chunk[-1:], query_boxes - len(chunk), axis=0)])
        rows += list(graphs.query(image, padded)[: len(chunk)])
    return rows


def _figures(
    found: Sequence[Detections],
    asked: dict[int, FloatArray],
    queries: Sequence[Query],
    samples: Sequence[Sample],
    score_threshold: float,
) -> EndFigures:
    detection = detection_scores(found, samples, score_threshold=score_threshold)
    search_map = top_1 = None
    if queries and len(asked[0]):
        evaluator = SearchEvaluator(queries, found, samples, score_threshold=score_threshold)
        scores = evaluator.scores(np.stack([asked[number] for number in range(len(queries))]), top_k=(1,))
        search_map, top_1 = scores.mean_ap, scores.top[1]
    return EndFigures(
        images=len(samples),
        queries=len(queries),
        detection_ap=detection.average_precision,
        detection_recall=detection.recall,
        search_map=search_map,
        top_1=top_1,
    )
