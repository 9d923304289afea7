"""``personsearch diagnose``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from personsearch.cli import require
from personsearch.cli.evaluate import collect_model, evaluation_options
from personsearch.cli.skipping import SkipBad, readable_part
from personsearch.core.errors import InputError

if TYPE_CHECKING:
    from personsearch.benchmarks.diagnosis import DiagnosisSummary, GalleryCurve

DEFAULT_SIZES = "10,20,50,100,200,500,1000,2000,4000"


def diagnose(
    model: Annotated[
        Path, typer.Argument(help="Checkpoint file, run folder, artifact folder, or .npz file of detections.")
    ],
    dataset: Annotated[Path, typer.Argument(help="Data set: folder or specification.")],
    out: Annotated[Path, typer.Option(help="Folder for the page, the pictures and the JSON files.")],
    split: Annotated[str, typer.Option(help="Split of the data set.")] = "test",
    protocol: Annotated[str | None, typer.Option(help="Search protocol, such as g100; the set's first.")] = None,
    mode: Annotated[str, typer.Option(help="strict; compat: as SeqNet; compat-repeats: as OIM, AlignPS.")] = "strict",
    query_features: Annotated[str, typer.Option(help="gt_box, or detection: the best-overlapping one.")] = "gt_box",
    cws: Annotated[bool, typer.Option("--cws", help="Weight similarities by detection scores.")] = False,
    cbgm: Annotated[str | None, typer.Option(help="Context bipartite graph matching, K1,K2.")] = None,
    score_threshold: Annotated[float | None, typer.Option(help="Detection score; the system's own if absent.")] = None,
    late_after: Annotated[int, typer.Option(min=1, help="Wrong detections that make an answer late.")] = 10,
    worst: Annotated[int, typer.Option(min=0, help="Worst queries shown as pictures.")] = 12,
    sizes: Annotated[str, typer.Option(help="Gallery sizes of the curve; empty for no curve.")] = DEFAULT_SIZES,
    draws: Annotated[int, typer.Option(min=1, help="Random galleries of each size.")] = 5,
    seed: Annotated[int, typer.Option(min=0, help="Of these galleries.")] = 0,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; the engine's choice if absent.")] = None,
    skip_bad: SkipBad = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Say why the search figures are what they are: each query's errors, what they cost, the worst ones as pictures.

    Example: personsearch diagnose runs/student data/prw --out diagnosis
    """
    options = evaluation_options(mode, query_features, cws, cbgm, False, score_threshold)
    wanted = _sizes(sizes)
    require("matplotlib", "train", "drawing a diagnosis")
    from personsearch.benchmarks.diagnosis import diagnose as diagnose_queries
    from personsearch.benchmarks.diagnosis import gallery_curve, write_diagnosis
    from personsearch.benchmarks.diagnosis.writing import check_destination
    from personsearch.data import open_dataset

    check_destination(out)
    opened = open_dataset(dataset, split, protocol)
    if not opened.queries:
        raise InputError(f"split `{split}` has no queries", where=str(dataset), expected="a split with searches")
    if skip_bad:
        opened = readable_part(opened)
    collected = collect_model(model, opened, dataset, threads)
    found = diagnose_queries(collected, opened, dataset, split=split, options=options, late_after=late_after)
    curve = None
    if wanted:
        curve = gallery_curve(collected, opened, options, sizes=wanted, draws=draws, seed=seed)
    write_diagnosis(out, found, curve, opened, worst=worst)
    if as_json:
        typer.echo(json.dumps(found.summary.model_dump(mode="json"), indent=2))
    else:
        typer.echo(_table(found.summary, curve))
        typer.echo(f"  page: {out / 'index.html'}")


def _table(summary: DiagnosisSummary, curve: GalleryCurve | None) -> str:
    lines = [
        f"{summary.system} on {summary.dataset}, split {summary.split}, protocol {summary.protocol}, "
        f"mode {summary.options.mode}, score >= {summary.score_threshold:g}: {summary.queries_scored} queries",
        f"  {'mAP':<20} {100 * summary.mean_ap:5.1f}   {summary.answers['right']} answers in place",
    ]
    if summary.skipped_images:
        lines.insert(1, f"  without {summary.skipped_images} images that cannot be read")
    for kind, cost in summary.costs.items():
        if cost or kind in summary.answers:
            count = f"   {summary.answers[kind]} answers" if kind in summary.answers else ""
            lines.append(f"  {kind:<20} {100 * cost:5.1f}{count}")
    whom = ", ".join(f"{name} {100 * cost:.1f}" for name, cost in summary.costs_by_whom.items())
    lines.append(f"  confused or late, by whom: {whom}")
    if curve is not None:
        points = "  ".join(
            f"{point.name} {100 * point.mean_ap.mean:.1f}"
            + (f"±{100 * point.mean_ap.deviation:.1f}" if point.draws > 1 else "")
            for point in curve.points
        )
        lines.append(f"  mAP by gallery size ({curve.galleries}): {points}")
    return "\n".join(lines)


def _sizes(text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise InputError(f"--sizes is `{text}`", expected="numbers of images, such as 50,100,500")
    return tuple(sorted({int(part) for part in parts}))
