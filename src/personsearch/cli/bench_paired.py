"""``personsearch bench paired``: whether two systems differ by more than the choice of queries explains."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from personsearch.cli.bench_options import Json, Save, keep_record
from personsearch.core.errors import InputError


def paired(
    system: Annotated[list[Path], typer.Argument(help="Files of `evaluate --per-query`; several seeds are averaged.")],
    against: Annotated[list[Path], typer.Option(help="What it is compared with; repeat for several seeds.")],
    margin: Annotated[float, typer.Option(min=0, max=100, help="Percent by which the system may be behind.")] = 0.0,
    resamples: Annotated[int, typer.Option(min=100, help="Draws of the people asked for.")] = 20_000,
    seed: Annotated[int, typer.Option(min=0, help="Of the draws.")] = 0,
    save: Save = None,
    as_json: Json = False,
) -> None:
    """Compare two systems query by query: paired bootstrap over the people whom the queries show.

    Example: personsearch bench paired student.json --against teacher.json --margin 1.4
    """
    from personsearch.benchmarks.paired import paired_bootstrap

    twice = sorted({str(path) for path in system} & {str(path) for path in against})
    if twice:
        raise InputError("is on both sides", where=twice[0], expected="files of two systems")
    result = paired_bootstrap(system, against, margin=margin / 100, resamples=resamples, seed=seed)
    names = [" + ".join(path.stem for path in side) for side in (system, against)]
    if save is not None:
        figures = {}
        for metric in ("mean_ap", "top_1"):
            for key, value in getattr(result, metric).model_dump().items():
                figures[f"{metric}_{key}"] = (value, "share")
        settings = {"system": names[0], "against": names[1]}
        settings |= {key: str(getattr(result, key)) for key in ("queries", "people", "resamples", "seed", "margin")}
        keep_record("paired", f"{names[0]}-{names[1]}", figures, "", settings, save)
    if as_json:
        typer.echo(result.model_dump_json(indent=2))
        return
    typer.echo(
        f"{names[0]} against {names[1]}: {result.queries} queries of {result.people} people, "
        f"{result.resamples} resamples of these"
    )
    for title, found in (("search mAP", result.mean_ap), ("top-1", result.top_1)):
        typer.echo(
            f"  {title:<10} {found.system:.1%} - {found.against:.1%} = {100 * found.difference:+.1f} points, "
            f"95 % interval {100 * found.low:+.1f} to {100 * found.high:+.1f}; "
            f"more than {margin:g} behind in {found.below_margin:.1%} of the resamples"
        )
    typer.echo("  what another seed of a training would change is not in the interval")
