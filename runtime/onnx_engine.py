"""ONNX Runtime behind the engine protocol: the default, and the reference for every other."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from personsearch.core.detections import Detections, FloatArray
from personsearch.core.errors import InputError
from personsearch.core.geometry import Boxes, Letterbox, clip_boxes
from personsearch.core.manifest import Manifest, load_artifact
from personsearch.core.preprocess import Frame
from personsearch.runtime.engine import Device, StageTimes

Shape = tuple[int | None, ...]
_PROVIDERS: dict[Device, str] = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


class OnnxEngine:
    """An artifact run by ONNX Runtime.

    Args:
        artifact: the folder.
        threads: intra-op threads, or none for ONNX Runtime's choice (one a physical core).
        device: the execution provider; the CPU's is the only one that every installation has.
        score_threshold: in place of the manifest's; ``spec`` then says so.

    Raises:
        InputError: see `personsearch.runtime.open_engine`.
    """

    def __init__(
        self,
        artifact: Path,
        *,
        threads: int | None = None,
        device: Device = "cpu",
        score_threshold: float | None = None,
    ) -> None:
        spec = load_artifact(artifact)
        if score_threshold is not None:
            spec = spec.model_copy(update={"score_threshold": score_threshold})
        self._manifest = spec
        self._artifact = artifact
        self._times = StageTimes()
        self._label = f"onnxruntime {ort.__version__}, {device}" + (f", {threads} threads" if threads else "")
        width, height = spec.preprocess.input_wh
        rows, dim, queries = spec.max_detections, spec.embedding_dim, spec.query_boxes
        self._search = _open_session(artifact, spec, "search", threads, device)
        _check_graph(
            self._search,
            artifact / spec.graphs["search"].file,
            inputs={"frames": ("tensor(uint8)", (None, height, width, 3))},
            outputs={
                "boxes": ("tensor(float)", (None, rows, 4)),
                "scores": ("tensor(float)", (None, rows)),
                "embeddings": ("tensor(float)", (None, rows, dim)),
            },
        )
        batch = self._search.get_inputs()[0].shape[0]
        self._batch = batch if isinstance(batch, int) else None
        self._query: Any = None
        if "query" in spec.graphs:
            self._query = _open_session(artifact, spec, "query", threads, device)
            _check_graph(
                self._query,
                artifact / spec.graphs["query"].file,
                inputs={
                    "frames": ("tensor(uint8)", (1, height, width, 3)),
                    "boxes": ("tensor(float)", (1, queries, 4)),
                },
                outputs={"embeddings": ("tensor(float)", (1, queries, dim))},
            )

    @property
    def spec(self) -> Manifest:
        """The artifact's manifest."""
        return self._manifest

    @property
    def label(self) -> str:
        """Library, its version and the device, for records."""
        return self._label

    @property
    def last_times(self) -> StageTimes:
        """Stage times of the last `infer`; zeros before the first."""
        return self._times

    def infer(self, frames: Sequence[Frame]) -> list[Detections]:
        """Finds the people in each frame; see `personsearch.runtime.Engine.infer`."""
        started = time.perf_counter()
        fitted = [self._manifest.preprocess.letterbox(frame) for frame in frames]
        prepared = time.perf_counter()
        outputs = self._run_search([image for image, _ in fitted]) if fitted else []
        inferred = time.perf_counter()
        found = [self._to_detections(box, *rows) for (_, box), rows in zip(fitted, outputs, strict=True)]
        ended = time.perf_counter()
        self._times = StageTimes((prepared - started) * 1e3, (inferred - prepared) * 1e3, (ended - inferred) * 1e3)
        return found

    def embed(self, frame: Frame, boxes_xyxy: Boxes) -> FloatArray:
        """Embeddings of given boxes; see `personsearch.runtime.Engine.embed`.

        Raises:
            InputError: the artifact has no query graph.
            ValueError: the boxes are not ``(N, 4)``, or one has no area inside the frame.
        """
        if self._query is None:
            raise InputError(
                "the artifact has no `query` graph", where=str(self._artifact), remedy="export the artifact again"
            )
        boxes = np.asarray(boxes_xyxy, dtype=np.float32)
        if boxes.ndim != 2 or boxes.shape[1] != 4:
            raise ValueError(f"boxes_xyxy has shape {boxes.shape}, expected (N, 4)")
        inside = clip_boxes(boxes, (frame.shape[1], frame.shape[0]))
        if not np.all(inside[:, 2:] > inside[:, :2]):
            raise ValueError("a box has no area inside the frame")
        if not len(boxes):
            return np.zeros((0, self._manifest.embedding_dim), dtype=np.float32)
        image, letterbox = self._manifest.preprocess.letterbox(frame)
        boxes = letterbox.to_input(boxes).astype(np.float32)
        step = self._manifest.query_boxes
        parts = []
        for start in range(0, len(boxes), step):
            chunk = boxes[start : start + step]
            padding = np.repeat(chunk[-1:], step - len(chunk), axis=0)
            feed = {"frames": image[None], "boxes": np.concatenate([chunk, padding])[None]}
            parts.append(self._query.run(["embeddings"], feed)[0][0, : len(chunk)])
        embeddings: FloatArray = np.concatenate(parts)
        self._require_finite(embeddings)
        return embeddings

    def close(self) -> None:
        """Frees the graphs."""
        self._search = self._query = None

    def _run_search(self, images: list[Frame]) -> list[tuple[FloatArray, FloatArray, FloatArray]]:
        step = self._batch or len(images)
        rows: list[tuple[FloatArray, FloatArray, FloatArray]] = []
        for start in range(0, len(images), step):
            chunk = images[start : start + step]
            # A graph of fixed batch gets its last, short batch filled up; the fill's rows are dropped by zip.
            batch = np.stack(chunk + chunk[-1:] * (step - len(chunk))) if step > 1 else chunk[0][None]
            outputs: list[NDArray[np.float32]] = self._search.run(["boxes", "scores", "embeddings"], {"frames": batch})
            rows += [rows_of for rows_of, _ in zip(zip(*outputs, strict=True), chunk, strict=False)]
        return rows

    def _to_detections(
        self, letterbox: Letterbox, boxes: FloatArray, scores: FloatArray, embeddings: FloatArray
    ) -> Detections:
        self._require_finite(scores)
        keep = np.flatnonzero(scores >= max(self._manifest.score_threshold, np.finfo(np.float32).tiny))
        keep = keep[np.argsort(-scores[keep], kind="stable")]
        kept = letterbox.to_source(boxes[keep]).astype(np.float32)
        self._require_finite(kept)
        self._require_finite(embeddings[keep])
        found = Detections(kept, scores[keep], embeddings[keep])
        # A box that lies in the padding has no area left in the source.
        return found[(kept[:, 2] > kept[:, 0]) & (kept[:, 3] > kept[:, 1])]

    def _require_finite(self, values: FloatArray) -> None:
        if not np.isfinite(values).all():
            raise InputError(
                "the graph gave NaN or infinity",
                where=str(self._artifact),
                expected="finite numbers",
                remedy="export the artifact again, and see its parity figures",
            )


