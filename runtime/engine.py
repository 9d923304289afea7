"""What every engine does, and how an artifact becomes one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Literal, Protocol

from personsearch.core.detections import Detections, FloatArray
from personsearch.core.engine_names import TENSORRT_ENGINES, engine_name, require_library
from personsearch.core.errors import InputError
from personsearch.core.geometry import Boxes
from personsearch.core.manifest import Manifest, read_manifest
from personsearch.core.preprocess import Frame

Device = Literal["cpu", "cuda"]
DEFAULT_NAME = "default.json"


@dataclass(frozen=True)
class StageTimes:
    """Measured wall time of one `Engine.infer` call, in milliseconds, all its frames together.

    ``transfer_ms`` is the part of ``infer_ms`` in which frames go to a device and results come back; none where there
    is no device, or where its copies are not measured apart.
    """

    preprocess_ms: float = 0.0
    infer_ms: float = 0.0
    postprocess_ms: float = 0.0
    transfer_ms: float | None = None


class Engine(Protocol):
    """A loaded artifact. Used from one thread at a time."""

    @property
    def spec(self) -> Manifest:
        """The artifact's manifest."""

    @property
    def label(self) -> str:
        """Library, its version and the device, for records."""

    @property
    def last_times(self) -> StageTimes:
        """Stage times of the last `infer`; zeros before the first."""

    def infer(self, frames: Sequence[Frame]) -> list[Detections]:
        """Finds the people in each frame.

        Args:
            frames: uint8 BGR ``(H, W, 3)``, each of any size.

        Returns:
            One `Detections` a frame, boxes in pixels of that frame, no score below ``spec.score_threshold``.

        Raises:
            ValueError: a frame is not ``(H, W, 3)`` uint8.
        """

    def embed(self, frame: Frame, boxes_xyxy: Boxes) -> FloatArray:
        """Embeddings ``(N, D)``, L2-normalised, of the people in ``boxes_xyxy`` ``(N, 4)``, pixels of ``frame``."""

    def close(self) -> None:
        """Frees the graphs; the engine cannot be used afterwards."""


def default_artifact() -> Path:
    """The folder of the artifact that ships with the package.

    Raises:
        InputError: none is shipped, or the one that is named is not there.
    """
    folder = Path(str(files("personsearch.artifacts")))
    remedy = "name an artifact folder, or make one with `personsearch export CHECKPOINT`"
    index = folder / DEFAULT_NAME
    if not index.is_file():
        raise InputError("no artifact is shipped with this installation", remedy=remedy)
    try:
        name = json.loads(index.read_text(encoding="utf-8"))["artifact"]
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError("cannot be read", where=str(index), expected='{"artifact": "<folder>"}') from None
    if not isinstance(name, str) or Path(name).name != name:
        raise InputError(f"`artifact` is {name!r}", where=str(index), expected="the bare name of a folder beside it")
    artifact = folder / name
    if not artifact.is_dir():
        raise InputError(f"the default artifact `{name}` is not there", where=str(index), remedy=remedy)
    return artifact


def open_engine(
    artifact: Path | None = None,
    threads: int | None = None,
    *,
    engine: str | None = None,
    device: Device | None = None,
    score_threshold: float | None = None,
    rebuild: bool = False,
) -> Engine:
    """Loads an artifact, its hashes checked first. Nothing is ever replaced by another engine or device in silence.

    Args:
        artifact: the folder, or none for the one that ships with the package.
        threads: CPU threads inside one inference, or none for the engine's own choice; TensorRT uses none.
        engine: one of `personsearch.core.engine_names.ENGINES`, or none for the one the artifact was exported for.
        device: none for the engine's own: the CPU, for TensorRT the GPU. ``cuda`` under ONNX Runtime needs a build with
            the CUDA provider; OpenVINO runs on the CPU alone.
        score_threshold: reports detections from this score on; none for the manifest's. The graph gives the
            ``max_detections`` best of any score.
        rebuild: for TensorRT, builds in the local cache what is missing there or cannot run here.

    Raises:
        InputError: not an artifact, a file does not match its hash, a graph does not match the manifest, the engine's
            library is not installed, the device is not available, or (TensorRT) no engine in the local cache can run
            here; each with what to do.
    """
    if threads is not None and threads < 1:
        raise InputError(f"threads is {threads}", expected="at least 1")
    place = default_artifact() if artifact is None else artifact
    name = engine_name(engine if engine is not None else read_manifest(place).engine)
    require_library(name)
    on_gpu = name in TENSORRT_ENGINES
    if device is not None and device != ("cuda" if on_gpu else "cpu") and name != "onnxruntime":
        raise InputError(
            f"engine {name} does not run on {device}",
            expected=f"device {'cuda' if on_gpu else 'cpu'}",
            remedy="leave --device out",
        )
    # Imported here: the manifest and the sources are of use where the libraries are not.
    if name == "openvino":
        from personsearch.runtime.openvino_engine import OpenVinoEngine

        return OpenVinoEngine(place, threads=threads, score_threshold=score_threshold)
    if name == "tensorrt" or name == "tensorrt-rtx":
        from personsearch.runtime.tensorrt_engine import TensorRtEngine

        return TensorRtEngine(place, library=name, score_threshold=score_threshold, rebuild=rebuild)
    from personsearch.runtime.onnx_engine import OnnxEngine

    return OnnxEngine(place, threads=threads, device=device or "cpu", score_threshold=score_threshold)
