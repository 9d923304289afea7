"""``personsearch bench flops``: what a network costs before anything is timed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from personsearch.cli import require
from personsearch.cli.bench_options import Json, Save, keep_record, scaled
from personsearch.core.errors import InputError
from personsearch.core.manifest import Pooling

if TYPE_CHECKING:
    from personsearch.benchmarks.flops import FlopsResult


def flops(
    models: Annotated[
        list[Path] | None, typer.Argument(help="Recipes (.yaml), checkpoints, run folders or artifact folders.")
    ] = None,
    papers: Annotated[
        bool, typer.Option("--papers", help="Every network at its paper's size, beside what the paper prints.")
    ] = False,
    pooling: Annotated[
        Pooling | None,
        typer.Option(help="Of recipes and checkpoints: roi_align, as for CPUs, or matrix, as for TensorRT."),
    ] = None,
    save: Save = None,
    as_json: Json = False,
) -> None:
    """Count a frame's operations, weights, activations in memory and bytes moved, scene and persons apart.

    Peak memory is by liveness over the steps, element-wise ones in place; bytes moved are what convolutions, matrix
    products and RoIAlign read and write, weights included, everything else fused into them.

    Examples:

    \b
      personsearch bench flops recipes/teacher/hdl_r50_cuhk.yaml artifacts/street-student-fp32
      personsearch bench flops --papers --save benchmarks/results
    """
    require("torch", "train", "counting operations")
    if papers == bool(models):
        raise InputError("nothing to count" if not papers else "--papers counts the papers' networks alone",
                         expected="models, or --papers", remedy="see `personsearch bench flops --help`")  # fmt: skip
    if papers:
        _papers(save, as_json)
        return
    from personsearch.benchmarks.flops import count_path

    results = [count_path(model, pooling) for model in models or []]
    if save is not None:
        for result in results:
            _keep(result, {}, {}, save)
    if as_json:
        typer.echo(json.dumps([_content(result) for result in results], indent=2))
        return
    typer.echo("\n\n".join(_text(result) for result in results))


def _papers(save: Path | None, as_json: bool) -> None:
    from personsearch.benchmarks.flops_papers import count_papers, papers_table

    counts = count_papers()
    if save is not None:
        for number, count in enumerate(counts):
            printed = {"paper_scene": count.printed_scene_giga, "paper_person": count.printed_person_mega}
            figures = {
                name: (value * scale, "as printed")
                for (name, value), scale in zip(printed.items(), (1e9, 1e6), strict=True)
                if value is not None
            }
            if count.pair_macs is not None:
                figures["pair"] = (float(count.pair_macs), "MAC")
            settings = {"recipe": count.recipe, "paper": count.printed_in, "note": count.note, "row": f"{number:02}"}
            _keep(count.counted, figures, settings, save)
    if as_json:
        typer.echo(json.dumps([count.model_dump(mode="json") for count in counts], indent=2))
        return
    typer.echo(papers_table(counts))


def _keep(result: FlopsResult, figures: dict[str, tuple[float, str]], settings: dict[str, str], save: Path) -> None:
    own = {
        "scene": (float(result.scene_macs), "MAC"),
        "person": (float(result.person_macs), "MAC"),
        "persons": (float(result.persons_macs), "MAC"),
        "selection": (float(result.selection_macs), "MAC"),
        "total": (float(result.total_macs), "MAC"),
        "parameters": (float(result.parameters), "weights"),
        "scene_peak": (float(result.scene_peak_bytes), "B"),
        "persons_peak": (float(result.persons_peak_bytes), "B"),
        "scene_traffic": (float(result.scene_traffic_bytes), "B"),
        "persons_traffic": (float(result.persons_traffic_bytes), "B"),
        "selection_traffic": (float(result.selection_traffic_bytes), "B"),
    }
    if result.pair is not None:
        own["pair"] = (float(result.pair.macs), "MAC")
    about = {
        "convention": result.convention,
        "source": result.source,
        "persons": str(result.persons),
        "input": f"{result.input_wh[0]}x{result.input_wh[1]}",
        "pooling": result.pooling,
    }
    keep_record("flops", result.subject, own | figures, result.sha256, about | settings, save)


def _content(result: FlopsResult) -> dict[str, object]:
    totals = {
        "total_macs": result.total_macs, "total_flops": 2 * result.total_macs, "peak_bytes": result.peak_bytes,
        "traffic_bytes": result.traffic_bytes,
    }  # fmt: skip
    if result.pair is not None:
        totals["pair_macs"] = result.pair.macs
    return {**result.model_dump(mode="json"), **totals}


def _text(result: FlopsResult) -> str:
    count = result.persons
    selection = "selection (NMS, pooling)" if result.pooling == "matrix" else "selection (NMS)"
    rows = [
        ("scene, once a frame", result.scene_macs, result.scene_peak_bytes, result.scene_traffic_bytes),
        ("one person", result.person_macs, None, None),
        (f"persons, K = {count}", result.persons_macs, result.persons_peak_bytes, result.persons_traffic_bytes),
        (selection, result.selection_macs, None, result.selection_traffic_bytes),
        (f"frame with K = {count}", result.total_macs, result.peak_bytes, result.traffic_bytes),
    ]
    width, height = result.input_wh
    lines = [
        f"{result.subject}, {width}x{height}, counted on the {result.source}; {result.convention}",
        f"  {'':<25} {'':>14} {'':>15} {'peak memory':>13} {'bytes moved':>13}",
    ]
    for title, macs, peak, moved in rows:
        sizes = " ".join(f"{'' if size is None else f'{size / 1e6:.3f} MB':>13}" for size in (peak, moved))
        lines.append(f"  {title:<25} {scaled(macs, 'MAC'):>14} {scaled(2 * macs, 'FLOP'):>15} {sizes}".rstrip())
    if result.pair is not None:
        macs = result.pair.macs
        title = f"query and frame, {result.pair.people} people"
        lines.append(
            f"  {title:<25} {scaled(macs, 'MAC'):>14} {scaled(2 * macs, 'FLOP'):>15}  a pair, with nothing kept"
        )
    lines.append(f"  {'parameters':<25} {result.parameters / 1e6:>11.3f} M")
    return "\n".join(lines)
