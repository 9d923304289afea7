"""From figures to what the report says."""

from __future__ import annotations

import csv
import resource
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from personsearch.benchmarks.demo.checks import detection_of, given_boxes_of, percent, search_of
from personsearch.benchmarks.demo.settings import DemoFolders, DemoSettings
from personsearch.benchmarks.demo.stages import STREAM_ENGINE, ExportOutcome, Measured, StreamOutcome
from personsearch.benchmarks.machine import describe_machine
from personsearch.benchmarks.report import Picture, Row
from personsearch.benchmarks.report.charts import Line, Panel, line_panels, timeline

NAMES = {
    "teacher": ("Teacher", "PyTorch"),
    "control": ("Control", "student without teacher, PyTorch"),
    "student": ("Student", "distilled, PyTorch"),
    "fp32": ("Engine fp32", "ONNX Runtime"),
    "int8": ("Engine int8", "ONNX Runtime, static QDQ"),
}
EMPHASIS = ("teacher", "int8")
COLOURS = {"teacher": 0, "student": 1, "control": 2}
DETECTION_LOSSES = ("rpn_class", "rpn_box", "refine_class", "refine_box")
DISTILLATION_LOSSES = ("feature", "attention", "prediction")
POINTS = 40


def table_rows(measured: Measured, engines: ExportOutcome) -> tuple[Row, ...]:
    """One row a system, then the colour histogram and chance."""
    rows = []
    for key, (name, note) in NAMES.items():
        accuracy, flops, latency = measured.accuracy[key], measured.flops[key], measured.latency[key]
        figures = {
            "detection_ap": detection_of(accuracy).average_precision,
            "detection_recall": detection_of(accuracy).recall,
            "map": search_of(accuracy).mean_ap,
            "top1": search_of(accuracy).top[1],
            "top5": search_of(accuracy).top[5],
            "given_boxes_map": given_boxes_of(accuracy).mean_ap,
            "scene_macs": float(flops.scene_macs),
            "scene_flops": 2.0 * flops.scene_macs,
            "person_flops": 2.0 * flops.person_macs,
            "parameters": float(flops.parameters),
            "latency_p50_ms": latency.scopes["frame"].p50.value,
            "latency_p90_ms": latency.scopes["frame"].p90.value,
            "file_bytes": 4.0 * flops.parameters,
        }
        if key in engines.manifests:
            figures["file_bytes"] = float(engines.manifests[key].graphs["search"].bytes)
        rows.append(Row(name, note, figures, emphasis=key in EMPHASIS))
    histogram = given_boxes_of(measured.accuracy["histogram"])
    rows.append(Row("Colour histogram", "on given boxes", {"given_boxes_map": histogram.mean_ap}))
    chance = search_of(measured.accuracy["teacher"])
    given = given_boxes_of(measured.accuracy["teacher"]).chance_mean_ap
    chance_figures = {"map": chance.chance_mean_ap, "top1": chance.chance_top[1], "top5": chance.chance_top[5]}
    rows.append(Row("Chance", "random similarities", {**chance_figures, "given_boxes_map": given}))
    return tuple(rows)


def summary(measured: Measured, stream: StreamOutcome) -> tuple[str, ...]:
    """The run in two paragraphs."""
    teacher, engine = measured.accuracy["teacher"], measured.accuracy[STREAM_ENGINE]
    flops = {name: 2e-9 * measured.flops[name].scene_macs for name in ("teacher", STREAM_ENGINE)}
    times = {name: measured.latency[name].scopes["frame"].p50.value for name in ("teacher", STREAM_ENGINE)}
    return (
        "Person search finds a given person in whole, uncropped camera frames. Here a heavy network learned it from "
        "generated scenes, taught a small one, and the small one became an engine that searched a video. All "
        "figures are from people and cameras that none of the networks was trained on.",
        f"Teacher: mAP {percent(search_of(teacher).mean_ap)} at {flops['teacher']:.2f} GFLOPs a scene and "
        f"{times['teacher']:.0f} ms a frame. {STREAM_ENGINE} engine: mAP {percent(search_of(engine).mean_ap)} at "
        f"{flops[STREAM_ENGINE]:.2f} GFLOPs and {times[STREAM_ENGINE]:.0f} ms. Chance is "
        f"{percent(search_of(teacher).chance_mean_ap)}. In the video the query was found in {stream.scores.found} "
        f"of the {stream.scores.in_view} frames that show it.",
    )


def table_notes(measured: Measured, engines: ExportOutcome) -> tuple[str, ...]:
    """What a reader must know to read the table."""
    result, latency = measured.accuracy["teacher"], measured.latency["teacher"]
    calibration = engines.calibrations[STREAM_ENGINE]
    width, height = measured.frame_wh
    return (
        f"{result.images} held-out frames with {result.people} people and {result.queries} queries; detections and "
        "matches at IoU 0.5. “Given boxes”: search on true boxes, re-identification alone.",
        "Chance: random similarities on the teacher's detections and on the true boxes.",
        f"{measured.flops['teacher'].convention}. Scene: once a frame; person: for each of up to "
        f"{measured.flops['teacher'].persons} people in it.",
        f"Frame time: one {width}×{height} frame from pixels to people, median and 90th percentile of "
        f"{latency.queries} frames; every system in a process of its own, turn by turn on this machine.",
        "Size: the search graph's file for engines, the running weights at 32 bits for PyTorch.",
        f"Match threshold of the {STREAM_ENGINE} engine: cosine {calibration.threshold:.3f}, chosen on training "
        f"people alone; there {percent(calibration.false_match_rate)} of {calibration.different_pairs:,} pairs of "
        f"different people pass it and {percent(calibration.true_match_rate)} of {calibration.same_pairs:,} pairs "
        "of one person in two cameras.",
    )


