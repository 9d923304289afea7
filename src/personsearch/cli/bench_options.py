"""What the commands of ``personsearch bench`` have in common: options, sizes, opening a model and the record."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from personsearch.cli import require
from personsearch.core.errors import InputError

if TYPE_CHECKING:
    from personsearch.benchmarks.systems import SearchSystem

Save = Annotated[Path | None, typer.Option(help="Folder for the JSON record of the figures.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON in place of the table.")]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads; the engine's choice if absent.")]


def parse_size(text: str) -> tuple[int, int]:
    """``WIDTHxHEIGHT`` in pixels; `InputError` where it is something else."""
    width, cross, height = text.lower().partition("x")
    if not (cross and width.isdecimal() and height.isdecimal() and int(width) > 0 and int(height) > 0):
        raise InputError(f"size is `{text}`", expected="WIDTHxHEIGHT in pixels, such as 1280x720")
    return int(width), int(height)


def open_model(path: Path, threads: int | None) -> SearchSystem:
    """A checkpoint or an artifact; `InputError` where it is neither, or what runs it is not installed."""
    from personsearch.benchmarks.systems import checkpoint_file, open_system

    if checkpoint_file(path) is not None:
        require("torch", "train", "running a checkpoint")
    return open_system(path, threads)


def scaled(count: float, unit: str) -> str:
    """A count with a prefix, to three decimals."""
    for factor, prefix in ((1e9, "G"), (1e6, "M")):
        if count >= factor:
            return f"{count / factor:.3f} {prefix}{unit}"
    return f"{count:g} {unit}"


def keep_record(
    kind: str,
    subject: str,
    figures: Mapping[str, tuple[float, str]],
    sha256: str,
    settings: Mapping[str, str],
    save: Path,
) -> None:
    """Writes the record of a measurement into ``save`` and says where; the command is this process's own."""
    from personsearch.benchmarks.results import make_result, write_result

    result = make_result(kind, subject, figures, sha256=sha256, settings=settings, arguments=sys.argv[1:])
    typer.echo(f"record: {write_result(result, save)}", err=True)


def aligned(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table for a terminal: the first column to the left, the others to the right."""
    widths = [max(len(row[column]) for row in (titles, *rows)) for column in range(len(titles))]
    lines = []
    for row in (titles, *rows):
        cells = [
            f"{cell:<{width}}" if not at else f"{cell:>{width}}"
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  " + "  ".join(cells).rstrip())
    return "\n".join(lines)
