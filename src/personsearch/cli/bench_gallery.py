"""``personsearch bench gallery``: how long a search among many people takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from personsearch.cli.bench_options import Json, Save, Threads, keep_record
from personsearch.core.errors import InputError

if TYPE_CHECKING:
    from personsearch.benchmarks.gallery_speed import GalleryPlan, GallerySpeed

_EXACT = ("gallery", "numpy", "faiss", "usearch")


def gallery(
    sizes: Annotated[str, typer.Option(help="Embeddings in the gallery, several as 1000,10000.")] = (
        "1000,10000,100000,1000000"
    ),
    width: Annotated[int | None, typer.Option(min=1, help="Of an embedding; 256 if absent.")] = None,
    artifact: Annotated[Path | None, typer.Option(help="Artifact folder whose embeddings' width is taken.")] = None,
    queries: Annotated[int, typer.Option(min=2, help="In a batch of queries; a single one is timed too.")] = 32,
    top: Annotated[int, typer.Option(min=1, help="Rows asked for.")] = 10,
    searcher: Annotated[
        list[str] | None,
        typer.Option(
            help="gallery, numpy, faiss, usearch, faiss-hnsw or usearch-hnsw (approximate); repeat for several. If "
            "absent every exact one that is installed."
        ),
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Of turns at each size, at most.")] = 100,
    seconds: Annotated[float, typer.Option(min=0.1, help="At each size, after which no further round begins.")] = 20.0,
    threads: Threads = None,
    save: Save = None,
    as_json: Json = False,
) -> None:
    """Time the search among 10^3 to 10^6 embeddings, exact, beside faiss and usearch; all must find the same.

    Example: personsearch bench gallery --sizes 1000,100000 --artifact artifacts/street --threads 2
    """
    from personsearch.benchmarks.gallery_search import LIBRARIES, absent_libraries
    from personsearch.benchmarks.gallery_speed import GalleryPlan, measure_gallery
    from personsearch.benchmarks.machine_state import read_state, state_settings
    from personsearch.core.manifest import read_manifest

    rows = parse_sizes(sizes)
    if artifact is not None and width is not None:
        raise InputError("both a width and an artifact are given", expected="one of them")
    dim = width or (256 if artifact is None else read_manifest(artifact).embedding_dim)
    plan = GalleryPlan(embedding_dim=dim, top=top, queries=queries, rounds=rounds, seconds=seconds, threads=threads)
    absent = absent_libraries()
    names = searcher or [name for name in _EXACT if name not in absent]
    before = read_state()
    results = measure_gallery(rows, names, plan)
    if save is not None:
        settings = {
            "queries": f"batches of {queries}, top {top}, generated sightings of people in the gallery",
            "searchers": ", ".join(names),
            "absent": ", ".join(absent) or "none",
            "threads": str(threads or "library's choice"),
            **state_settings(before, read_state()),
        }
        _save(results, settings, save)
    if as_json:
        content = {"absent": absent, "results": [result.model_dump(mode="json") for result in results]}
        typer.echo(json.dumps(content, indent=2))
        return
    typer.echo(describe(results, plan))
    for name in absent:
        typer.echo(f"{name} is not installed, and not measured: pip install {LIBRARIES[name]}")


def parse_sizes(text: str) -> list[int]:
    """``1000,10000``; `InputError` where it is something else."""
    parts = [part.strip().replace("_", "") for part in text.split(",")]
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise InputError(f"sizes are `{text}`", expected="numbers of embeddings, such as 1000,100000")
    return list(dict.fromkeys(int(part) for part in parts))


def describe(results: list[GallerySpeed], plan: GalleryPlan) -> str:
    """The table: one block a size."""
    lines = [
        f"embeddings of {plan.embedding_dim}, top {plan.top}; milliseconds, medians with their 95 % intervals; each "
        "searcher in a process of its own, in turns"
    ]
    for rows in dict.fromkeys(result.rows for result in results):
        found = [result for result in results if result.rows == rows]
        lines.append(f"{rows:,} rows, {found[0].rounds} rounds")
        for one in found:
            memory = "not told" if one.memory_mib is None else f"{one.memory_mib:.1f} MiB"
            same = "the same rows" if one.same else f"recall {one.recall:.1%}"
            low, high = ("-" if bound is None else f"{bound:.4g}" for bound in (one.single.low, one.single.high))
            lines.append(
                f"  {one.searcher:<13} one query {one.single.value:9.4g} [{low}, {high}]  batch of {plan.queries} "
                f"{one.batch.value:9.4g}  built in {one.build_s:.3g} s, {memory}  {same}"
            )
    return "\n".join(lines)


def _save(results: list[GallerySpeed], settings: dict[str, str], folder: Path) -> None:
    for name in dict.fromkeys(result.searcher for result in results):
        figures: dict[str, tuple[float, str]] = {}
        for one in results:
            if one.searcher != name:
                continue
            figures[f"{one.rows}_single_p50"] = (one.single.value, "ms")
            figures[f"{one.rows}_single_p90"] = (one.single_p90.value, "ms")
            figures[f"{one.rows}_batch_p50"] = (one.batch.value, "ms")
            figures[f"{one.rows}_build"] = (one.build_s, "s")
            figures[f"{one.rows}_recall"] = (one.recall, "share")
            if one.memory_mib is not None:
                figures[f"{one.rows}_memory"] = (one.memory_mib, "MiB")
        about = {"embedding_dim": str(results[0].embedding_dim), "exact": str(results[0].exact)}
        keep_record("gallery", name, figures, "", {**about, **settings}, folder)