def _open_session(artifact: Path, spec: Manifest, graph: str, threads: int | None, device: Device) -> Any:
    if graph not in spec.graphs:
        raise InputError(f"the manifest names no `{graph}` graph", where=str(artifact), remedy="export it again")
    provider = _PROVIDERS[device]
    missing = InputError(
        f"ONNX Runtime {ort.__version__} has no working {provider}",
        where=f"device {device}",
        remedy="install onnxruntime-gpu with a matching CUDA driver, or use `--device cpu`; "
        "`personsearch doctor` says what is here",
    )
    if provider not in ort.get_available_providers():
        raise missing
    options = ort.SessionOptions()
    options.log_severity_level = 3  # errors only: ONNX Runtime's warnings are not for a user of the stream
    if threads is not None:
        options.intra_op_num_threads = threads
    path = artifact / spec.graphs[graph].file
    try:
        # From bytes, not from the path: a graph that points at weights in another file would escape the hash.
        session = ort.InferenceSession(path.read_bytes(), options, providers=[provider])
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError("ONNX Runtime cannot load the graph", where=str(path), remedy=reason) from None
    if session.get_providers()[0] != provider:
        raise missing
    return session


def _check_graph(
    session: Any, path: Path, *, inputs: dict[str, tuple[str, Shape]], outputs: dict[str, tuple[str, Shape]]
) -> None:
    """Compares names, element types and every dimension that is known on both sides with the manifest's."""
    for kind, expected, nodes in (("input", inputs, session.get_inputs()), ("output", outputs, session.get_outputs())):
        found = {node.name: (node.type, node.shape) for node in nodes}
        if found.keys() != expected.keys():
            raise InputError(
                f"{kind}s are {', '.join(sorted(found)) or 'none'}",
                where=str(path),
                expected=", ".join(sorted(expected)),
                remedy="export the artifact again",
            )
        for name, (dtype, shape) in expected.items():
            found_dtype, found_shape = found[name]
            same = len(found_shape) == len(shape) and all(
                want is None or not isinstance(have, int) or have == want
                for have, want in zip(found_shape, shape, strict=False)
            )
            if found_dtype != dtype or not same:
                raise InputError(
                    f"{kind} `{name}` is {found_dtype} {list(found_shape)}",
                    where=str(path),
                    expected=f"{dtype} {['any' if side is None else side for side in shape]} as the manifest says",
                    remedy="export the artifact again",
                )
