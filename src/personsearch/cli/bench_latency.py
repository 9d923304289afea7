"""``personsearch bench latency``: how long a frame takes, models side by side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from personsearch.cli.bench_options import Json, Save, Threads, keep_record, open_model, parse_size
from personsearch.core.errors import InputError

if TYPE_CHECKING:
    from personsearch.benchmarks.systems import SearchSystem


def latency(
    models: Annotated[list[Path], typer.Argument(help="Artifact folders or checkpoints, timed side by side.")],
    rounds: Annotated[int, typer.Option(min=1, help="Frames timed for each.")] = 50,
    size: Annotated[str, typer.Option(help="Size of the source frames, WIDTHxHEIGHT.")] = "1280x720",
    threads: Threads = None,
    save: Save = None,
    as_json: Json = False,
) -> None:
    """Time single frames through each model, interleaved, after a warm-up.

    Example: personsearch bench latency artifacts/street runs/teacher/checkpoint.pt --threads 1
    """
    from personsearch.benchmarks.systems import system_name

    systems: dict[str, SearchSystem] = {}
    for path in models:
        name = system_name(path)
        if name in systems:
            raise InputError(f"two models are called `{name}`", expected="different names", remedy="rename one")
        systems[name] = open_model(path, threads)
    from personsearch.benchmarks.latency import generated_frames, measure_latency

    results = measure_latency(systems, generated_frames(min(rounds, 32), parse_size(size), seed=0), rounds=rounds)
    for result in results:
        if save is not None:
            figures = {
                f"{scope}_{name}": (value, "ms")
                for scope, times in result.scopes.items()
                for name, value in times.model_dump().items()
            }
            settings = {
                "frames": str(result.frames),
                "size": size,
                "beside": ", ".join(result.beside),
                "threads": str(threads or "engine's choice"),
            }
            keep_record("latency", result.system, figures, result.sha256, settings, save)
    if as_json:
        typer.echo(json.dumps([result.model_dump(mode="json") for result in results], indent=2))
        return
    typer.echo(f"milliseconds a frame, {rounds} generated frames of {size}, models interleaved")
    for result in results:
        for scope, times in result.scopes.items():
            what = "network alone" if scope == "graph" else "with pre- and post-processing"
            typer.echo(
                f"  {result.system:<24} {what:<30} p50 {times.p50_ms:8.2f}  p90 {times.p90_ms:8.2f}  "
                f"p99 {times.p99_ms:8.2f}"
            )
        if not result.warmup_settled:
            typer.echo(f"  {result.system}: the warm-up did not settle in {result.warmup_frames} frames")
