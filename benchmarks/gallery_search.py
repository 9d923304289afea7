"""Ways to find the nearest embeddings, with one face: this project's, NumPy's, faiss' and usearch's."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from personsearch.benchmarks.own_process import memory_mib
from personsearch.core.detections import FloatArray
from personsearch.core.errors import InputError
from personsearch.core.seeding import rng_for
from personsearch.core.similarity import cosine_similarity
from personsearch.runtime.gallery import Gallery

Answers = tuple[NDArray[np.int64], FloatArray]
"""Rows and cosines of the nearest, each ``(Q, k)``, by falling cosine."""
_CHUNK = 65_536


class Searcher(ABC):
    """A set of embeddings that can be searched.

    Args:
        embeddings: ``(N, D)`` unit rows.
        threads: of the library; none for its own choice. NumPy's are set by the environment before the process begins.
    """

    exact = True

    @abstractmethod
    def __init__(self, embeddings: FloatArray, threads: int | None = None) -> None: ...

    @abstractmethod
    def search(self, queries: FloatArray, limit: int) -> Answers:
        """The ``limit`` nearest rows to each of ``(Q, D)`` unit queries."""


class GallerySearcher(Searcher):
    """`personsearch.runtime.gallery.Gallery`: exact, with times and expiry."""

    def __init__(self, embeddings: FloatArray, threads: int | None = None) -> None:
        self._gallery = Gallery(embeddings.shape[1], len(embeddings))
        for start in range(0, len(embeddings), _CHUNK):
            self._gallery.add(np.asarray(embeddings[start : start + _CHUNK]), 0.0)

    def search(self, queries: FloatArray, limit: int) -> Answers:
        hits = self._gallery.search(queries, limit)
        rows = np.array([[hit.id for hit in answer] for answer in hits], np.int64)
        return rows, np.array([[hit.similarity for hit in answer] for answer in hits], np.float32)


class MatrixSearcher(Searcher):
    """One matrix product and a partial sort: the least that NumPy can do."""

    def __init__(self, embeddings: FloatArray, threads: int | None = None) -> None:
        self._embeddings: FloatArray = np.array(embeddings, np.float32)

    def search(self, queries: FloatArray, limit: int) -> Answers:
        cosines = cosine_similarity(queries, self._embeddings)
        near = np.argpartition(-cosines, limit - 1, axis=1)[:, :limit]
        order = np.argsort(-np.take_along_axis(cosines, near, 1), axis=1, kind="stable")
        rows = np.take_along_axis(near, order, 1)
        return rows, np.take_along_axis(cosines, rows, 1)


class FaissFlat(Searcher):
    """faiss ``IndexFlatIP``: exact."""

    def __init__(self, embeddings: FloatArray, threads: int | None = None) -> None:
        faiss = _faiss(threads)
        self._index: Any = faiss.IndexFlatIP(embeddings.shape[1])
        for start in range(0, len(embeddings), _CHUNK):
            self._index.add(np.ascontiguousarray(embeddings[start : start + _CHUNK]))

    def search(self, queries: FloatArray, limit: int) -> Answers:
        cosines, rows = self._index.search(queries, limit)
        return rows, cosines


class UsearchExact(Searcher):
    """usearch's brute force over an array: exact."""

    def __init__(self, embeddings: FloatArray, threads: int | None = None) -> None:
        self._embeddings: FloatArray = np.array(embeddings, np.float32)
        self._threads = threads or 0  # 0 is the library's own choice

    def search(self, queries: FloatArray, limit: int) -> Answers:
        from usearch.index import search

        found = search(self._embeddings, queries, limit, "ip", exact=True, threads=self._threads)
        rows, distances = np.atleast_2d(found.keys), np.atleast_2d(found.distances)
        return rows.astype(np.int64), (1 - distances).astype(np.float32)


class FaissHnsw(Searcher):
    """faiss ``IndexHNSWFlat`` of 32 links, 64 candidates: approximate."""

    exact = False

    def __init__(self, embeddings: FloatArray, threads: int | None = None) -> None:
        faiss = _faiss(threads)
        self._index: Any = faiss.IndexHNSWFlat(embeddings.shape[1], 32, faiss.METRIC_INNER_PRODUCT)
        self._index.hnsw.efSearch = 64
        self._index.add(np.ascontiguousarray(embeddings))

    def search(self, queries: FloatArray, limit: int) -> Answers:
        cosines, rows = self._index.search(queries, limit)
        return rows, cosines


