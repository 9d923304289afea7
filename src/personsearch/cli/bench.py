"""``personsearch bench``: what a model costs, and how it does on a sequence where people come back."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from personsearch.cli import bench_ablation, bench_composites, bench_latency, bench_loader, bench_training, require
from personsearch.cli.bench_options import Json, Save, Threads, keep_record, open_model
from personsearch.core.errors import InputError

app = typer.Typer(help="Measure operations, latency, re-entry and the evaluator.", no_args_is_help=True)
app.command("ablation")(bench_ablation.ablation)
app.command("loader")(bench_loader.loader)
app.command("composites")(bench_composites.composites)
app.command("training")(bench_training.training)
app.command("latency")(bench_latency.latency)


@app.command()
def flops(
    model: Annotated[Path, typer.Argument(help="Recipe (.yaml), checkpoint, run folder or artifact folder.")],
    save: Save = None,
    as_json: Json = False,
) -> None:
    """Count the operations of a frame, scene and person apart.

    Example: personsearch bench flops recipes/teacher/hdl_r50_cuhk.yaml
    """
    require("torch", "train", "counting operations")
    from personsearch.benchmarks.flops import count_path

    result = count_path(model)
    if save is not None:
        figures = {
            "scene": (float(result.scene_macs), "MAC"),
            "person": (float(result.person_macs), "MAC"),
            "selection": (float(result.selection_macs), "MAC"),
            "total": (float(result.total_macs), "MAC"),
            "parameters": (float(result.parameters), "weights"),
        }
        settings = {
            "convention": result.convention,
            "source": result.source,
            "persons": str(result.persons),
            "input": f"{result.input_wh[0]}x{result.input_wh[1]}",
        }
        keep_record("flops", result.subject, figures, "", settings, save)
    if as_json:
        typer.echo(json.dumps({**result.model_dump(mode="json"), "total_macs": result.total_macs}, indent=2))
        return
    rows = [
        ("scene, once a frame", result.scene_macs),
        ("one person", result.person_macs),
        ("selection (NMS, pooling)", result.selection_macs),
        (f"frame with K = {result.persons}", result.total_macs),
    ]
    width, height = result.input_wh
    typer.echo(f"{result.subject}, {width}x{height}, counted on the {result.source}; {result.convention}")
    for title, macs in rows:
        typer.echo(f"  {title:<22} {_scaled(macs, 'MAC'):>14} {_scaled(2 * macs, 'FLOP'):>15}")
    typer.echo(f"  {'parameters':<22} {result.parameters / 1e6:>10.3f} M")


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
def evaluator(
    workload: Annotated[str, typer.Argument(help="prw, cuhk-sysu-100 or cuhk-sysu-4000.")] = "prw",
    save: Save = None,
    as_json: Json = False,
) -> None:
    """Time the search evaluation at a test set's size, with ten times the queries, and with ten times the detections.

    Example: personsearch bench evaluator prw --save benchmarks/results
    """
    from personsearch.benchmarks.evaluation_scale import WORKLOADS, measure_scale

    if workload not in WORKLOADS:
        raise InputError(f"workload is `{workload}`", expected=f"one of {', '.join(WORKLOADS)}")
    base, load = WORKLOADS[workload], os.getloadavg()[0]
    runs = {
        "1x": measure_scale(base),
        "10x_queries": measure_scale(base.grown(queries=10)),
        "10x_detections": measure_scale(base.grown(detections=10)),
    }
    if save is not None:
        figures = {f"{name}_seconds": (run.seconds, "s") for name, run in runs.items()}
        figures |= {f"{name}_peak": (run.peak_gib, "GiB") for name, run in runs.items()}
        sizes = {name: f"{run.queries} queries, {run.detections} detections" for name, run in runs.items()}
        settings = {
            **sizes,
            "gallery_images": str(base.gallery or "all"),
            "embedding_dim": str(base.embedding_dim),
            "threads": os.environ.get("OMP_NUM_THREADS", "NumPy's choice"),
            "load_before": f"load average {load:.1f}",
        }
        keep_record("evaluator", workload, figures, "", settings, save)
    if as_json:
        typer.echo(json.dumps({name: run.model_dump() for name, run in runs.items()}, indent=2))
        return
    for name, run in runs.items():
        typer.echo(
            f"  {name:<15} {run.queries:>6} queries  {run.detections:>7} detections  {run.images:>6} images  "
            f"{run.seconds:7.2f} s  peak {run.peak_gib:.2f} GiB ({run.input_gib:.2f} before)"
        )


def _scaled(count: int, unit: str) -> str:
    for factor, prefix in ((1e9, "G"), (1e6, "M")):
        if count >= factor:
            return f"{count / factor:.3f} {prefix}{unit}"
    return f"{count} {unit}"


@app.command()
def tables(
    readme: Annotated[Path, typer.Argument(help="Markdown file with `<!-- table:NAME -->` markers.")] = Path(
        "README.md"
    ),
    results: Annotated[Path, typer.Option(help="Folder of JSON records.")] = Path("benchmarks/results"),
) -> None:
    """Write the README's tables anew from the records.

    Example: personsearch bench tables README.md
    """
    from personsearch.benchmarks.readme import write_tables

    write_tables(readme, results)
