"""Other people's systems behind the face of ours: a detector with a re-ID network on its crops, a plain detector.

Everything here is opened in a process of its own by `latency_run`, so openers are functions of the module.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from personsearch.core.detections import Detections, FloatArray
from personsearch.core.errors import InputError
from personsearch.core.geometry import Boxes
from personsearch.core.preprocess import Frame
from personsearch.core.recipe import StrictModel
from personsearch.distill.sources.box_detector import DETECTOR_PRESETS, BoxDetector
from personsearch.distill.sources.crop_embedder import REID_PRESETS, CropEmbedder
from personsearch.distill.sources.network import open_network
from personsearch.runtime import StageTimes

FILL_SHARE = (0.06, 0.3)
"""Width and height of a box that stands in for a person whom the detector did not find, as shares of the frame."""


class PairSpec(StrictModel):
    """A detector's file and a re-ID network's, each with the preset of its input."""

    name: str
    detector: Path
    detector_preset: str
    reid: Path
    reid_preset: str
    precision: Literal["fp32", "int8"] = "fp32"


class TwoStepSystem:
    """A detector, then a re-ID network on the crop of every person it finds.

    Args:
        detector: of boxes.
        embedder: of crops.
        people: where stated the re-ID network runs on exactly so many boxes of every frame: the best detections, and
            where there are fewer, boxes of a person's size beside them. For timing only.
        sha256: of both files.
    """

    def __init__(self, detector: BoxDetector, embedder: CropEmbedder, people: int | None, sha256: str) -> None:
        self._detector, self._embedder, self._people, self._sha256 = detector, embedder, people, sha256
        self._times = StageTimes()

    @property
    def score_threshold(self) -> float:
        """Zero: the detector's preset has its own, and leaves out what is below."""
        return 0.0

    @property
    def sha256(self) -> str:
        """Of both files' hashes."""
        return self._sha256

    @property
    def last_times(self) -> StageTimes:
        """Of the last `infer`: all of it, as neither network's own pre-processing is apart from it."""
        return self._times

    def infer(self, frames: Sequence[Frame]) -> list[Detections]:
        """The people in each frame, embedded."""
        started = time.perf_counter()
        found = [self._one(frame) for frame in frames]
        self._times = StageTimes(0.0, (time.perf_counter() - started) * 1e3, 0.0)
        return found

    def embed(self, frame: Frame, boxes_xyxy: Boxes) -> FloatArray:
        """``(N, D)`` unit embeddings of ``(N, 4)`` boxes."""
        return self._embedder.embed(frame, boxes_xyxy)

    def _one(self, frame: Frame) -> Detections:
        detections = self._detector.infer([frame])[0]
        boxes, scores = detections.boxes_xyxy, detections.scores
        if self._people is not None:
            boxes, scores = exactly(boxes, scores, self._people, (frame.shape[1], frame.shape[0]))
        # The detector may see a person who is only partly in the frame; the crop is what is in it.
        size = np.tile([frame.shape[1], frame.shape[0]], 2).astype(np.float32)
        boxes = np.clip(boxes, 0, size).astype(np.float32)
        inside = (boxes[:, 2:] - boxes[:, :2] >= 1).all(axis=1)
        boxes, scores = boxes[inside], scores[inside]
        return Detections(boxes, scores, self._embedder.embed(frame, boxes))


def exactly(boxes: FloatArray, scores: FloatArray, people: int, frame_wh: tuple[int, int]) -> tuple[FloatArray, ...]:
    """The ``people`` best boxes, made up to that number by boxes side by side.

    Args:
        boxes: ``(N, 4)``, best first.
        scores: ``(N,)``.
        people: rows that are returned.
        frame_wh: the frame, in pixels.
    """
    missing = max(people - len(boxes), 0)
    width, height = (side * share for side, share in zip(frame_wh, FILL_SHARE, strict=True))
    left = (np.arange(missing) + 0.5) / max(missing, 1) * (frame_wh[0] - width)
    top = np.full(missing, (frame_wh[1] - height) / 2)
    fill = np.stack([left, top, left + width, top + height], axis=1).astype(np.float32).reshape(-1, 4)
    return (
        np.concatenate([boxes[:people], fill]).astype(np.float32),
        np.concatenate([scores[:people], np.zeros(missing, np.float32)]).astype(np.float32),
    )


