"""``personsearch bench evaluator``."""

from __future__ import annotations

import json
import os
from typing import Annotated

import typer

from personsearch.cli.bench_options import Json, Save, keep_record
from personsearch.core.errors import InputError


def evaluator(
    workload: Annotated[str, typer.Argument(help="prw, cuhk-sysu-100 or cuhk-sysu-4000.")] = "prw",
    save: Save = None,
    as_json: Json = False,
) -> None:
    """Time the search evaluation at a test set's size, with ten times the queries, the detections, and both.

    Each query is compared with each detection of its gallery: linear in both means a hundred times the work at last.

    Example: personsearch bench evaluator prw --save benchmarks/results
    """
    from personsearch.benchmarks.evaluation_scale import WORKLOADS, measure_growth

    if workload not in WORKLOADS:
        raise InputError(f"workload is `{workload}`", expected=f"one of {', '.join(WORKLOADS)}")
    base, load = WORKLOADS[workload], os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    runs = measure_growth(base)
    if save is not None:
        figures = {f"{name}_seconds": (run.seconds, "s") for name, run in runs.items()}
        figures |= {f"{name}_peak": (run.peak_gib, "GiB") for name, run in runs.items()}
        sizes = {name: f"{run.queries} queries, {run.detections} detections" for name, run in runs.items()}
        settings = {
            **sizes,
            "gallery_images": str(base.gallery or "all"),
            "embedding_dim": str(base.embedding_dim),
            "threads": os.environ.get("OMP_NUM_THREADS", "NumPy's choice"),
            "load_before": "unknown" if load is None else f"load average {load:.1f}",
        }
        keep_record("evaluator", workload, figures, "", settings, save)
    if as_json:
        typer.echo(json.dumps({name: run.model_dump() for name, run in runs.items()}, indent=2))
        return
    first = runs["1x"]
    typer.echo("                  queries  detections   images   seconds   of 1x  linear   peak GiB  before it")
    for name, run in runs.items():
        linear = run.queries * run.detections / (first.queries * first.detections)
        typer.echo(
            f"  {name:<15} {run.queries:>7}  {run.detections:>10}  {run.images:>7}  {run.seconds:8.2f}  "
            f"{run.seconds / first.seconds:6.1f}  {linear:6.1f}  {run.peak_gib:9.2f}  {run.input_gib:9.2f}"
        )
