"""What ``personsearch train`` and ``personsearch distill`` share: their options, and how a run starts and ends."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

Overrides = Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Recipe keys to change.")]
Out = Annotated[Path | None, typer.Option(help="Run folder; runs/<name of the recipe> where absent.")]
Resume = Annotated[bool, typer.Option("--resume", help="Continue the run that the folder holds.")]
SkipBad = Annotated[
    bool, typer.Option("--skip-bad", help="Pass over images that cannot be read, and name them (data.skip_bad).")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the run's record as JSON.")]


def changes_of(overrides: Sequence[str] | None, *, skip_bad: bool) -> list[str]:
    """Keys to change in the recipe, those of options included."""
    return [*(overrides or ()), *(["data.skip_bad=true"] if skip_bad else [])]


def run_and_show(train: Callable[[], Path], *, as_json: bool) -> None:
    """Trains and prints where the checkpoint lies, or the whole record; of several processes the first does.

    Raises:
        typer.Exit: with 1, and a line, where the training diverged.
    """
    from personsearch.train import TrainingDiverged

    try:
        checkpoint = train()
    except TrainingDiverged as error:
        typer.echo(f"personsearch: {error}", err=True)
        raise typer.Exit(1) from None
    if os.environ.get("RANK", "0") != "0":
        return
    record: dict[str, Any] = json.loads((checkpoint.parent / "run.json").read_text(encoding="utf-8"))
    if as_json:
        typer.echo(json.dumps({"checkpoint": str(checkpoint), **record}, indent=2))
    else:
        typer.echo(
            f"{checkpoint}: {record['epochs_done']} epochs, {record['steps_done']} steps, {record['wall_s']:.0f} s"
        )
