"""``personsearch parity``: what the parity gate found, and the gate again on this machine's engines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def parity(
    artifact: Annotated[Path, typer.Argument(help="Artifact folder.")],
    *,
    run: Annotated[
        bool, typer.Option("--run", help="Compare this machine's engines with ONNX Runtime; exit 1 where one fails.")
    ] = False,
    engine: Annotated[
        list[str] | None,
        typer.Option(help="With --run: openvino, tensorrt or tensorrt-rtx; repeat; all that can run here if absent."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="With --run: data set folder for frames and end figures; frames are drawn if absent."),
    ] = None,
    frames: Annotated[int, typer.Option(min=1, help="With --run: frames compared.")] = 16,
    images: Annotated[int, typer.Option(min=1, help="With --run: labelled images at most.")] = 120,
    threads: Annotated[int | None, typer.Option(min=1, help="With --run: CPU threads of an engine.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the record as JSON.")] = False,
) -> None:
    """Print the parity table of an artifact: what export found, or with --run what this machine finds.

    Example: personsearch parity artifacts/street-int8 --run --engine openvino --data data/street
    """
    from personsearch.core.errors import InputError
    from personsearch.core.manifest import read_manifest
    from personsearch.export.parity_table import verdict_lines

    manifest = read_manifest(artifact)
    record = manifest.parity
    if run:
        from personsearch.benchmarks.engine_parity import check_engines
        from personsearch.core.gate_recipe import GateRecipe

        recipe = GateRecipe(frames=frames, images=images)
        record = check_engines(artifact, engine, data=data, recipe=recipe, threads=threads)
    elif engine or data is not None:
        raise InputError("--engine and --data say how to run the gate", expected="--run beside them")
    typer.echo(json.dumps(record, indent=2) if as_json else "\n".join(verdict_lines(record, manifest.precision)))
    if run and not record["passed"]:
        raise typer.Exit(1)
