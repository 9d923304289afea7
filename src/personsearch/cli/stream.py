"""``personsearch stream``: find a person in a video, an image sequence, a camera or an address."""

from __future__ import annotations

import json
import threading
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import typer


def stream(
    artifact: Annotated[
        Path | None, typer.Argument(help="Artifact folder; without it the one that ships with the package.")
    ] = None,
    *,
    source: Annotated[
        str,
        typer.Option(
            help="Video file, image, folder, pattern as 'dir/%06d.jpg', number of a camera, RTSP or HTTP address, "
            "or env:NAME to read any of these from an environment variable (keeps passwords off the command line).",
        ),
    ],
    query: Annotated[
        list[str],
        typer.Option(
            help="IMAGE, IMAGE#x1,y1,x2,y2 or NAME=IMAGE#x1,y1,x2,y2: the person, in pixels of the image; without a "
            "box the largest person in it. Repeat for more people; repeat a NAME for more pictures of one.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the results; replaces only one of an earlier search.")],
    threshold: Annotated[
        float | None, typer.Option(min=-1, max=1, help="Cosine from which on it is a match; default: the artifact's.")
    ] = None,
    mode: Annotated[
        Literal["auto", "every", "latest"],
        typer.Option(help="every frame, or always the latest one; auto: latest for cameras and addresses."),
    ] = "auto",
    max_frames: Annotated[int | None, typer.Option(min=1, help="Stop after this many frames.")] = None,
    rate: Annotated[
        float | None, typer.Option(help="Frames a second, where the source does not say (images: 25) or says wrongly.")
    ] = None,
    keep_going: Annotated[
        bool, typer.Option("--keep-going", help="Use what can be read of a source that is cut short.")
    ] = False,
    reconnect: Annotated[
        float, typer.Option(min=0, help="Seconds to go on trying when a camera or live stream is lost; 0: end there.")
    ] = 30.0,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads of the engine.")] = None,
    engine: Annotated[
        str | None,
        typer.Option(help="onnxruntime, openvino, tensorrt or tensorrt-rtx; default: what the artifact was made for."),
    ] = None,
    device: Annotated[
        Literal["cpu", "cuda"] | None, typer.Option(help="Where it runs; default: the engine's own, mostly the CPU.")
    ] = None,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Build a TensorRT engine here where none that fits is cached.")
    ] = False,
    video: Annotated[bool, typer.Option("--video/--no-video", help="Write annotated.mp4.")] = True,
    all_: Annotated[bool, typer.Option("--all", help="Write every detection to detections.jsonl.")] = False,
    save_crops: Annotated[bool, typer.Option("--save-crops", help="Write a picture of each best match.")] = False,
    save_embeddings: Annotated[
        bool, typer.Option("--save-embeddings", help="Write embeddings.npy, row by row with detections.jsonl.")
    ] = False,
    visit_gap: Annotated[
        float, typer.Option(min=0, help="A pause in matches longer than this ends a visit, seconds.")
    ] = 2.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Find a person in a video, image sequence, camera or address, and write where and when.

    Examples:

    \b
      personsearch stream --source street.mp4 --query anna.jpg --out found
      personsearch stream --source 'frames/%06d.jpg' --query 'anna=frames/000123.jpg#220,140,268,290' --out found
      personsearch stream my-artifact --source env:CAMERA_URL --query anna.jpg --out found

    Exit code: 0 when the source was searched to its end, 130 when it was stopped by Ctrl-C or SIGTERM (the results so
    far are published all the same; a second Ctrl-C throws them away), 2 on bad input, with nothing left behind.
    """
    from personsearch.core.progress import StageProgress
    from personsearch.runtime import open_engine
    from personsearch.runtime.interrupt import stop_on_signal
    from personsearch.runtime.query import load_queries
    from personsearch.runtime.session import SearchSettings, check_output, search_source
    from personsearch.runtime.sinks import FrameResult
    from personsearch.runtime.sources import open_source

    settings = SearchSettings(
        mode=mode,
        threshold=threshold,
        max_frames=max_frames,
        video=video,
        all_detections=all_,
        crops=save_crops,
        embeddings=save_embeddings,
        visit_gap_s=visit_gap,
    )
    check_output(out)
    opened = open_engine(artifact, threads, engine=engine, device=device, rebuild=rebuild)
    try:
        people = load_queries(opened, query)
        frames = open_source(
            source, rate_hz=rate, keep_going=keep_going, reconnect_s=reconnect, tell=partial(typer.echo, err=True)
        )
        total = min((number for number in (frames.frame_count, max_frames) if number is not None), default=None)
        stop = threading.Event()
        with stop_on_signal(stop), StageProgress("Searching", total) as progress:

            def count(result: FrameResult) -> None:
                found = sum(match.is_best for match in result.matches)
                progress.advance(note=f"people {len(result.detections)}, matched {found}, {result.compute_ms:.0f} ms")

            summary = search_source(opened, frames, people, out, settings, stop=stop, on_frame=count)
    finally:
        opened.close()
    typer.echo(json.dumps(summary, indent=2) if as_json else describe(summary, out))
    if summary["ended_by"] == "user":
        raise typer.Exit(130)


def describe(summary: dict[str, Any], out: Path) -> str:
    """The summary for people: frames, visits, times, files; at most a screen."""
    from personsearch.runtime.drawing import clock

    frames = summary["frames"]
    lines = [
        f"Searched {frames['processed']} frames of {summary['source']['label']} in {summary['wall_s']:.1f} s, "
        f"{summary['processed_per_s']:.1f} a second"
        + (f"; {frames['dropped']} dropped" if frames["dropped"] else "")
        + ("; stopped before its end" if summary["ended_by"] == "user" else ""),
    ]
    for query in summary["queries"]:
        visits = query["visits"]
        brief = f", {query['brief_visits']} single frames not counted" if query["brief_visits"] else ""
        lines.append(
            f"{query['name']}: {len(visits) or 'no'} visit{'' if len(visits) == 1 else 's'}{brief} "
            f"(similarity {summary['settings']['threshold']:.3f} or more)"
        )
        lines += [
            f"  {clock(visit['start_s'])} to {clock(visit['end_s'])}  {visit['frames']} frames, "
            f"best {visit['best_similarity']:.3f} at {clock(visit['best_time_s'])}, "
            f"{visit.get('best_name') or 'frame ' + str(visit['best_frame'])}"
            for visit in visits[:10]
        ]
        if len(visits) > 10:
            lines.append(f"  and {len(visits) - 10} more in summary.json")
        if not visits and query["most_similar"]:
            best = query["most_similar"][0]
            where = best.get("name") or f"frame {best['frame']}"
            lines.append(f"  most similar: {best['similarity']:.3f} at {clock(best['time_s'])}, {where}")
    stages = summary["stages"]
    lines.append(
        "ms a frame, p50/p90: "
        + ", ".join(
            f"{name.replace('_', ' ')} {values['p50_ms']:.1f}/{values['p90_ms']:.1f}"
            for name, values in stages.items()
            if name not in ("queue_wait", "age")
        )
    )
    lines += [f"note: {note}" for note in summary["notes"]]
    lines.append(f"Results in {out}: {', '.join([*summary['files'], 'summary.json'])}")
    return "\n".join(lines)
