"""``personsearch bench flops``: what a network costs before anything is timed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from personsearch.cli import require
from personsearch.cli.bench_options import Json, Save, keep_record, scaled


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
        typer.echo(f"  {title:<22} {scaled(macs, 'MAC'):>14} {scaled(2 * macs, 'FLOP'):>15}")
    typer.echo(f"  {'parameters':<22} {result.parameters / 1e6:>10.3f} M")
