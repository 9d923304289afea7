"""What every engine shares: letterbox, batches, decoding, query boxes and checks; a library only runs graphs."""

from __future__ import annotations

import functools
import hashlib
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from personsearch.core.detections import Detections, FloatArray
from personsearch.core.errors import InputError
from personsearch.core.geometry import Boxes, Letterbox, clip_boxes
from personsearch.core.manifest import Manifest, load_artifact
from personsearch.core.onnx_file import require_self_contained
from personsearch.core.parity_notice import warn_of_failed_parity
from personsearch.core.preprocess import Frame
from personsearch.runtime.engine import StageTimes
from personsearch.runtime.graph import Array, Graph, TensorSpec, check_graph
from personsearch.runtime.split_graph import SplitGraph

OpenGraph = Callable[[str, Path, bytes], Graph]
"""Makes a graph of its name, its file and that file's verified bytes."""


class ArtifactEngine:
    """An artifact whose graphs are run by ``open_graph``'s library.

    Args:
        artifact: the folder.
        open_graph: called once a graph with bytes whose hash is the manifest's.
        label: library, its version and the device, for records.
        score_threshold: in place of the manifest's; ``spec`` then says so.

    Raises:
        InputError: see `personsearch.runtime.open_engine`.
    """

    def __init__(
        self, artifact: Path, open_graph: OpenGraph, *, label: str, score_threshold: float | None = None
    ) -> None:
        spec = load_artifact(artifact)
        warn_of_failed_parity(spec)
        if score_threshold is not None:
            spec = spec.model_copy(update={"score_threshold": score_threshold})
        self._manifest, self._artifact, self._label = spec, artifact, label
        self._times = StageTimes()
        self._search: dict[int | None, Graph] = {}
        self._query: Graph | None = None
        self._split: SplitGraph | None = None
        wanted = ("scene", "person") if spec.layout == "split" else ("search",)
        for name in wanted:
            if name not in spec.graphs:
                raise InputError(f"the manifest names no `{name}` graph", where=str(artifact), remedy="export it again")
        try:
            if spec.layout == "split":
                self._search[1] = self._split = self._open_split(open_graph)
            for name in spec.graphs:
                if name.startswith("search.b") or (name == "search" and spec.layout == "joined"):
                    self._add_search(name, open_graph)
                elif name == "query":
                    self._query = self._open(name, open_graph)
        except BaseException:
            self.close()
            raise

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
        outputs = self._run_search([image for image, _ in fitted])
        inferred = time.perf_counter()
        found = [self._to_detections(box, *rows) for (_, box), rows in zip(fitted, outputs, strict=True)]
        ended = time.perf_counter()
        self._times = StageTimes((prepared - started) * 1e3, (inferred - prepared) * 1e3, (ended - inferred) * 1e3)
        return found

    def embed(self, frame: Frame, boxes_xyxy: Boxes) -> FloatArray:
        """Embeddings of given boxes; see `personsearch.runtime.Engine.embed`.

        Raises:
            InputError: the artifact embeds nobody, or has no query graph.
            ValueError: the boxes are not ``(N, 4)``, or one has no area inside the frame.
        """
        run = self._embedder()
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
        embeddings = run(image[None], boxes)
        self._require_finite(embeddings)
        return embeddings

    def close(self) -> None:
        """Frees the graphs."""
        graphs = [*self._search.values(), *([self._query] if self._query is not None else [])]
        self._search, self._query, self._split = {}, None, None
        for graph in graphs:
            graph.close()

    def _add_search(self, name: str, open_graph: OpenGraph) -> None:
        graph = self._open(name, open_graph)
        batch = graph.inputs["frames"].shape[0]
        named = re.fullmatch(r"search(?:\.b([1-9]\d*))?", name)
        if named is None or (named[1] is not None and int(named[1]) != batch):
            graph.close()
            raise InputError(
                f"graph `{name}` takes batches of {batch or 'any size'}",
                where=str(self._artifact),
                expected="search.bN for batches of N frames",
                remedy="export the artifact again",
            )
        self._search[batch] = graph

    def _open_split(self, open_graph: OpenGraph) -> SplitGraph:
        opened: list[Graph] = []
        try:
            for name in ("scene", "person"):
                opened.append(self._load(name, open_graph))
            scene, person = opened
            return SplitGraph(scene, person, self._manifest, self._artifact)
        except BaseException:
            for graph in opened:
                graph.close()
            raise

    def _open(self, name: str, open_graph: OpenGraph) -> Graph:
        graph = self._load(name, open_graph)
        try:
            self._check(graph, self._artifact / self._manifest.graphs[name].file, name)
        except InputError:
            graph.close()
            raise
        return graph

    def _load(self, name: str, open_graph: OpenGraph) -> Graph:
        spec = self._manifest
        file = spec.graphs[name]
        path = self._artifact / file.file
        content = path.read_bytes()
        # The very bytes that are loaded: the file may have been exchanged since the manifest was checked.
        if hashlib.sha256(content).hexdigest() != file.sha256:
            raise InputError("changed while it was read", where=str(path), remedy="export or copy the artifact again")
        require_self_contained(content, path)
        return open_graph(name, path, content)

    def _check(self, graph: Graph, path: Path, name: str) -> None:
        spec = self._manifest
        width, height = spec.preprocess.input_wh
        rows, dim, queries = spec.max_detections, spec.embedding_dim, spec.query_boxes
        if name == "query":
            inputs = {
                "frames": TensorSpec("uint8", (1, height, width, 3)),
                "boxes": TensorSpec("float32", (1, queries, 4)),
            }
            outputs = {"embeddings": TensorSpec("float32", (1, queries, dim))}
        else:
            inputs = {"frames": TensorSpec("uint8", (None, height, width, 3))}
            outputs = {
                "boxes": TensorSpec("float32", (None, rows, 4)),
                "scores": TensorSpec("float32", (None, rows)),
                **({"embeddings": TensorSpec("float32", (None, rows, dim))} if dim else {}),
            }
        check_graph(graph, path, inputs=inputs, outputs=outputs)

    def _run_search(self, images: list[Frame]) -> list[tuple[FloatArray, FloatArray, FloatArray]]:
        rows: list[tuple[FloatArray, FloatArray, FloatArray]] = []
        start = 0
        for size, count in batch_plan(len(images), self._search):
            chunk = images[start : start + count]
            start += count
            fill = chunk[-1:] * ((size or count) - count)
            batch: Array = np.stack(chunk + fill) if len(chunk) + len(fill) > 1 else chunk[0][None]
            out = self._search[size].run({"frames": batch})
            # A detector's graph has no embeddings; its detections have some of width 0.
            embeddings = out.get("embeddings", np.zeros((*out["scores"].shape, 0), np.float32))
            rows += [(out["boxes"][i], out["scores"][i], embeddings[i]) for i in range(count)]
        return rows

    def _embedder(self) -> Callable[[Array, FloatArray], FloatArray]:
        """What makes embeddings of boxes on a letterboxed frame."""
        if self._query is not None:
            return functools.partial(self._run_query, self._query)
        if self._split is not None and self._manifest.embedding_dim:
            return self._split.embed
        raise InputError(
            "the artifact has no `query` graph", where=str(self._artifact), remedy="export the artifact again"
        )

    def _run_query(self, query: Graph, frames: Array, boxes: FloatArray) -> FloatArray:
        step = self._manifest.query_boxes
        parts = []
        for start in range(0, len(boxes), step):
            chunk = boxes[start : start + step]
            padding = np.repeat(chunk[-1:], step - len(chunk), axis=0)
            feeds = {"frames": frames, "boxes": np.concatenate([chunk, padding])[None]}
            parts.append(query.run(feeds)["embeddings"][0, : len(chunk)])
        embeddings: FloatArray = np.concatenate(parts)
        return embeddings

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


def batch_plan(count: int, graphs: Mapping[int | None, Graph]) -> list[tuple[int | None, int]]:
    """Which graphs run ``count`` frames: (the graph's batch, frames of it that are used), in order.

    The largest batch that is full comes first; what is left smaller than every graph fills up the smallest. A graph of
    any batch takes everything, in pieces of its most.

    Args:
        count: frames.
        graphs: by batch; none for a graph of any batch.
    """
    if None in graphs:
        most = graphs[None].max_batch or max(count, 1)
        return [(None, min(most, count - start)) for start in range(0, count, most)]
    sizes = sorted((size for size in graphs if size is not None), reverse=True)
    plan: list[tuple[int | None, int]] = []
    while count:
        size = next((size for size in sizes if size <= count), sizes[-1])
        plan.append((size, min(size, count)))
        count -= min(size, count)
    return plan