def open_pair(spec: PairSpec, threads: int | None, people: int | None = None) -> TwoStepSystem:
    """Opens both networks of a pair.

    Raises:
        InputError: a file is missing or damaged, or OpenVINO is not installed.
    """
    detector = open_network(spec.detector, threads)
    reid = open_network(spec.reid, threads)
    digest = hashlib.sha256(f"{detector.sha256} {reid.sha256}".encode()).hexdigest()
    return TwoStepSystem(
        BoxDetector(detector, DETECTOR_PRESETS[spec.detector_preset]),
        CropEmbedder(reid, REID_PRESETS[spec.reid_preset]),
        people,
        digest,
    )


class PlainDetector:
    """torchvision's Faster R-CNN, ResNet-50 with a feature pyramid, random weights: what its forward pass takes."""

    score_threshold = 0.05
    sha256 = ""

    def __init__(self, threads: int | None) -> None:
        import torch
        from torchvision.models.detection import fasterrcnn_resnet50_fpn

        if threads is not None:
            torch.set_num_threads(threads)
        torch.manual_seed(0)
        self._model = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=2).eval()
        self._times = StageTimes()

    @property
    def last_times(self) -> StageTimes:
        """Of the last `infer`; its transform is part of the network."""
        return self._times

    def infer(self, frames: Sequence[Frame]) -> list[Detections]:
        """Boxes without embeddings; with random weights they mean nothing."""
        import torch

        started = time.perf_counter()
        images = [torch.from_numpy(frame[..., ::-1].copy()).permute(2, 0, 1).float() / 255 for frame in frames]
        prepared = time.perf_counter()
        with torch.no_grad():
            outputs = self._model(images)
        ended = time.perf_counter()
        self._times = StageTimes((prepared - started) * 1e3, (ended - prepared) * 1e3, 0.0)
        return [
            Detections(one["boxes"].numpy(), one["scores"].numpy(), np.zeros((len(one["boxes"]), 0), np.float32))
            for one in outputs
        ]

    def embed(self, frame: Frame, boxes_xyxy: Boxes) -> FloatArray:
        """Nothing: it has no embeddings."""
        return np.zeros((len(boxes_xyxy), 0), np.float32)


def parse_pair(text: str) -> PairSpec:
    """``NAME=PRESET:DETECTOR,PRESET:REID``, such as ``intel=retail-0013:a.xml,retail-0288:b.xml``.

    Raises:
        InputError: it is something else, a preset is not known, or a file is not there.
    """
    name, equals, rest = text.partition("=")
    first, comma, second = rest.partition(",")
    parts = [one.partition(":") for one in (first, second)]
    if not (name and equals and comma and all(preset and colon and path for preset, colon, path in parts)):
        raise InputError(
            f"pair is `{text}`",
            expected="NAME=PRESET:DETECTOR,PRESET:REID",
            remedy="such as intel=retail-0013:detector.xml,retail-0288:reid.xml",
        )
    (detector_preset, _, detector), (reid_preset, _, reid) = parts
    for preset, known in ((detector_preset, DETECTOR_PRESETS), (reid_preset, REID_PRESETS)):
        if preset not in known:
            raise InputError(f"preset is `{preset}`", where=text, expected=f"one of {', '.join(known)}")
    for path in (detector, reid):
        if not Path(path).is_file():
            raise InputError("no such file", where=path, expected="a network: .onnx, or OpenVINO's .xml")
    return PairSpec(
        name=name, detector=Path(detector), detector_preset=detector_preset, reid=Path(reid), reid_preset=reid_preset
    )