def loss_charts(folders: DemoFolders) -> tuple[tuple[str, str], ...]:
    """The three runs' losses as one figure."""
    runs = {"teacher": folders.teacher, "student": folders.student, "control": folders.control}
    metrics = {name: _read_metrics(run / "metrics.csv") for name, run in runs.items()}

    def lines(losses: Sequence[str]) -> tuple[Line, ...]:
        return tuple(
            Line(name, *_smooth(columns["position"], np.sum([columns[loss] for loss in losses], axis=0)), COLOURS[name])
            for name, columns in metrics.items()
        )

    student = metrics["student"]
    distilled = [loss for loss in DISTILLATION_LOSSES if loss in student]
    levels = tuple(
        Line(loss, *_smooth(student["position"], student[loss]), colour) for colour, loss in enumerate(distilled, 3)
    )
    panels = [
        Panel("Identity loss", "epoch", lines(("identity",))),
        Panel("Detection losses, summed", "epoch", lines(DETECTION_LOSSES)),
        Panel("Student: distillation losses", "epoch", levels, logarithmic=True),
    ]
    caption = (
        "Training losses, unweighted, means of about a fortieth of a run each. Student and control see the same "
        "batches in the same order."
    )
    return ((line_panels(panels, "Loss curves of teacher, student and control"), caption),)


def stream_charts(stream: StreamOutcome, in_view_px: float) -> tuple[tuple[str, str], ...]:
    """The query's similarity over the video."""
    seconds = [index / stream.truth.fps for index in range(len(stream.truth.boxes))]
    shown = stream.truth.in_view(in_view_px)
    chart = timeline(
        seconds, stream.similarities, shown, stream.threshold, "Best similarity in each frame of the video"
    )
    caption = (
        "Cosine between the query and the most similar detection of each frame; gaps are frames without a "
        f"detection. In view: the ground truth shows the query at least {in_view_px:g} px high."
    )
    return ((chart, caption),)


def stream_note(stream: StreamOutcome) -> str:
    """What was searched and what came out."""
    scores = stream.scores
    return (
        f"The {STREAM_ENGINE} engine searched {scores.frames} frames at {stream.frames_per_s:.0f} frames a second, "
        f"decoding, drawing and encoding included. It reported the query in {scores.matched} frames, {scores.right} of "
        f"them right, and found it in {scores.found} of the {scores.in_view} frames in view. The pictures are evenly "
        "spaced over the frames in view, whatever the outcome; the whole video is 6-stream/annotated.mp4."
    )


def stream_pictures(stream: StreamOutcome, folders: DemoFolders, settings: DemoSettings) -> tuple[Picture, ...]:
    """Evenly spaced annotated frames of those that show the query."""
    shown = np.flatnonzero(stream.truth.in_view(settings.in_view_px))
    if not len(shown):
        return ()
    count = min(settings.frames_shown, len(shown))
    wanted = {int(shown[int((i + 0.5) * len(shown) / count)]) for i in range(count)}
    pictures = []
    video = cv2.VideoCapture(str(folders.stream / "annotated.mp4"))
    for index in range(max(wanted) + 1):
        read, frame = video.read()
        if read and index in wanted:
            similarity = stream.similarities[index]
            found = "nobody detected" if similarity is None else f"best similarity {similarity:.2f}"
            image = np.asarray(frame, np.uint8)
            pictures.append(Picture(image, f"frame {index}, {index / stream.truth.fps:.1f} s: {found}"))
    video.release()
    return tuple(pictures)


def facts(settings: DemoSettings) -> tuple[tuple[str, str], ...]:
    """Machine, seed, sizes."""
    machine = describe_machine()
    memory = "unknown" if machine.memory_gib is None else f"{machine.memory_gib:g} GiB"
    data = settings.data
    return (
        ("Seed", str(settings.seed)),
        (
            "Training data",
            f"{data.train_frames} frames, {data.train_identities} identities, {data.train_cameras} cameras",
        ),
        ("Test data", f"{data.test_frames} frames, {data.test_identities} identities, {data.test_cameras} cameras"),
        ("Processor", f"{machine.cpu}, {machine.cores} cores used"),
        ("Memory", memory),
        ("Peak memory", f"{peak_memory_gib():.2f} GiB, this process and its largest child"),
        ("System", f"{machine.system}, Python {machine.python}"),
        ("Libraries", ", ".join(f"{name} {version}" for name, version in machine.libraries.items())),
    )


def peak_memory_gib() -> float:
    """Peak resident memory of this process plus that of its largest child (a data loader), GiB."""
    unit = 1 if sys.platform == "darwin" else 1024
    own, child = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return (own + child) * unit / 2**30


def _read_metrics(path: Path) -> dict[str, np.ndarray]:
    """Columns of a run's ``metrics.csv``, with ``position`` in epochs."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    columns = {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}
    epochs = columns["epoch"].max()
    return {**columns, "position": columns["step"] / columns["step"].max() * epochs}


def _smooth(xs: np.ndarray, ys: np.ndarray) -> tuple[list[float], list[float]]:
    """Means over at most `POINTS` equal stretches."""
    parts = np.array_split(np.arange(len(xs)), min(POINTS, len(xs)))
    return [float(xs[part].mean()) for part in parts], [float(ys[part].mean()) for part in parts]
