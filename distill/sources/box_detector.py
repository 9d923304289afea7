"""Somebody else's detector behind one face: frames in, people with scores out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from personsearch.core.detections import Detections
from personsearch.core.errors import InputError
from personsearch.core.geometry import Letterbox
from personsearch.core.preprocess import Frame
from personsearch.core.recipe import StrictModel
from personsearch.distill.sources.detector_outputs import (
    BoxCode,
    Values,
    decode_fastestdet,
    decode_lists,
    decode_ssd,
    decode_yolov8,
    suppress,
)
from personsearch.distill.sources.network import ImageNetwork, Tensors
from personsearch.distill.sources.pixels import (
    RAW_BGR,
    UNIT_BGR,
    UNIT_RGB,
    InputFiller,
    PixelInput,
    resized,
    source_text,
)

OutputLayout = Literal["ssd", "fastestdet", "yolov8", "boxes-scores"]
PAD_VALUE = 114


class DetectorInput(StrictModel):
    """How a detector is fed, and what its outputs mean."""

    pixels: PixelInput
    fit: Literal["stretch", "letterbox"] = Field(description="how a frame is brought to the input's size")
    layout: OutputLayout = Field(
        description="ssd: [1,1,N,7]; fastestdet: [1,5+C,h,w]; yolov8: [1,4+C,N]; boxes-scores: an output of boxes, one "
        "of scores, and maybe one of labels"
    )
    person_class: int = Field(ge=0, description="the class of people, as the network numbers them")
    nms_iou: float = Field(
        gt=0, le=1, description="boxes that overlap a better one by more are left out; 1 where the graph does that"
    )
    min_score: float = Field(default=0.3, ge=0, le=1, description="detections below are left out")
    code: BoxCode = Field(default="xyxy", description="boxes-scores: what the four numbers of a box are")
    unit: Literal["pixel", "share"] = Field(
        default="pixel", description="boxes-scores: input pixels, or shares of the input"
    )
    boxes_output: str = Field(default="boxes", description="boxes-scores: name of the output")
    scores_output: str = Field(default="scores", description="boxes-scores: name of the output")
    labels_output: str | None = Field(default=None, description="boxes-scores: name of the output, where there is one")


DETECTOR_PRESETS: dict[str, DetectorInput] = {
    "fastestdet": DetectorInput(
        pixels=UNIT_BGR, fit="stretch", layout="fastestdet", person_class=0, nms_iou=0.45, min_score=0.5
    ),
    "retail-0013": DetectorInput(pixels=RAW_BGR, fit="stretch", layout="ssd", person_class=1, nms_iou=1.0),
    "yolov8": DetectorInput(pixels=UNIT_RGB, fit="letterbox", layout="yolov8", person_class=0, nms_iou=0.7),
}
"""``fastestdet``: FastestDet on COCO; ``retail-0013``: Intel's person-detection-retail-0013 and other OpenVINO
detectors with SSD's output; ``yolov8``: Ultralytics' exports of YOLOv8 and later without NMS in the graph."""


class BoxDetector:
    """Finds people with a detector of any of the known layouts.

    Args:
        network: the detector.
        settings: its input and outputs.

    Attributes:
        source: network, hash, input and threshold in one line.

    Raises:
        InputError: the input's size is open, or an output that ``settings`` names does not exist.
    """

    def __init__(self, network: ImageNetwork, settings: DetectorInput) -> None:
        self._network, self._settings = network, settings
        self._filler = InputFiller(network, settings.pixels)
        self._names = _output_names(network, settings)
        fed = source_text(network, settings.pixels, self._filler.input_wh)
        self.source = f"{fed}, {settings.layout}, score {settings.min_score:g} or more"

    def infer(self, frames: Sequence[Frame]) -> list[Detections]:
        """People in frames ``(H, W, 3)`` uint8 BGR of any size, boxes in source pixels, embeddings of width 0.

        Raises:
            InputError: an output is not of the stated layout, or not finite.
        """
        return [self._infer(frame) for frame in frames]

    def _infer(self, frame: Frame) -> Detections:
        source_wh, input_wh = (frame.shape[1], frame.shape[0]), self._filler.input_wh
        if self._settings.fit == "stretch":
            place = Letterbox(source_wh, input_wh, input_wh, (0, 0))
        else:
            place = Letterbox.fit(source_wh, input_wh)
        image = resized(frame, place.resized_wh)
        if place.resized_wh != input_wh:
            canvas = np.full((input_wh[1], input_wh[0], 3), PAD_VALUE, np.uint8)
            (x, y), (width, height) = place.pad_xy, place.resized_wh
            canvas[y : y + height, x : x + width] = image
            image = canvas
        # Detectors see one frame at a time: a graph of fixed batch gets it as often as it wants.
        outputs = self._network.run(self._filler.batch([image] * (self._network.batch or 1)))
        shares, raw_scores = self._decode(outputs)
        if not np.isfinite(shares).all() or not np.isfinite(raw_scores).all() or (raw_scores > 1.001).any():
            raise InputError(
                "boxes or scores are not finite, or a score is above 1",
                where=str(self._network.path),
                expected=f"outputs of layout {self._settings.layout}",
                remedy="state the detector's own layout and input",
            )
        boxes = place.to_source(shares * np.tile(input_wh, 2)).astype(np.float32)
        scores = np.clip(raw_scores, 0, 1).astype(np.float32)
        # Less than a pixel is no person, and too little for a box.
        usable = (scores >= self._settings.min_score) & ((boxes[:, 2:] - boxes[:, :2]) >= 1).all(axis=1)
        boxes, scores = boxes[usable], scores[usable]
        kept = suppress(boxes, scores, self._settings.nms_iou)
        return Detections(boxes[kept], scores[kept], np.zeros((len(kept), 0), np.float32))

    def _decode(self, outputs: Tensors) -> tuple[Values, Values]:
        settings, input_wh = self._settings, self._filler.input_wh
        first = np.asarray(outputs[self._names[0]], np.float64)
        person = settings.person_class
        if settings.layout == "ssd" and first.ndim >= 2 and first.shape[-1] == 7:
            return decode_ssd(first, person)
        if settings.layout == "fastestdet" and first.ndim == 4 and first.shape[1] > 5 + person:
            return decode_fastestdet(first[0], person)
        if settings.layout == "yolov8" and first.ndim == 3 and first.shape[1] > 4 + person:
            return decode_yolov8(first[0], person, input_wh)
        if settings.layout == "boxes-scores" and (lists := self._lists(outputs)) is not None:
            unit_wh = input_wh if settings.unit == "pixel" else (1, 1)
            return decode_lists(*lists, person_class=person, code=settings.code, unit_wh=unit_wh)
        shapes = ", ".join(f"`{name}` {tuple(outputs[name].shape)}" for name in self._names)
        raise InputError(
            f"outputs are {shapes}",
            where=str(self._network.path),
            expected=f"layout {settings.layout} with class {person} of people",
            remedy="state the detector's own layout, and the number of the class",
        )

    def _lists(self, outputs: Tensors) -> tuple[Values, Values, Values | None] | None:
        """Boxes ``(N, 4)``, scores ``(N,)`` or ``(N, C)`` and labels ``(N,)`` of one image; none where they misfit."""
        values = [np.asarray(outputs[name], np.float64) for name in self._names]
        if values[0].ndim == 3:
            values = [value[0] for value in values]
        boxes, scores, *others = values
        if boxes.ndim != 2 or boxes.shape[1] != 4 or any(other.size != len(boxes) for other in others):
            return None
        if scores.size == len(boxes):
            scores = scores.reshape(-1)
        elif scores.ndim != 2 or len(scores) != len(boxes) or scores.shape[1] <= self._settings.person_class:
            return None
        return boxes, scores, others[0].reshape(-1) if others else None


def _output_names(network: ImageNetwork, settings: DetectorInput) -> tuple[str, ...]:
    names: tuple[str, ...] = network.output_names[:1]
    if settings.layout == "boxes-scores":
        wanted = (settings.boxes_output, settings.scores_output, settings.labels_output)
        names = tuple(name for name in wanted if name is not None)
    elif len(network.output_names) != 1:
        raise InputError(
            f"has outputs {', '.join(network.output_names)}",
            where=str(network.path),
            expected=f"one of layout {settings.layout}",
            remedy="is it layout boxes-scores?",
        )
    for name in names:
        if name not in network.output_names:
            raise InputError(
                f"has no output `{name}`",
                where=str(network.path),
                expected=f"one of {', '.join(network.output_names)}",
                remedy="name them: boxes_output=, scores_output=, labels_output=",
            )
    return names
