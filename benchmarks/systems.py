"""One face for everything that can be measured: a checkpoint run by torch, or an artifact run by an engine."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from personsearch.core.detections import Detections, FloatArray
from personsearch.core.errors import InputError
from personsearch.core.files import sha256_file
from personsearch.core.geometry import Boxes
from personsearch.core.preprocess import Frame
from personsearch.runtime import StageTimes, open_engine

if TYPE_CHECKING:
    from personsearch.models.search_model import SearchModel


class SearchSystem(Protocol):
    """Finds and embeds people; frames are uint8 BGR of any size, boxes are source pixels."""

    @property
    def score_threshold(self) -> float:
        """Detections below it are not reported."""

    @property
    def sha256(self) -> str:
        """Of the checkpoint file or the artifact's search (or scene) graph; empty for a model that was never saved."""

    @property
    def last_times(self) -> StageTimes:
        """Stage times of the last `infer`."""

    def infer(self, frames: Sequence[Frame]) -> list[Detections]:
        """The people in each frame."""

    def embed(self, frame: Frame, boxes_xyxy: Boxes) -> FloatArray:
        """``(N, D)`` L2-normalised embeddings of ``(N, 4)`` boxes."""


class TorchSystem:
    """A network in evaluation mode, run by torch on the CPU or wherever its weights lie."""

    def __init__(self, model: SearchModel, sha256: str = "") -> None:
        self._model = model.eval()
        self._sha256 = sha256
        self._times = StageTimes()

    @property
    def score_threshold(self) -> float:
        return self._model.score_threshold

    @property
    def embeds(self) -> bool:
        """Whether people can be searched, not only detected."""
        return self._model.embedding_dim > 0

    @property
    def sha256(self) -> str:
        return self._sha256

    @property
    def last_times(self) -> StageTimes:
        return self._times

    def infer(self, frames: Sequence[Frame]) -> list[Detections]:
        """Letterbox, `SearchModel.detect`, and back to source pixels; boxes inside the padding are dropped."""
        import torch

        started = time.perf_counter()
        fitted = [self._model.preprocess.letterbox(frame) for frame in frames]
        images = torch.from_numpy(np.stack([image for image, _ in fitted])).to(self._device())
        prepared = time.perf_counter()
        outputs = self._model.detect(images)
        inferred = time.perf_counter()
        found = []
        for detections, (_, letterbox) in zip(outputs, fitted, strict=True):
            boxes = letterbox.to_source(detections.boxes_xyxy).astype(np.float32)
            kept = np.flatnonzero((boxes[:, 2:] > boxes[:, :2]).all(axis=1))
            found.append(Detections(boxes, detections.scores, detections.embeddings)[kept])
        ended = time.perf_counter()
        self._times = StageTimes((prepared - started) * 1e3, (inferred - prepared) * 1e3, (ended - inferred) * 1e3)
        return found

    def embed(self, frame: Frame, boxes_xyxy: Boxes) -> FloatArray:
        """Letterbox and `SearchModel.embed`."""
        import torch

        if not len(boxes_xyxy):
            return np.zeros((0, self._model.embedding_dim), np.float32)
        image, letterbox = self._model.preprocess.letterbox(frame)
        boxes = torch.from_numpy(letterbox.to_input(np.asarray(boxes_xyxy, np.float32)).astype(np.float32))
        images = torch.from_numpy(image[None]).to(self._device())
        embeddings: FloatArray = self._model.embed(images, [boxes.to(self._device())])[0].cpu().numpy()
        return embeddings

    def _device(self) -> str:
        return str(next(self._model.parameters()).device)


class EngineSystem:
    """An artifact run by the engine that a stream would use.

    Args:
        artifact: the folder.
        threads: CPU threads of one inference, or none for the engine's own choice.
        score_threshold: detections from this score on; none for the artifact's own.
        engine: its name, or none for the one that the artifact was exported for.

    Raises:
        InputError: not an artifact, one that was changed, or an engine that cannot run here.
    """

    def __init__(
        self,
        artifact: Path,
        threads: int | None = None,
        score_threshold: float | None = None,
        *,
        engine: str | None = None,
    ) -> None:
        self.engine = open_engine(artifact, threads, engine=engine, score_threshold=score_threshold)

    @property
    def score_threshold(self) -> float:
        return self.engine.spec.score_threshold

    @property
    def sha256(self) -> str:
        spec = self.engine.spec
        return spec.graphs["scene" if spec.layout == "split" else "search"].sha256

    @property
    def last_times(self) -> StageTimes:
        return self.engine.last_times

    def infer(self, frames: Sequence[Frame]) -> list[Detections]:
        return self.engine.infer(frames)

    def embed(self, frame: Frame, boxes_xyxy: Boxes) -> FloatArray:
        return self.engine.embed(frame, boxes_xyxy)


def open_system(
    path: Path, threads: int | None = None, *, score_threshold: float | None = None, engine: str | None = None
) -> SearchSystem:
    """Opens a checkpoint file, a run folder with a ``checkpoint.pt``, or an artifact folder.

    Args:
        path: of the model.
        threads: CPU threads of an engine; of torch, for the whole process.
        score_threshold: reports detections from this score on; none for the model's own.
        engine: runs an artifact, or none for the one it was exported for (`personsearch.core.engine_names.ENGINES`).

    Raises:
        InputError: none of these, what is there is damaged, the engine cannot run here, or an engine is named for a
            checkpoint, which torch runs.
    """
    checkpoint = checkpoint_file(path)
    if checkpoint is None:
        return EngineSystem(path, threads, score_threshold, engine=engine)
    if engine is not None:
        raise InputError(
            f"engine {engine} runs artifacts",
            where=str(path),
            expected="an artifact folder",
            remedy="make one with `personsearch export CHECKPOINT`, or leave --engine out",
        )
    import torch

    from personsearch.models.checkpoint import load_model

    if threads is not None:
        torch.set_num_threads(threads)
    model, _ = load_model(checkpoint)
    if score_threshold is not None:
        model.score_threshold = score_threshold
    return TorchSystem(model, sha256_file(checkpoint))


def system_name(path: Path) -> str:
    """What results call the model at ``path``: the folder's name, for a checkpoint that of its run."""
    place = path.resolve()
    return place.parent.name if place.name == "checkpoint.pt" else place.name


def checkpoint_file(path: Path) -> Path | None:
    """The checkpoint that ``path`` names, as a file or as its run folder; none for any other folder.

    Raises:
        InputError: there is nothing at ``path``.
    """
    if path.is_file():
        return path
    if not path.is_dir():
        raise InputError("does not exist", where=str(path), expected="a checkpoint file or an artifact folder")
    inside = path / "checkpoint.pt"
    return inside if inside.is_file() else None
