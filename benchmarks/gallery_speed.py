"""How long a gallery of a thousand to a million people takes to be searched, and that every way finds the same."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
from pydantic import Field

from personsearch.benchmarks.gallery_search import (
    SEARCHERS,
    Answers,
    TimedSearcher,
    clustered_embeddings,
    require_searchers,
)
from personsearch.benchmarks.latency_run import turn_order
from personsearch.benchmarks.order_statistics import Quantile, quantile
from personsearch.benchmarks.own_process import OwnProcess
from personsearch.core.detections import FloatArray
from personsearch.core.errors import InputError
from personsearch.core.progress import StageProgress
from personsearch.core.recipe import StrictModel
from personsearch.core.seeding import rng_for

REFERENCE = "gallery"
TOLERANCE = 1e-5
LEAST_ROUNDS = 5
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class GalleryPlan(StrictModel):
    """What is measured at each size."""

    embedding_dim: int = Field(default=256, gt=0)
    top: int = Field(default=10, gt=0, description="k, rows asked for")
    queries: int = Field(default=32, gt=1, description="in a batch")
    rounds: int = Field(default=100, gt=0, description="at most")
    seconds: float = Field(default=20.0, gt=0, description="of a size, after which no further round begins")
    threads: int | None = None


class GallerySpeed(StrictModel):
    """One searcher at one size."""

    searcher: str
    exact: bool
    rows: int
    embedding_dim: int
    single: Quantile = Field(description="milliseconds of one query, median")
    single_p90: Quantile
    batch: Quantile = Field(description="milliseconds of a batch of queries, median")
    rounds: int
    build_s: float
    memory_mib: float | None = Field(description="by which its process grew; what it was built from not counted")
    recall: float = Field(description="share of the reference's rows that it found, over all queries")
    same: bool = Field(
        description="the same rows, but for those as near as the last; an exact one that fails is broken"
    )


def measure_gallery(sizes: Sequence[int], searchers: Sequence[str], plan: GalleryPlan) -> list[GallerySpeed]:
    """Builds every searcher at every size and searches turn by turn; each lives in a process of its own.

    Args:
        sizes: rows of the galleries.
        searchers: of `SEARCHERS`; the project's own is always measured, as the reference.
        plan: the rest.

    Raises:
        InputError: a library is not installed, a size is smaller than what is asked for, the memory does not suffice,
            or an exact searcher finds other rows than the reference.
    """
    names = list(dict.fromkeys([REFERENCE, *searchers]))
    require_searchers(names)
    for rows in sizes:
        if rows < plan.top:
            raise InputError(f"a gallery of {rows}", expected=f"at least the {plan.top} rows that are asked for")
        _require_memory(rows, len(names), plan)
    results = []
    with StageProgress("gallery", len(sizes) * len(names)) as progress:
        for rows in sizes:
            results += _measure_size(rows, names, plan, progress)
    return results


def compare(reference: Answers, found: Answers, embeddings: FloatArray, queries: FloatArray) -> tuple[bool, float]:
    """Whether two searches found the same, and the share of the reference's rows that were found.

    Rows in which they differ must be as near to the query as the reference's last, to 1e-5: equal cosines come out
    apart in the last digits of different libraries.

    Args:
        reference: of the exact search.
        found: of the other.
        embeddings: that were searched.
        queries: that were asked.
    """
    same, shared = True, 0
    for query, one, two, last in zip(queries, reference[0], found[0], reference[1][:, -1], strict=True):
        both = np.intersect1d(one, two)
        shared += len(both)
        others = np.setxor1d(one, two)
        valid = len(np.unique(two)) == len(two) and bool((two >= 0).all())
        same &= valid and bool((np.abs(embeddings[others] @ query - last) <= TOLERANCE).all())
    return same, shared / reference[0].size


def query_rows(embeddings: FloatArray, count: int, seed: int = 0) -> FloatArray:
    """``(count, D)`` unit rows, each a further sighting of somebody in the gallery."""
    rng = rng_for(seed, "gallery", "queries")
    chosen = embeddings[rng.integers(len(embeddings), size=count)]
    noise = rng.standard_normal(chosen.shape, np.float32) * np.float32(0.5 / np.sqrt(chosen.shape[1]))
    moved: FloatArray = chosen + noise
    unit: FloatArray = moved / np.linalg.norm(moved, axis=1, keepdims=True)
    return unit


def _measure_size(rows: int, names: Sequence[str], plan: GalleryPlan, progress: StageProgress) -> list[GallerySpeed]:
    embeddings = clustered_embeddings(rows, plan.embedding_dim)
    queries = query_rows(embeddings, plan.queries)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        path = Path(folder) / "embeddings.npy"
        np.save(path, embeddings)
        searchers = {}
        with _environment_threads(plan.threads):
            for name in names:
                searchers[name] = stack.enter_context(OwnProcess(name, TimedSearcher, name, path, plan.threads))
                progress.advance(note=f"{rows} rows, {name} built")
        single, batch = _time(searchers, queries, plan)
        answers = {name: searcher.call("search", queries, plan.top)[1] for name, searcher in searchers.items()}
        built = {name: searcher.call("built") for name, searcher in searchers.items()}
    results = []
    for name in names:
        same, recall = compare(answers[REFERENCE], answers[name], embeddings, queries)
        exact = SEARCHERS[name].exact
        if exact and not same:
            raise InputError(
                f"`{name}` finds other rows than `{REFERENCE}` among {rows}", expected="the same, it is exact"
            )
        results.append(
            GallerySpeed(
                searcher=name,
                exact=exact,
                rows=rows,
                embedding_dim=plan.embedding_dim,
                single=quantile(single[name], 0.5),
                single_p90=quantile(single[name], 0.9),
                batch=quantile(batch[name], 0.5),
                rounds=len(batch[name]),
                build_s=built[name][0],
                memory_mib=built[name][1],
                recall=recall,
                same=same,
            )
        )
    return results


def _time(
    searchers: dict[str, OwnProcess], queries: FloatArray, plan: GalleryPlan
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    single: dict[str, list[float]] = {name: [] for name in searchers}
    batch: dict[str, list[float]] = {name: [] for name in searchers}
    ended = time.perf_counter() + plan.seconds
    number = 0
    while number < plan.rounds and (number < LEAST_ROUNDS or time.perf_counter() < ended):
        one = queries[number % len(queries)][None]
        for name in turn_order(list(searchers), number):
            # The first of a turn does not count: caches hold what another searcher left.
            searchers[name].call("search", one, plan.top)
            single[name].append(searchers[name].call("search", one, plan.top)[0])
            batch[name].append(searchers[name].call("search", np.roll(queries, number, axis=0), plan.top)[0])
        number += 1
    return single, batch


def _require_memory(rows: int, searchers: int, plan: GalleryPlan) -> None:
    # An index holds the rows, growing or linking them as much again; each process reads them once before.
    needed = rows * plan.embedding_dim * 4 * (3 * searchers + 2)
    available = _available_bytes()
    if available is not None and needed > available:
        raise InputError(
            f"{searchers} galleries of {rows} rows may need {needed / 2**30:.1f} GiB, {available / 2**30:.1f} are free",
            remedy="name fewer with `--searcher`, or smaller sizes",
        )


def _available_bytes() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:")), None)


@contextmanager
def _environment_threads(threads: int | None) -> Iterator[None]:
    """Processes started inside take so many threads for NumPy's products, which reads it only when it is loaded."""
    before = {name: os.environ.get(name) for name in _THREAD_VARIABLES}
    try:
        if threads is not None:
            os.environ.update(dict.fromkeys(_THREAD_VARIABLES, str(threads)))
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
