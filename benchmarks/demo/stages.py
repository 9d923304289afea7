"""One function a stage, each with its outcome in a folder of its own."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from personsearch.benchmarks.accuracy import AccuracyResult, measure_accuracy, measure_histogram
from personsearch.benchmarks.calibration import Calibration, calibrate_threshold
from personsearch.benchmarks.demo.beside import TrainingBeside, one_thread
from personsearch.benchmarks.demo.settings import DemoFolders, DemoSettings
from personsearch.benchmarks.demo.stream_truth import StreamScores, VideoTruth, read_truth, score_stream
from personsearch.benchmarks.flops import FlopsResult, count_path
from personsearch.benchmarks.latency_records import LatencyPlan, SystemLatency
from personsearch.benchmarks.latency_run import run_latency
from personsearch.benchmarks.systems import SearchSystem, open_system
from personsearch.core.detections import FloatArray
from personsearch.core.files import atomic_dir, write_json
from personsearch.core.manifest import Manifest
from personsearch.core.progress import StageProgress
from personsearch.core.recipes import TrainRecipe
from personsearch.data import open_dataset
from personsearch.data.synthetic.generate import generate
from personsearch.distill import run_distillation
from personsearch.export import export_checkpoint, update_figures
from personsearch.runtime import open_engine
from personsearch.runtime.machine import usable_cores
from personsearch.runtime.query import load_queries
from personsearch.runtime.session import SearchSettings, search_source
from personsearch.runtime.sinks import FrameResult
from personsearch.runtime.sources import open_source
from personsearch.train import run_training

RecipeT = TypeVar("RecipeT", bound=TrainRecipe)

VIDEO = "search"
STREAM_ENGINE = "int8"


def make_data(settings: DemoSettings, folders: DemoFolders) -> None:
    """Stage 1: the data set and the video."""
    data = settings.data
    frames = data.train_frames + data.test_frames + data.video_frames
    with StageProgress("generate", frames) as progress:
        generate(folders.data, data, progress=lambda done, total: progress.advance_to(done), processes=usable_cores())


def train_teacher(settings: DemoSettings, folders: DemoFolders) -> None:
    """Stage 2: the network that is too heavy for a camera."""
    with one_thread():
        run_training(on_data(settings.teacher, folders), folders.teacher)


def control_beside(settings: DemoSettings, folders: DemoFolders) -> TrainingBeside:
    """The same student without a teacher, trained on the second core during stages 2 and 3."""
    return TrainingBeside(on_data(settings.control, folders), folders.control)


def distil_student(settings: DemoSettings, folders: DemoFolders, control: TrainingBeside) -> None:
    """Stage 3: the student under the teacher; ends when the control has ended too."""
    teacher = str(folders.teacher / "checkpoint.pt")
    with one_thread():
        run_distillation(on_data(settings.student.model_copy(update={"teacher": teacher}), folders), folders.student)
    control.wait("train the control")


@dataclass(frozen=True)
class ExportOutcome:
    """Manifests as exported, with the match threshold in place, and how it was chosen; by precision."""

    manifests: dict[str, Manifest]
    calibrations: dict[str, Calibration]


def export_engines(settings: DemoSettings, folders: DemoFolders) -> ExportOutcome:
    """Stage 4: the student as fp32 and int8 artifacts, through the parity gate, match threshold calibrated."""
    dataset, checkpoint = open_dataset(folders.data, "train"), folders.student / "checkpoint.pt"
    manifests, calibrations = {}, {}
    for precision in ("fp32", "int8"):
        artifact = folders.engines / precision
        recipe = settings.export.model_copy(update={"precision": precision})
        # A gate that fails is a failed check of the report, not the end of the demo: hence forced.
        export_checkpoint(checkpoint, artifact, recipe, calibration=folders.data, force=True)
        engine = open_engine(artifact)
        calibrations[precision] = calibrate_threshold(
            engine, dataset, false_match_rate=settings.false_match_rate, images=settings.calibration_images
        )
        engine.close()
        manifests[precision] = update_figures(
            artifact,
            {"match_calibration": calibrations[precision].model_dump(mode="json")},
            match_threshold=calibrations[precision].threshold,
        )
    return ExportOutcome(manifests, calibrations)


@dataclass(frozen=True)
class Measured:
    """Everything measured on held-out identities and cameras, by system."""

    accuracy: dict[str, AccuracyResult]
    flops: dict[str, FlopsResult]
    latency: dict[str, SystemLatency]
    frame_wh: tuple[int, int]


def measure(settings: DemoSettings, folders: DemoFolders) -> Measured:
    """Stage 5: accuracy of all, beside chance and a colour histogram; operations and latency side by side."""
    dataset = open_dataset(folders.data, "test")
    paths = system_paths(folders)
    systems: Mapping[str, SearchSystem] = {name: open_system(path) for name, path in paths.items()}
    accuracy = {name: measure_accuracy(system, dataset, name=name) for name, system in systems.items()}
    accuracy["histogram"] = measure_histogram(dataset)
    flops = {name: count_path(path) for name, path in paths.items()}
    height, width = dataset.frame_bgr(0).shape[:2]
    # In one process the threads of one engine, waiting for work, would take the cores from the next one.
    plan = LatencyPlan(source=str(folders.data / "frames" / "test"), rounds=settings.latency_rounds, restarts=1)
    latency = {one.system: one for one in run_latency({name: (open_system, (paths[name],)) for name in paths}, plan)}
    with atomic_dir(folders.evaluation) as folder:
        for kind, results in (("accuracy", accuracy), ("flops", flops), ("latency", latency)):
            write_json(folder / f"{kind}.json", {name: one.model_dump(mode="json") for name, one in results.items()})
    return Measured(accuracy, flops, latency, (width, height))


def system_paths(folders: DemoFolders) -> dict[str, Path]:
    """What is measured: run folders and artifacts, by name."""
    return {
        "teacher": folders.teacher,
        "student": folders.student,
        "control": folders.control,
        "fp32": folders.engines / "fp32",
        "int8": folders.engines / "int8",
    }


@dataclass(frozen=True)
class StreamOutcome:
    """The searched video.

    Attributes:
        truth: the video's labels.
        scores: matches against them.
        similarities: for each frame the highest cosine of a detection with the query, none without a detection.
        threshold: cosine from which on a detection was reported.
        frames_per_s: frames searched a second of wall time, decoding, drawing and encoding included.
    """

    truth: VideoTruth
    scores: StreamScores
    similarities: tuple[float | None, ...]
    threshold: float
    frames_per_s: float


def search_video(settings: DemoSettings, folders: DemoFolders) -> StreamOutcome:
    """Stage 6: finds the query in the generated video, as ``personsearch stream`` does."""
    video = json.loads((folders.data / "dataset.json").read_text(encoding="utf-8"))["videos"][VIDEO]
    truth = read_truth(folders.data, video["annotations"])
    best: dict[int, FloatArray] = {}
    similarities: list[float | None] = [None] * len(truth.boxes)
    engine = open_engine(folders.engines / STREAM_ENGINE)
    source = open_source(str(folders.data / video["file"]))
    queries = load_queries(engine, query_pictures(folders.data, video["annotations"]))
    search = SearchSettings(mode="every", all_detections=True)
    with StageProgress("search the video", source.frame_count) as progress:

        def take(result: FrameResult) -> None:
            progress.advance()
            if len(result.detections):
                similarities[result.index] = float(result.similarities[0].max())
            for match in result.matches:
                if match.is_best:
                    best[result.index] = result.detections.boxes_xyxy[match.row]

        summary = search_source(
            engine,
            source,
            queries,
            folders.stream,
            search,
            stop=threading.Event(),
            on_frame=take,
        )
    engine.close()
    scores = score_stream(truth, best, settings.in_view_px, visit_gap_s=search.visit_gap_s)
    return StreamOutcome(
        truth, scores, tuple(similarities), summary["settings"]["threshold"], summary["processed_per_s"]
    )


def query_pictures(data: Path, annotations: str) -> list[str]:
    """The query as ``--query`` takes it: every picture that the video's camera took of the person on other occasions.

    One picture of a person is one pose; people who are looked for are enrolled with several.
    """
    query = json.loads((data / annotations).read_text(encoding="utf-8"))["query"]
    content = json.loads((data / "annotations" / "test.json").read_text(encoding="utf-8"))
    images = {image["id"]: image for image in content["images"]}
    camera = next(image["camera_id"] for image in images.values() if image["file_name"] == query["image"])
    pictures = []
    for entry in content["annotations"]:
        image = images[entry["image_id"]]
        if entry["person_id"] == query["person_id"] and image["camera_id"] == camera:
            x, y, width, height = entry["bbox"]
            box = ",".join(f"{value:.2f}" for value in (x, y, x + width, y + height))
            pictures.append(f"query={data / image['file_name']}#{box}")
    return pictures


def on_data(recipe: RecipeT, folders: DemoFolders) -> RecipeT:
    """The recipe reading the demo's data set."""
    data = recipe.data.model_copy(update={"root": str(folders.data)})
    return recipe.model_copy(update={"data": data})
