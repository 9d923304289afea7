"""``personsearch bench ablation``: a paper's table, row by row, beside what was printed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from personsearch.cli import require
from personsearch.core.errors import InputError

if TYPE_CHECKING:
    from personsearch.benchmarks.ablation.plan import Plan


def ablation(
    recipe: Annotated[Path, typer.Argument(help="Table of runs (.yaml), such as those under recipes/ablation.")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Recipe keys to change.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of runs and figures; runs/ablation/<name> where absent.")
    ] = None,
    rows: Annotated[str | None, typer.Option(help="Names of rows, separated by commas; all where absent.")] = None,
    seeds: Annotated[str | None, typer.Option(help="Seeds, such as 0,1,2; the recipe's where absent.")] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Only write every run's recipe and say how far each one is.")
    ] = False,
    save: Annotated[Path | None, typer.Option(help="Folder for JSON records, one a row.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON in place of the table.")] = False,
) -> None:
    """Train and measure the rows of a paper's table, and say where their order differs from the paper's.

    Stop it at any moment (Ctrl-C) and call it again: finished runs are kept, a started one goes on after its last
    epoch. Ends with exit code 1 when a run diverged.

    Example: personsearch bench ablation recipes/ablation/hdl_levels_demo.yaml --rows none,all --seeds 0,1,2
    """
    require("torch", "train", "training the rows of a table")
    from personsearch.benchmarks.ablation.plan import plan_ablation
    from personsearch.benchmarks.ablation.recipe import load_ablation
    from personsearch.benchmarks.ablation.run import run_ablation, write_recipes

    settings = load_ablation(recipe, overrides or ())
    folder = out or Path("runs") / "ablation" / settings.name
    chosen = None if rows is None else [name.strip() for name in rows.split(",")]
    numbers = None if seeds is None else parse_seeds(seeds)
    if plan:
        planned = plan_ablation(settings, folder, rows=chosen, seeds=numbers, where=str(recipe))
        write_recipes(planned, folder)
        _show_plan(planned)
        return
    try:
        outcome = run_ablation(
            settings,
            folder,
            rows=chosen,
            seeds=numbers,
            where=str(recipe),
            say=lambda line: typer.echo(line, err=True),
        )
    except KeyboardInterrupt:
        typer.echo(f"personsearch: stopped; the same command goes on from {folder}", err=True)
        raise typer.Exit(130) from None
    if save is not None:
        from personsearch.benchmarks.ablation.table import records
        from personsearch.benchmarks.results import write_result

        for record in records(outcome.table, sys.argv[1:]):
            typer.echo(f"record: {write_result(record, save)}", err=True)
    if as_json:
        typer.echo(outcome.table.model_dump_json(indent=2))
    else:
        from rich.console import Console

        from personsearch.benchmarks.ablation.table import remarks, terminal_table

        console = Console()
        # A log has no width of its own; the table needs this much.
        (console if console.is_terminal else Console(width=190)).print(terminal_table(outcome.table))
        for line in remarks(outcome.table):
            typer.echo(f"  {line}")
        typer.echo(f"  {folder / 'table.md'}, table.json beside it")
    for label, message in outcome.diverged.items():
        typer.echo(f"personsearch: {label}: {message}", err=True)
    raise typer.Exit(1 if outcome.diverged else 0)


def parse_seeds(text: str) -> list[int]:
    """Whole numbers from 0, separated by commas; `InputError` where it is something else."""
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() for word in words):
        raise InputError(f"--seeds is `{text}`", expected="whole numbers such as 0,1,2")
    return [int(word) for word in words]


def _show_plan(plan: Plan) -> None:
    from personsearch.benchmarks.ablation.runs import epochs_done

    for run in plan.in_order():
        teachers = ", ".join([*(teacher.label for teacher in run.teachers), *map(str, run.files)])
        under = f", under {teachers}" if teachers else ""
        typer.echo(f"{run.label:<24} {epochs_done(run)} of {run.recipe.epochs} epochs done{under}")
