"""What ``--skip-bad`` does in commands that measure: images that cannot be read are left out, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from personsearch.core.progress import StageProgress

if TYPE_CHECKING:
    from personsearch.data import SearchDataset
    from personsearch.data.readable import ReadableImages

SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Leave out images that cannot be read, and name them.")]


def readable_part(dataset: SearchDataset) -> ReadableImages:
    """The readable part of a data set; names on standard error what is left out.

    Raises:
        InputError: no image can be read.
    """
    from personsearch.data.readable import ReadableImages

    with StageProgress("read images", len(dataset)) as progress:
        readable = ReadableImages(dataset, lambda done, total: progress.advance_to(done))
    for line in readable.skipped:
        typer.echo(f"skipped: {line}", err=True)
    if readable.skipped:
        typer.echo(
            f"skipped {len(readable.skipped)} of {len(dataset)} images and {readable.skipped_queries} of "
            f"{len(dataset.queries)} queries: the figures are those of the rest",
            err=True,
        )
    return readable