class UsearchHnsw(Searcher):
    """usearch's index as it comes, in half precision: approximate."""

    exact = False

    def __init__(self, embeddings: FloatArray, threads: int | None = None) -> None:
        from usearch.index import Index

        self._index: Any = Index(ndim=embeddings.shape[1], metric="ip", dtype="f16")
        self._threads = threads or 0  # 0 is the library's own choice
        self._index.add(np.arange(len(embeddings)), np.ascontiguousarray(embeddings), threads=self._threads)

    def search(self, queries: FloatArray, limit: int) -> Answers:
        found = self._index.search(queries, limit, threads=self._threads)
        rows, distances = np.atleast_2d(found.keys), np.atleast_2d(found.distances)
        return rows.astype(np.int64), (1 - distances).astype(np.float32)


SEARCHERS: Mapping[str, type[Searcher]] = {
    "gallery": GallerySearcher,
    "numpy": MatrixSearcher,
    "faiss": FaissFlat,
    "usearch": UsearchExact,
    "faiss-hnsw": FaissHnsw,
    "usearch-hnsw": UsearchHnsw,
}
"""By the name a command takes; ``gallery`` is what every other is compared with."""
LIBRARIES: Mapping[str, str] = {"faiss": "faiss-cpu", "usearch": "usearch"}
"""Packages that are optional, and what installs them."""


class TimedSearcher:
    """A searcher in a process of its own, over the embeddings of a file.

    Args:
        name: of `SEARCHERS`.
        path: an ``.npy`` file, ``(N, D)`` float32 unit rows.
        threads: as `Searcher` takes them.
    """

    def __init__(self, name: str, path: Path, threads: int | None) -> None:
        make = SEARCHERS[name]
        embeddings: FloatArray = np.load(path)
        small: Searcher = make(embeddings[:64], threads)
        small.search(embeddings[:1], 1)  # the library's own memory is not the index's
        before, started = memory_mib(), time.perf_counter()
        self._searcher = make(embeddings, threads)
        self._build_s = time.perf_counter() - started
        after = memory_mib()
        self._memory_mib = None if before is None or after is None else after - before

    def built(self) -> tuple[float, float | None]:
        """Seconds of building, and the MiB by which the process grew in it."""
        return self._build_s, self._memory_mib

    def search(self, queries: FloatArray, limit: int) -> tuple[float, Answers]:
        """Milliseconds and answers."""
        started = time.perf_counter()
        answers = self._searcher.search(queries, limit)
        return (time.perf_counter() - started) * 1e3, answers


def _faiss(threads: int | None) -> Any:
    import faiss

    if threads is not None:
        faiss.omp_set_num_threads(threads)
    return faiss


def clustered_embeddings(count: int, embedding_dim: int, seed: int = 0) -> FloatArray:
    """``(count, embedding_dim)`` unit rows like those of people: about twenty sightings of each, near one another.

    Made in pieces of 65,536, so that a million need little more memory than they have.
    """
    found = np.empty((count, embedding_dim), np.float32)
    people = max(count // 20, 1)
    centres = rng_for(seed, "gallery", "people").standard_normal((people, embedding_dim), np.float32)
    for start in range(0, count, _CHUNK):
        rng = rng_for(seed, "gallery", start)
        rows = slice(start, min(start + _CHUNK, count))
        who = rng.integers(people, size=rows.stop - start)
        piece = centres[who] + np.float32(0.7) * rng.standard_normal((len(who), embedding_dim), np.float32)
        found[rows] = piece / np.linalg.norm(piece, axis=1, keepdims=True)
    return found


def require_searchers(names: list[str]) -> None:
    """Refuses a name that is unknown, or whose library is not installed."""
    missing = absent_libraries()
    for name in names:
        if name not in SEARCHERS:
            raise InputError(f"searcher `{name}` is unknown", expected=f"of {', '.join(SEARCHERS)}")
        library = name.split("-")[0]
        if library in missing:
            raise InputError(f"`{library}` is not installed", remedy=f"pip install {LIBRARIES[library]}")


def absent_libraries() -> list[str]:
    """The optional libraries that are not installed."""
    from importlib.util import find_spec

    return [library for library in LIBRARIES if find_spec(library) is None]
