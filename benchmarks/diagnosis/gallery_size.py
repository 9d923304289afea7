"""mAP and top-1 against the number of images that are searched: how a system would fare in a larger place.

CUHK-SYSU publishes its galleries. Elsewhere galleries are drawn: those of a smaller size are part of the larger ones,
every one holds the answers, and the other images are the first of a random order, one order for all queries.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from personsearch.benchmarks.accuracy import Asking, EvaluationOptions, prepare_search, used_threshold
from personsearch.benchmarks.collecting import Collected
from personsearch.core.errors import InputError
from personsearch.core.progress import StageProgress
from personsearch.core.recipe import StrictModel
from personsearch.core.seeding import rng_for
from personsearch.data import Query, Sample, SearchDataset
from personsearch.data.index import IndexedDataset
from personsearch.evaluation import SearchScores
from personsearch.evaluation.rules import Mode, rules_of
from personsearch.evaluation.truth import Indices

SIZES = (10, 20, 50, 100, 200, 500, 1000, 2000, 4000)
_PUBLISHED = re.compile(r"g\d+|full")


class Spread(StrictModel):
    """A figure over several draws."""

    mean: float
    deviation: float = Field(description="standard deviation over the draws; 0 for a single one")
    low: float
    high: float


class GalleryPoint(StrictModel):
    """The figures at one size."""

    name: str = Field(description="the published gallery, or the size that was asked for")
    images: float = Field(description="searched for one query, mean over queries and draws")
    draws: int
    queries_above: int = Field(description="queries with more answers than the size: their galleries hold all of them")
    mean_ap: Spread
    top_1: Spread


class GalleryCurve(StrictModel):
    """mAP and top-1 by size, the smallest first."""

    galleries: str = Field(description="`published` or `drawn`")
    seed: int | None
    points: tuple[GalleryPoint, ...]


@dataclass(frozen=True)
class _Searches:
    queries: tuple[Query, ...]


def gallery_curve(
    collected: Collected,
    dataset: SearchDataset,
    options: EvaluationOptions | None = None,
    *,
    sizes: Sequence[int] = SIZES,
    draws: int = 5,
    seed: int = 0,
) -> GalleryCurve:
    """Searches galleries of several sizes.

    A data set whose current protocol is called ``g<number>`` or ``full`` has published galleries: all protocols of
    such names are searched, and ``sizes``, ``draws`` and ``seed`` have no say.

    Args:
        collected: what a system found in the split.
        dataset: the split.
        options: as for the figures; none for the defaults.
        sizes: numbers of images, the answers among them. Those that are not smaller than the protocol's galleries
            give way to these, and those that most queries have more answers than are left out.
        draws: random orders of the images.
        seed: of these.

    Raises:
        InputError: no query has an answer, or a published gallery asks other queries than were collected.
        ValueError: a size or the number of draws is below 1.
    """
    if draws < 1 or min(sizes, default=1) < 1:
        raise ValueError(f"{draws} draws of galleries of {list(sizes)} images, expected 1 or more")
    options = options or EvaluationOptions()
    try:
        if isinstance(dataset, IndexedDataset) and _PUBLISHED.fullmatch(dataset.protocol):
            return _published(collected, dataset, options)
        return _drawn(collected, dataset, options, sorted(set(sizes)), draws, seed)
    except ValueError as error:
        raise InputError(str(error), where=dataset.name) from None


def _published(collected: Collected, dataset: IndexedDataset, options: EvaluationOptions) -> GalleryCurve:
    names = [name for name in dataset.index.protocols if _PUBLISHED.fullmatch(name)]
    points = []
    with StageProgress("published galleries", len(names)) as progress:
        for name in names:
            other = IndexedDataset(dataset.root, dataset.index, name)
            scores = _scores(_asked(collected, dataset, other), other, options)
            points.append(_point(name, [scores], 0))
            progress.advance()
    return GalleryCurve(galleries="published", seed=None, points=tuple(sorted(points, key=lambda point: point.images)))


def _asked(collected: Collected, dataset: IndexedDataset, other: IndexedDataset) -> Collected:
    """What was collected, with the embeddings of another protocol's queries, which are the same in another order."""
    if collected.query_embeddings is None:
        return collected
    rows = {_key(query): row for row, query in enumerate(dataset.queries)}
    missing = [query for query in other.queries if _key(query) not in rows]
    if missing:
        raise InputError(
            f"{len(missing)} queries of protocol `{other.protocol}` are not among those of `{dataset.protocol}`",
            where=dataset.name,
            expected="one set of queries with galleries of several sizes",
        )
    order = [rows[_key(query)] for query in other.queries]
    return replace(collected, query_embeddings=collected.query_embeddings[order])


