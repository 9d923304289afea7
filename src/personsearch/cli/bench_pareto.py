"""``personsearch bench pareto``: accuracy against operations, milliseconds and energy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from personsearch.cli import require
from personsearch.cli.bench_options import Json, aligned
from personsearch.core.errors import InputError


def pareto(
    results: Annotated[Path, typer.Option(help="Folder of JSON records.")] = Path("benchmarks/results"),
    out: Annotated[
        Path | None, typer.Option(help="Folder for pareto.html and a pareto-N.png for each data set with a cost.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show every measured system, and which of them another one beats in accuracy and cost.

    Records come from `evaluate`, `bench flops`, `bench latency`, `bench energy` and `bench peers` with `--save`;
    systems are compared where they were scored on the same data.

    Example: personsearch bench pareto --out pareto
    """
    from personsearch.benchmarks.pareto import any_cost, pareto_points, pareto_rows, pareto_titles
    from personsearch.benchmarks.results import read_results

    if not results.is_dir():
        raise InputError("no such folder", where=str(results), expected="a folder of JSON records")
    groups = pareto_points(read_results(results))
    if not groups:
        raise InputError(
            "holds no record of a search's accuracy",
            where=str(results),
            remedy="make one with `personsearch evaluate MODEL DATA --save FOLDER`",
        )
    if out is not None:
        require("matplotlib", "train", "drawing")
        from personsearch.benchmarks.report.bench_page import pareto_page
        from personsearch.benchmarks.report.pareto_chart import write_pareto_png
        from personsearch.core.files import atomic_file

        out.mkdir(parents=True, exist_ok=True)
        with atomic_file(out / "pareto.html") as part:
            part.write_text(pareto_page(groups), encoding="utf-8")
        for number, points in enumerate(groups.values(), start=1):
            if any_cost(points):
                write_pareto_png(points, out / f"pareto-{number}.png")
    if as_json:
        content = {data: [point.model_dump(mode="json") for point in points] for data, points in groups.items()}
        typer.echo(json.dumps(content, indent=2))
        return
    for data, points in groups.items():
        typer.echo(f"{data}\n{aligned(pareto_titles(), pareto_rows(points))}")
        for command in dict.fromkeys(command for point in points for command in point.commands):
            typer.echo(f"  {command}")
        typer.echo("")
