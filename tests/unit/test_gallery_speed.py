"""Search among many: every way finds the same, ties do not count, and what is missing is named."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from runtime_stub import write_artifact
from typer.testing import CliRunner

from personsearch.benchmarks.gallery_search import SEARCHERS, clustered_embeddings, require_searchers
from personsearch.benchmarks.gallery_speed import GalleryPlan, compare, measure_gallery, query_rows
from personsearch.benchmarks.results import read_results
from personsearch.cli.bench import app
from personsearch.core.errors import InputError


@pytest.mark.parametrize("name", SEARCHERS)
def test_every_searcher_finds_what_a_slow_search_finds(name: str) -> None:
    if name.split("-")[0] in ("faiss", "usearch"):
        pytest.importorskip(name.split("-")[0])
    embeddings = clustered_embeddings(600, 16)
    queries = query_rows(embeddings, 7)
    rows, cosines = SEARCHERS[name](embeddings, 1).search(queries, 5)
    assert rows.shape == cosines.shape == (7, 5)
    hits = 0
    for query, found in zip(queries, rows, strict=True):
        slow = sorted(range(600), key=lambda row: -sum(a * b for a, b in zip(query, embeddings[row], strict=True)))
        hits += len(set(slow[:5]) & set(found.tolist()))
    assert hits == 35 if SEARCHERS[name].exact else hits >= 30
    assert (np.diff(cosines, axis=1) <= 0).all()


def test_embeddings_are_unit_repeatable_and_in_clusters() -> None:
    one, two = clustered_embeddings(500, 32), clustered_embeddings(500, 32)
    assert np.array_equal(one, two)
    assert np.allclose(np.linalg.norm(one, axis=1), 1, atol=1e-6)
    cosines = one @ one.T - 2 * np.eye(500, dtype=np.float32)
    assert np.median(cosines.max(axis=1)) > 0.6  # somebody near
    assert abs(np.median(cosines)) < 0.1  # and most are strangers


def test_rows_as_near_as_the_last_may_differ_others_not() -> None:
    embeddings = np.array([[1, 0], [0.8, 0.6], [0.8, -0.6], [0, 1]], np.float32)
    queries = np.array([[1, 0]], np.float32)
    reference = np.array([[0, 1]]), np.array([[1, 0.8]], np.float32)
    tie = np.array([[0, 2]]), np.array([[1, 0.8]], np.float32)
    wrong = np.array([[0, 3]]), np.array([[1, 0.8]], np.float32)  # whatever cosine it claims
    twice = np.array([[0, 0]]), np.array([[1, 1]], np.float32)
    none = np.array([[0, -1]]), np.array([[1, 0]], np.float32)
    assert compare(reference, reference, embeddings, queries) == (True, 1.0)
    assert compare(reference, tie, embeddings, queries) == (True, 0.5)
    for broken in (wrong, twice, none):
        assert compare(reference, broken, embeddings, queries)[0] is False


def test_a_measurement_in_processes_of_their_own() -> None:
    before = dict(os.environ)
    plan = GalleryPlan(embedding_dim=8, top=3, queries=4, rounds=6, seconds=60, threads=1)
    results = measure_gallery([50, 300], ["numpy"], plan)
    assert [(one.searcher, one.rows) for one in results] == [
        ("gallery", 50), ("numpy", 50), ("gallery", 300), ("numpy", 300),
    ]  # fmt: skip
    assert all(one.same and one.recall == 1 and one.rounds == 6 for one in results)
    assert all(one.single.low is not None and one.single.value > 0 for one in results)
    assert dict(os.environ) == before


def test_the_command_keeps_a_record_of_each_searcher(tmp_path: Path) -> None:
    artifact = write_artifact(tmp_path / "stub")
    arguments = ["gallery", "--sizes", "40", "--artifact", str(artifact), "--searcher", "numpy", "--rounds", "1",
                 "--queries", "2", "--top", "3", "--seconds", "0.1", "--save", str(tmp_path / "results")]  # fmt: skip
    shown = CliRunner().invoke(app, [*arguments, "--json"])
    assert shown.exit_code == 0, shown.output
    assert [one["embedding_dim"] for one in json.loads(shown.stdout)["results"]] == [3, 3]
    records = read_results(tmp_path / "results")
    assert [(record.kind, record.subject) for record in records] == [("gallery", "gallery"), ("gallery", "numpy")]
    assert records[0].figures["40_recall"].value == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sizes", "many"], "sizes are `many`"),
        (["--sizes", "5"], "a gallery of 5; expected at least the 10 rows"),
        (["--searcher", "abacus"], "searcher `abacus` is unknown"),
        (["--sizes", "1000000000000"], "may need .* GiB"),
        (["--width", "8", "--artifact", "x"], "both a width and an artifact"),
    ],
)
def test_what_cannot_be_measured_is_refused(arguments: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        CliRunner().invoke(app, ["gallery", *arguments], catch_exceptions=False)


def test_a_library_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)  # Python's own way to say that there is none
    with pytest.raises(InputError, match="`faiss` is not installed; pip install faiss-cpu"):
        require_searchers(["gallery", "faiss-hnsw"])
