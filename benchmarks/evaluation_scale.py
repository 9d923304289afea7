"""How long the search evaluation takes and what memory it needs, at the size of public test sets and at ten times that.

Ten times the queries, ten times the detections, and both: linear in each means 10, 10 and 100 times the work.

The detections are drawn: as many images, boxes, identities and queries as PRW's and CUHK-SYSU's test sets, embeddings
of 256 values in which the person shows. Each measurement runs in a process of its own: its peak memory is its own.
"""

from __future__ import annotations

import multiprocessing
import resource
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from multiprocessing.connection import Connection

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from personsearch.core.detections import Detections, FloatArray
from personsearch.core.recipe import StrictModel
from personsearch.core.seeding import rng_for
from personsearch.core.similarity import l2_normalise
from personsearch.evaluation import SearchEvaluator


@dataclass(frozen=True)
class Workload:
    """The size of a test set.

    Attributes:
        images: of the test split.
        boxes: people in them; one detection each, and one false one in ten.
        identities: labelled people; the boxes of one are spread over the images.
        labelled: share of the boxes with an identity.
        queries: searches.
        gallery: images searched for one query; none for all but its own.
        embedding_dim: values of an embedding.
    """

    images: int
    boxes: int
    identities: int
    labelled: float
    queries: int
    gallery: int | None
    embedding_dim: int = 256

    def grown(self, *, queries: int = 1, detections: int = 1) -> Workload:
        """The same with more queries, or with more images, detections and galleries."""
        gallery = None if self.gallery is None else self.gallery * detections
        return replace(
            self,
            images=self.images * detections,
            boxes=self.boxes * detections,
            identities=self.identities * detections,
            queries=self.queries * queries,
            gallery=gallery,
        )


WORKLOADS: Mapping[str, Workload] = {
    "prw": Workload(6112, 25_062, 544, 19_127 / 25_062, 2057, None),
    "cuhk-sysu-100": Workload(6978, 40_871, 2900, 8_345 / 40_871, 2900, 100),
    "cuhk-sysu-4000": Workload(6978, 40_871, 2900, 8_345 / 40_871, 2900, 4000),
}


class ScaleFigures(StrictModel):
    """One measurement."""

    queries: int
    images: int
    detections: int
    seconds: float = Field(description="from lists of detections to figures")
    peak_gib: float = Field(description="largest resident memory of the process, the input included")
    input_gib: float = Field(description="the same before the evaluation began")


@dataclass(frozen=True, eq=False)
class _Image:
    boxes_xyxy: FloatArray
    person_ids: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class _Query:
    image_index: int
    person_id: int
    gallery: NDArray[np.int64] | None
    answers_xyxy: FloatArray | None = None


def measure_scale(workload: Workload) -> ScaleFigures:
    """Times one evaluation in a fresh process.

    Raises:
        RuntimeError: the process ended without a result, as it does when memory runs out.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(workload, sender))
    process.start()
    sender.close()
    try:
        figures: ScaleFigures = receiver.recv()
    except EOFError:
        process.join()
        raise RuntimeError(f"the measurement ended with exit code {process.exitcode}") from None
    process.join()
    return figures


def measure_growth(workload: Workload) -> dict[str, ScaleFigures]:
    """Times a workload, then ten times its queries, ten times its detections, and both.

    Raises:
        RuntimeError: see `measure_scale`.
    """
    grown = {
        "1x": workload,
        "10x_queries": workload.grown(queries=10),
        "10x_detections": workload.grown(detections=10),
        "10x_both": workload.grown(queries=10, detections=10),
    }
    return {name: measure_scale(one) for name, one in grown.items()}


def draw(workload: Workload, seed: int = 0) -> tuple[list[_Query], FloatArray, list[Detections], list[_Image]]:
    """Queries with their embeddings, detections and truth of a test set of that size."""
    rng = rng_for(seed, "evaluation scale")
    images, boxes, width = workload.images, workload.boxes, workload.embedding_dim
    person = np.full(boxes, -1, np.int64)
    labelled = rng.permutation(boxes)[: max(2, int(boxes * workload.labelled))]
    person[labelled] = np.arange(len(labelled)) % workload.identities
    image_of = np.sort(rng.integers(0, images, boxes))
    offsets = np.searchsorted(image_of, np.arange(images + 1))
    corner = rng.uniform(0, 1500, (boxes, 2)).astype(np.float32)
    sides = rng.uniform((20, 60), (120, 300), (boxes, 2)).astype(np.float32)
    true = np.concatenate([corner, corner + sides], axis=1)
    look = rng.standard_normal((workload.identities, width), dtype=np.float32)
    predictions, truths = [], []
    for first, last in pairwise(offsets):
        rows = np.arange(first, last)
        extra = rows[rng.random(len(rows)) < 0.1]
        embeddings = rng.standard_normal((len(rows) + len(extra), width), dtype=np.float32)
        embeddings[: len(rows)] += np.where(person[rows, None] >= 0, 0.7 * look[person[rows]], 0)
        found = np.concatenate([true[rows] + 2, true[extra] + 1000])
        scores = rng.uniform(0.5, 1, len(found)).astype(np.float32)
        predictions.append(Detections(found, scores, l2_normalise(embeddings)))
        truths.append(_Image(true[rows], person[rows]))
    asked = labelled[rng.integers(0, len(labelled), workload.queries)]
    by_person = np.argsort(person, kind="stable")
    first, last = (np.searchsorted(person[by_person], person[asked], side=side) for side in ("left", "right"))
    queries = []
    for row, start, stop in zip(asked, first, last, strict=True):
        gallery = None
        if workload.gallery is not None:  # the images that show the person, and others
            drawn = rng.integers(0, images, workload.gallery)
            gallery = np.unique(np.concatenate([image_of[by_person[start:stop]], drawn]))
        queries.append(_Query(int(image_of[row]), int(person[row]), gallery))
    noise = rng.standard_normal((workload.queries, width), dtype=np.float32)
    return queries, l2_normalise(0.7 * look[person[asked]] + noise), predictions, truths


def _measure(workload: Workload, sender: Connection) -> None:
    queries, embeddings, predictions, truths = draw(workload)
    before = _peak_gib()
    started = time.perf_counter()
    SearchEvaluator(queries, predictions, truths).scores(embeddings)
    seconds = time.perf_counter() - started
    sender.send(
        ScaleFigures(
            queries=workload.queries,
            images=workload.images,
            detections=sum(len(one) for one in predictions),
            seconds=seconds,
            peak_gib=_peak_gib(),
            input_gib=before,
        )
    )


def _peak_gib() -> float:
    """Largest resident memory of this process so far."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
