"""How many composites one core renders in a second."""

from __future__ import annotations

import statistics
import time

import cv2
from pydantic import Field

from personsearch.core.progress import StageProgress
from personsearch.core.recipe import StrictModel
from personsearch.data.composites import CompositeDataset

_WARM = 20


class CompositeSpeed(StrictModel):
    """One process on one thread, labels and pixels."""

    images_per_s: float = Field(description="by the clock, median over the rounds")
    images_per_core_s: float = Field(
        description="by the processor time spent, median; equals the former where nothing else runs"
    )
    people: float = Field(description="pasted an image, mean")
    pastes: float = Field(description="of people, decoys and what hides people, an image, mean")


def measure_composites(dataset: CompositeDataset, images: int, *, rounds: int = 3) -> CompositeSpeed:
    """Renders ``rounds`` times ``images`` composites that were not rendered before.

    Args:
        dataset: with at least 20 composites.
        images: in a round, at least 1.
        rounds: at least 1.
    """
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    by_clock, by_core = [], []
    people = pastes = 0
    try:
        for index in range(min(_WARM, len(dataset))):
            dataset.composite(index)
        with StageProgress("rendering composites", rounds * images) as progress:
            for number in range(rounds):
                started, spent = time.perf_counter(), time.process_time()
                for place in range(images):
                    composite = dataset.composite((_WARM + number * images + place) % len(dataset))
                    people += composite.kinds.count("person")
                    pastes += len(composite.kinds)
                by_clock.append(images / (time.perf_counter() - started))
                by_core.append(images / (time.process_time() - spent))
                progress.advance(images)
    finally:
        cv2.setNumThreads(threads)
    return CompositeSpeed(
        images_per_s=statistics.median(by_clock),
        images_per_core_s=statistics.median(by_core),
        people=people / (rounds * images),
        pastes=pastes / (rounds * images),
    )