def _key(query: Query) -> tuple[int, int, bytes]:
    return query.image_index, query.person_id, np.asarray(query.box_xyxy, np.float32).tobytes()


def _drawn(
    collected: Collected,
    dataset: SearchDataset,
    options: EvaluationOptions,
    sizes: Sequence[int],
    draws: int,
    seed: int,
) -> GalleryCurve:
    whole = _scores(collected, dataset, options)
    galleries = _Galleries(dataset.queries, collected.samples, options.mode)
    counted = whole.answers[whole.answers > 0]
    smaller = [size for size in sizes if size < whole.gallery_images and 2 * (counted > size).sum() <= len(counted)]
    orders = [rng_for(seed, "gallery", draw).permutation(len(dataset)) for draw in range(draws)]
    points = []
    with StageProgress("drawn galleries", len(smaller) * draws) as progress:
        for size in smaller:
            found = []
            for order in orders:
                queries = tuple(galleries.query(number, size, order) for number in range(len(dataset.queries)))
                found.append(_scores(collected, _Searches(queries), options))
                progress.advance()
            points.append(_point(str(size), found, int((whole.answers > size).sum())))
    points.append(_point("all", [whole], 0))
    return GalleryCurve(galleries="drawn", seed=seed, points=tuple(points))


class _Galleries:
    """The galleries of a protocol, cut down to a size."""

    def __init__(self, queries: Sequence[Query], samples: Sequence[Sample], mode: Mode) -> None:
        self._queries, rules = queries, rules_of(mode)
        showing: dict[int, list[int]] = {query.person_id: [] for query in queries}
        for image, sample in enumerate(samples):
            for person_id in np.unique(sample.person_ids[sample.person_ids >= 0]).tolist():
                if person_id in showing:
                    showing[person_id].append(image)
        self._answers: list[Indices] = []  # of each query the entries of its gallery that answer it
        self._others: list[NDArray[np.bool_]] = []  # and which images it holds besides
        for query in queries:
            gallery = np.delete(np.arange(len(samples)), query.image_index) if query.gallery is None else query.gallery
            if not rules.own_image and query.answers_xyxy is None:
                gallery = gallery[gallery != query.image_index]
            answer = np.isin(gallery, showing[query.person_id])
            if query.answers_xyxy is not None:  # row by row beside the first images, which therefore stay
                answer[: len(query.answers_xyxy)] = True
            others = np.zeros(len(samples), bool)
            others[gallery[~answer]] = True
            self._answers.append(gallery[answer])
            self._others.append(others)

    def query(self, number: int, size: int, order: Indices) -> Query:
        """The query in a gallery of its answers and the first other images of an order."""
        query, answers = self._queries[number], self._answers[number]
        others = order[self._others[number][order]][: max(0, size - len(answers))]
        return Query(
            query.image_index, query.box_xyxy, query.person_id, np.concatenate([answers, others]), query.answers_xyxy
        )


def _scores(collected: Collected, dataset: Asking, options: EvaluationOptions) -> SearchScores:
    threshold = used_threshold(options, collected)
    return prepare_search(collected, dataset, options, score_threshold=threshold).scores(top_k=(1,))


def _point(name: str, found: Sequence[SearchScores], queries_above: int) -> GalleryPoint:
    return GalleryPoint(
        name=name,
        images=float(np.mean([scores.gallery_images for scores in found])),
        draws=len(found),
        queries_above=queries_above,
        mean_ap=_spread([scores.mean_ap for scores in found]),
        top_1=_spread([scores.top[1] for scores in found]),
    )


def _spread(values: Sequence[float]) -> Spread:
    return Spread(
        mean=float(np.mean(values)), deviation=float(np.std(values)), low=float(min(values)), high=float(max(values))
    )
