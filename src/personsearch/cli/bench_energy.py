"""``personsearch bench energy``: joules a frame, where a sensor tells."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from personsearch.cli import require
from personsearch.cli.bench_options import Json, Save, Threads, keep_record, parse_size

if TYPE_CHECKING:
    from personsearch.benchmarks.energy import EnergyResult


def energy(
    models: Annotated[
        list[str], typer.Argument(help="Artifact folders or checkpoints, as `bench latency` takes them.")
    ],
    seconds: Annotated[float, typer.Option(min=0.5, help="Of work in each repetition, of each model.")] = 60.0,
    idle: Annotated[float, typer.Option(min=0.5, help="Seconds of idling in each repetition.")] = 20.0,
    repeats: Annotated[int, typer.Option(min=1, help="Of idling and work.")] = 3,
    rate: Annotated[float, typer.Option(min=1, max=200, help="Readings of the sensors a second.")] = 20.0,
    source: Annotated[str | None, typer.Option(help="Video or folder of images, in place of generated frames.")] = None,
    people: Annotated[
        int | None, typer.Option(min=0, help="People in view in generated frames; or how many your source shows.")
    ] = None,
    frames: Annotated[int, typer.Option(min=1, help="Distinct generated frames.")] = 32,
    size: Annotated[str, typer.Option(help="Size of generated frames, WIDTHxHEIGHT.")] = "768x576",
    threads: Threads = None,
    save: Save = None,
    as_json: Json = False,
) -> None:
    """Measure joules a frame on every power sensor of the machine, idle baseline subtracted; both are printed.

    A frame is decoded, searched and matched. Sensors: a Jetson's INA3221, NVIDIA's NVML, RAPL counters of a processor.

    Example: personsearch bench energy artifacts/int8 artifacts/fp32 --seconds 60 --save benchmarks/results
    """
    from personsearch.benchmarks.energy import measure_energy
    from personsearch.benchmarks.frame_feed import given_frames, made_frames
    from personsearch.benchmarks.latency_records import LatencyPlan
    from personsearch.benchmarks.machine_state import read_state, state_settings
    from personsearch.benchmarks.named_systems import open_spec, parse_systems
    from personsearch.benchmarks.power_sensors import require_sensors

    size_wh, specs = parse_size(size), parse_systems(models)
    sensors = require_sensors()
    if any(not spec.is_artifact for spec in specs.values()):
        require("torch", "train", "running a checkpoint")
    before = read_state()
    with tempfile.TemporaryDirectory() as folder:
        supply = made_frames(Path(folder), frames, size_wh, people) if source is None else given_frames(source, people)
        results = measure_energy(
            {name: (open_spec, (spec, threads)) for name, spec in specs.items()},
            LatencyPlan(source=supply.source, threads=threads),
            sensors,
            seconds=seconds,
            idle_seconds=idle,
            repeats=repeats,
            rate_hz=rate,
        )
    if save is not None:
        settings = {
            "frames": supply.note,
            "stretches": f"{repeats} of {idle:g} s idle and {seconds:g} s work",
            "threads": str(threads or "engine's choice"),
            "beside": ", ".join(specs),
            **state_settings(before, read_state()),
        }
        _save(results, settings, len(sensors), save)
    if as_json:
        typer.echo(json.dumps([result.model_dump(mode="json") for result in results], indent=2))
        return
    typer.echo(f"{supply.note}; {repeats} repetitions of {idle:g} s idle and {seconds:g} s work; [ ]: lowest, highest")
    for result in results:
        typer.echo(describe(result))


def describe(result: EnergyResult) -> str:
    """One system on one sensor, for people."""
    how = "counted by the sensor" if result.counted else "power integrated over time"
    return (
        f"{result.system} ({result.runner})\n"
        f"  {result.sensor}: {result.covers}; {how}, read {result.sampling_hz:.1f} times a second\n"
        f"  gross {result.gross_j_per_frame:.4g} J a frame [{result.gross_lowest:.4g}, {result.gross_highest:.4g}]   "
        f"net of idle {result.net_j_per_frame:.4g} J [{result.net_lowest:.4g}, {result.net_highest:.4g}]\n"
        f"  {result.load_w:.2f} W at work, {result.idle_w:.2f} W idle; {result.frames} frames at "
        f"{result.frames_per_s:.1f} a second"
    )


def _save(results: list[EnergyResult], settings: dict[str, str], sensors: int, folder: Path) -> None:
    for result in results:
        figures = {
            "gross_j_per_frame": (result.gross_j_per_frame, "J"),
            "gross_lowest": (result.gross_lowest, "J"),
            "gross_highest": (result.gross_highest, "J"),
            "net_j_per_frame": (result.net_j_per_frame, "J"),
            "net_lowest": (result.net_lowest, "J"),
            "net_highest": (result.net_highest, "J"),
            "idle": (result.idle_w, "W"),
            "load": (result.load_w, "W"),
            "frames_per_s": (result.frames_per_s, "frames/s"),
            "sampling": (result.sampling_hz, "Hz"),
        }
        about = {
            "system": result.system,
            "runner": result.runner,
            "sensor": result.sensor,
            "covers": result.covers,
            "energy": "counted by the sensor" if result.counted else "power integrated over time",
        }
        subject = result.system if sensors == 1 else f"{result.system} {result.sensor}"
        keep_record("energy", subject, figures, result.sha256, {**about, **settings}, folder)
