"""``personsearch bench``: what a model costs, and how it does on a sequence where people come back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from personsearch.cli import (
    bench_ablation,
    bench_composites,
    bench_energy,
    bench_evaluator,
    bench_flops,
    bench_gallery,
    bench_latency,
    bench_loader,
    bench_paired,
    bench_pareto,
    bench_peers,
    bench_report,
    bench_training,
)
from personsearch.cli.bench_options import Json, Save, Threads, keep_record, open_model

app = typer.Typer(help="Measure operations, latency, re-entry and the evaluator.", no_args_is_help=True)
app.command("ablation")(bench_ablation.ablation)
app.command("loader")(bench_loader.loader)
app.command("composites")(bench_composites.composites)
app.command("training")(bench_training.training)
app.command("flops")(bench_flops.flops)
app.command("paired")(bench_paired.paired)
app.command("pareto")(bench_pareto.pareto)
app.command("peers")(bench_peers.peers)
app.command("report")(bench_report.report)
app.command("latency")(bench_latency.latency)
app.command("energy")(bench_energy.energy)
app.command("gallery")(bench_gallery.gallery)
app.command("evaluator")(bench_evaluator.evaluator)


@app.command()
def reentry(
    model: Annotated[str, typer.Argument(help="Checkpoint, artifact folder, or `histogram` for the baseline.")],
    sequence: Annotated[Path, typer.Argument(help="Sequence folder in the MOT layout with a person_map.json.")],
    threads: Threads = None,
    save: Save = None,
    as_json: Json = False,
) -> None:
    """Find people who leave and come back: rank-1 and mAP on true boxes, and detection.

    Example: personsearch bench reentry artifacts/street data/pets09-s2l1 --json
    """
    from personsearch.benchmarks.histogram import HistogramEmbedder
    from personsearch.benchmarks.reentry import measure_reentry, read_sequence
    from personsearch.benchmarks.systems import system_name

    frames = read_sequence(sequence)
    detector = None if model == "histogram" else open_model(Path(model), threads)
    name = model if detector is None else system_name(Path(model))
    result = measure_reentry(
        detector or HistogramEmbedder(), frames, name=name, sequence=sequence.resolve().name, detector=detector
    )
    if save is not None:
        names = ("rank_1", "mean_ap", "chance_rank_1", "chance_mean_ap", "detection_recall", "detection_precision")
        figures = {name: (value, "share") for name in names if (value := getattr(result, name)) is not None}
        settings = {
            "sequence": result.sequence,
            "frames": str(result.frames),
            "queries": str(result.queries),
            "gallery_boxes": str(result.gallery_boxes),
            "score_threshold": str(result.score_threshold),
        }
        keep_record("reentry", result.system, figures, result.sha256, settings, save)
    if as_json:
        typer.echo(json.dumps(result.model_dump(mode="json"), indent=2))
        return
    typer.echo(
        f"{result.system} on {result.sequence}: {result.queries} queries (boxes of first visits), "
        f"{result.gallery_boxes} gallery boxes\n"
        f"  re-entry   rank-1 {result.rank_1:.1%}  mAP {result.mean_ap:.1%}  "
        f"chance: rank-1 {result.chance_rank_1:.1%} mAP {result.chance_mean_ap:.1%}"
    )
    if result.detection_recall is not None:
        typer.echo(
            f"  detection  recall {result.detection_recall:.1%}  precision {result.detection_precision:.1%}  "
            f"at IoU 0.5, score >= {result.score_threshold}, {result.frames} frames"
        )


@app.command()
def tables(
    documents: Annotated[
        list[Path] | None,
        typer.Argument(help="Markdown files with `<!-- table:NAME -->` markers; README.md and docs if absent."),
    ] = None,
    results: Annotated[Path, typer.Option(help="Folder of JSON records.")] = Path("benchmarks/results"),
) -> None:
    """Write the tables of the README and of docs anew from the records.

    Example: personsearch bench tables README.md
    """
    from personsearch.benchmarks import readme

    for document in documents or readme.documents(Path()):
        readme.write_tables(document, results)
        typer.echo(f"tables: {document}", err=True)
