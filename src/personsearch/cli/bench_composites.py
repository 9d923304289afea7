"""``personsearch bench composites``: how fast composites are rendered, and whether a paste shows."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

Save = Annotated[Path | None, typer.Option(help="Folder for the JSON record of the figures.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON in place of the table.")]


def composites(
    specification: Annotated[Path, typer.Argument(help="Composite specification (.yaml).")],
    size: Annotated[str | None, typer.Option(help="WIDTHxHEIGHT in place of the specification's.")] = None,
    images: Annotated[int, typer.Option(min=1, help="Images timed in each of three rounds.")] = 200,
    seam_images: Annotated[int, typer.Option(min=0, help="Images whose silhouettes are looked at; 0 for none.")] = 0,
    save: Save = None,
    as_json: Json = False,
) -> None:
    """Time the rendering of composites on one core, and ask a small classifier whether the rim of a paste shows.

    Example: personsearch bench composites recipes/data/street_composites.yaml --size 640x360 --seam-images 400
    """
    from personsearch.benchmarks.composite_seam import measure_seam
    from personsearch.benchmarks.composite_speed import measure_composites
    from personsearch.cli.bench_options import parse_size
    from personsearch.data.composite_spec import read_composite_spec
    from personsearch.data.composites import CompositeDataset

    spec = read_composite_spec(specification)
    if size is not None:
        spec = spec.model_copy(update={"image_wh": parse_size(size)})
    dataset = CompositeDataset(spec, "train")
    busy = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    speed = measure_composites(dataset, images)
    seam = measure_seam(dataset, min(seam_images, len(dataset))) if seam_images else None
    shape = f"{spec.image_wh[0]}x{spec.image_wh[1]}"
    if save is not None:
        from personsearch.benchmarks.results import make_result, write_result

        figures = {
            "images_per_s": (speed.images_per_s, "images/s"),
            "images_per_core_s": (speed.images_per_core_s, "images/s of processor time"),
            "people": (speed.people, "people/image"),
            "pastes": (speed.pastes, "pastes/image"),
        }
        settings = {"size": shape, "processes": "1", "threads": "1", "rounds": f"3 of {images} images, medians"}
        settings["load_before"] = "unknown" if busy is None else f"{busy:.2f} processes (average of one minute)"
        if seam is not None:
            figures |= {f"rim_{name}": (value, "share told right") for name, value in seam.accuracy.items()}
            settings |= {f"rim_{name}": f"{count} silhouettes of each kind" for name, count in seam.examples.items()}
            settings["rim_images"] = str(seam_images)
        record = make_result("composites", spec.name, figures, settings=settings, arguments=sys.argv[1:])
        typer.echo(f"record: {write_result(record, save)}", err=True)
    if as_json:
        content = {"speed": speed.model_dump(), "seam": seam.model_dump() if seam else None}
        typer.echo(json.dumps(content, indent=2))
        return
    typer.echo(
        f"{spec.name}, {shape}, one process on one thread, {speed.people:.1f} people and {speed.pastes:.1f} pastes "
        f"an image\n  {speed.images_per_s:.0f} images/s by the clock, {speed.images_per_core_s:.0f} a second of "
        "processor time"
    )
    if seam is not None:
        typer.echo(f"told apart by the rim alone in {seam_images} images (50 % is chance)")
        for name, value in seam.accuracy.items():
            typer.echo(f"  {name.replace('_', ' '):<18} {value:6.1%}  of {seam.examples[name]} and as many")
