"""``personsearch data label``: boxes and tracks proposed on a video, to be corrected by a person."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer


def label(
    video: Annotated[
        str, typer.Argument(help="Video file, folder or pattern as 'dir/%06d.jpg'; a camera needs --max-frames.")
    ],
    out: Annotated[Path, typer.Option(help="Folder to write, new or empty.")],
    *,
    detector: Annotated[
        Path | None, typer.Option(help="Artifact folder; without it the one that ships with the package.")
    ] = None,
    format_: Annotated[
        Literal["mot", "coco"],
        typer.Option("--format", help="mot: a sequence and cvat.zip, for CVAT; coco: a data set folder."),
    ] = "mot",
    every: Annotated[
        int, typer.Option(min=1, help="Label each n-th frame; people are followed through all of them.")
    ] = 1,
    min_score: Annotated[
        float | None, typer.Option(min=0, max=1, help="Use detections from this score on; default: the artifact's.")
    ] = None,
    min_track_s: Annotated[
        float, typer.Option("--min-track-s", min=0, help="Leave out tracks that last less, in seconds.")
    ] = 0.5,
    max_frames: Annotated[int | None, typer.Option(min=1, help="Stop after this many frames.")] = None,
    camera: Annotated[int, typer.Option(min=0, help="Number of the camera (coco).")] = 0,
    rate: Annotated[
        float | None, typer.Option(help="Frames a second, where the source does not say (images: 25) or says wrongly.")
    ] = None,
    keep_going: Annotated[
        bool, typer.Option("--keep-going", help="Use what can be read of a source that is cut short.")
    ] = False,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads of the engine.")] = None,
    device: Annotated[
        Literal["cpu", "cuda"] | None, typer.Option(help="Where it runs; default: the engine's own, mostly the CPU.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the counts as JSON.")] = False,
) -> None:
    """Propose boxes and track ids on a video, for correction in CVAT.

    Examples:

    \b
      personsearch data label street.mp4 --every 5 --out street
      personsearch data label 'frames/%06d.jpg' --rate 7 --detector my-artifact --format coco --out street-coco

    What is proposed are guesses: check every track before you train on it. Embeddings are not written.
    """
    from dataclasses import asdict

    from personsearch.core.detections import Detections
    from personsearch.core.progress import StageProgress
    from personsearch.runtime import open_engine
    from personsearch.runtime.labelling import CVAT_ZIP, LabelSettings, check_label_output, propose_labels
    from personsearch.runtime.sources import open_source

    check_label_output(out)
    settings = LabelSettings(format_, every, min_score, min_track_s, max_frames, camera)
    engine = open_engine(detector, threads, device=device)
    try:
        source = open_source(video, rate_hz=rate, keep_going=keep_going)
        total = min((number for number in (source.frame_count, max_frames) if number is not None), default=None)
        with StageProgress("Following people", total) as progress:

            def count(detections: Detections) -> None:
                progress.advance(note=f"people {len(detections)}")

            summary = propose_labels(engine, source, out, settings, on_frame=count)
    finally:
        engine.close()
    if as_json:
        typer.echo(json.dumps({**asdict(summary), "format": format_, "out": str(out)}, indent=2))
        return
    typer.echo(
        f"{out}: {summary.boxes} boxes of {summary.people} tracks in {summary.images} images "
        f"({summary.frames} frames searched, score {summary.min_score:g} or more)"
    )
    typer.echo(
        f"left out: {summary.short_tracks} tracks shorter than {min_track_s:g} s, "
        f"{summary.short_boxes} boxes of the images"
    )
    for note in summary.notes:
        typer.echo(f"note: {note}")
    if format_ == "mot":
        typer.echo(
            f"CVAT: make a task with the label `person` from {out / 'img1'}, "
            f"then upload {out / CVAT_ZIP} as annotations in the format MOT 1.1"
        )
