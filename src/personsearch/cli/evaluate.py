"""``personsearch evaluate``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from personsearch.cli import require

if TYPE_CHECKING:
    from personsearch.benchmarks.accuracy import AccuracyResult


def evaluate(
    model: Annotated[Path, typer.Argument(help="Checkpoint file, run folder or artifact folder.")],
    dataset: Annotated[Path, typer.Argument(help="Data set folder.")],
    split: Annotated[str, typer.Option(help="Split of the data set.")] = "test",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; the engine's choice if absent.")] = None,
    histogram: Annotated[bool, typer.Option(help="Add the colour-histogram baseline on true boxes.")] = False,
    save: Annotated[Path | None, typer.Option(help="Folder for the JSON record of the figures.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON in place of the table.")] = False,
) -> None:
    """Measure detection and search accuracy on a data set, beside chance.

    Example: personsearch evaluate artifacts/street data/prw --split test --json
    """
    from personsearch.benchmarks.accuracy import measure_histogram, measure_path
    from personsearch.benchmarks.systems import checkpoint_file
    from personsearch.data import open_dataset

    if checkpoint_file(model) is not None:
        require("torch", "train", "evaluating a checkpoint")
    results = [measure_path(model, dataset, split, threads=threads)]
    if histogram:
        results.append(measure_histogram(open_dataset(dataset, split), split=split))
    if save is not None:
        _save(results[0], save)
    if as_json:
        import json

        typer.echo(json.dumps([result.model_dump(mode="json") for result in results], indent=2))
    else:
        for result in results:
            typer.echo(accuracy_table(result))


def accuracy_table(result: AccuracyResult) -> str:
    """The figures of one system as short lines, percent."""
    lines = [
        f"{result.system} on {result.dataset}, split {result.split}: {result.images} images, "
        f"{result.people} people, {result.queries} queries"
    ]
    if result.detection is not None:
        found = result.detection
        lines.append(
            f"  detection     AP {found.average_precision:.1%} (without recall factor {found.ranking_precision:.1%})  "
            f"recall {found.recall:.1%}  precision {found.precision:.1%}  "
            f"at IoU 0.5, score >= {result.score_threshold}"
        )
    for title, search in (("search", result.search), ("on true boxes", result.true_boxes)):
        if search is not None:
            top = "  ".join(f"top-{k} {share:.1%}" for k, share in search.top.items())
            lines.append(
                f"  {title:<13} mAP {search.mean_ap:.1%}  {top}  "
                f"chance: mAP {search.chance_mean_ap:.1%} top-1 {search.chance_top[1]:.1%}, "
                f"{search.gallery_boxes:.0f} boxes a query"
            )
    if not result.queries:
        lines.append("  the split has no queries: detection only")
    return "\n".join(lines)


def _save(result: AccuracyResult, folder: Path) -> None:
    from personsearch.benchmarks.results import make_result, write_result

    figures: dict[str, tuple[float, str]] = {}
    if result.detection is not None:
        for name, value in result.detection.model_dump().items():
            if value is not None:
                figures[f"detection_{name}"] = (value, "share")
    for prefix, search in (("search", result.search), ("true_boxes", result.true_boxes)):
        if search is not None:
            figures[f"{prefix}_mean_ap"] = (search.mean_ap, "share")
            figures[f"{prefix}_chance_mean_ap"] = (search.chance_mean_ap, "share")
            figures |= {f"{prefix}_top_{k}": (share, "share") for k, share in search.top.items()}
            figures |= {f"{prefix}_chance_top_{k}": (share, "share") for k, share in search.chance_top.items()}
    settings = {
        "dataset": result.dataset,
        "split": result.split,
        "images": str(result.images),
        "queries": str(result.queries),
        "score_threshold": str(result.score_threshold),
    }
    record = make_result(
        "accuracy", result.system, figures, sha256=result.sha256, settings=settings, arguments=sys.argv[1:]
    )
    typer.echo(f"record: {write_result(record, folder)}", err=True)
