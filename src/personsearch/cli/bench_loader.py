"""``personsearch bench loader``: how fast training data comes."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from personsearch.cli import require

Save = Annotated[Path | None, typer.Option(help="Folder for the JSON record of the figures.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON in place of the table.")]


def loader(
    workers: Annotated[list[int] | None, typer.Option(min=0, help="Loader processes; 0, 1 and 2 if absent.")] = None,
    images: Annotated[int, typer.Option(min=1, help="Images timed in each round.")] = 96,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of each setting; the median is told.")] = 5,
    save: Save = None,
    as_json: Json = False,
) -> None:
    """Time the training loader on generated JPEG frames of 900x1500, and the ways to decode one.

    Example: personsearch bench loader --workers 0 --workers 4
    """
    require("torch", "train", "the training loader")
    from personsearch.benchmarks.loader_speed import FRAME_WH, generated_jpegs, measure_decoders, measure_loader

    load_before = (
        f"{os.getloadavg()[0]:.2f} processes (average of one minute)" if hasattr(os, "getloadavg") else "unknown"
    )
    with generated_jpegs(min(images, 32)) as frames:
        frame_bytes = sum(path.stat().st_size for path in frames.paths) / len(frames)
        decoders = measure_decoders(frames.paths[:8])
        speeds = measure_loader(frames, workers=tuple(workers or (0, 1, 2)), images=images, rounds=rounds)
    if save is not None:
        from personsearch.benchmarks.results import make_result, write_result

        figures = {f"decode_{decoder.name}": (decoder.ms, "ms") for decoder in decoders}
        for speed in speeds:
            name = f"{speed.input_wh[0]}x{speed.input_wh[1]}_{speed.decode}_workers_{speed.workers}"
            figures[name] = (speed.images_per_s, "images/s")
            figures[f"{name}_main"] = (speed.main_ms, "ms/image")
            figures[f"{name}_cpu"] = (speed.cpu_ms, "ms/image")
        settings = {
            "frames": f"{len(frames)} generated JPEGs of {FRAME_WH[0]}x{FRAME_WH[1]}, {frame_bytes / 1e3:.0f} kB each",
            "variation": "the defaults of DataRecipe: flip, photometric 0.5, zoom 0.8 to 1.25",
            "rounds": f"{rounds} of {images} images, settings in turns, medians",
            "load_before": load_before,
        }
        subject = f"{FRAME_WH[0]}x{FRAME_WH[1]}-jpeg"
        record = make_result("loader", subject, figures, settings=settings, arguments=sys.argv[1:])
        typer.echo(f"record: {write_result(record, save)}", err=True)
    if as_json:
        content = {
            name: [row.model_dump() for row in rows] for name, rows in (("decoders", decoders), ("loader", speeds))
        }
        typer.echo(json.dumps(content, indent=2))
        return
    typer.echo(f"one frame of {FRAME_WH[0]}x{FRAME_WH[1]}, {frame_bytes / 1e3:.0f} kB, decoded on one core")
    for decoder in decoders:
        typer.echo(f"  {decoder.name:<24} {decoder.ms:8.2f} ms")
    typer.echo("loader, network input and decoding by number of processes")
    for speed in speeds:
        setting = f"{speed.input_wh[0]}x{speed.input_wh[1]} {speed.decode}, {speed.workers}"
        typer.echo(
            f"  {setting:<24} {speed.images_per_s:8.1f} images/s  "
            f"processor time an image: {speed.main_ms:6.2f} ms of the training process, {speed.cpu_ms:6.2f} ms of all"
        )
