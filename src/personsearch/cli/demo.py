"""``personsearch demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from personsearch.cli import require


def demo(
    out: Annotated[Path, typer.Option(help="Folder to write; an earlier demo in it is replaced.")] = Path("demo"),
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same figures.")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="Print figures.json in place of the table.")] = False,
) -> None:
    """Go the whole road once, small: data, teacher, student, engine, stream, report.

    About ten minutes on two cores, without a GPU. Ends with exit code 1 when a check of the report failed.

    Example: personsearch demo --out demo --seed 3
    """
    for module in ("torch", "onnx", "matplotlib"):
        require(module, "train", "the demo")
    from rich.console import Console

    from personsearch.benchmarks.demo import run_demo, standard_settings
    from personsearch.train import TrainingDiverged

    try:
        outcome = run_demo(standard_settings(seed), out)
    except TrainingDiverged as error:
        typer.echo(f"personsearch: {error}", err=True)
        raise typer.Exit(1) from None
    if as_json:
        typer.echo(outcome.figures.read_text(encoding="utf-8"), nl=False)
    else:
        console = Console()
        # A log has no width of its own; the table needs this much.
        outcome.show(console if console.is_terminal else Console(width=140))
    raise typer.Exit(0 if outcome.passed else 1)
