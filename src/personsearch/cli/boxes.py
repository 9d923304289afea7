"""``personsearch boxes``."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import typer

from personsearch.cli import require
from personsearch.cli.network_input import Threads, of_preset
from personsearch.core.progress import StageProgress
from personsearch.core.recipe import apply_overrides, validate

if TYPE_CHECKING:
    from personsearch.data.video_frames import ImageEncoding
    from personsearch.distill.sources.box_detector import DetectorInput
    from personsearch.distill.sources.box_source import UnlabelledFrame


def boxes(
    network: Annotated[Path, typer.Argument(help="Detector: .onnx, or OpenVINO's .xml.")],
    source: Annotated[
        str, typer.Argument(help="Data set, video file, folder or pattern of images, address or camera.")
    ],
    settings: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="What the preset does not say, or says otherwise.")
    ] = None,
    *,
    out: Annotated[Path, typer.Option(help="Folder to write, new or empty.")],
    preset: Annotated[str | None, typer.Option(help="A known detector: fastestdet, retail-0013 or yolov8.")] = None,
    min_score: Annotated[
        float | None, typer.Option(min=0, max=1, help="Detections below are left out; the preset's, or 0.3, if absent.")
    ] = None,
    split: Annotated[str, typer.Option(help="Split, where SOURCE is a data set; its labels are not used.")] = "train",
    every: Annotated[int, typer.Option(min=1, help="Use each n-th frame.")] = 1,
    max_frames: Annotated[int | None, typer.Option(min=1, help="Use so many frames at most.")] = None,
    camera: Annotated[int, typer.Option(min=0, help="Number of the camera, where SOURCE is no data set.")] = 0,
    terms: Annotated[
        str | None, typer.Option(help="Under which the frames may be used; the data set's, or `unknown`, if absent.")
    ] = None,
    images: Annotated[
        Literal["link", "copy"], typer.Option(help="Image files of a data set: hard links (else symbolic), or copies.")
    ] = "link",
    png: Annotated[bool, typer.Option("--png", help="Write frames of a video or generator as PNG.")] = False,
    threads: Threads = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the counts as JSON.")] = False,
) -> None:
    """Put a detector's boxes on unlabelled frames, with its scores as weights, as a data set to train on.

    A box of score 0.7 is a person in 70 % of the times its frame is trained on, and a region to ignore in the others.
    Without a preset state: pixels.order (rgb, bgr), pixels.scale, pixels.mean, pixels.std, fit (stretch, letterbox),
    layout (ssd [1,1,N,7]; fastestdet [1,5+C,h,w]; yolov8 [1,4+C,N]; boxes-scores, two outputs), person_class, nms_iou
    (1 where the graph does it); pixels.input_wh where the graph leaves it open; for boxes-scores, where they are not
    the defaults, code (xyxy, xywh, cxcywh), unit (pixel of the input, share of it), boxes_output, scores_output,
    labels_output.

    Examples:

    \b
      personsearch boxes FastestDet.onnx street.mp4 --preset fastestdet --every 10 --out street
      personsearch boxes mine.onnx frames/ --preset yolov8 layout=boxes-scores labels_output=labels --out street
    """
    require("torch", "train", "the distillation stage")
    from dataclasses import asdict

    from personsearch.data.conversion import check_target
    from personsearch.data.video_frames import ImageEncoding
    from personsearch.distill.sources.box_detector import BoxDetector
    from personsearch.distill.sources.box_source import write_boxes
    from personsearch.distill.sources.network import open_network

    check_target(out)
    overrides = [*(settings or ()), *([] if min_score is None else [f"min_score={min_score}"])]
    detector = BoxDetector(open_network(network, threads), _settings(preset, overrides))
    encoding = ImageEncoding(".png" if png else ".jpg")
    with (
        _frames(source, split, every, max_frames, camera, encoding) as opened,
        StageProgress("finding people", opened.total) as progress,
    ):
        summary = write_boxes(
            detector,
            opened.frames,
            out,
            name=out.resolve().name,
            terms=terms or opened.terms,
            labelled_by=detector.source,
            images=images,
            encoding=encoding,
            on_frame=lambda detections: progress.advance(note=f"people {len(detections)}"),
        )
    if as_json:
        content = {"out": str(out), **asdict(summary), "labelled_by": detector.source, "notes": list(opened.notes())}
        typer.echo(json.dumps(content, indent=2))
        return
    typer.echo(
        f"{out}: {summary.boxes} boxes in {summary.images} images, {summary.empty_images} images without one; "
        f"the boxes weigh as much as {summary.weight:.0f} certain ones"
    )
    for line in opened.notes():
        typer.echo(f"note: {line}")


class _Opened(NamedTuple):
    frames: Iterator[UnlabelledFrame]
    total: int | None
    terms: str
    notes: Callable[[], Sequence[str]]


@contextmanager
def _frames(
    text: str, split: str, every: int, max_frames: int | None, camera: int, encoding: ImageEncoding
) -> Iterator[_Opened]:
    """Frames of a data set where ``text`` is one, of a source otherwise; their number as far as it is known."""
    from personsearch.data import open_dataset
    from personsearch.data.formats import all_formats
    from personsearch.distill.sources.box_source import dataset_frames, source_frames
    from personsearch.runtime.sources import open_source

    def shown(total: int | None) -> int | None:
        return min(
            (n for n in (None if total is None else -(-total // every), max_frames) if n is not None), default=None
        )

    path = Path(text)
    if path.exists() and any(one.matches(path) for one in all_formats()):
        dataset = open_dataset(path, split)
        frames = dataset_frames(dataset, every=every, max_frames=max_frames, encoding=encoding)
        yield _Opened(frames, shown(len(dataset)), dataset.terms, tuple)
        return
    source = open_source(text)
    try:
        frames = source_frames(source, every=every, max_frames=max_frames, camera_id=camera, encoding=encoding)
        yield _Opened(frames, shown(source.frame_count), "unknown", lambda: source.notes)
    finally:
        source.close()


def _settings(preset: str | None, overrides: Sequence[str]) -> DetectorInput:
    from personsearch.distill.sources.box_detector import DETECTOR_PRESETS, DetectorInput

    content: dict[str, Any] = {} if preset is None else of_preset(DETECTOR_PRESETS, preset).model_dump()
    return validate(DetectorInput, apply_overrides(content, overrides), where="detector's input and outputs")
