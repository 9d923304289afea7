"""``personsearch bench latency``: how long a frame takes, models and engines side by side."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from personsearch.cli import require
from personsearch.cli.bench_options import Json, Save, Threads, keep_record, parse_size
from personsearch.core.errors import InputError

if TYPE_CHECKING:
    from personsearch.benchmarks.latency_session import LatencyReport
    from personsearch.benchmarks.named_systems import SystemSpec

_ROUNDS = {"single": (200, 10), "multi": (60, 5), "offline": (6, 1), "stream": (300, 100)}
"""Queries timed in each process, and in one turn, where nobody says otherwise."""


def latency(
    models: Annotated[
        list[str],
        typer.Argument(
            help="Artifact folders or checkpoints, timed side by side; ARTIFACT@ENGINE and CHECKPOINT@eager or "
            "@compiled say what runs them. Ratios are to the first.",
        ),
    ],
    scenario: Annotated[
        Literal["single", "multi", "offline", "stream"],
        typer.Option(help="A frame at a time; batches; all frames at hand; or through the runtime, source to sinks."),
    ] = "single",
    rounds: Annotated[
        int | None,
        typer.Option(min=1, help="Frames, batches or passes timed in each process; if absent 200, 60, 6; stream: 300."),
    ] = None,
    restarts: Annotated[int, typer.Option(min=1, help="Processes of each model, one after the other.")] = 3,
    batch: Annotated[str, typer.Option(help="Frames in a batch, of multi and offline; several as 1,4,8.")] = "1",
    source: Annotated[str | None, typer.Option(help="Video or folder of images, in place of generated frames.")] = None,
    people: Annotated[
        int | None, typer.Option(min=0, help="People in view in generated frames; or how many your source shows.")
    ] = None,
    frames: Annotated[int, typer.Option(min=1, help="Distinct generated frames.")] = 32,
    size: Annotated[str, typer.Option(help="Size of generated frames, WIDTHxHEIGHT.")] = "768x576",
    mode: Annotated[
        Literal["every", "latest"], typer.Option(help="Of the stream: every frame, or always the latest one.")
    ] = "every",
    annotate: Annotated[bool, typer.Option(help="The stream writes its annotated video too.")] = False,
    roofline: Annotated[bool, typer.Option(help="Measure the machine's bandwidth and peak in the same run.")] = True,
    plot: Annotated[Path | None, typer.Option(help="SVG file for the roofline's chart.")] = None,
    threads: Threads = None,
    save: Save = None,
    as_json: Json = False,
) -> None:
    """Time models side by side, each in processes of its own, turn by turn, after a warm-up.

    Examples:

    \b
      personsearch bench latency artifacts/street runs/student@eager --threads 2 --people 5
      personsearch bench latency artifacts/int8 artifacts/int8@openvino --scenario multi --batch 1,4,8
      personsearch bench latency artifacts/street --scenario stream --source street.mp4 --mode latest
    """
    from personsearch.benchmarks.frame_feed import given_frames, made_frames
    from personsearch.benchmarks.latency_records import LatencyPlan
    from personsearch.benchmarks.latency_report import latency_text, roofline_text
    from personsearch.benchmarks.latency_session import measure_session, parse_batches
    from personsearch.benchmarks.named_systems import parse_systems

    batches, size_wh = parse_batches(batch, scenario), parse_size(size)
    specs = parse_systems(models)
    with_roofline = roofline and scenario == "single"
    if plot is not None and not with_roofline:
        raise InputError("a chart of the roofline without a roofline", remedy="leave `--plot` out, or time `single`")
    _require(specs, with_roofline, with_chart=plot is not None)
    usual_rounds, turn = _ROUNDS[scenario]
    rounds = rounds or usual_rounds
    turn = min(turn, rounds)
    with tempfile.TemporaryDirectory() as folder:
        length = turn if scenario == "stream" else 0
        supply = (
            made_frames(Path(folder), frames, size_wh, people, video_length=length)
            if source is None
            else given_frames(source, people)
        )
        plan = LatencyPlan(
            scenario=scenario,
            source=supply.source,
            rounds=rounds,
            turn=turn,
            restarts=restarts,
            threads=threads,
            mode=mode,
            annotate=annotate,
        )
        report = measure_session(specs, supply, plan, batches=batches, with_roofline=with_roofline)
    if save is not None:
        _save(report, save)
    if plot is not None:
        _plot(report, plot)
    if as_json:
        typer.echo(json.dumps(report.model_dump(mode="json"), indent=2))
        return
    typer.echo(latency_text(report))
    if report.roofline:
        typer.echo(roofline_text(report))


def _require(specs: Mapping[str, SystemSpec], with_roofline: bool, *, with_chart: bool) -> None:
    if any(not spec.is_artifact for spec in specs.values()):
        require("torch", "train", "running a checkpoint")
    if with_chart:
        require("matplotlib", "train", "a chart")
    if with_roofline:
        try:
            require("onnx", "train", "the roofline")
        except InputError as error:
            raise InputError(error.what, remedy=f"{error.remedy}, or use `--no-roofline`") from None


def _plot(report: LatencyReport, path: Path) -> None:
    from personsearch.benchmarks.report.charts import standalone
    from personsearch.benchmarks.report.roofline_chart import roofline_svg
    from personsearch.core.files import atomic_file

    if not report.roofline:
        raise InputError("none of the models runs on a library whose peak is measured", where=str(path))
    names = ", ".join(point.system for point in report.roofline)
    with atomic_file(path) as part:
        part.write_text(standalone(roofline_svg(report.roofline, f"Roofline with {names}")), encoding="utf-8")


def _save(report: LatencyReport, folder: Path) -> None:
    from personsearch.benchmarks.latency_report import record_figures, record_settings

    points = {point.system: point for point in report.roofline}
    for result in report.results:
        subject = result.system if result.batch == 1 else f"{result.system}-batch-{result.batch}"
        figures = record_figures(result, points.get(result.system))
        kind = "latency" if result.scenario == "single" else result.scenario
        keep_record(kind, subject, figures, result.sha256, record_settings(report, result), folder)
