"""``personsearch bench report``: every record on one page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from personsearch.cli import require
from personsearch.cli.bench_options import Json
from personsearch.core.errors import InputError


def report(
    results: Annotated[Path, typer.Option(help="Folder of JSON records.")] = Path("benchmarks/results"),
    out: Annotated[Path, typer.Option(help="HTML file to write.")] = Path("benchmarks.html"),
    as_json: Json = False,
) -> None:
    """Write one self-contained page of all records: accuracy against cost, peers, latency, energy, operations.

    Example: personsearch bench report --out benchmarks.html
    """
    from personsearch.benchmarks.results import read_results

    if not results.is_dir():
        raise InputError("no such folder", where=str(results), expected="a folder of JSON records")
    records = read_results(results)
    if not records:
        raise InputError("holds no record", where=str(results), remedy="make one with `--save` of a bench command")
    require("matplotlib", "train", "drawing")
    from personsearch.benchmarks.report.bench_page import bench_page
    from personsearch.core.files import atomic_file

    with atomic_file(out) as part:
        part.write_text(bench_page(records), encoding="utf-8")
    if as_json:
        typer.echo(json.dumps([record.model_dump(mode="json") for record in records], indent=2))
        return
    typer.echo(f"{out}: {len(records)} records")
